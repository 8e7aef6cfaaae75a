"""Numbers of a transformation: their weak type, and decays with their complement."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from gradtx.core.dtypes import default_float
from gradtx.core.internals import Tracer, weak
from gradtx.core.stable import stable


def is_number(value: Any) -> bool:
    """Whether a value is a real number or stands for one (array, tracer, shape)."""
    if isinstance(value, bool | np.bool_):
        return False
    dtype = getattr(value, "dtype", None)
    if dtype is None or not hasattr(value, "shape"):
        return isinstance(value, int | float | DecayValue)
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def scheduled(schedule: Any, count: Any) -> Any:
    """What a schedule gives after so many updates.

    Schedules may be a user's own functions, and a count is an int32: where promotion is
    strict `0.1 * count` is an error.
    """
    with jax.numpy_dtype_promotion("standard"):
        return schedule(count)


def ahead(count: Any, steps: int) -> Any:
    """The count so many steps later; at the end of its dtype it stays."""
    if not steps:
        return count
    return jnp.minimum(count, jnp.iinfo(count.dtype).max - steps) + steps


def is_concrete(value: Any) -> bool:
    """Whether the number's value is on the host or can be fetched."""
    return isinstance(value, int | float | np.ndarray | np.generic) or (
        isinstance(value, jax.Array) and not isinstance(value, Tracer)
    )


def is_constant_zero(value: Any) -> bool:
    """Whether this is 0 on the host: neither traced nor what a schedule gave."""
    return isinstance(value, int | float | np.generic) and bool(value == 0)


def as_weak(value: Any) -> Any:
    """The number as a weakly typed scalar of the default float dtype.

    A weak scalar takes the dtype of the array it meets, so one number serves leaves of
    every dtype, also under strict promotion. Python floats are weak already.
    """
    if isinstance(value, int | np.generic):
        return float(value)
    if not isinstance(value, jax.Array) or value.weak_type:
        return value
    return weak(value, default_float())


def _of_value(operation: Callable[..., Any]) -> Any:
    """An operation of a decay, computed with its value."""
    return lambda decay, *other: operation(decay.value, *other)


def _behind(operation: Callable[..., Any]) -> Any:
    """The same where the decay is the second operand."""
    return lambda decay, other: operation(other, decay.value)


@stable
class DecayValue:
    """A decay b with its complement 1 - b; computes as b does.

    In float32 `1 - b` loses digits to the rounding of b: 1.3e-5 of the complement at
    0.999, 5e-5 at 0.9999. So the complement is taken in double while b is on the host,
    and goes its own way into the kernels. Two leaves of one number can drift apart
    (someone maps over a transformation's leaves, or descends on them), so the
    complement is believed only where it differs from `1 - b` by no more than the
    rounding of b; its derivative is always that of `1 - b`.

    Attributes:
        value: The decay.
        kept: Its complement.
        changes: Whether later updates may have another decay, as of a schedule.
        is_settled: Whether the complement is believed as it is: in kernels, where it
            was settled on the way in.
    """

    __slots__ = ("changes", "is_settled", "kept", "value")

    def __init__(
        self, value: Any, kept: Any, changes: bool = False, is_settled: bool = False
    ):
        self.value, self.kept = value, kept
        self.changes, self.is_settled = changes, is_settled

    @classmethod
    def of(cls, value: Any, changes: bool = False) -> DecayValue:
        """The decay of a number; its complement in double where it is on the host."""
        if isinstance(value, int | float):
            return cls(value, 1.0 - value, changes)
        if is_concrete(value):
            return cls(value, 1 - np.asarray(value, np.float64), changes)
        return cls(value, 1 - value, changes)

    @property
    def complement(self) -> Any:
        """1 - b, as exactly as it is known."""
        if self.is_settled:
            return self.kept
        if isinstance(self.value, int | float):
            return 1.0 - self.value
        plain = 1 - self.value
        residue = lax.stop_gradient(self.kept - plain)
        rounding = jnp.finfo(jnp.asarray(self.value).dtype).eps
        return plain + jnp.where(abs(residue) <= rounding, residue, 0.0)

    def weight_after(self, t: Any) -> Any:
        """`1 - b**t`: the weight of t updates in an average that started at zero.

        A difference from 1 loses digits where b is near 1: in float32 6e-5 of it at
        0.999 and one update. So there it is computed from the complement.
        """
        # XLA would fold the logarithm of a constant, to another rounding than it runs.
        rest = lax.optimization_barrier(jnp.asarray(self.complement))
        # Bounded beyond what is taken: at a bound the derivative would be half of it.
        near = -jnp.expm1(t * jnp.log1p(-jnp.minimum(rest, 0.75)))
        return jnp.where(rest > 0.5, 1 - self.value**t, near)

    def __repr__(self) -> str:
        return repr(self.value)

    def __jax_array__(self) -> jax.Array:
        return jnp.asarray(self.value)

    def __float__(self) -> float:
        return float(self.value)

    __eq__ = _of_value(operator.eq)
    __lt__ = _of_value(operator.lt)
    __le__ = _of_value(operator.le)
    __gt__ = _of_value(operator.gt)
    __ge__ = _of_value(operator.ge)
    __abs__ = _of_value(operator.abs)
    __neg__ = _of_value(operator.neg)
    __add__, __radd__ = _of_value(operator.add), _behind(operator.add)
    __sub__, __rsub__ = _of_value(operator.sub), _behind(operator.sub)
    __mul__, __rmul__ = _of_value(operator.mul), _behind(operator.mul)
    __truediv__, __rtruediv__ = _of_value(operator.truediv), _behind(operator.truediv)
    __pow__, __rpow__ = _of_value(operator.pow), _behind(operator.pow)

    def __reduce__(self):
        return DecayValue, (self.value, self.kept, self.changes, self.is_settled)


def _unflatten(flags: Any, children: Any) -> DecayValue:
    return DecayValue(*children, *flags)


jax.tree_util.register_pytree_with_keys(
    DecayValue,
    lambda decay: (
        (
            (jax.tree_util.GetAttrKey("value"), decay.value),
            (jax.tree_util.GetAttrKey("complement"), decay.kept),
        ),
        (decay.changes, decay.is_settled),
    ),
    _unflatten,
)
