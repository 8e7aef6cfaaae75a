"""Schedules made of others: joins, pieces and cycles."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

from jax import numpy as jnp

from gradtx.numbers import is_concrete, is_number
from gradtx.roles import Constant, Duration, Factor, Portion, Rate, Steps, SubSchedule
from gradtx.schedules.core import Schedule, schedule
from gradtx.schedules.decays import (
    Curve,
    constant_schedule,
    linear_schedule,
    transition_schedule,
)


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
        def own(part: Any, begin: Any, end: Any) -> Any:
            # Held outside of its turn, where its value and derivative need not exist.
            return _own(part, jnp.clip(count, begin, end) - begin)

        first, *others = schedules
        begin, *turns = itertools.pairwise((0, *boundaries, math.inf))
        result = own(first, *begin)
        for part, (begin, end) in zip(others, turns, strict=True):
            result = jnp.where(count < begin, result, own(part, begin, end))
        return result

    return value


def _own(part: Any, count: Any) -> Any:
    """The value at a part's own count: an int32, as plain functions of it expect."""
    if isinstance(part, Schedule):
        return part(count)
    return part(jnp.asarray(count).astype(jnp.int32))


@schedule
def piecewise_constant_schedule(
    init_value: Constant, boundaries_and_scales: dict[int, Factor] | None = None
):
    """`init_value`, scaled by each factor from its boundary on.

    Args:
        init_value: The value before the first boundary.
        boundaries_and_scales: Factors, each at least 0, by the count they start at.

    Raises:
        TypeError: They are no dict, or a boundary is no number.
        ValueError: A factor or a boundary is below 0.
    """
    name = "piecewise_constant_schedule"
    boundaries, values = _pieces(name, init_value, boundaries_and_scales)
    return join_schedules(list(map(constant_schedule, values)), boundaries)


@schedule
def piecewise_interpolate_schedule(
    interpolate_type: Curve,
    init_value: Constant,
    boundaries_and_scales: dict[int, Factor] | None = None,
):
    """From `init_value` to its product with each factor, which its boundary completes.

    Args:
        interpolate_type: The curve between boundaries, as of `transition_schedule`.
        init_value: The value at count 0.
        boundaries_and_scales: Factors, each at least 0, by the count at which all
            up to there are multiplied into the value.

    Raises:
        TypeError: They are no dict, or a boundary is no number.
        ValueError: A factor or a boundary is below 0, or the curve is unknown.
    """
    name = "piecewise_interpolate_schedule"
    boundaries, values = _pieces(name, init_value, boundaries_and_scales)
    return _through(interpolate_type, values, boundaries)


def _pieces(owner: str, init_value: Any, scales: Any) -> tuple[list, list]:
    """The boundaries in order, and the values before the first and from each on."""
    scales = {} if scales is None else scales
    if not isinstance(scales, dict) or not all(map(is_number, scales)):
        raise TypeError(
            f"{owner}: boundaries_and_scales must be a dict "
            f"from counts to factors, got {scales!r}"
        )
    boundaries = sorted(scales)
    if not all(boundary >= 0 for boundary in boundaries):
        raise ValueError(f"{owner}: boundaries must be at least 0, got {boundaries}")
    factors = (scales[boundary] for boundary in boundaries)
    values = itertools.accumulate(factors, operator.mul, initial=init_value)
    return boundaries, list(values)


def _through(curve: Any, values: Sequence, boundaries: Sequence) -> Schedule:
    """From the first value, along the curve, to each next one at its boundary."""
    legs = itertools.pairwise((0, *boundaries))
    parts = [
        transition_schedule(first, last, end - begin, curve=curve)
        for (first, last), (begin, end) in zip(
            itertools.pairwise(values), legs, strict=True
        )
    ]
    return join_schedules([*parts, constant_schedule(values[-1])], boundaries)


@schedule
def linear_onecycle_schedule(
    transition_steps: Duration,
    peak_value: Constant,
    pct_start: Portion = 0.3,
    pct_final: Portion = 0.85,
    div_factor: Rate = 25.0,
    final_div_factor: Rate = 1e4,
):
    """A line up to the peak, a line back, and a line down to where training ends.

    Smith and Topin 2017: https://arxiv.org/abs/1708.07120. Where two lines end at the
    same count, optax forgets the first of their factors; here the value jumps.

    Args:
        transition_steps: The whole length. Positive.
        peak_value: The value at count `floor(pct_start * transition_steps)`.
        pct_start: The share of the steps after which the peak is reached, in [0, 1].
        pct_final: The share after which the value is back, from `pct_start` to 1.
        div_factor: The first value is `peak_value / div_factor`. Positive.
        final_div_factor: The last is the first divided by this. Positive.

    Raises:
        ValueError: A number is out of its range.
    """
    are_known = is_concrete(pct_start) and is_concrete(pct_final)
    if are_known and not pct_start <= pct_final:
        raise ValueError(
            "linear_onecycle_schedule: pct_final must be at least pct_start, "
            f"got {pct_final:g} and {pct_start:g}"
        )
    base = peak_value / div_factor
    ends = [_floor(share * transition_steps) for share in (pct_start, pct_final)]
    values = (base, peak_value, base, base / final_div_factor)
    return _through("linear", values, (*ends, transition_steps))


@schedule
def cosine_onecycle_schedule(
    transition_steps: Duration,
    peak_value: Constant,
    pct_start: Portion = 0.3,
    div_factor: Rate = 25.0,
    final_div_factor: Rate = 1e4,
):
    """Half a cosine up to the peak, and one down to where training ends.

    Arguments and source are those of `linear_onecycle_schedule`.
    """
    base = peak_value / div_factor
    ends = _floor(pct_start * transition_steps), _floor(transition_steps)
    return _through("cosine", (base, peak_value, base / final_div_factor), ends)


def _floor(steps: Any) -> Any:
    """Whole steps: in double, as optax rounds, where the number is on the host."""
    return math.floor(steps) if isinstance(steps, int | float) else jnp.floor(steps)


@schedule
def cyclic_schedule(
    init_value: Constant,
    peak_value: Constant,
    up_steps: Duration,
    down_steps: Duration | None = None,
    cycle_factor: Rate = 1.0,
    step_factor: Rate = 1.0,
):
    """Triangles for ever: a line up to `peak_value`, a line down, and again.

    Smith 2015: https://arxiv.org/abs/1506.01186. A `cycle_factor` of 0.5 is its (and
    torch's) "triangular2", a `step_factor` of gamma its "exp_range".

    Args:
        init_value: The value at the foot of each triangle.
        peak_value: The value at the top of the first one.
        up_steps: Steps of the way up. Positive.
        down_steps: Steps of the way down, if not as many. Positive.
        cycle_factor: What the height is multiplied by with each triangle. Positive.
        step_factor: What it is multiplied by with each step. Positive.
    """
    down_steps = up_steps if down_steps is None else down_steps
    up, down = linear_schedule(0, 1, up_steps), linear_schedule(1, 0, down_steps)
    triangle = join_schedules((up, down), (up_steps,))

    def value(count: Any) -> Any:
        cycle, since = jnp.divmod(count, up_steps + down_steps)
        height = triangle(since) * cycle_factor**cycle * step_factor**count
        return init_value + (peak_value - init_value) * height

    return value
