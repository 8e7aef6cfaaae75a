import numpy as np
import pytest

import lesson_07_saddles


def test_descent_leaves_the_saddle_as_its_slope_grows(page):
    # Beside the saddle a step multiplies y by 1.1; half-way down is at y of about 0.54.
    steps = np.log(0.54 / 1e-5) / np.log(1.1)
    assert page["gradient descent: steps off the saddle"] == pytest.approx(steps, abs=3)
    for name in ("momentum", "Nesterov", "RMSProp", "Rprop", "Adam"):
        assert page[f"{name}: steps off the saddle"] < steps / 2


def test_turning_the_saddle_holds_adagrad_but_not_descent_or_momentum(page):
    for name in ("gradient descent", "momentum", "Nesterov"):
        turned = page[f"{name}: steps off the turned saddle"]
        assert turned == pytest.approx(page[f"{name}: steps off the saddle"], abs=2)
    adagrad = page["Adagrad: steps off the turned saddle"]
    assert adagrad > 3 * page["Adagrad: steps off the saddle"]
    assert adagrad > 1.5 * page["gradient descent: steps off the turned saddle"]


def test_momentum_rmsprop_and_adam_leave_the_plateau_before_descent(page):
    sgd = page["gradient descent: steps off the plateau"]
    # dx / dt = 0.1 sigmoid(x) sigmoid(-x) takes this long from -7 to 0.
    assert sgd == pytest.approx(10 * (np.exp(7) - np.exp(-7) + 14), rel=0.01)
    assert page["momentum: steps off the plateau"] < sgd / 8
    assert page["RMSProp: steps off the plateau"] < sgd / 100
    assert page["Adam: steps off the plateau"] < sgd / 100
    slowly = page["momentum at rate 0.01: off the plateau"]
    assert slowly == pytest.approx(sgd, rel=0.02)


def test_momentum_rolls_through_the_hole_where_descent_stays(page):
    hole, bowl = lesson_07_saddles.dip(1.93), lesson_07_saddles.dip(0.0)
    assert hole > bowl + 0.03  # so SGD is in a minimum that is not the lowest
    assert page["gradient descent: where it ends"] == pytest.approx(1.93, abs=0.01)
    assert page["momentum: where it ends"] == pytest.approx(0, abs=1e-3)


def test_noise_leaves_the_hole_and_pushes_off_the_plateau(page):
    out = [page[f"noise {n}: % out of the hole at the end"] for n in ("0", "0.5", "1")]
    assert out[0] == 0 < out[1] < 30 and out[2] > 85
    assert page["no push: way aside after 1000"] == 0
    plateau = page["gradient descent: steps off the plateau"]
    assert page["noise 3: steps off the plateau"] < plateau / 8


def test_shares_of_minima_are_those_that_are_known(page):
    assert page["share of minima, 2 directions"] == pytest.approx(1 / 4, abs=0.01)
    # Bardeen, Bond, Kaiser and Szalay 1986: https://doi.org/10.1086/164143.
    known = (29 - 6 * 6**0.5) / 116
    assert page["share of minima, 3 directions"] == pytest.approx(known, abs=0.005)
    assert page["share of saddles, 2 directions"] == pytest.approx(1 / 2, abs=0.01)


def test_shares_are_those_of_weighted_hessians():
    generator = np.random.default_rng(0)
    normal = generator.normal(size=(200_000, 4, 4))
    shift = generator.normal(size=(200_000, 1))
    goe = (normal + normal.transpose(0, 2, 1)) / 2**0.5
    eigenvalues = np.linalg.eigvalsh(goe) + shift
    weights = abs(eigenvalues.prod(1))
    down = (eigenvalues < 0).sum(1)
    expected = np.bincount(down, weights) / weights.sum()
    np.testing.assert_allclose(lesson_07_saddles.shares(4, 50_000), expected, atol=0.01)


def test_minima_are_rarer_than_by_tossing_coins(page):
    assert page["share of minima, 8 directions"] < 0.9 * 2**-8
    assert page["log2 of the share / directions, 32"] < -1.1
    assert page["share of saddles, 8 directions"] > 0.99
