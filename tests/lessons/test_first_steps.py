import numpy as np
import pytest


def test_the_defaults_are_those_of_the_documents(page):
    assert [page[name] for name in ("b1", "b2", "eps")] == [0.9, 0.999, 1e-8]


def test_adam_by_parts_is_adam(page):
    assert page["by parts less gradtx.adam"] == 0


def test_without_correction_the_first_steps_are_three_to_seven_rates(page):
    t = np.arange(1, 1001)
    expected = (1 - 0.9**t) / np.sqrt(1 - 0.999**t)
    first = page["Adam, not corrected: first step"]
    assert (
        first == pytest.approx(expected[0], rel=1e-3) == pytest.approx(3.162, abs=0.001)
    )
    longest = page["Adam, not corrected: longest step"]
    assert longest == pytest.approx(expected.max(), rel=1e-3)
    assert page["root of nu after 3e-4"] == pytest.approx(1e-5, rel=0.1)
    assert page["mu after 3e-4"] == pytest.approx(3e-5, rel=1e-3)


def test_with_correction_every_step_on_a_constant_gradient_is_one_rate(page):
    assert page["first step of adam(0.001)"] == pytest.approx(0.001, rel=1e-3)
    for what in ("first", "longest"):
        assert page[f"Adam: {what} step"] == pytest.approx(1, rel=1e-3)


def test_rmsprop_alone_takes_the_huge_first_step(page):
    assert page["RMSProp: first step"] == pytest.approx(1000**0.5, rel=1e-3)


def test_long_first_steps_go_far_on_noise_and_raise_the_loss(page):
    names = ("Adam", "Adam, not corrected", "RMSProp")
    ways = [page[f"{name}: way of 10 noisy steps"] for name in names]
    assert ways[0] < ways[1] / 3 and ways[1] < ways[2] / 2
    heights = [page[f"{name}: highest loss"] for name in names]
    assert heights[0] < 4 < heights[1] < heights[2]
