"""Annotations of factories: the kind of an argument, and the range of a number.

Only declared numbers become traced leaves and take schedules. Eight kinds of numbers
(`Scalar`, `Positive`, `NonNegative`, `NonPositive`, `Fraction`, `Decay`, `OpenDecay`,
`PositiveInt`), each also as `Fixed[...]`, which refuses a schedule; and transformations
(`Member`), dtypes (`DType`), keys (`Key`), sizes that fix shapes (`Size`).
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, TypeVar

import optax

from gradtx.core.arguments import (
    FIXED,
    DTypeRole,
    KeyRole,
    MemberRole,
    NumberRole,
    ScheduleRole,
    SizeRole,
)

T = TypeVar("T")

# `Any`, because an argument is a number or a schedule for the user, a number in a
# recipe, and a `DecayValue` in a rule.
Scalar = Annotated[Any, NumberRole()]
"""A number of any sign and size, or a schedule of it."""
ScalarOrSchedule = Scalar
"""`Scalar` under optax's name for learning rates."""
Positive = Annotated[Any, NumberRole("positive", low=0, is_open=True)]
"""A number above 0, or a schedule of it."""
NonNegative = Annotated[Any, NumberRole("at least 0", low=0)]
"""A number of at least 0, or a schedule of it."""
NonPositive = Annotated[Any, NumberRole("at most 0", high=0)]
"""A number of at most 0, or a schedule of it."""
Fraction = Annotated[Any, NumberRole("in [0, 1]", low=0, high=1)]
"""A number in [0, 1], or a schedule of it."""
_DECAY = NumberRole("in [0, 1)", low=0, high=1, is_decay=True)
Decay = Annotated[Any, _DECAY]
"""A number in [0, 1), or a schedule of it; rules get it with its `complement`."""
OpenDecay = Annotated[
    Any, NumberRole("in (0, 1)", low=0, high=1, is_open=True, is_decay=True)
]
"""A number in (0, 1), or a schedule of it; otherwise as `Decay`."""
_WHOLE = NumberRole("whole and at least 1", low=1, is_count=True, is_whole=True)
PositiveInt = Annotated[Any, _WHOLE]
"""A whole number of at least 1, or a schedule of it."""

Fixed = Annotated[T, FIXED]
"""`Fixed[Positive]`: a number without schedules, for example one that `init` reads."""

Member = Annotated[optax.GradientTransformation, MemberRole()]
"""A transformation, of gradtx or foreign; no schedule."""
DType = Annotated[Any, DTypeRole()]
"""A dtype of floats, such as `jnp.bfloat16` or "bfloat16"; no schedule."""
Key = Annotated[Any, KeyRole()]
"""A seed, an int; or a PRNG key, typed or raw; no schedule."""
Size = Annotated[int, SizeRole()]
"""An int of at least 1 that fixes shapes; no schedule, and no tracer."""

# Each is used by one or two factories.
Ahead = Annotated[Any, NumberRole(steps_ahead=1)]
Growth = Annotated[Any, NumberRole("at least 1", low=1)]
Length = Annotated[Any, NumberRole("at least 4", low=4)]
PositiveIntAtItsOwnCount = Annotated[
    Any, dataclasses.replace(_WHOLE, keeps_schedule=True)
]
DecayAtItsOwnCount = Annotated[Any, dataclasses.replace(_DECAY, keeps_schedule=True)]
SubSchedule = Annotated[Any, ScheduleRole()]

# Counts of updates in schedules: fractions are allowed, and are shown.
Count = Fixed[Annotated[Any, NumberRole(is_count=True)]]
Steps = Fixed[Annotated[Any, NumberRole("at least 0", low=0, is_count=True)]]
Duration = Fixed[
    Annotated[Any, NumberRole("positive", low=0, is_open=True, is_count=True)]
]

# Their names up to 0.6.0.
Share = Fraction
"""The older name of `Fraction`."""
Every = PositiveInt
"""The older name of `PositiveInt`."""
FirstValue = Fixed[NonNegative]
"""The older name of `Fixed[NonNegative]`."""
Constant = Fixed[Scalar]
"""The older name of `Fixed[Scalar]`."""
