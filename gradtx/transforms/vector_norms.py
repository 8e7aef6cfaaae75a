"""Norms to divide by, which neither over- nor underflow.

The square of 1e20 is infinite in float32, that of 1e-25 is 0; a gradient of such
elements has a direction all the same. (Clipping takes the plain sum of squares: there
only the order of two norms matters.)
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from gradtx.core.arithmetic import safe_sqrt
from gradtx.core.context import Leaf
from gradtx.core.dtypes import default_float, wide

FAR = 3 / 4
"""A power of two by which squares are brought to the middle, of a dtype's largest."""


def _far(dtype: Any) -> int:
    """That power's exponent: 96 in float32, 768 in float64."""
    return int(FAR * jnp.finfo(dtype).maxexp)


def _is_exact(squares: Any, terms: int) -> Any:
    """Whether a sum is finite, and lost nothing that matters below the least normal.

    Of up to `2**terms` terms.
    """
    least = float(jnp.finfo(squares.dtype).smallest_normal) * 2.0**terms
    least /= float(jnp.finfo(squares.dtype).eps)
    return (squares >= least) & (squares < jnp.inf)


def scaled(x: Any, scale: Any) -> Any:
    """Numbers times a power of two.

    Selected, though NaN is NaN either way: of a plain product XLA makes the square of
    the numbers times that of the scale, which is what must not be computed.
    """
    return jnp.where(jnp.isnan(x), x, scale * x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def norm_over(x: Any, axes: tuple[int, ...]) -> Any:
    """The Euclidean norm over some axes, which stay with length 1.

    It is read once more, scaled by a power of two, only where squares left the range of
    the dtype (of float32, if that is narrower): on a CPU under a condition, which costs
    a comparison. Elsewhere a condition waits for the device, while sums of one array
    share a pass over it.
    """
    given, x = x.real.dtype, wide(jnp.abs(x) if jnp.iscomplexobj(x) else x)
    up, down = 2.0 ** _far(x.dtype), 2.0 ** -_far(x.dtype)

    def squares(x: Any) -> Any:
        return jnp.sum(jnp.square(x), axes, keepdims=True)

    def rarely() -> Any:
        scale = jnp.where(plain < jnp.inf, up, down).astype(x.dtype)
        return lax.cond(
            jnp.all(is_exact),
            lambda: jnp.sqrt(plain),
            lambda: jnp.sqrt(squares(scale * x)) / scale,
        )

    def together() -> Any:
        high, low = (jnp.sqrt(squares(scaled(x, s))) / s for s in (up, down))
        return jnp.where(plain < jnp.inf, high, low)

    plain = squares(x)
    is_exact = _is_exact(plain, 30)
    found = lax.platform_dependent(cpu=rarely, default=together)
    return jnp.where(is_exact, jnp.sqrt(plain), found).astype(given)


@norm_over.defjvp
def _(axes: tuple[int, ...], primals: tuple[Any], tangents: tuple[Any]) -> Any:
    (x,), (dx,) = primals, tangents
    norm = norm_over(x, axes)
    direction = over(x, jnp.where(norm == 0, 1, norm))
    return norm, jnp.sum(jnp.real(jnp.conj(direction) * dx), axes, keepdims=True)


def norm(x: Any, floor: Any = 0.0) -> Any:
    """The Euclidean norm of an array, or a number that is larger."""
    return jnp.maximum(norm_over(x, tuple(range(x.ndim))).reshape(()), floor)


def over(u: Any, size: Any) -> Any:
    """An array divided by a norm.

    XLA multiplies by its inverse, which is no normal number for the largest norms.
    """
    scale = jnp.where(size > 2.0**15, 2.0**-10, 1)
    return scale * u / (scale * size)


def _exponents() -> Sequence[int]:
    """Of the powers of two that norms of arrays are multiplied by, the first by 1."""
    has_double = default_float() == jnp.float64
    dtypes = [jnp.float32, jnp.float64] if has_double else [jnp.float32]
    return [0, *(sign * _far(dtype) for dtype in dtypes for sign in (1, -1))]


def squares_apart(u: Any) -> Any:
    """What `global_norm` takes: the square of the norm at several scales."""
    mine = norm(u).astype(default_float())
    # Finite, for a finite derivative where its square is infinite.
    most = float(jnp.finfo(mine.dtype).max) ** 0.75
    at_scales = [scaled(mine, 2.0**exponent) for exponent in _exponents()]
    return [jnp.square(jnp.minimum(size, most)) for size in at_scales]


def norms_apart(u: Any, slots: Any, leaf: Leaf) -> Any:
    """Measures the update for `global_norm`."""
    return squares_apart(u)


def global_norm(total: Sequence[Any]) -> Any:
    """The norm over all leaves, of what `squares_apart` gave."""
    found = safe_sqrt(total[0])  # 0, infinite or NaN, where it is at no scale
    for squares, exponent in zip(total, _exponents(), strict=True):
        is_exact = _is_exact(squares, 10)
        at_scale = jnp.sqrt(jnp.where(is_exact, squares, 1)) * 2.0**-exponent
        found = jnp.where(is_exact, at_scale, found)
    return found


def norm_of_all(arrays: Sequence[Any]) -> Any:
    """The Euclidean norm over all arrays of a list."""
    norms = [norm(x).astype(default_float()) for x in arrays]
    return norm(jnp.stack(norms or [jnp.zeros(())]))
