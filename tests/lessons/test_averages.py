import numpy as np
import pytest

import lesson_02_averages


def test_an_average_remembers_one_over_one_minus_b_days(page):
    days = [page[f"days averaged by b = {b}"] for b in (0.5, 0.9, 0.98)]
    np.testing.assert_allclose(days, [2, 10, 50])
    assert page["0.9**10"] == pytest.approx(0.35, abs=0.005)
    assert page["0.98**50"] == pytest.approx(1 / np.e, abs=0.005)


def test_the_first_average_of_forty_degrees_is_far_too_low(page):
    # The course says 8 for b = 0.98: 0.02 * 40 is 0.8.
    assert page["v1 of 40 degrees, b = 0.98"] == pytest.approx(0.8)
    assert page["v1 of 40 degrees, b = 0.8"] == pytest.approx(8)
    assert page["v1 corrected"] == pytest.approx(40)


def test_the_correction_on_the_second_day_is_that_of_the_course(page):
    assert page["1 - 0.98**2"] == pytest.approx(0.0396)
    assert page["0.98 * 0.02"] == pytest.approx(0.0196)


def test_a_larger_decay_is_smoother_and_later():
    days = lesson_02_averages.temperatures()
    assert days.shape == (366,) and 20 < days.min() < days.max() < 110
    fast, slow = (lesson_02_averages.averages(days, b, True) for b in (0.5, 0.98))
    assert np.abs(np.diff(slow)).mean() < 0.2 * np.abs(np.diff(fast)).mean()
    assert np.argmax(slow) > np.argmax(fast)


def test_the_correction_matters_at_first_and_not_later():
    days = lesson_02_averages.temperatures()
    plain, corrected = (
        lesson_02_averages.averages(days, 0.98, is_on) for is_on in (False, True)
    )
    assert plain[0] < 0.03 * days[0] and corrected[0] == pytest.approx(days[0])
    assert plain[-1] == pytest.approx(corrected[-1], rel=1e-3)


def test_an_average_is_as_steady_as_a_window_of_nearly_twice_its_memory(page):
    assert page["numbers kept by an average"] == 1
    variance = page["variance, average of b = 0.9"]
    assert variance == pytest.approx(0.1 / 1.9, rel=0.02)
    assert page["variance, window of 19"] == pytest.approx(variance, rel=0.02)
    assert page["variance, window of 10"] == pytest.approx(1 / 10, rel=0.02)


def test_ten_steps_do_not_warm_an_average_up(page):
    warmed = page["average of ones after 10 steps, b = 0.9"]
    assert warmed == pytest.approx(1 - 0.9**10, rel=1e-5)
    steps = page["steps to 0.95, b = 0.9"]
    assert 0.9**steps < 0.05 < 0.9 ** (steps - 1)
