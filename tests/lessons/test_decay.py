import pytest

import lesson_06_decay


def test_the_rate_falls_as_the_course_means(page):
    rates = [page[f"rate 0.2, decay 1, epoch {i}"] for i in range(1, 5)]
    assert rates == pytest.approx([0.1, 0.2 / 3, 0.05, 0.04])
    assert page["0.95**epoch, epoch 10"] == pytest.approx(0.95**10)
    assert page["0.98**epoch, epoch 10"] == pytest.approx(0.98**10)
    assert page["k / sqrt(t), k = 1, t = 4"] == pytest.approx(1 / 2)


def test_a_staircase_falls_only_where_an_interval_ends(page):
    assert page["by 0.1 after 100: at 99"] == 1
    assert page["by 0.1 after 100: at 100"] == pytest.approx(0.1)
    assert page["intervals of 1000: epoch 999"] == pytest.approx(0.2)
    assert page["intervals of 1000: epoch 1000"] == pytest.approx(0.1)


def test_decay_at_every_step_stops_descent_before_it_arrives(page):
    assert page["way left, decay 1 at every step"] > 0.1
    assert page["way left, decay 1 every 100 steps"] < 1e-6


def test_a_larger_constant_rate_hovers_further_away(page):
    near, far = (page[f"constant rate {rate} hovers at"] for rate in (0.05, 0.4))
    # In one coordinate the variance is 100 rate / (2 - rate).
    assert near == pytest.approx((10 * 100 * 0.05 / 1.95) ** 0.5, rel=0.1)
    assert far == pytest.approx((10 * 100 * 0.4 / 1.6) ** 0.5, rel=0.1)


def test_a_floor_keeps_the_rate_from_vanishing(page):
    assert page["a floor of 0.01, epoch 1000"] == pytest.approx(0.01)


def test_every_decay_comes_closer_than_the_constant_rate(page):
    constant, *others = (
        page[f"distance at the end, {name}"] for name in lesson_06_decay.SCHEDULES
    )
    assert len(others) == 5 and max(others) < constant / 2


def test_a_rate_changed_by_hand_helps_and_compiles_nothing(page):
    assert page["by hand: traces"] == 1
    assert page["by hand: distance before / after"] > 3


def test_a_rate_that_is_reduced_on_the_plateau_arrives(page):
    constant, reduced = (
        page[f"weather, rate {name}: above the least"]
        for name in ("constant", "reduced")
    )
    assert reduced < constant / 1000
