"""Application of updates to parameters."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from gradtx.core.paths import widened
from gradtx.core.trees import map_with_none


def apply_updates(params: Any, updates: Any) -> Any:
    """Add updates to parameters, in the parameters' dtypes.

    Same arguments, defaults and numbers as `optax.apply_updates`.

    Where either is None, the parameters do not change (in optax an update of None for a
    parameter is an error). None also stands for a whole tree of updates.

    Args:
        params: A tree of parameters.
        updates: A tree of updates like it, as `update` returns.

    Examples:
        >>> params = {"w": jnp.array([1.0, 2.0], "bfloat16")}
        >>> new = gradtx.apply_updates(params, {"w": jnp.array([0.5, -0.5], "float32")})
        >>> print(new["w"], new["w"].dtype)
        [1.5 1.5] bfloat16
    """

    def one(p: Any, u: Any) -> Any:
        if p is None or u is None:
            return p
        p, u = jnp.asarray(p), jnp.asarray(u)
        if p.shape == u.shape and p.dtype == u.dtype:
            return lax.add(p, u)
        with jax.numpy_dtype_promotion("standard"):
            return jnp.asarray(p + u).astype(p.dtype)

    return map_with_none(one, params, widened(updates, params))
