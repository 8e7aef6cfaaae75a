"""Matrices: which parameters are one, and their orientation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
from optax.contrib import GaLoreDimensionNumbers

from gradtx.core.trees import is_none


class Matrix(NamedTuple):
    """The view of an array as a matrix."""

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
    """Per array, its view as a matrix or None, from the dimension numbers."""
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

    return jax.tree.map(matrix, params, numbers, is_leaf=is_none)


def is_tall(matrix: Any) -> bool:
    """Whether the rows are projected, on directions of the columns' space."""
    return matrix.shape[0] >= matrix.shape[1]
