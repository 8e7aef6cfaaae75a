"""Dtypes of a leaf: of the computation in rules, and of the returned update."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp


def default_float() -> np.dtype:
    """The dtype of a Python float: float64 where x64 is enabled, else float32."""
    return jax.dtypes.canonicalize_dtype(float)


class LeafDTypes(NamedTuple):
    """The dtypes of a leaf: of the computation in rules, and of the returned update.

    Integers stay integers; outputs of foreign transformations for them are unchanged.
    """

    compute: np.dtype
    out: np.dtype
    is_float: bool = True

    @property
    def real(self) -> np.dtype:
        """The real dtype of the computation."""
        return jnp.finfo(self.compute).dtype

    def cast(self, x: Any) -> Any:
        """Cast a real or complex array to the precision of the leaf."""
        x = jnp.asarray(x)
        if not (self.is_float and jnp.issubdtype(x.dtype, jnp.inexact)):
            return x
        is_complex = jnp.issubdtype(x.dtype, jnp.complexfloating)
        return lax.convert_element_type(x, self.compute if is_complex else self.real)


@functools.lru_cache(maxsize=1024)
def leaf_dtypes_of(update: Any, param: Any) -> LeafDTypes:
    """The dtypes of a leaf from those of its update and parameter (or None)."""
    dtypes = update, update if param is None else param
    if not all(jnp.issubdtype(dtype, jnp.inexact) for dtype in dtypes):
        return LeafDTypes(update, update, is_float=False)
    with jax.numpy_dtype_promotion("standard"):
        out = jnp.promote_types(*dtypes)
        return LeafDTypes(jnp.promote_types(out, jnp.float32), out)


def holding(array: Any, dtype: Any) -> Any:
    """The dtype of a slot like an array, for a requested dtype or None.

    A complex array keeps its dtype if a real one is requested, except for 16 bits:
    there are no complex dtypes of that size, and the first update raises.
    """
    if dtype is None or not jnp.iscomplexobj(array):
        return dtype or array.dtype
    is_real = not jnp.issubdtype(dtype, jnp.complexfloating)
    return array.dtype if is_real and jnp.finfo(dtype).bits > 16 else dtype


def wide(array: Any) -> Any:
    """An array in the precision of the computation in rules."""
    is_float = jnp.issubdtype(array.dtype, jnp.inexact)
    dtype = leaf_dtypes_of(array.dtype, None).compute if is_float else jnp.float32
    return array.astype(dtype)
