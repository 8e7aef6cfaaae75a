"""Matrices: which parameters are one, and their orientation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
from optax.contrib import GaLoreDimensionNumbers, MuonDimensionNumbers

from gradtx.core.trees import is_none


class Matrix(NamedTuple):
    """How an array is a matrix, or a batch of them.

    Attributes:
        rows: The axes that are rows.
        columns: The axes that are columns.
        batch: Other axes.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    batch: tuple[int, ...] = ()

    def of(self, array: Any) -> Any:
        """The matrix of an array, with batch axes in front."""
        order = self.batch + self.rows + self.columns
        batch = [array.shape[axis] for axis in self.batch]
        sizes = [
            math.prod(array.shape[axis] for axis in axes)
            for axes in (self.rows, self.columns)
        ]
        return array.transpose(order).reshape(batch + sizes)

    def back(self, matrix: Any, like: Any) -> Any:
        """The array of a matrix."""
        order = self.batch + self.rows + self.columns
        array = matrix.reshape([like.shape[axis] for axis in order])
        return array.transpose([order.index(axis) for axis in range(like.ndim)])


def matrices_of(
    numbers: Any, params: Any, owner: str = "in_subspace", has_batches: bool = False
) -> Any:
    """For each array how it is a matrix, or None, by its dimension numbers.

    Args:
        numbers: `GaLoreDimensionNumbers`, or optax's of Muon: for all arrays, or a tree
            of them and None with the structure of the parameters or a prefix of it, or
            a function from the parameters to one. If None, arrays of two axes count.
        params: The parameters.
        owner: The transformation that errors name.
        has_batches: Whether other axes are allowed: those of batches.
    """
    if callable(numbers):
        numbers = numbers(params)
    if numbers is None or _is_numbers(numbers):
        one = numbers or GaLoreDimensionNumbers()
        most = 2 if numbers is None else math.inf
        numbers = jax.tree.map(lambda p: one if 2 <= p.ndim <= most else None, params)
    else:
        numbers = _of_each(numbers, params)

    def matrix(p: Any, n: Any) -> Matrix | None:
        if p is None or n is None:
            return None
        pair = [(axes,) if isinstance(axes, int) else tuple(axes) for axes in n]
        rows, columns = (tuple(axis % p.ndim for axis in axes) for axes in pair)
        batch = tuple(sorted({*range(p.ndim)} - {*rows, *columns}))
        is_each_once = sorted(rows + columns + batch) == list(range(p.ndim))
        if not is_each_once or (batch and not has_batches):
            raise ValueError(
                f"{owner}: {n} must name each axis of an array of shape {p.shape} once"
            )
        return Matrix(rows, columns, batch)

    return jax.tree.map(matrix, params, numbers, is_leaf=is_none)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, GaLoreDimensionNumbers | MuonDimensionNumbers)


def _of_each(numbers: Any, params: Any) -> Any:
    """The numbers of each parameter, where those of a subtree may be one."""

    def spread(number: Any, subtree: Any) -> Any:
        return jax.tree.map(lambda p: number, subtree, is_leaf=is_none)

    return jax.tree.map(
        spread, numbers, params, is_leaf=lambda it: it is None or _is_numbers(it)
    )


def is_tall(matrix: Any) -> bool:
    """Whether the rows are projected, on directions of the columns' space."""
    return matrix.shape[0] >= matrix.shape[1]
