"""What optax takes for a schedule and computes sensibly runs, with optax's numbers."""

import collections
import math
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx

COUNTS = range(31)


def line(lib):
    return lib.linear_schedule(0.1, 1.0, 7)


def wave(lib):
    return lib.cosine_decay_schedule(1.0, 9, 0.1)


def joined(boundaries) -> Callable[[Any], Any]:
    """Three parts: a line, half a cosine, a plain function."""
    return lambda lib: lib.join_schedules(
        [line(lib), wave(lib), lambda count: 3.0 + count], boundaries
    )


TAKEN: dict[str, Callable[[Any], Any]] = {
    "more boundaries than needed": joined([6, 20, 25, 30]),
    "more that descend": joined([6, 20, 3, 1]),
    "more, of one schedule": lambda lib: lib.join_schedules([line(lib)], [3]),
    "more, as a trainer has them": lambda lib: lib.join_schedules(
        [line(lib), wave(lib)], [10, 20]
    ),
    "equal boundaries": joined([8, 8]),
    "a boundary at 0": joined([0, 12]),
    "boundaries at 0": joined([0, 0]),
    "a boundary below 0": joined([-3, 12]),
    "boundaries below 0": joined([-8, -3]),
    "boundaries that descend": joined([12, 8]),
    "boundaries that descend to 0": joined([12, 0]),
    "boundaries with a fraction": joined([4.5, 12.25]),
    "a boundary that never comes": joined([8, math.inf]),
    "boundaries of NumPy": joined(np.array([6, 20])),
    "boundaries of NumPy, small": joined(np.array([6, 20], np.int16)),
    "boundaries of JAX": lambda lib: joined(jnp.array([6, 20, 25]))(lib),
    "boundaries of JAX, scalars": lambda lib: joined([jnp.array(6), np.int64(20)])(lib),
    "no steps before a boundary at 0": lambda lib: lib.join_schedules(
        [lib.linear_schedule(0.0, 0.3, 0), lib.linear_schedule(0.3, 0.0, 20)], [0]
    ),
    "line of no steps": lambda lib: lib.linear_schedule(0.3, 0.1, 0),
    "line of fewer than none": lambda lib: lib.linear_schedule(0.3, 0.1, -4),
    "line of no steps, late": lambda lib: lib.linear_schedule(0.3, 0.1, 0, 5),
    "line from before 0": lambda lib: lib.linear_schedule(0.3, 0.1, 10, -4),
    "line of steps with a fraction": lambda lib: lib.linear_schedule(0.3, 0.1, 7.5, 2),
    "line of no end": lambda lib: lib.linear_schedule(0.3, 0.1, math.inf),
    "power of 0": lambda lib: lib.polynomial_schedule(0.3, 0.1, 0, 10, 3),
    "power of 0, no steps": lambda lib: lib.polynomial_schedule(0.3, 0.1, 0, 0),
    "parabola of no steps": lambda lib: lib.polynomial_schedule(0.3, 0.1, 2, -1),
    "parabola from before 0": lambda lib: lib.polynomial_schedule(0.3, 0.1, 2, 10, -1),
    "decay of no steps": lambda lib: lib.exponential_decay(0.3, 0, 0.5),
    "decay of fewer than none": lambda lib: lib.exponential_decay(
        0.3, -2, 0.5, 0, True, 0.1
    ),
    "decay of no steps past its end": lambda lib: lib.exponential_decay(
        0.3, 0, 0.5, end_value=0.4
    ),
    "decay at a rate of 0": lambda lib: lib.exponential_decay(0.3, 5, 0.0),
    "decay at a rate of 0 past its end": lambda lib: lib.exponential_decay(
        0.3, 5, 0.0, end_value=0.4
    ),
    "decay from before 0": lambda lib: lib.exponential_decay(0.3, 5, 0.5, -3),
    "decay in stairs from before 0": lambda lib: lib.exponential_decay(
        0.3, 5, 0.5, -3, True
    ),
    "decay past its end from the start": lambda lib: lib.exponential_decay(
        0.3, 5, 0.5, 3, False, 0.4
    ),
    "growth past its end from the start": lambda lib: lib.exponential_decay(
        0.3, 5, 1.5, 3, False, 0.2
    ),
    "constant below its end": lambda lib: lib.exponential_decay(
        0.3, 5, 1.0, end_value=0.4
    ),
    "decay in stairs of steps with a fraction": lambda lib: lib.exponential_decay(
        0.3, 2.5, 0.5, 3, True
    ),
    "decay in stairs from a fraction": lambda lib: lib.exponential_decay(
        0.3, 4, 0.5, 2.5, True
    ),
    "decay in stairs, all with a fraction": lambda lib: lib.exponential_decay(
        0.3, 3.5, 0.5, 2.25, True
    ),
    "cosine to the power 0": lambda lib: lib.cosine_decay_schedule(0.3, 9, 0.1, 0.0),
    "cosine that stays": lambda lib: lib.cosine_decay_schedule(0.3, 9, 1.0),
    "cosine that grows": lambda lib: lib.cosine_decay_schedule(0.3, 9, 2.0),
    "warm cosine to the power 0": lambda lib: lib.warmup_cosine_decay_schedule(
        0.0, 0.3, 4, 20, 0.1, 0.0
    ),
    "warm cosine below 0": lambda lib: lib.warmup_cosine_decay_schedule(
        0.0, -0.3, 4, 20, 0.1
    ),
    "warm decay of no steps": lambda lib: lib.warmup_exponential_decay_schedule(
        0.0, 0.3, 4, 0, 0.5
    ),
    "warm decay at a rate of 0": lambda lib: lib.warmup_exponential_decay_schedule(
        0.0, 0.3, 4, 5, 0.0
    ),
    "warm decay from before 0": lambda lib: lib.warmup_exponential_decay_schedule(
        0.0, 0.3, 4, 5, 0.5, -2
    ),
    "pieces from before 0": lambda lib: lib.piecewise_constant_schedule(
        0.3, {-3: 0.5, 0: 2.0, 9: 0.1}
    ),
    "pieces with a fraction": lambda lib: lib.piecewise_constant_schedule(
        0.3, {2.5: 0.5, 9: 0.1}
    ),
    "pieces of none": lambda lib: lib.piecewise_constant_schedule(0.3, {}),
    "interpolated from before 0": lambda lib: lib.piecewise_interpolate_schedule(
        "cosine", 0.3, {-3: 0.5, 9: 0.1}
    ),
    "interpolated before 0": lambda lib: lib.piecewise_interpolate_schedule(
        "linear", 0.3, {-3: 0.5}
    ),
    "interpolated with a fraction": lambda lib: lib.piecewise_interpolate_schedule(
        "linear", 0.3, {2.5: 0.5, 9: 0.1}
    ),
    **{
        f"pieces in a {mapping.__name__}": lambda lib, mapping=mapping: (
            lib.piecewise_constant_schedule(0.3, mapping({9: 0.1, 4: 0.5}))
        )
        for mapping in (
            types.MappingProxyType,
            collections.OrderedDict,
            collections.UserDict,
        )
    },
    "warm cosine of NumPy's ints": lambda lib: lib.warmup_cosine_decay_schedule(
        0.0, 0.3, np.int64(5), np.int64(25)
    ),
    "a one-cycle that ends at 0": lambda lib: lib.linear_onecycle_schedule(
        20, 0.3, final_div_factor=math.inf
    ),
    "a one-cycle of NumPy's numbers": lambda lib: lib.cosine_onecycle_schedule(
        np.int32(20), np.float64(0.3), np.float64(0.3)
    ),
    "restarts in mappings": lambda lib: lib.sgdr_schedule(
        [
            types.MappingProxyType(
                dict(init_value=0.1, peak_value=1.0, warmup_steps=3, decay_steps=8)
            )
        ]
        * 2
    ),
}
each_taken = pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN)


