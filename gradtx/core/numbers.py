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
    """Whether a value is a real number, or an array, tracer or shape of one."""
    if isinstance(value, bool | np.bool_):
        return False
    dtype = getattr(value, "dtype", None)
    if dtype is None or not hasattr(value, "shape"):
        return isinstance(value, int | float | DecayValue)
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def scheduled(schedule: Any, count: Any) -> Any:
    """The value of a schedule at a count.

    A schedule may be a user's function, and the count is an int32, so under strict
    promotion `0.1 * count` would be an error.
    """
    with jax.numpy_dtype_promotion("standard"):
        return schedule(count)


def ahead(count: Any, steps: int) -> Any:
    """The count `steps` later; it saturates at the end of its dtype."""
    if not steps:
        return count
    return jnp.minimum(count, jnp.iinfo(count.dtype).max - steps) + steps


def is_concrete(value: Any) -> bool:
    """Whether the number has a value, on the host or a device."""
    return isinstance(value, int | float | np.ndarray | np.generic) or (
        isinstance(value, jax.Array) and not isinstance(value, Tracer)
    )


def is_constant_zero(value: Any) -> bool:
    """Whether this is 0 on the host, neither traced nor scheduled."""
    return isinstance(value, int | float | np.generic) and bool(value == 0)


def as_weak(value: Any) -> Any:
    """The number as a weakly typed scalar of the default float dtype.

    A weakly typed scalar takes the dtype of the other operand, so that it works with
    leaves of any dtype, also under strict promotion. Python floats are weak already.
    """
    if isinstance(value, int | np.generic):
        return float(value)
    if not isinstance(value, jax.Array) or value.weak_type:
        return value
    return weak(value, default_float())


def _of_value(operation: Callable[..., Any]) -> Any:
    """An operator on the value of a decay."""
    return lambda decay, *other: operation(decay.value, *other)


def _behind(operation: Callable[..., Any]) -> Any:
    """An operator with the decay as second operand."""
    return lambda decay, other: operation(other, decay.value)


@stable
class DecayValue:
    """A decay b with its complement 1 - b; in arithmetic it acts as b.

    In float32 `1 - b` loses digits to the rounding of b: 1.3e-5 of the complement at
    0.999, 5e-5 at 0.9999. So the complement is computed in float64 while b is on the
    host, and passed to kernels separately. The two may become inconsistent (by a map or
    a gradient step over the leaves of a transformation), so the complement is used only
    where it differs from `1 - b` by no more than the rounding of b. Its derivative is
    always that of `1 - b`.

    Attributes:
        value: The decay.
        kept: Its complement.
        changes: Whether later updates may have another decay, for example scheduled.
        is_settled: Whether the complement is used without that check: in kernels, whose
            inputs are checked.
    """

    __slots__ = ("changes", "is_settled", "kept", "value")

    def __init__(
        self, value: Any, kept: Any, changes: bool = False, is_settled: bool = False
    ):
        self.value, self.kept = value, kept
        self.changes, self.is_settled = changes, is_settled

    @classmethod
    def of(cls, value: Any, changes: bool = False) -> DecayValue:
        """The decay of a number; with a complement in float64 if it is on the host."""
        if isinstance(value, int | float):
            return cls(value, 1.0 - value, changes)
        if is_concrete(value):
            return cls(value, 1 - np.asarray(value, np.float64), changes)
        return cls(value, 1 - value, changes)

    @property
    def complement(self) -> Any:
        """1 - b, as exactly as known."""
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

        The difference from 1 loses digits where b is near 1: in float32 6e-5 of it at
        0.999 and one update. So it is computed from the complement there.
        """
        # XLA would fold the logarithm of a constant, with another rounding.
        rest = lax.optimization_barrier(jnp.asarray(self.complement))
        # A bound outside of the used range, since the derivative is halved at a bound.
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
