from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx

RHO, RATE = 0.1, 0.5
CLIMB = gradtx.chain(gradtx.normalize(), gradtx.sgd(RHO))


def gradient(params, i=0):
    return jax.grad(lambda p: jnp.sum(p**4))(params)


def by_the_paper(p):
    """Foret et al. 2020, Algorithm 1, three steps."""
    for _ in range(3):
        g = 4 * p**3
        p = p - RATE * 4 * (p + RHO * g / np.linalg.norm(g)) ** 3
    return p


START = np.array([0.5, -0.3, 0.2])


def test_two_gradients_are_a_step_of_the_paper():
    tx = gradtx.sam(gradtx.sgd(RATE), CLIMB)
    with jax.enable_x64(True):
        params: Any = jnp.asarray(START)
        state = tx.init(params)
        for _ in range(6):
            updates, state = tx.update(gradient(params), state, params)
            params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, by_the_paper(START), rtol=1e-12)


def test_at_once_is_the_same():
    tx = gradtx.sam(gradtx.sgd(RATE), CLIMB, opaque_mode=True)
    with jax.enable_x64(True):
        params: Any = jnp.asarray(START)
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(
                gradient(params), state, params, grad_fn=gradient
            )
            params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, by_the_paper(START), rtol=1e-12)
    with pytest.raises(TypeError, match="missing extra argument 'grad_fn'"):
        tx.update(params, state, params)


def test_one_gradient_a_step_is_the_optimizer():
    """optax's goes back to where the step before began."""
    tx = gradtx.sam(gradtx.sgd(RATE), CLIMB, sync_period=1)
    params: Any = jnp.asarray(START)
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(gradient(params), state, params)
        np.testing.assert_allclose(updates, -RATE * gradient(params), rtol=1e-5)
        params = optax.apply_updates(params, updates)


def test_what_is_evaluated_has_not_climbed():
    tx = gradtx.sam(gradtx.sgd(RATE), CLIMB)
    start = jnp.asarray(START)
    updates, state = tx.update(gradient(start), tx.init(start), start)
    high: Any = optax.apply_updates(start, updates)
    np.testing.assert_array_equal(gradtx.eval_params(tx, state, high), start)
    updates, state = tx.update(gradient(high), state, high)
    params = optax.apply_updates(high, updates)
    np.testing.assert_array_equal(gradtx.eval_params(tx, state, params), params)


def test_a_skipped_leaf_neither_climbs_nor_steps():
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    tx = gradtx.sam(gradtx.adam(0.1), CLIMB)
    state = tx.init(params)
    for _ in range(2):
        grads = {"a": None, "b": jnp.ones(3)}
        updates, state = tx.update(grads, state, params)
        assert updates["a"] is None and np.any(updates["b"])
