from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx


@pytest.mark.parametrize("name", ["scale_by_prodigy", "scale_by_dadapt_adam"])
def test_estimate_of_the_distance_grows_to_its_size(name):
    """From a millionth; never above it, see the papers' theorems."""
    tx = getattr(gradtx, name)(betas=(0.0, 0.99))
    target = jnp.array([30.0, -40.0])

    @jax.jit
    def run(x):
        def step(carry, _):
            x, state = carry
            updates, state = tx.update(jnp.sign(x - target), state, x)
            return (x - updates, state), state["estim_lr"]

        return jax.lax.scan(step, (x, tx.init(x)), None, 300)

    (x, _), estimates = run(jnp.zeros(2))
    assert np.all(np.diff(estimates) >= 0)
    assert estimates[0] < 1e-5 and 1 < estimates[-1] < 50 * np.sqrt(2)
    assert np.linalg.norm(x - target) < 25


def test_estimates_are_kept_for_the_whole_tree():
    params: Any = {"w": jnp.ones((2, 3), "bfloat16"), "b": jnp.ones(3, "bfloat16")}
    for name in ("scale_by_prodigy", "scale_by_dadapt_adam"):
        state = getattr(gradtx, name)().init(params)
        for key in ("estim_lr", "numerator_weighted"):
            assert state[key].shape == () and state[key].dtype == "float32"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.scale_by_prodigy(betas=(0.9, 1.0)),
            "scale_by_prodigy: betas must be in [0, 1), got 1.0",
        ),
        (
            lambda: gradtx.scale_by_dadapt_adam(estim_lr0=0.0),
            "scale_by_dadapt_adam: estim_lr0 must be positive, got 0.0",
        ),
    ],
)
def test_number_out_of_its_range_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
