"""Annotations of factories: what an argument is, and the range of a number.

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

# `Any`, because one argument is a number or a schedule where the user gives it, a
# number where a recipe computes with it, and a `DecayValue` where a rule reads it.
Scalar = Annotated[Any, NumberRole()]
ScalarOrSchedule = Scalar
Positive = Annotated[Any, NumberRole("positive", low=0, is_open=True)]
NonNegative = Annotated[Any, NumberRole("at least 0", low=0)]
NonPositive = Annotated[Any, NumberRole("at most 0", high=0)]
Fraction = Annotated[Any, NumberRole("in [0, 1]", low=0, high=1)]
_DECAY = NumberRole("in [0, 1)", low=0, high=1, is_decay=True)
Decay = Annotated[Any, _DECAY]
OpenDecay = Annotated[
    Any, NumberRole("in (0, 1)", low=0, high=1, is_open=True, is_decay=True)
]
_WHOLE = NumberRole("whole and at least 1", low=1, is_count=True, is_whole=True)
PositiveInt = Annotated[Any, _WHOLE]

Fixed = Annotated[T, FIXED]
"""A number that only `init` reads, or that a schedule is made of: no schedule fits."""

Member = Annotated[optax.GradientTransformation, MemberRole()]
DType = Annotated[Any, DTypeRole()]
Key = Annotated[Any, KeyRole()]
Size = Annotated[int, SizeRole()]

# Of one or two factories each.
Ahead = Annotated[Any, NumberRole(steps_ahead=1)]
Growth = Annotated[Any, NumberRole("at least 1", low=1)]
Length = Annotated[Any, NumberRole("at least 4", low=4)]
PositiveIntAtItsOwnCount = Annotated[
    Any, dataclasses.replace(_WHOLE, keeps_schedule=True)
]
DecayAtItsOwnCount = Annotated[Any, dataclasses.replace(_DECAY, keeps_schedule=True)]
SubSchedule = Annotated[Any, ScheduleRole()]

# Counts of updates that schedules are made of: fractions are fine, and are shown.
Count = Fixed[Annotated[Any, NumberRole(is_count=True)]]
Steps = Fixed[Annotated[Any, NumberRole("at least 0", low=0, is_count=True)]]
Duration = Fixed[
    Annotated[Any, NumberRole("positive", low=0, is_open=True, is_count=True)]
]

# The names that these had up to 0.6.0.
Share = Fraction
Every = PositiveInt
FirstValue = Fixed[NonNegative]
Constant = Fixed[Scalar]
