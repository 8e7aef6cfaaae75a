"""Schedules composed of others: joins, pieces, cycles and epochs."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from gradtx.core.annotations import (
    Count,
    Duration,
    Fixed,
    Fraction,
    NonNegative,
    Positive,
    PositiveInt,
    Scalar,
    SubSchedule,
)
from gradtx.core.docstrings import described_by
from gradtx.core.numbers import is_concrete, is_number
from gradtx.schedules.core import Schedule, schedule
from gradtx.schedules.counts import (
    as_float,
    before,
    chosen,
    held,
    is_whole,
    least,
    raised,
    since,
    static,
    turns,
)
from gradtx.schedules.decays import (
    Curve,
    constant_schedule,
    linear_schedule,
    transition_schedule,
)


@schedule
def join_schedules(schedules: Sequence[SubSchedule], boundaries: Sequence[Count]):
    """Run schedules one after the other, each with its count from its own boundary.

    Args:
        schedules: Schedules or plain functions of the count.
        boundaries: The counts at which the second and later schedules begin. At equal
            or descending boundaries the last of their schedules begins. Boundaries may
            be 0 or less; surplus ones are ignored, as in optax.

    Raises:
        ValueError: Too few boundaries, or no schedules.

    Examples:
        >>> warmup = gradtx.linear_schedule(0.0, 1.0, 10)
        >>> decay = gradtx.cosine_decay_schedule(1.0, 100)
        >>> rate = gradtx.join_schedules([warmup, decay], [10])
        >>> print(*(f"{rate(count):.2f}" for count in (0, 5, 10, 60)))
        0.00 0.50 1.00 0.50
    """
    needed = len(schedules) - 1
    if not 0 <= needed <= len(boundaries):
        raise ValueError(
            "join_schedules: expected at least one schedule, and at least one "
            f"boundary fewer than schedules, got {len(boundaries)} for {len(schedules)}"
        )
    are_known = isinstance(boundaries, jax.Array) and is_concrete(boundaries)
    listed: Any = np.asarray(boundaries) if are_known else boundaries
    begins = (0, *map(_of_host, listed[:needed]))
    # A schedule ends where any later one begins.
    ends = [*itertools.accumulate(reversed((*begins[1:], math.inf)), least)][::-1]

    def value(count: Any) -> Any:
        result = None
        for part, begin, end in zip(schedules, begins, ends, strict=True):
            is_before = before(count, begin)
            if is_before is True or before(count, end) is False:
                continue  # it never runs
            # The count is clamped to its range, outside of which it may not be finite.
            own = _own(part, held(since(count, begin), _length(begin, end)))
            result = chosen(is_before, result, own)
        return result

    return value


def _of_host(boundary: Any) -> Any:
    """A concrete boundary as Python's number: differences of uint8 would wrap."""
    known = static(boundary)
    return boundary if known is None else known


def _length(begin: Any, end: Any) -> Any:
    """Steps from a beginning to an end, which may be infinite."""
    return math.inf if static(end) == math.inf else end - begin


def _own(part: Any, count: Any) -> Any:
    """The value at a part's own count: an int32 where a plain function expects one."""
    if isinstance(part, Schedule):
        return part.at(count)
    return part(count.astype(jnp.int32) if is_whole(count) else count)


@schedule
def piecewise_constant_schedule(
    init_value: Fixed[Scalar],
    boundaries_and_scales: dict[int, Fixed[NonNegative]] | None = None,
):
    """Piecewise constant: `init_value`, multiplied by a factor at each boundary.

    Args:
        init_value: The value before the first boundary.
        boundaries_and_scales: Dict from a count to the factor there, at least 0.

    Raises:
        TypeError: Not a dict, or a boundary is not a number.
        ValueError: A factor is below 0.

    Examples:
        >>> rate = gradtx.piecewise_constant_schedule(1.0, {100: 0.5, 200: 0.5})
        >>> print(*(f"{rate(count):.2f}" for count in (0, 99, 100, 200)))
        1.00 1.00 0.50 0.25
    """
    name = "piecewise_constant_schedule"
    boundaries, values = _pieces(name, init_value, boundaries_and_scales)

    def value(count: Any) -> Any:
        first, *others = values
        for boundary, other in zip(boundaries, others, strict=True):
            first = chosen(before(count, boundary), first, other)
        return first

    return value


