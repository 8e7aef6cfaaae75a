"""Trees of slots: in at least float32, with None for absent leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from gradtx.core.dtypes import wide


def is_none(x: Any) -> bool:
    """Whether this is None, which as a leaf is an absent one."""
    return x is None


def map_with_none(function: Callable[..., Any], *trees: Any) -> Any:
    """Map a function over the leaves of several trees, including None."""
    return jax.tree.map(function, *trees, is_leaf=is_none)


def zero_count(params: Any) -> jax.Array:
    """The initial value of a count."""
    return jnp.zeros([], jnp.int32)


def zeros(tree: Any) -> Any:
    """A tree of zeros."""
    return jax.tree.map(jnp.zeros_like, tree)


def where(is_chosen: Any, chosen: Any, other: Any) -> Any:
    """One tree if a bool is true, else the other; never None if either has a leaf."""

    def one(a: Any, b: Any) -> Any:
        if a is None or b is None:
            return b if a is None else a
        return jnp.where(is_chosen, a, b)

    return map_with_none(one, chosen, other)


def wide_zeros(params: Any) -> Any:
    """Zeros in at least float32."""
    return jax.tree.map(lambda p: jnp.zeros_like(wide(jnp.asarray(p))), params)


def like(new: Any, old: Any) -> Any:
    """The new tree in the dtypes of the old; the old leaf where either has None."""

    def one(n: Any, o: Any) -> Any:
        if n is None or o is None:
            return o
        dtype = o.dtype if hasattr(o, "dtype") else jnp.asarray(o).dtype
        return n if n.dtype == dtype else lax.convert_element_type(n, dtype)

    return map_with_none(one, new, old)
