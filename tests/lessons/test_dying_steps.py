import numpy as np
import pytest

import lesson_04_dying_steps


def test_adagrads_steps_fall_as_one_over_the_root_of_the_step(page):
    expected = 0.001 / np.sqrt(np.arange(1, 1001))
    steps = lesson_04_dying_steps.steps_taken(lesson_04_dying_steps.ADAGRAD)
    np.testing.assert_allclose(steps, expected, rtol=1e-3)
    assert page["Adagrad: step 1000 / step 1"] == pytest.approx(1000**-0.5, rel=1e-3)
    assert page["Adagrad: gradient 0.01 / 1"] == pytest.approx(1, rel=1e-3)


def test_rmsprops_steps_stay_at_the_learning_rate(page):
    assert page["RMSProp: step 1000"] == pytest.approx(0.001, rel=1e-3)
    # One tenth of the first square is in the average, all of it in the tally.
    assert page["RMSProp: step 1"] == pytest.approx(0.001 * 10**0.5, rel=1e-3)
    assert page["its step by a tally"] == pytest.approx(0.001 / 10**0.5, rel=1e-3)


def test_epsilon_prevents_division_by_zero_and_shrinks_tiny_gradients(page):
    assert page["its step at gradient 0"] == 0
    expected = 1e-5 / (1e-10 + 1e-8) ** 0.5
    assert page["its step at 1e-5 / at 1"] == pytest.approx(expected, rel=1e-2)


def test_adagrad_takes_longer_with_each_move_and_rmsprop_does_not(page):
    first, fourth = (page[f"Adagrad: steps to follow move {n}"] for n in (1, 4))
    assert first < 60 and fourth > 3 * first
    first, fourth = (page[f"RMSProp: steps to follow move {n}"] for n in (1, 4))
    assert first == pytest.approx(50, abs=2)
    assert fourth == pytest.approx(first, abs=2)


def test_adagrad_moves_rare_words_further_than_sgd_and_learns_them_better(page):
    sgd, adagrad = (page[f"{k}: rare words moved / others"] for k in ("SGD", "Adagrad"))
    assert sgd < 0.75 * adagrad
    sgd, adagrad = (page[f"{k}: loss of rare words"] for k in ("SGD", "Adagrad"))
    assert adagrad < sgd - 0.1


def test_a_sum_that_starts_at_a_tenth_keeps_rare_words_where_they_are(page):
    assert page["Adagrad from 0.1 / from 0: rare moved"] < 0.1


def test_adagrad_without_the_root_falls_as_one_over_the_step_and_learns_nothing(page):
    assert page["no root: step 1000 / step 1"] == pytest.approx(1e-3, rel=1e-2)
    assert page["no root: gradient 0.01 / 1"] == pytest.approx(100, rel=1e-2)
    assert page["no root: loss of all words"] > np.log(200) - 0.1
    assert page["Adagrad: loss of all words"] < page["SGD: loss of all words"] - 0.05
