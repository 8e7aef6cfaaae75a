"""What tree rules keep: trees in at least float32, with None where nothing is."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from gradtx.kernel import wide


def zeros_like(params: Any) -> Any:
    """Zeros in at least float32."""
    return jax.tree.map(lambda p: jnp.zeros_like(wide(jnp.asarray(p))), params)


def like(new: Any, old: Any) -> Any:
    """The new tree in the dtypes of the old, which stays where either has None."""

    def one(n: Any, o: Any) -> Any:
        return o if n is None or o is None else lax.convert_element_type(n, o.dtype)

    return jax.tree.map(one, new, old, is_leaf=lambda x: x is None)
