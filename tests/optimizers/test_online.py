from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.online import (
    asgd_average_by_torch,
    asgd_by_torch,
    ftrl_by_keras,
    ftrl_by_the_paper,
)
from tests.oracles.runs import REAL

START = np.array([1.0, -0.5, 2.0, 0.3])


def followed(tx, start=START) -> Any:
    """The updates, the parameters that follow them, and the states, in double."""
    with jax.enable_x64(True):
        params = jnp.asarray(start)
        state, update, seen = tx.init(params), jax.jit(tx.update), []
        for g in REAL:
            updates, state = update(jnp.asarray(g), state, params)
            params = optax.apply_updates(params, updates)
            seen.append((np.asarray(updates), np.asarray(params), state))
    return seen


@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"lambd": 0.1, "alpha": 0.5, "t0": 4.0, "weight_decay": 0.2},
        {"lambd": 0.5, "t0": 0.0},
    ],
)
def test_asgd_equals_torch(numbers):
    seen = followed(gradtx.asgd(0.1, **numbers))
    steps = asgd_by_torch(REAL, START, rate=0.1, **numbers)
    averages = asgd_average_by_torch(REAL, START, rate=0.1, **numbers)
    for (updates, _, state), step, mean in zip(seen, steps, averages, strict=True):
        np.testing.assert_allclose(updates, step, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(state["average"], mean, rtol=1e-12)
    _, params, state = seen[-1]
    with jax.enable_x64(True):
        evaluated = gradtx.eval_params(gradtx.asgd(0.1, **numbers), state, params)
    np.testing.assert_array_equal(evaluated, state["average"])


@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"l1": 0.3, "l2": 0.1, "l2_shrinkage": 0.05, "beta": 1.0},
        {"initial_accumulator_value": 0.0, "beta": 1.0},
        {"initial_accumulator_value": 1.0, "power": -0.7},
    ],
)
def test_ftrl_equals_keras(numbers):
    ours = {"learning_rate_power" if k == "power" else k: x for k, x in numbers.items()}
    seen = followed(gradtx.ftrl(0.1, **ours))
    steps = ftrl_by_keras(REAL, START, rate=0.1, **numbers)
    for (updates, *_), step in zip(seen, steps, strict=True):
        np.testing.assert_allclose(updates, step, rtol=1e-10, atol=1e-12)


def test_ftrl_is_that_of_the_paper():
    tx = gradtx.ftrl(0.1, initial_accumulator_value=0.0, l1=0.3, l2=0.2, beta=1.0)
    seen = followed(tx, np.zeros(4))
    steps = ftrl_by_the_paper(REAL, np.zeros(4), 0.1, 1.0, l1=0.3, l2=0.4)
    for (updates, *_), step in zip(seen, steps, strict=True):
        np.testing.assert_allclose(updates, step, rtol=1e-10, atol=1e-12)
    assert any(np.any(params[:3] == 0) for _, params, _ in seen[5:])  # sparse


def test_ftrl_does_nothing_where_its_rate_is_zero():
    """As where a warmup begins."""
    tx = gradtx.ftrl(lambda count: 0.1 * count)
    params = jnp.asarray(START, jnp.float32)
    updates, state = tx.update(params, tx.init(params), params)
    np.testing.assert_array_equal(updates, jnp.zeros(4))
    np.testing.assert_array_equal(state["accumulator"], jnp.full(4, 0.1))
    updates, _ = tx.update(params, state, params)
    assert np.isfinite(updates).all() and np.any(updates)


def test_ftrl_leaves_parameters_without_gradients_where_they_are():
    """Where the paper divides 0 by 0."""
    tx = gradtx.ftrl(0.1, initial_accumulator_value=0.0)
    params = jnp.asarray(START, jnp.float32)
    updates, _ = tx.update(jnp.zeros(4), tx.init(params), params)
    np.testing.assert_array_equal(updates, jnp.zeros(4))