@schedule
def piecewise_interpolate_schedule(
    interpolate_type: Curve,
    init_value: Fixed[Scalar],
    boundaries_and_scales: dict[int, Fixed[NonNegative]] | None = None,
):
    """Interpolate between `init_value` and its products with the factors.

    Args:
        interpolate_type: The curve between boundaries, see `transition_schedule`.
        init_value: The value at count 0.
        boundaries_and_scales: Dict from a count to a factor, at least 0. At that count
            the value is `init_value` times all factors up to there.

    Raises:
        TypeError: Not a dict, or a boundary is not a number.
        ValueError: A factor is below 0, or the curve is unknown.

    Examples:
        >>> rate = gradtx.piecewise_interpolate_schedule("cosine", 1.0, {100: 0.5})
        >>> print(*(f"{rate(count):.2f}" for count in (0, 50, 100, 200)))
        1.00 0.75 0.50 0.50
    """
    name = "piecewise_interpolate_schedule"
    boundaries, values = _pieces(name, init_value, boundaries_and_scales)
    return _through(interpolate_type, values, boundaries)


def _pieces(owner: str, init_value: Any, scales: Any) -> tuple[list, list]:
    """The boundaries in order; the values before the first and from each one on."""
    scales = {} if scales is None else scales
    if not isinstance(scales, dict) or not all(map(is_number, scales)):
        raise TypeError(
            f"{owner}: boundaries_and_scales must be a dict "
            f"from counts to factors, got {scales!r}"
        )
    boundaries = sorted(scales)
    factors = (scales[boundary] for boundary in boundaries)
    values = itertools.accumulate(factors, operator.mul, initial=init_value)
    return boundaries, list(values)


def _through(curve: Any, values: Sequence, boundaries: Sequence) -> Schedule:
    """Along the curve from each value to the next one at its boundary."""
    legs = itertools.pairwise((0, *boundaries))
    parts = [
        transition_schedule(first, last, _positive(end - begin), curve=curve)
        for (first, last), (begin, end) in zip(
            itertools.pairwise(values), legs, strict=True
        )
    ]
    return join_schedules([*parts, constant_schedule(values[-1])], boundaries)


def _positive(steps: Any) -> Any:
    """Length of a part in steps, at least 0."""
    return steps if static(steps) is None else max(steps, 0)


