"""Handwritten digits for the lessons: 1,152 to learn from, as many as slide 18 has."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

try:
    from sklearn.datasets import load_digits
except ModuleNotFoundError as error:
    print(f"error: no {error.name}: install gradtx[examples]", file=sys.stderr)
    raise SystemExit(2) from None


class Examples(NamedTuple):
    """Inputs of shape [examples, features], and targets of shape [examples]."""

    x: jax.Array
    y: jax.Array

    def at(self, rows: Any) -> Examples:
        """Those in these rows."""
        return Examples(self.x[rows], self.y[rows])


def digits(examples: int = 1152) -> Examples:
    """The first of scikit-learn's digits: 64 pixels in [0, 1], and labels 0 to 9."""
    data: Any = load_digits()
    x, y = data.data[:examples] / 16, data.target[:examples]
    return Examples(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32))


def batches(examples: int, size: int, epochs: int, seed: int = 0) -> jax.Array:
    """Row numbers of shape [steps, size]: each epoch in a new random order.

    An epoch's last batch is left out if it is not full.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permuted(np.tile(np.arange(examples), (epochs, 1)), axis=1)
    rows = rows[:, : examples // size * size].reshape(-1, size)
    return jnp.asarray(rows, jnp.int32)
