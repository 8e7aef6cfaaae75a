"""The count of updates: the next one, and common periods."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import numpy as jnp

from gradtx.core.arithmetic import whole


def next_count(count: Any, is_due: Any = None, period: Any = None) -> Any:
    """The next count, if an update is due; it saturates instead of wrapping.

    With a period, it goes back by one period at its end: periodic parts continue as
    before, and schedules stay near the last count forever.
    """
    count = jnp.asarray(count)
    is_less = count < jnp.iinfo(count.dtype).max
    if period is not None:
        step = jnp.where(is_less, 1, 1 - period).astype(count.dtype)
        return count + (step if is_due is None else jnp.where(is_due, step, 0))
    counts = is_less if is_due is None else is_less & is_due
    return count + counts.astype(count.dtype)


LONGEST = 2**30


def common_period(periods: Sequence[Any]) -> Any:
    """The least common multiple of periods as an int32; None without periods.

    At most 2**30. With longer ones, one period in so many updates has a wrong length.
    """

    def multiple(a: Any, b: Any) -> Any:
        times = a // jnp.gcd(a, b)
        return jnp.where(times > LONGEST // b, LONGEST, times * b)

    if not periods:
        return None
    if all(isinstance(period, int) for period in periods):
        return np.int32(min(math.lcm(*periods), LONGEST))
    numbers = [jnp.minimum(whole(period), LONGEST) for period in periods]
    return functools.reduce(multiple, numbers)
