import numpy as np
import pytest

import lesson_03_bowl

RACERS = ("gradient descent", "momentum")


def steps(page, name):
    return page[f"{name}: steps at its fastest rate"]


def test_gradient_descent_crosses_the_valley_at_every_step(page):
    assert page["gradient descent, rate 0.0199: crossings in 150"] == 150
    assert page["gradient descent: crossings at it"] == steps(page, "gradient descent")


def test_momentum_damps_the_zig_zag_at_the_same_rate(page):
    ways = [page[f"{name}, rate 0.0199: way along b"] for name in RACERS]
    # Each crossing leaves 0.99 of the last: the way is a geometric series.
    exact = 0.8 * 1.99 * (1 - 0.99**150) / (1 - 0.99)
    assert ways[0] == pytest.approx(exact, rel=1e-3)
    assert ways[1] < ways[0] / 25
    assert page["momentum, rate 0.0199: crossings in 150"] == 22


def test_momentum_bears_rates_up_to_nineteen_times_the_bound_of_descent(page):
    assert np.isnan(page["gradient descent, rate 0.05: height after 150"])
    assert page["momentum, rate 0.05: height after 150"] < 1e-5
    # The bound is 2 / curvature * (1 + b) / (1 - b) = 0.38.
    assert page["momentum, rate 0.37: height after 1000"] < 1e-5
    assert np.isnan(page["momentum, rate 0.39: height after 1000"])


def test_the_condition_number_grows_with_the_parameters(page):
    numbers = [page[f"condition number, {n} parameters"] for n in (2, 4, 8, 16, 32)]
    assert (np.diff(np.log(numbers)) > 1).all()


def test_a_rate_above_two_over_the_curvature_diverges(page):
    assert page["rate 0.0205: growth in 60 steps"] > 100


@pytest.mark.parametrize(
    "name", ["momentum", "Nesterov", "Adagrad", "RMSProp", "Rprop", "Adam"]
)
def test_every_remedy_is_faster_than_descent_at_its_best_rate(page, name):
    assert 0 < steps(page, name) < steps(page, "gradient descent")


def test_adadelta_arrives_too_although_late(page):
    assert (
        steps(page, "gradient descent") < steps(page, "Adadelta") < lesson_03_bowl.STEPS
    )


def test_the_two_forms_of_momentum_are_one_at_rates_a_factor_of_ten_apart(page):
    assert page["momentum: rate of average / of sum"] == pytest.approx(10)
    assert page["momentum: distance of the two paths then"] < 1e-5


def test_the_animation_is_written(page, tmp_path):
    page.animate(tmp_path / "a.gif", every=25)
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF89a")
