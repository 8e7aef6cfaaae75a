import pytest


def test_with_sgd_the_penalty_and_the_decay_are_one(page):
    assert page["SGD: L2 less decay"] < 1e-4


def test_adamw_shrinks_every_weight_by_the_same(page):
    expected = page["(1 - rate * decay)**1000"]
    assert expected == pytest.approx(0.9995**1000)
    for scale in ("0.01", "100"):
        assert page[f"AdamW: left at {scale}"] == pytest.approx(expected, abs=0.03)


def test_adam_with_a_penalty_hardly_shrinks_what_has_large_gradients(page):
    assert page["Adam with L2: left at 100"] > 0.95
    assert page["Adam with L2: left at 0.01"] < 0.3


def test_on_digits_the_penalty_erases_weights_that_rarely_have_gradients(page):
    assert page["digits, Adam with L2: rare / median"] < 0.1
    assert page["digits, AdamW: rare / median"] > 0.3
