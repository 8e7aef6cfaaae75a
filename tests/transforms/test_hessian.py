from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx


def separable(params):
    """One whose Hessian is diagonal."""
    return jnp.sum(jnp.sin(params["w"])) + jnp.sum(params["b"][0] ** 4)


def test_diagonal_of_a_diagonal_hessian_is_exact():
    params: Any = {
        "w": jnp.array([[0.1, 2.0, 0.0], [1.0, 0.5, 3.0]]),
        "b": [jnp.ones(3)],
    }
    tx: Any = gradtx.hutchinson_estimator_diag_hessian(4)
    updates, _ = tx.update(params, tx.init(params), params, obj_fn=separable)
    np.testing.assert_allclose(updates["w"], -np.sin(params["w"]), rtol=1e-6)
    np.testing.assert_allclose(updates["b"][0], 12 * np.ones(3), rtol=1e-6)


def test_estimates_of_the_diagonal_are_right_on_average():
    matrix = np.array([[2.0, 1.0, 0.5], [1.0, 3.0, -1.0], [0.5, -1.0, 0.0]], "float32")
    tx, x = gradtx.hutchinson_estimator_diag_hessian(), jnp.ones(3)

    def step(state, _):
        update, state = tx.update(x, state, x, obj_fn=lambda x: x @ matrix @ x / 2)
        return state, update

    _, estimates = jax.lax.scan(step, tx.init(x), None, 2000)
    np.testing.assert_allclose(np.mean(estimates, 0), np.diag(matrix), atol=0.1)
    assert np.std(estimates, 0).min() > 0.5


def test_the_function_of_the_hessian_sees_the_parameters_that_are_masked_away():
    inner = gradtx.hutchinson_estimator_diag_hessian()
    tx: Any = gradtx.only(inner, {"w": True, "b": False})
    params: Any = {"w": jnp.ones((2, 3)), "b": [jnp.ones(3), None]}
    updates, _ = tx.update(params, tx.init(params), params, obj_fn=separable)
    np.testing.assert_allclose(updates["w"], -np.sin(params["w"]), rtol=1e-6)
    np.testing.assert_array_equal(updates["b"][0], 1)


def test_the_hessian_needs_a_function_and_the_parameters():
    tx, grads = gradtx.hutchinson_estimator_diag_hessian(), jnp.ones(2)
    name = "hutchinson_estimator_diag_hessian"
    with pytest.raises(TypeError) as caught:
        tx.update(grads, tx.init(grads), grads)
    assert str(caught.value) == (
        f"{name}: missing extra argument 'obj_fn'; "
        "call update(updates, state, params, obj_fn=...)"
    )
    with pytest.raises(ValueError) as caught:
        tx.update(grads, tx.init(grads), obj_fn=jnp.sum)
    assert str(caught.value) == (
        f"{name}: missing parameters; call update(updates, state, params, obj_fn=...)"
    )
