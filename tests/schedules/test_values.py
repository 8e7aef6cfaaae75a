import functools

import jax
import numpy as np
import optax
import pytest

import gradtx
from tests.schedules.settings import COUNTS, OWN, SCHEDULES, each_schedule, each_way


@functools.cache
def values_by_optax(make, is_x64):
    # At Python's ints, because with x64 optax's are float32 at int32 counts.
    with jax.enable_x64(is_x64), jax.numpy_dtype_promotion("standard"):
        return np.array(list(map(make(optax), range(31))))


@pytest.mark.parametrize("is_x64", [False, True])
@each_way
@each_schedule(SCHEDULES)
def test_schedule_equals_optax(make, values_of, is_x64):
    theirs = values_by_optax(make, is_x64)
    with jax.enable_x64(is_x64):
        mine = np.broadcast_to(values_of(make(gradtx)), theirs.shape)
    # Sums such as 1 + cos cancel near 0: what is left is good to the rounding of 1.
    rounding = np.finfo(np.float64 if is_x64 else np.float32).eps * theirs.max()
    np.testing.assert_allclose(mine, theirs, 1e-12 if is_x64 else 1e-6, rounding)


@pytest.mark.parametrize("is_x64", [False, True])
@each_way
@each_schedule(OWN)
def test_schedule_that_optax_lacks_is_its_paper_s(make, values_of, is_x64):
    schedule, by_the_paper = make
    with jax.enable_x64(is_x64):
        mine = np.array(values_of(schedule(gradtx)))
    rounding = float(np.finfo(np.float64 if is_x64 else np.float32).eps)
    expected = [by_the_paper(int(n)) for n in COUNTS]
    np.testing.assert_allclose(mine, expected, 8 * rounding, 2 * rounding)
