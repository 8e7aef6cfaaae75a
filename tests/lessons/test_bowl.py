import pytest

import lesson_03_bowl


@pytest.fixture(scope="module")
def page():
    return lesson_03_bowl.lesson()


def steps(page, name):
    return page[f"{name}: steps down"]


def test_descent_crosses_the_valley_at_every_step(page):
    assert page["SGD: times it crosses the valley"] > 0.9 * steps(page, "SGD")


def test_a_rate_above_two_over_the_curvature_diverges(page):
    assert page["SGD at rate 0.0205: growth in 60 steps"] > 100


@pytest.mark.parametrize(
    "name", ["momentum", "Nesterov", "Adagrad", "RMSProp", "Rprop", "Adam"]
)
def test_every_remedy_is_faster_than_descent_at_its_best_rate(page, name):
    assert 0 < steps(page, name) < steps(page, "SGD")


def test_adadelta_arrives_too_although_late(page):
    assert steps(page, "SGD") < steps(page, "Adadelta") < lesson_03_bowl.STEPS


def test_the_two_forms_of_momentum_are_one_at_rates_a_factor_of_ten_apart(page):
    assert page["momentum: rate of average / of sum"] == pytest.approx(10)
    assert page["momentum: distance of the two paths then"] < 1e-5


def test_the_animation_is_written(page, tmp_path):
    page.animate(tmp_path / "a.gif")
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF89a")
