from typing import Any

import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.averages import polyak_by_the_paper
from tests.oracles.runs import REAL
from tests.wrappers.test_schedule_free import run


def points_and_states(tx, n=9):
    """The parameters after each of some updates, in double, and the states."""
    runs = run(tx, [0 * g for g in REAL[:n]], np.ones(4))
    assert all(np.all(y == 1) for _, y, _ in runs)
    runs = run(tx, REAL[:n], np.ones(4))
    return [y for _, y, _ in runs], [state for *_, state in runs]


def test_a_moving_average_starts_at_the_parameters():
    tx = gradtx.average_params(gradtx.sgd(0.1), 0.8)
    points, states = points_and_states(tx)
    average = np.ones(4)
    for y, state in zip(points, states, strict=True):
        average = 0.8 * average + 0.2 * y
        np.testing.assert_allclose(state["average"], average, rtol=1e-12)


def test_the_average_of_decay_0_is_the_parameters():
    points, states = points_and_states(gradtx.average_params(gradtx.sgd(0.1), 0.0))
    for y, state in zip(points, states, strict=True):
        np.testing.assert_array_equal(state["average"], y)


@pytest.mark.parametrize(("start", "every"), [(0, 1), (3, 1), (2, 3)])
def test_the_polyak_average_is_the_mean_of_the_points_after_its_start(start, every):
    tx = gradtx.average_params(gradtx.sgd(0.1), "polyak", start, every)
    points, states = points_and_states(tx)
    for t, (y, state) in enumerate(zip(points, states, strict=True), start=1):
        chosen = points[start + every - 1 : t : every]
        mean = [*polyak_by_the_paper(chosen)][-1] if chosen else None
        if t <= start:
            mean = y
        if mean is not None:
            np.testing.assert_allclose(state["average"], mean, rtol=1e-12)


def test_averages_do_not_change_the_updates_and_refuse_other_words():
    plain, averaged = gradtx.adam(0.1), gradtx.average_params(gradtx.adam(0.1))
    for (a, *_), (b, *_) in zip(
        run(plain, REAL[:3], np.ones(4)),
        run(averaged, REAL[:3], np.ones(4)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"must be in .* or 'polyak', got 'mean'"):
        gradtx.average_params(gradtx.sgd(0.1), "mean")  # pyright: ignore


def test_lookahead_goes_part_of_the_way_and_back():
    tx = gradtx.lookahead(gradtx.sgd(1.0), 2, 0.25)
    runs = run(tx, [-np.ones(1)] * 4, np.zeros(1))
    np.testing.assert_allclose([y[0] for _, y, _ in runs], [1, 0.5, 1.5, 1.0])
    np.testing.assert_allclose([s["slow"][0] for *_, s in runs], [0, 0.5, 0.5, 1.0])


@pytest.mark.parametrize(
    "wrap", [gradtx.average_params, lambda tx: gradtx.lookahead(tx, 2, 0.5)]
)
def test_what_averages_parameters_is_around_the_whole_optimizer(wrap):
    """Else it averages points to which nothing leads."""
    rate = gradtx.scale_by_learning_rate(0.1)
    tx = gradtx.chain(wrap(gradtx.scale_by_adam()), rate)
    with pytest.raises(
        ValueError, match=r"must be around the whole optimizer, but scale_by"
    ):
        tx.init(jnp.ones(2))
    groups: Any = {"a": wrap(gradtx.sgd(0.1)), "b": gradtx.sgd(0.1)}
    params = {"x": jnp.ones(2), "y": jnp.ones(2)}
    gradtx.partition(groups, {"x": "a", "y": "b"}).init(params)
    with pytest.raises(ValueError, match="average_params: missing parameters"):
        gradtx.average_params(gradtx.sgd(0.1)).update(
            params, {"count": 0, "average": params}
        )


def test_lookahead_refuses_pairs_of_parameters():
    pair = optax.LookaheadParams.init_synced(jnp.ones(2))
    tx = gradtx.lookahead(gradtx.sgd(1.0), 2, 0.25)
    with pytest.raises(ValueError, match="lookahead: the updates must have the struct"):
        tx.update(jnp.ones(2), tx.init(pair), pair)
