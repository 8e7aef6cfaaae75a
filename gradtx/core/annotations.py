"""Annotations of factories: what an argument is, and the range of a number.

Only declared numbers become traced leaves and take schedules.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Annotated, Any

import optax

from gradtx.core.arguments import (
    DTypeRole,
    KeyRole,
    MemberRole,
    NumberRole,
    ScheduleRole,
    SizeRole,
)

# `Any`, because one argument is a number or a schedule where the user gives it, a
# number where a recipe computes with it, and a `DecayValue` where a rule reads it.
Scalar = Annotated[Any, NumberRole()]
ScalarOrSchedule = Scalar
Positive = Annotated[Any, NumberRole("positive", low=0, is_open=True)]
NonNegative = Annotated[Any, NumberRole("at least 0", low=0)]
NonPositive = Annotated[Any, NumberRole("at most 0", high=0)]
Decay = Annotated[Any, NumberRole("in [0, 1)", low=0, high=1, is_decay=True)]
OpenDecay = Annotated[
    Any, NumberRole("in (0, 1)", low=0, high=1, is_open=True, is_decay=True)
]
Ahead = Annotated[Any, NumberRole(steps_ahead=1)]
Length = Annotated[Any, NumberRole("at least 4", low=4)]
Share = Annotated[Any, NumberRole("in [0, 1]", low=0, high=1)]
_EVERY = NumberRole("whole and at least 1", low=1, is_count=True, is_whole=True)
Every = Annotated[Any, _EVERY]
EveryAtItsOwnCount = Annotated[Any, dataclasses.replace(_EVERY, keeps_schedule=True)]


def _constant(words: str = "a number", **more: Any) -> Any:
    return Annotated[Any, NumberRole(words, takes_schedule=False, **more)]


# Numbers that only `init` reads, or that schedules are made of: no schedule fits.
if typing.TYPE_CHECKING:
    Constant = Rate = Factor = Portion = FirstValue = Count = Steps = Duration = Any
else:
    Constant = _constant()
    Rate = _constant("positive", low=0, is_open=True)
    Factor = FirstValue = _constant("at least 0", low=0)
    Portion = _constant("in [0, 1]", low=0, high=1)
    Count = _constant(is_count=True)
    Steps = _constant("at least 0", low=0, is_count=True)
    Duration = _constant("positive", low=0, is_open=True, is_count=True)
SubSchedule = Annotated[Any, ScheduleRole()]
Member = Annotated[optax.GradientTransformation, MemberRole()]
DType = Annotated[Any, DTypeRole()]
Key = Annotated[Any, KeyRole()]
Size = Annotated[int, SizeRole()]
