import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.runs import COMPLEX, REAL, steps_of
from tests.oracles.schedule_free import schedule_free_by_the_paper

STEPS = 8


def late(count):
    """0 for two updates, then up, and down again."""
    return jnp.maximum(jnp.minimum(count - 2, 9 - count), 0) / 8.0


def run(tx, steps, start):
    """What becomes of the parameters, and the states."""
    seen = []
    with jax.enable_x64(True):
        y = jnp.asarray(start)
        state, update = tx.init(y), jax.jit(tx.update)
        for step in steps:
            updates, state = update(jnp.asarray(step), state, y)
            y = y + updates
            seen.append((updates, np.asarray(y), jax.tree.map(np.asarray, state)))
    return seen


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(
    ("rate", "b1", "power"),
    [(0.1, 0.9, 2.0), (0.1, 0.5, 0.0), (late, 0.9, 2.0), (late, 0.9, 0.0)],
)
def test_interpolated_iterates_equal_the_paper(rate, b1, power, is_complex):
    steps, start = COMPLEX[:STEPS], 1 + COMPLEX[STEPS]
    steps, start = (steps, start) if is_complex else (REAL[:STEPS], 1 + REAL[STEPS])
    # As in optax, the rate is that of one step ahead.
    rates = [float(late(t + 1)) if rate is late else rate for t in range(STEPS)]
    expected = schedule_free_by_the_paper(steps, rates, start, b1, power)
    tx = gradtx.interpolate_iterates(rate, b1, power)
    runs = run(tx, steps, start)
    for (updates, *_), other in zip(runs, expected, strict=True):
        np.testing.assert_allclose(updates, other, rtol=1e-11, atol=1e-12)
    *_, state = runs[-1]
    np.testing.assert_allclose(state["z"], start + np.sum(steps, axis=0), rtol=1e-12)
    np.testing.assert_allclose(state["max_lr"], max(rates), rtol=1e-12)


def test_iterates_of_rate_zero_do_not_count():
    """Then they count as the squares of the largest rate: 1, 4, ..."""
    tx = gradtx.interpolate_iterates(lambda count: jnp.maximum(count - 2.0, 0.0), 0.5)
    step, runs = np.array([1.0, -2.0]), run(tx, [np.array([1.0, -2.0])] * 4, np.ones(2))
    for (_, y, state), moved in zip(runs, [0, 0, 3, (1 * 3 + 4 * 4) / 5], strict=True):
        np.testing.assert_allclose(2 * y - state["z"], 1 + moved * step)


def test_x_is_the_mean_of_the_iterates():
    """With equal weights; it is what is evaluated."""
    zs = []
    start = 1 + REAL[STEPS]
    for _, y, state in run(gradtx.interpolate_iterates(0.1, 0.8), REAL[:STEPS], start):
        zs.append(np.asarray(state["z"]))
        x = (y - 0.2 * state["z"]) / 0.8
        np.testing.assert_allclose(x, np.mean(zs, axis=0), rtol=1e-10)


def test_schedule_free_is_a_chain():
    base = gradtx.sgd(0.1, momentum=0.5)
    one = gradtx.schedule_free(base, 0.1, 0.7, 1.0)
    other = gradtx.chain(base, gradtx.interpolate_iterates(0.1, 0.7, 1.0))
    runs = (run(tx, REAL[:4], REAL[5]) for tx in (one, other))
    for (mine, *_), (its, *_) in zip(*runs, strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize(
    ("dtype", "given", "stored"),
    [
        ("float32", None, "float32"),
        ("bfloat16", None, "float32"),
        ("float32", "bfloat16", "bfloat16"),
    ],
)
def test_iterates_are_stored_in_their_dtype(dtype, given, stored):
    tx = gradtx.interpolate_iterates(0.1, state_dtype=given)
    params = jnp.ones(2, dtype)
    for updates, state in steps_of(tx, [params, params], params):
        assert state["z"].dtype == stored and updates.dtype == dtype
        assert state["weight_sum"].dtype == state["max_lr"].dtype == "float32"
        assert state["weight_sum"].shape == state["max_lr"].shape == ()


def test_derivative_by_the_rate_is_finite_where_it_is_zero():
    @functools.partial(jax.grad, argnums=(0, 1))
    def slopes(rate, power):
        tx = gradtx.interpolate_iterates(rate, 0.9, power)
        params = jnp.ones(2)
        return jnp.sum(tx.update(params, tx.init(params), params)[0])

    assert np.isfinite(slopes(0.0, 2.0)).all()
    assert np.isfinite(slopes(0.1, 2.0)).all()


@pytest.mark.parametrize("b1", [0.0, 1.0, -0.5])
def test_share_of_the_mean_is_between_zero_and_one(b1):
    for make in (
        lambda: gradtx.interpolate_iterates(0.1, b1),
        lambda: gradtx.schedule_free(gradtx.sgd(0.1), 0.1, b1),
    ):
        with pytest.raises(ValueError, match=r"b1 must be in \(0, 1\), got"):
            make()


def test_steps_of_iterates_need_the_parameters():
    tx, grads = gradtx.interpolate_iterates(0.1), jnp.ones(2)
    with pytest.raises(ValueError) as caught:
        tx.update(grads, tx.init(grads))
    assert str(caught.value) == (
        "interpolate_iterates: missing parameters; call update(updates, state, params)"
    )
