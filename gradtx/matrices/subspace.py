"""Optimizers in a subspace."""

from __future__ import annotations

import functools
from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Member, PositiveInt, Scalar, Size
from gradtx.core.context import Leaf, Private
from gradtx.core.factory import part
from gradtx.core.nodes import Fork
from gradtx.core.rule import memoryless
from gradtx.matrices.projections import main_directions
from gradtx.matrices.shapes import Matrix, is_tall, matrices_of
from gradtx.transforms.combine import chain, let

PROJECTOR = Private("projector")


@part
@transformation
def _project(rank: Size, dimension_numbers: Any):
    """Project a matrix on its leading singular vectors."""

    def update(u: Any, leaf: Leaf) -> Any:
        if leaf.static is None:
            return u
        matrix, vectors = leaf.static.of(u), leaf.recall(PROJECTOR)
        return jnp.conj(vectors.T) @ matrix if is_tall(matrix) else matrix @ vectors

    def out(array: Any, static: Matrix | None) -> Any:
        if static is None:
            return array
        matrix = static.of(array)
        least = min(rank, *matrix.shape)
        return matrix[:least] if is_tall(matrix) else matrix[:, :least]

    matrices = functools.partial(matrices_of, dimension_numbers)
    return memoryless(update, out=out, static=matrices)


@part
@transformation
def _bring_back(transform: Member, scale: Scalar, dimension_numbers: Any):
    """Transform the projection, and project the result back."""

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        (step,) = outputs
        if leaf.static is None:
            return step
        matrix, vectors = leaf.static.of(u), leaf.recall(PROJECTOR)
        whole = vectors @ step if is_tall(matrix) else step @ jnp.conj(vectors.T)
        return scale * leaf.static.back(whole, u)

    matrices = functools.partial(matrices_of, dimension_numbers)
    return Fork((transform,), join, static=matrices)


@transformation
def in_subspace(
    transform: Member,
    rank: Size = 128,
    every: PositiveInt = 200,
    scale: Scalar = 1.0,
    dimension_numbers: Any = None,
):
    """Apply a transformation to the gradient projected on its leading singular vectors.

    Zhao et al. 2024 (GaLore), Algorithm 1: https://arxiv.org/abs/2403.03507. The output
    is projected back. Arrays that are not matrices are transformed unprojected.

    Args:
        transform: Gets matrices of fewer rows or columns; parameters are not projected.
        rank: Number of directions, an int, at least 1.
        every: Number of updates between computations of the directions, at least 1.
        scale: Factor of the matrices that are projected back.
        dimension_numbers: The matrices and their axes: a tree of
            `GaLoreDimensionNumbers` and None, a function from the parameters to one, or
            one for all arrays of two or more axes. If None, arrays of two axes.

    Keeps `projector`; each slot of the transformation has the projection's shape.

    Examples:
        >>> tx = gradtx.in_subspace(gradtx.scale_by_adam(), rank=4)
        >>> state = tx.init({"kernel": jnp.zeros((64, 16)), "bias": jnp.zeros(16)})
        >>> jax.tree.map(jnp.shape, state["mu"])
        {'bias': (16,), 'kernel': (4, 16)}
    """
    projected = chain(_project(rank, dimension_numbers), transform)
    directions = main_directions(rank, every, dimension_numbers)
    return let(PROJECTOR, directions, _bring_back(projected, scale, dimension_numbers))
