"""Projections on the leading singular vectors of a matrix."""

from __future__ import annotations

import functools
from typing import Any

from jax import lax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import PositiveInt, Size
from gradtx.core.arithmetic import is_first_of
from gradtx.core.context import Leaf
from gradtx.core.rule import Rule
from gradtx.matrices.shapes import Matrix, is_tall, matrices_of


@transformation
def main_directions(
    rank: Size = 128, every: PositiveInt = 200, dimension_numbers: Any = None
):
    """Replace a matrix by its leading singular vectors on its longer side.

    Args:
        rank: Number of vectors, an int, at least 1.
        every: Number of updates between their computations, at least 1.
        dimension_numbers: Selects the matrices, see `in_subspace`.

    Keeps them as `projector`.

    Examples:
        >>> tx = gradtx.transforms.main_directions(rank=4)
        >>> tx.init(jnp.zeros((64, 16)))["projector"].shape
        (64, 4)
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        if leaf.static is None:
            return u, slots
        old, matrix = slots["projector"], leaf.static.of(u)

        def compute() -> Any:
            # Constants: where singular values coincide, there is no derivative.
            fixed = lax.stop_gradient(matrix)
            left, _, right = jnp.linalg.svd(fixed, full_matrices=False)
            vectors = left if is_tall(matrix) else jnp.conj(right.T)
            return vectors[:, : old.shape[1]].astype(old.dtype)

        is_due = is_first_of(leaf.count, every)
        new = lax.cond(is_due, compute, lambda: old)
        return new, {"projector": new}

    def first(array: Any, static: Matrix | None) -> Any:
        if static is None:
            return None
        shape = static.of(array).shape
        return jnp.zeros((max(shape), min(rank, *shape)), array.dtype)

    matrices = functools.partial(matrices_of, dimension_numbers)
    return Rule(update, {"projector": first}, static=matrices, period=every)
