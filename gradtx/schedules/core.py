"""Schedule: a function from the count of updates to a number.

The count is 0 at the first update (`leaf.t`, which rules read, is 1 there). Any plain
function of the count is a schedule too. Schedules made by factories remember their
arguments, as transformations do, and are pytrees of their numbers. The function that a
factory returns gets a count of at least 0: a weakly typed int, or a float for a float.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec

import jax

from gradtx.core.call import FactoryCall, FactoryValue
from gradtx.core.factory import register_pytree, remember
from gradtx.schedules.counts import as_count

P = ParamSpec("P")


class Schedule(FactoryValue):
    """A function of the count that remembers its factory and arguments.

    Examples:
        >>> rate = gradtx.linear_schedule(0.5, 0.0, 100)
        >>> print(rate(50), jax.vmap(rate)(jnp.array([0, 50, 200])))
        0.25 [0.5  0.25 0.  ]
        >>> rate.replace(end_value=0.25) == gradtx.linear_schedule(0.5, 0.25, 100)
        True
    """

    def __init__(self, bound: FactoryCall):
        """Wrap a bound factory; users call factories instead."""
        self.bound = bound

    def __call__(self, count: Any) -> Any:
        """The value at a count of updates already made; a count below 0 is as 0.

        Args:
            count: An int or an array of ints; or floats, such as epochs.

        Returns:
            The value in the default float dtype. With x64 that is float64, where
            schedules of optax return float32 for an int32 count.
        """
        with jax.numpy_dtype_promotion("standard"):
            return self.at(as_count(count))

    def at(self, count: Any) -> Any:
        """The value at a count in the form that bodies get, see `counts`."""
        function = self.bound.call()
        return function.at(count) if isinstance(function, Schedule) else function(count)


register_pytree(Schedule)


def schedule(factory: Callable[P, Any]) -> Callable[P, Schedule]:
    """Decorate a factory of functions of the count, so that it makes a `Schedule`.

    The factory may return a schedule composed of others. Its function gets an int
    count, as plain functions do: write `0.5**count`, not `2**-count`. It must be pure,
    since it is traced with and without jit.

    Args:
        factory: The factory; its name is that of the schedule.

    Examples:
        >>> @gradtx.schedule
        ... def halving(value: gradtx.Fixed[gradtx.Positive], every: int):
        ...     return lambda count: value * 0.5 ** (count // every)
        >>> [float(halving(1.0, 10)(count)) for count in (0, 9, 10, 20)]
        [1.0, 1.0, 0.5, 0.25]
    """
    # The body may mix numbers of several dtypes, as its function may.
    return remember(jax.numpy_dtype_promotion("standard")(factory), _checked)


def _checked(bound: FactoryCall) -> Schedule:
    """The schedule, after running its body for its checks; also inside other bodies."""
    if not bound.is_scheduled:
        bound.call()
    return Schedule(bound)
