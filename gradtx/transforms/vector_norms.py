"""Norms to divide by, without over- or underflow.

In float32 the square of 1e20 is infinite and that of 1e-25 is 0, but gradients with
such elements still have a direction. (Clipping uses the plain sum of squares: it only
compares two norms.)
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
"""Exponent of the scale that brings squares in range, over a dtype's largest."""


def _far(dtype: Any) -> int:
    """Exponent of the power of two: 96 in float32, 768 in float64."""
    return int(FAR * jnp.finfo(dtype).maxexp)


def _is_exact(squares: Any, terms: int) -> Any:
    """Whether a sum of squares is finite and accurate in spite of underflow.

    For a sum of at most `2**terms` terms.
    """
    least = float(jnp.finfo(squares.dtype).smallest_normal) * 2.0**terms
    least /= float(jnp.finfo(squares.dtype).eps)
    return (squares >= least) & (squares < jnp.inf)


def scaled(x: Any, scale: Any) -> Any:
    """Numbers times a power of two.

    The `where` has no effect on the values. It keeps XLA from rewriting the square of a
    product as a product of squares, which would over- or underflow.
    """
    return jnp.where(jnp.isnan(x), x, scale * x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def norm_over(x: Any, axes: tuple[int, ...]) -> Any:
    """The Euclidean norm over some axes, which are kept with length 1.

    If squares leave the range of the dtype (at least float32), the norm is computed
    again from scaled elements. On a CPU that is a condition, which costs a comparison.
    On other devices a condition would wait for the device, so all sums are computed in
    one pass.
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
    """The Euclidean norm of an array, at least `floor`."""
    return jnp.maximum(norm_over(x, tuple(range(x.ndim))).reshape(()), floor)


def over(u: Any, size: Any) -> Any:
    """An array divided by a norm.

    XLA multiplies by the inverse, which is subnormal for the largest norms.
    """
    scale = jnp.where(size > 2.0**15, 2.0**-10, 1)
    return scale * u / (scale * size)


def _exponents() -> Sequence[int]:
    """Exponents of the scales in `squares_apart`; the first is 0."""
    has_double = default_float() == jnp.float64
    dtypes = [jnp.float32, jnp.float64] if has_double else [jnp.float32]
    return [0, *(sign * _far(dtype) for dtype in dtypes for sign in (1, -1))]


def squares_apart(u: Any) -> Any:
    """The input of `global_norm`: the square of the norm at several scales."""
    mine = norm(u).astype(default_float())
    # A finite bound, for a finite derivative where the square is infinite.
    most = float(jnp.finfo(mine.dtype).max) ** 0.75
    at_scales = [scaled(mine, 2.0**exponent) for exponent in _exponents()]
    return [jnp.square(jnp.minimum(size, most)) for size in at_scales]


def norms_apart(u: Any, slots: Any, leaf: Leaf) -> Any:
    """Measure the update for `global_norm`."""
    return squares_apart(u)


def global_norm(total: Sequence[Any]) -> Any:
    """The norm over all leaves, from the summed outputs of `squares_apart`."""
    found = safe_sqrt(total[0])  # 0, infinite or NaN if no scale fits
    for squares, exponent in zip(total, _exponents(), strict=True):
        is_exact = _is_exact(squares, 10)
        at_scale = jnp.sqrt(jnp.where(is_exact, squares, 1)) * 2.0**-exponent
        found = jnp.where(is_exact, at_scale, found)
    return found


def norm_of_all(arrays: Sequence[Any]) -> Any:
    """The Euclidean norm over all arrays of a list."""
    norms = [norm(x).astype(default_float()) for x in arrays]
    return norm(jnp.stack(norms or [jnp.zeros(())]))
