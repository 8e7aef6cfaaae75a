import pytest

OPTIMIZERS = ["SGD", "momentum", "RMSProp", "Adam"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_default_rate_is_far_from_the_best(page, name):
    assert page[f"{name}: best rate"] > 5e-3
    assert page[f"{name}: lowest loss"] < page[f"{name}: loss at 0.001"] / 3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_gradient_of_the_rate_leads_to_about_the_best(page, name):
    found = page[f"{name}: loss found by gradient"]
    assert found < 1.3 * page[f"{name}: lowest loss"]


def test_a_rate_too_small_is_slow_and_one_too_large_diverges(page):
    assert 2 < page["SGD: last epoch, best / 100"] < 2.4
    assert page["SGD: last epoch, 20 * best"] > 10


def test_new_rates_do_not_trace_again_and_give_what_all_at_once_give(page):
    assert page["traces for 20 in a row"] == 1
    assert page["loss, in a row / at once - 1"] < 1e-3


def test_momentum_changes_the_best_rate(page):
    assert page["best rates: SGD's / momentum's"] > 1.5


def test_the_best_rate_of_sgd_hardly_depends_on_batch_size_and_width(page):
    sgd, adam = (page[f"{name}: largest / least of these"] for name in ("SGD", "Adam"))
    assert 1 <= sgd < 2 and 1 <= adam < 8
    assert page["SGD: best rate"] / page["Adam: best rate"] > 10
