"""Schedules: functions from the count of updates to a number.

The count is 0 at the first update (`leaf.t`, which rules read, is 1 there). Any plain
function of the count is a schedule too; these remember their arguments as
transformations do, and are pytrees of their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import jax
import optax
from jax import numpy as jnp

from gradtx.binding import Bound, Remembered, register, remember
from gradtx.numbers import as_weak, is_concrete
from gradtx.roles import Constant, Duration, Factor, Rate, Steps, SubSchedule

P = ParamSpec("P")


class Schedule(Remembered):
    """A function of the count that remembers what it was built from."""

    def __init__(self, bound: Bound):
        """Wrap a bound factory; users call factories instead."""
        self.bound = bound

    def __call__(self, count: Any) -> Any:
        """The value at a count of updates already made (an int or an int array).

        It is computed in the default float dtype: with x64 in float64, where optax's
        schedules give float32 for an int32 count.
        """
        with jax.numpy_dtype_promotion("standard"):
            return self.bound.call()(as_weak(jnp.asarray(count)))


register(Schedule)


def schedule(factory: Callable[P, Any]) -> Callable[P, Schedule]:
    """Make a factory, which returns a function of the count, remember its arguments."""
    return remember(factory, Schedule)


@schedule
def constant_schedule(value: Constant):
    """The same value at every count."""
    return lambda count: value


@schedule
def polynomial_schedule(
    init_value: Constant,
    end_value: Constant,
    power: Constant,
    transition_steps: Duration,
    transition_begin: Steps = 0,
):
    """From `init_value` to `end_value` along (1 - progress)**power.

    Args:
        init_value: The value up to `transition_begin`.
        end_value: The value from `transition_begin + transition_steps` on.
        power: 1 is a straight line.
        transition_steps: Steps that the transition takes. Positive.
        transition_begin: The count at which it starts. At least 0.

    Raises:
        ValueError: A number of steps is out of its range (optax logs and is constant).
    """

    def value(count: Any) -> Any:
        done = _progress(count - transition_begin, transition_steps)
        return _between(init_value, end_value, (1 - done) ** power)

    return value


def _progress(count: Any, steps: Any) -> Any:
    """The share of the steps that is behind, in [0, 1]: exactly 1 at the end.

    A quotient of equals need not be 1: XLA multiplies by the reciprocal of a constant.
    """
    return jnp.where(count < steps, jnp.clip(count / steps, 0, 1), 1)


def _between(first: Any, last: Any, left: Any) -> Any:
    """The value when a share `left` of the way from first to last is ahead."""
    return (first - last) * left + last


def _half_cosine(count: Any, steps: Any) -> Any:
    """From 1 at count 0 to 0 at count `steps`."""
    return 0.5 * (1 + jnp.cos(jnp.pi * _progress(count, steps)))


@schedule
def linear_schedule(
    init_value: Constant,
    end_value: Constant,
    transition_steps: Duration,
    transition_begin: Steps = 0,
):
    """A straight line from `init_value` to `end_value`; see `polynomial_schedule`."""
    return polynomial_schedule(
        init_value, end_value, 1, transition_steps, transition_begin
    )


@schedule
def exponential_decay(
    init_value: Constant,
    transition_steps: Duration,
    decay_rate: Rate,
    transition_begin: Steps = 0,
    staircase: bool = False,
    end_value: Constant | None = None,
):
    """`init_value * decay_rate**((count - transition_begin) / transition_steps)`.

    Args:
        init_value: The value up to `transition_begin`.
        transition_steps: Steps in which the value changes by `decay_rate`. Positive.
        decay_rate: Above 0; a rate above 1 grows.
        transition_begin: The count at which the decay starts. At least 0.
        staircase: Whether to change only at whole multiples of `transition_steps`.
        end_value: A bound that the value does not cross, if given.

    Raises:
        ValueError: A number is out of its range (optax logs and is constant).
    """

    def value(count: Any) -> Any:
        elapsed = jnp.maximum(count - transition_begin, 0)
        # The floor of a quotient is off by one where XLA multiplies by a reciprocal.
        divide = jnp.floor_divide if staircase else jnp.divide
        decayed = init_value * decay_rate ** divide(elapsed, transition_steps)
        if end_value is None:
            return decayed
        return jnp.where(
            decay_rate < 1,
            jnp.maximum(decayed, end_value),
            jnp.minimum(decayed, end_value),
        )

    return value


@schedule
def inverse_time_decay(
    init_value: Constant, decay_rate: Factor, interval: Duration | None = None
):
    """`init_value / (1 + decay_rate * count)`, or a staircase of it.

    Args:
        init_value: The value at count 0.
        decay_rate: At least 0. With 0.2 and rate 1: 0.2, 0.1, 0.067, 0.05, 0.04.
        interval: If given, the count is that of whole intervals of so many steps.
    """

    def value(count: Any) -> Any:
        intervals = count if interval is None else jnp.floor_divide(count, interval)
        return init_value / (1 + decay_rate * intervals)

    return value


@schedule
def cosine_decay_schedule(
    init_value: Constant,
    decay_steps: Duration,
    alpha: Constant = 0.0,
    exponent: Constant = 1.0,
):
    """Half a cosine from `init_value` to `alpha * init_value`.

    Loshchilov and Hutter 2016: https://arxiv.org/abs/1608.03983.

    Args:
        init_value: The value at count 0.
        decay_steps: Steps that the decay takes. Positive.
        alpha: The last value's share of the first.
        exponent: A power of the half cosine, which falls from 1 to 0.
    """

    def value(count: Any) -> Any:
        left = _half_cosine(count, decay_steps) ** exponent
        return init_value * _between(1, alpha, left)

    return value


@schedule
def warmup_cosine_decay_schedule(
    init_value: Constant,
    peak_value: Constant,
    warmup_steps: Steps,
    decay_steps: Duration,
    end_value: Constant = 0.0,
    exponent: Constant = 1.0,
):
    """A line from `init_value` to `peak_value`, then half a cosine to `end_value`.

    Args:
        init_value: The value at count 0, if there is a warmup.
        peak_value: The value at count `warmup_steps`.
        warmup_steps: Steps that the line takes. At least 0, below `decay_steps`.
        decay_steps: The whole length, the warmup included.
        end_value: The value at count `decay_steps`.
        exponent: A power of the half cosine, which falls from 1 to 0.

    Raises:
        ValueError: `decay_steps` is not above `warmup_steps`.
    """
    are_known = is_concrete(warmup_steps) and is_concrete(decay_steps)
    if are_known and not warmup_steps < decay_steps:
        raise ValueError(
            "warmup_cosine_decay_schedule: decay_steps includes the warmup and "
            f"must be above warmup_steps, got {decay_steps:g} and {warmup_steps:g}"
        )

    def value(count: Any) -> Any:
        since = count - warmup_steps
        left = _half_cosine(since, decay_steps - warmup_steps) ** exponent
        to_warm = 1 - _progress(count, jnp.maximum(warmup_steps, 1))
        return jnp.where(
            count < warmup_steps,
            _between(init_value, peak_value, to_warm),
            _between(peak_value, end_value, left),
        )

    return value


@schedule
def piecewise_constant_schedule(
    init_value: Constant, boundaries_and_scales: dict[int, Factor] | None = None
):
    """`init_value`, scaled by each factor from its boundary on.

    Args:
        init_value: The value before the first boundary.
        boundaries_and_scales: Factors, each at least 0, by the count they start at.
    """
    if not isinstance(boundaries_and_scales, dict | None):
        raise TypeError(
            "piecewise_constant_schedule: boundaries_and_scales must be a dict "
            f"from counts to factors, got {boundaries_and_scales!r}"
        )

    def value(count: Any) -> Any:
        result = jnp.asarray(init_value, dtype=float)
        for boundary, factor in sorted((boundaries_and_scales or {}).items()):
            result = jnp.where(count < boundary, result, result * factor)
        return result

    return value


@schedule
def join_schedules(schedules: Sequence[SubSchedule], boundaries: Sequence[Steps]):
    """One schedule after the other; each counts from its own boundary.

    Args:
        schedules: Schedules or plain functions of the count.
        boundaries: The counts at which the second and later ones begin, ascending.

    Raises:
        ValueError: There is not one boundary fewer than schedules, or they descend.
    """
    if len(boundaries) != len(schedules) - 1:
        raise ValueError(
            f"join_schedules: needs one boundary fewer than schedules, "
            f"got {len(boundaries)} for {len(schedules)}"
        )
    known = [b for b in boundaries if is_concrete(b)]
    if known != sorted(known):
        raise ValueError(
            "join_schedules: boundaries must ascend, got "
            + ", ".join(f"{b:g}" for b in known)
        )

    def value(count: Any) -> Any:
        result = schedules[0](_whole(count))
        for boundary, part in zip(boundaries, schedules[1:], strict=True):
            later = part(_whole(count - boundary))
            result = jnp.where(count < boundary, result, later)
        return result

    return value


def _whole(count: Any) -> Any:
    """The count as plain functions of it expect: an int32."""
    return jnp.asarray(count).astype(jnp.int32)


def __getattr__(name: str) -> Any:
    """Schedules that are not ours are optax's."""
    return getattr(optax.schedules, name)
