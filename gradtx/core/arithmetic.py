"""Arithmetic with finite values and derivatives at 0."""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp


def abs2(x: Any) -> Any:
    """|x|**2, real for complex x too."""
    if jnp.iscomplexobj(x):
        return jnp.square(x.real) + jnp.square(x.imag)
    return jnp.square(x)


def safe_sqrt(x: Any) -> Any:
    """The root of x, 0 with derivative 0 where x is at most 0; NaN stays NaN."""
    is_zero = x <= 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, x)))


@jax.custom_jvp
def bare_sqrt(x: Any) -> Any:
    """The root of an x of at least 0, with derivative 0 at 0.

    As `safe_sqrt` without a `where`, which inside a sum would be a separate pass over
    the array.
    """
    return jnp.sqrt(x)


@bare_sqrt.defjvp
def _(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    root = jnp.sqrt(primals[0])
    return root, safe_ratio(tangents[0], 2 * root)


def whole(number: Any) -> Any:
    """A whole number as an int32, for arithmetic with counts."""
    return jnp.asarray(number).astype(jnp.int32)


def is_first_of(count: Any, period: Any) -> Any:
    """Whether a count is the first of its period."""
    return count % whole(period) == 0


def is_last_of(count: Any, period: Any) -> Any:
    """Whether a count is the last of its period."""
    return count % whole(period) == whole(period) - 1


@jax.custom_jvp
def ratio(x: Any, y: Any) -> Any:
    """`x / y` for reals, with a derivative without y squared, which may underflow."""
    return x / y


@ratio.defjvp
def _(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    (x, y), (dx, dy) = primals, tangents
    return x / y, (dx - x / y * dy) / y


def safe_ratio(x: Any, y: Any) -> Any:
    """`x / y`, or 0 with derivative 0 where y is 0."""
    is_zero = y == 0
    return jnp.where(is_zero, 0, x / jnp.where(is_zero, 1, y))


def inner(x: Any, y: Any) -> Any:
    """The real inner product of two arrays of equal shape."""
    return jnp.sum(jnp.real(jnp.conj(x) * y))


def replicated(x: jax.Array) -> jax.Array:
    """The array, replicated on every device if its type is sharded.

    On a mesh of explicit axes, arrays of different shardings cannot be concatenated.
    """
    spec = jax.typeof(x).sharding.spec
    return jax.sharding.reshard(x, jax.P(*[None] * x.ndim)) if any(spec) else x
