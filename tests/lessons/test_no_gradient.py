import pytest


@pytest.mark.parametrize(
    "name", ["central differences", "SPSA", "evolution strategies"]
)
def test_estimates_are_right_on_average(page, name):
    assert page[f"{name}: mean estimate / gradient"] == pytest.approx(1, abs=0.1)


def test_a_perceptron_learns_from_errors_whose_gradient_is_zero(page):
    assert page["largest part of the errors' gradient"] == 0
    for name in ("evolution strategies", "ARS"):
        assert page[f"perceptron's errors, {name}"] < 0.03


def test_the_sign_of_the_slide_climbs(page):
    assert page["errors with W + a (Gp - Gn) dW"] > 0.9


def test_the_gradient_of_the_perceptron_is_that_of_the_slides(page):
    assert page["perceptron: gradient less x (a - y)"] < 1e-6


def test_augmented_random_search_solves_the_cart_pole(page):
    assert page["cart-pole: runs of ARS that solve it"] == 1
    assert page["cart-pole: mean seconds up, new starts"] > 9.5
