import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.equality import as_optax_needs, bitwise

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_updates_are_applied_as_in_optax(dtype):
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    with as_optax_needs():
        bitwise(
            gradtx.apply_updates(params, PARAMS), optax.apply_updates(params, PARAMS)
        )


def test_a_parameter_without_an_update_stays():
    """In optax it is an error."""
    tx = gradtx.sgd(1.0)
    params = {**PARAMS, "absent": None}
    updates, _ = tx.update(
        {"w": None, "b": PARAMS["b"], "absent": None}, tx.init(params), params
    )
    after = gradtx.apply_updates(params, updates)
    bitwise(after["w"], PARAMS["w"])
    np.testing.assert_array_equal(after["b"], jnp.zeros(3))
