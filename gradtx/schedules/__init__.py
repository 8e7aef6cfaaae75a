"""Schedules: functions from the count of updates to a number."""

from typing import Any as _Any

import optax as _optax

from gradtx.core.fallback import own_or as _own_or
from gradtx.schedules.composed import (
    cosine_onecycle_schedule as cosine_onecycle_schedule,
)
from gradtx.schedules.composed import cyclic_schedule as cyclic_schedule
from gradtx.schedules.composed import join_schedules as join_schedules
from gradtx.schedules.composed import (
    linear_onecycle_schedule as linear_onecycle_schedule,
)
from gradtx.schedules.composed import per_epoch as per_epoch
from gradtx.schedules.composed import (
    piecewise_constant_schedule as piecewise_constant_schedule,
)
from gradtx.schedules.composed import (
    piecewise_interpolate_schedule as piecewise_interpolate_schedule,
)
from gradtx.schedules.core import Schedule as Schedule
from gradtx.schedules.core import schedule as schedule
from gradtx.schedules.decays import constant_schedule as constant_schedule
from gradtx.schedules.decays import cosine_decay_schedule as cosine_decay_schedule
from gradtx.schedules.decays import exponential_decay as exponential_decay
from gradtx.schedules.decays import inverse_sqrt_decay as inverse_sqrt_decay
from gradtx.schedules.decays import inverse_time_decay as inverse_time_decay
from gradtx.schedules.decays import linear_schedule as linear_schedule
from gradtx.schedules.decays import polynomial_schedule as polynomial_schedule
from gradtx.schedules.decays import rex_schedule as rex_schedule
from gradtx.schedules.decays import transition_schedule as transition_schedule
from gradtx.schedules.warmups import sgdr_schedule as sgdr_schedule
from gradtx.schedules.warmups import (
    warmup_constant_schedule as warmup_constant_schedule,
)
from gradtx.schedules.warmups import (
    warmup_cosine_decay_schedule as warmup_cosine_decay_schedule,
)
from gradtx.schedules.warmups import (
    warmup_exponential_decay_schedule as warmup_exponential_decay_schedule,
)
from gradtx.schedules.warmups import (
    warmup_inverse_sqrt_schedule as warmup_inverse_sqrt_schedule,
)
from gradtx.schedules.warmups import (
    warmup_stable_decay_schedule as warmup_stable_decay_schedule,
)


def __getattr__(name: str) -> _Any:
    """The other names of `optax.schedules`: ours if defined, otherwise of optax."""
    return _own_or(_optax.schedules, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_optax.schedules)})
