"""PRNG keys: their form in states, and the key of each leaf."""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp


def raw_key(key: Any) -> jax.Array:
    """Convert a seed, or a PRNG key of either kind, to the raw key in a state."""
    if is_key(key):
        return jax.random.key_data(key)
    key = jnp.asarray(key)
    return key if key.ndim else jax.random.PRNGKey(key)


def is_key(value: Any) -> bool:
    """Whether this is a typed PRNG key."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def key_of_leaf(key: Any, index: Any) -> Any:
    """The key of one leaf at one update, as optax splits it.

    `split(key, n)[i]` equals `fold_in(key, i)`: the state continues with key 0, and key
    1 is split among the leaves.
    """
    return jax.random.fold_in(jax.random.fold_in(key, 1), index)


def one_key(owner: str, key: Any, seed: Any) -> Any:
    """The key, or the seed instead; 0 if both are None."""
    if key is not None and seed is not None:
        raise ValueError(f"{owner}: expected a key or a seed, got both")
    return next((it for it in (key, seed) if it is not None), 0)
