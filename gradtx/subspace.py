"""Work in another basis: gradients projected, steps brought back."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
from jax import lax
from jax import numpy as jnp
from optax.contrib import GaLoreDimensionNumbers

from gradtx.adam import scale_by_adam
from gradtx.arithmetic import whole
from gradtx.combine import chain, let
from gradtx.connectives import Fork
from gradtx.roles import Every, Member, Scalar, Size
from gradtx.rule import Leaf, Private, Rule, memoryless
from gradtx.stable import stable
from gradtx.transform import transformation


class Matrix(NamedTuple):
    """How an array is a matrix."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def of(self, array: Any) -> Any:
        """The matrix of an array."""
        shape = [
            math.prod(array.shape[axis] for axis in axes)
            for axes in (self.rows, self.columns)
        ]
        return array.transpose(self.rows + self.columns).reshape(shape)

    def back(self, matrix: Any, like: Any) -> Any:
        """The array of a matrix."""
        order = self.rows + self.columns
        array = matrix.reshape([like.shape[axis] for axis in order])
        return array.transpose([order.index(axis) for axis in range(like.ndim)])


def matrices_of(numbers: Any, params: Any) -> Any:
    """For each array how it is a matrix, or None, by their dimension numbers."""
    if numbers is None or isinstance(numbers, GaLoreDimensionNumbers):
        one = numbers or GaLoreDimensionNumbers()
        most = 2 if numbers is None else math.inf
        numbers = jax.tree.map(lambda p: one if 2 <= p.ndim <= most else None, params)
    elif callable(numbers):
        numbers = numbers(params)

    def matrix(p: Any, n: GaLoreDimensionNumbers | None) -> Matrix | None:
        if p is None or n is None:
            return None
        pair = [(axes,) if isinstance(axes, int) else tuple(axes) for axes in n]
        rows, columns = (tuple(axis % p.ndim for axis in axes) for axes in pair)
        if sorted(rows + columns) != list(range(p.ndim)):
            raise ValueError(
                f"in_subspace: {n} must name each axis of an array of shape {p.shape} "
                f"once"
            )
        return Matrix(rows, columns)

    return jax.tree.map(matrix, params, numbers, is_leaf=lambda x: x is None)


def is_tall(matrix: Any) -> bool:
    """Whether directions are those of columns, and rows are projected."""
    return matrix.shape[0] >= matrix.shape[1]


@transformation
def main_directions(
    rank: Size = 128, every: Every = 200, dimension_numbers: Any = None
):
    """Replace a matrix by its main singular vectors on its longer side.

    They are computed at the first update and every so many, and kept as `projector`;
    arguments as `in_subspace`.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        if leaf.setting is None:
            return u, slots
        old, matrix = slots["projector"], leaf.setting.of(u)

        def compute() -> Any:
            # They are constants: where singular values meet they have no derivative.
            fixed = lax.stop_gradient(matrix)
            left, _, right = jnp.linalg.svd(fixed, full_matrices=False)
            vectors = left if is_tall(matrix) else jnp.conj(right.T)
            return vectors[:, : old.shape[1]].astype(old.dtype)

        is_due = leaf.count % whole(every) == 0
        new = lax.cond(is_due, compute, lambda: old)
        return new, {"projector": new}

    def first(array: Any, setting: Matrix | None) -> Any:
        if setting is None:
            return None
        shape = setting.of(array).shape
        return jnp.zeros((max(shape), min(rank, *shape)), array.dtype)

    matrices = functools.partial(matrices_of, dimension_numbers)
    return Rule(update, {"projector": first}, setting=matrices, period=every)


PROJECTOR = Private("projector")


@stable
@transformation
def _project(rank: Size, dimension_numbers: Any):
    """Multiply a matrix by its main directions."""

    def update(u: Any, leaf: Leaf) -> Any:
        if leaf.setting is None:
            return u
        matrix, vectors = leaf.setting.of(u), leaf.recall(PROJECTOR)
        return jnp.conj(vectors.T) @ matrix if is_tall(matrix) else matrix @ vectors

    def out(array: Any, setting: Matrix | None) -> Any:
        if setting is None:
            return array
        matrix = setting.of(array)
        least = min(rank, *matrix.shape)
        return matrix[:least] if is_tall(matrix) else matrix[:, :least]

    matrices = functools.partial(matrices_of, dimension_numbers)
    return memoryless(update, out=out, setting=matrices)


@stable
@transformation
def _bring_back(transform: Member, scale: Scalar, dimension_numbers: Any):
    """Bring what a transformation makes of the projection back."""

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        (step,) = outputs
        if leaf.setting is None:
            return step
        matrix, vectors = leaf.setting.of(u), leaf.recall(PROJECTOR)
        whole = vectors @ step if is_tall(matrix) else step @ jnp.conj(vectors.T)
        return scale * leaf.setting.back(whole, u)

    matrices = functools.partial(matrices_of, dimension_numbers)
    return Fork((transform,), join, setting=matrices)


@transformation
def in_subspace(
    transform: Member,
    rank: Size = 128,
    every: Every = 200,
    scale: Scalar = 1.0,
    dimension_numbers: Any = None,
):
    """Apply a transformation to the gradient's projection on its main directions.

    Zhao et al. 2024 (GaLore), Algorithm 1: https://arxiv.org/abs/2403.03507. What the
    transformation makes is brought back; arrays that are no matrices pass unprojected.

    Args:
        transform: Sees matrices of fewer rows or columns; parameters are not projected.
        rank: How many directions, an int, at least 1.
        every: After how many updates the directions are computed again, at least 1.
        scale: What matrices are multiplied by on the way back.
        dimension_numbers: Which arrays are matrices, and how: a tree of
            `GaLoreDimensionNumbers` and None, a function from the parameters to one, or
            one for all of two or more axes. If None, those of two axes are.

    Keeps `projector`; each slot of the transformation has the projection's shape.
    """
    projected = chain(_project(rank, dimension_numbers), transform)
    directions = main_directions(rank, every, dimension_numbers)
    return let(PROJECTOR, directions, _bring_back(projected, scale, dimension_numbers))


@transformation
def scale_by_galore(
    rank: Size = 128,
    update_proj_gap: Every = 200,
    scale: Scalar = 1.0,
    base_optimizer: Member | None = None,
    weight_dimension_numbers: Any = None,
):
    """Adam, or another transformation, `in_subspace`. As optax.

    optax computes the directions in float32 whatever the parameters are.
    """
    base = scale_by_adam() if base_optimizer is None else base_optimizer
    return in_subspace(base, rank, update_proj_gap, scale, weight_dimension_numbers)
