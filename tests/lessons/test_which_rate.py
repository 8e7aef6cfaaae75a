import pytest

import lesson_10_which_rate

OPTIMIZERS = ["SGD", "momentum", "RMSProp", "Adam"]


@pytest.fixture(scope="module")
def page():
    return lesson_10_which_rate.lesson(20, 40, 40)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_default_rate_is_far_from_the_best(page, name):
    assert page[f"{name}: best rate of 20"] > 5e-3
    assert page[f"{name}: lowest loss of 20 rates"] < page[f"{name}: loss at 0.001"] / 3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_gradient_of_the_rate_leads_to_about_the_best(page, name):
    found = page[f"{name}: loss found by gradient"]
    assert found < 1.3 * page[f"{name}: lowest loss of 20 rates"]


def test_a_rate_too_small_is_slow_and_one_too_large_diverges(page):
    assert 2 < page["SGD: last epoch, best / 100"] < 2.4
    assert page["SGD: last epoch, 20 * best"] > 10


def test_new_rates_do_not_trace_again_and_give_what_all_at_once_give(page):
    assert page["traces for 20 in a row"] == 1
    assert page["loss, in a row / at once - 1"] < 1e-3


def test_momentum_changes_the_best_rate(page):
    assert page["best rates: SGD's / momentum's"] > 1.5
