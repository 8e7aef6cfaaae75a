import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx


@pytest.mark.parametrize("is_x64", [False, True])
@pytest.mark.parametrize("steps", [3, 41, 49, 55])
@pytest.mark.parametrize(
    ("staircase", "value"),
    [
        (lambda n: gradtx.exponential_decay(1.0, n, 0.5, staircase=True), [1.0, 0.5]),
        (lambda n: gradtx.inverse_time_decay(1.0, 3.0, n), [1.0, 0.25]),
    ],
    ids=["exponential", "inverse"],
)
def test_staircase_steps_at_its_interval_in_jit(staircase, value, steps, is_x64):
    # XLA divides by a constant as it multiplies by 1 / constant, and 41 * (1 / 41) < 1.
    with jax.enable_x64(is_x64):
        step = jax.jit(staircase(steps))
        values = [step(jnp.int32(steps - 1)), step(jnp.int32(steps))]
        np.testing.assert_allclose(values, value, rtol=1e-6)


@pytest.mark.parametrize("is_x64", [False, True])
@pytest.mark.parametrize("steps", [3, 30, 41, 49])
def test_transition_arrives_at_its_end_in_jit(steps, is_x64):
    # As above: 1 - 30 * (1 / 30), fused, is below 0 and has no root.
    with jax.enable_x64(is_x64):
        schedule = jax.jit(gradtx.polynomial_schedule(1.0, 0.25, 0.5, steps))
        values = [schedule(jnp.int32(count)) for count in (steps, steps + 1, 2**30)]
        np.testing.assert_allclose(values, 0.25, rtol=1e-6)