def values_by_optax(make):
    with jax.numpy_dtype_promotion("standard"):
        return np.array([make(optax)(count) for count in COUNTS])


@each_taken
def test_schedule_that_optax_takes_has_its_numbers(make):
    with jax.enable_x64(True):
        schedule, expected = make(gradtx), values_by_optax(make)
        assert np.isfinite(expected).all()
        for counts in (np.arange(31, dtype=np.int32), np.arange(31.0)):
            values = np.broadcast_to(schedule(counts), expected.shape)
            np.testing.assert_allclose(values, expected, 1e-12, 1e-15)
        traced = jax.jit(lambda it, at: it(at))(schedule, np.arange(31))
        traced = np.broadcast_to(traced, expected.shape)
        np.testing.assert_allclose(traced, expected, 1e-12, 1e-15)


@each_taken
def test_it_has_finite_derivatives_and_survives_what_others_do(make):
    schedule = make(gradtx)
    assert schedule == schedule.replace()
    assert hash(schedule) == hash(schedule.replace())
    slopes = jax.jit(
        jax.vmap(
            jax.grad(lambda it, at: jnp.asarray(it(at), float), allow_int=True),
            (None, 0),
        )
    )(schedule, np.arange(31, dtype=np.int32))
    for slope in jax.tree.leaves(slopes):
        assert slope.dtype == jax.dtypes.float0 or np.isfinite(slope).all()


def test_more_boundaries_than_needed_are_remembered():
    schedule = gradtx.join_schedules([abs, abs], [10, 20])
    assert schedule.arguments["boundaries"] == (10, 20)
    longer = schedule.replace(schedules=(abs, abs, abs))
    assert float(longer(25)) == 5
