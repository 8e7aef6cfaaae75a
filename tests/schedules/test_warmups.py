import functools

import jax
import numpy as np
import optax
import pytest

import gradtx
from tests.schedules.settings import COUNTS


@pytest.mark.parametrize(
    "schedule",
    [
        gradtx.warmup_constant_schedule(0.1, 0.7, 0),
        gradtx.warmup_cosine_decay_schedule(0.1, 0.7, 0, 10, 0.7),
        gradtx.warmup_exponential_decay_schedule(0.1, 0.7, 0, 5, 0.5, 1),
        gradtx.warmup_stable_decay_schedule(0.1, 0.7, 0, 1, 5),
    ],
    ids=lambda schedule: schedule.name,
)
def test_warmup_of_no_steps_is_no_warmup(schedule):
    np.testing.assert_allclose([schedule(0), schedule(1)], 0.7, rtol=1e-6)


@pytest.mark.parametrize("is_traced", [False, True])
def test_a_cosine_after_a_peak_of_zero_stays_there_as_in_optax(is_traced):
    def values(lib, peak_value):
        make = lib.warmup_cosine_decay_schedule
        return jax.vmap(make(0.2, peak_value, 5, 10, end_value=-3.0))(COUNTS)

    ours = functools.partial(values, gradtx)
    with jax.numpy_dtype_promotion("standard"):
        expected = values(optax, 0.0)
    np.testing.assert_allclose(
        (jax.jit(ours) if is_traced else ours)(0.0), expected, atol=1e-7
    )