@schedule
def linear_onecycle_schedule(
    transition_steps: Duration,
    peak_value: Fixed[Scalar],
    pct_start: Fixed[Fraction] = 0.3,
    pct_final: Fixed[Fraction] = 0.85,
    div_factor: Fixed[Positive] = 25.0,
    final_div_factor: Fixed[Positive] = 1e4,
):
    """One-cycle: linear from the initial value to the peak, back, and down to the end.

    Smith and Topin 2017: https://arxiv.org/abs/1708.07120. Where two lines end at the
    same count, the value jumps (optax drops the first of their factors).

    Args:
        transition_steps: Total number of steps. Positive.
        peak_value: The value at count `floor(pct_start * transition_steps)`.
        pct_start: Fraction of the steps at which the peak is reached, in [0, 1].
        pct_final: Fraction at which the value is the initial one again, from
            `pct_start` to 1.
        div_factor: The initial value is `peak_value / div_factor`. Positive.
        final_div_factor: The last value is the initial one over this. Positive.

    Raises:
        ValueError: A number is out of its range.

    Examples:
        >>> rate = gradtx.linear_onecycle_schedule(100, peak_value=1.0)
        >>> print(*(f"{rate(count):.2f}" for count in (0, 30, 85, 100)))
        0.04 1.00 0.04 0.00
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


@described_by(linear_onecycle_schedule)
@schedule
def cosine_onecycle_schedule(
    transition_steps: Duration,
    peak_value: Fixed[Scalar],
    pct_start: Fixed[Fraction] = 0.3,
    div_factor: Fixed[Positive] = 25.0,
    final_div_factor: Fixed[Positive] = 1e4,
):
    """One-cycle with cosines: half a cosine up to the peak, and one down to the end.

    Smith and Topin 2017: https://arxiv.org/abs/1708.07120.

    Examples:
        >>> rate = gradtx.cosine_onecycle_schedule(100, peak_value=1.0)
        >>> print(*(f"{rate(count):.2f}" for count in (0, 15, 30, 100)))
        0.04 0.52 1.00 0.00
    """
    base = peak_value / div_factor
    ends = _floor(pct_start * transition_steps), _floor(transition_steps)
    return _through("cosine", (base, peak_value, base / final_div_factor), ends)


def _floor(steps: Any) -> Any:
    """Whole steps, for concrete numbers rounded in float64 as in optax."""
    known = static(steps)
    return jnp.floor(steps) if known is None else math.floor(known)


@schedule
def cyclic_schedule(
    init_value: Fixed[Scalar],
    peak_value: Fixed[Scalar],
    up_steps: Duration,
    down_steps: Duration | None = None,
    cycle_factor: Fixed[Positive] = 1.0,
    step_factor: Fixed[Positive] = 1.0,
):
    """Cyclical: triangles from `init_value` to `peak_value` and back, repeated.

    Smith 2015: https://arxiv.org/abs/1506.01186. `cycle_factor=0.5` gives "triangular2"
    of the paper and torch, `step_factor=gamma` gives "exp_range".

    Args:
        init_value: The value at the foot of each triangle.
        peak_value: The value at the top of the first triangle.
        up_steps: Steps up. Positive.
        down_steps: Steps down; `up_steps` if None. Positive.
        cycle_factor: Factor of the height per triangle. Positive.
        step_factor: Factor of the height per step. Positive.

    Examples:
        >>> rate = gradtx.cyclic_schedule(0.0, 1.0, up_steps=10, cycle_factor=0.5)
        >>> print(*(f"{rate(count):.2f}" for count in (0, 10, 20, 30)))
        0.00 1.00 0.00 0.50
    """
    down_steps = up_steps if down_steps is None else down_steps
    up, down = linear_schedule(0, 1, up_steps), linear_schedule(1, 0, down_steps)
    triangle = join_schedules((up, down), (up_steps,))

    def value(count: Any) -> Any:
        cycles, own = turns(count, up_steps + down_steps)
        scale = raised(cycle_factor, cycles) * raised(step_factor, count)
        height = triangle.at(own) * scale
        return init_value + (peak_value - init_value) * height

    return value


@schedule
def per_epoch(
    schedule: SubSchedule, steps_per_epoch: Fixed[PositiveInt], smooth: bool = False
):
    """Count in epochs: evaluate a schedule at `count // steps_per_epoch`.

    `sgd(per_epoch(exponential_decay(0.1, 1, 0.5), steps_per_epoch=390))` halves the
    learning rate after each epoch of 390 updates.

    Args:
        schedule: A schedule, or a plain function, of the number of finished epochs.
        steps_per_epoch: Updates per epoch, a whole number, at least 1.
        smooth: Whether the schedule gets fractions of epochs, as a float, instead of
            whole epochs, as an int. The division of ints is exact at every count.

    Raises:
        TypeError: `schedule` is not a function.
        ValueError: `steps_per_epoch` is not whole or below 1.

    Examples:
        >>> rate = gradtx.per_epoch(gradtx.exponential_decay(0.1, 1, 0.5), 390)
        >>> [round(float(rate(count)), 3) for count in (0, 389, 390, 780)]
        [0.1, 0.1, 0.05, 0.025]
    """

    def value(count: Any) -> Any:
        epochs, rest = turns(count, steps_per_epoch)
        if smooth:
            epochs = as_float(epochs) + as_float(rest) / steps_per_epoch
        return _own(schedule, epochs)

    return value
