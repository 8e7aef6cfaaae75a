"""Parts of estimates of the gradient's size."""

from __future__ import annotations

import functools
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Decay, Fixed, NonNegative, Scalar
from gradtx.core.arithmetic import abs2
from gradtx.core.context import Leaf, refuse_complex
from gradtx.core.errors import short_repr
from gradtx.core.rule import memoryless
from gradtx.core.trees import map_with_none
from gradtx.transforms.averages import scale_by_ema
from gradtx.transforms.bias import corrected
from gradtx.transforms.combine import add, chain


@transformation
def square():
    """Replace the update by its squared magnitude |u|**2, real for complex u too.

    Examples:
        >>> tx = gradtx.chain(gradtx.square(), gradtx.scale_by_ema(0.5, "nu"))
        >>> print(tx.update(jnp.array([2.0, -4.0]), tx.init(jnp.zeros(2)))[0])
        [2. 8.]
    """
    return memoryless(lambda u, leaf: abs2(u), out=jnp.real)


@transformation
def magnitude():
    """Replace the update by its magnitude |u|, real for complex u too.

    Examples:
        >>> tx = gradtx.divide_by(gradtx.transforms.magnitude())
        >>> print(tx.update(jnp.array([3.0, -4.0]), tx.init(jnp.zeros(2)))[0])
        [ 1. -1.]
    """
    return memoryless(lambda u, leaf: jnp.abs(u), out=jnp.real)


@transformation
def shift(by: Scalar):
    """Add a number to every element.

    Args:
        by: The number, of any sign.

    Examples:
        >>> tx = gradtx.transforms.shift(0.5)
        >>> print(tx.update(jnp.array([2.0, -4.0]), tx.init(jnp.zeros(2)))[0])
        [ 2.5 -3.5]
    """
    return memoryless(lambda u, leaf: u + by)


@transformation
def at_least(floor: Scalar):
    """Replace real elements below a number by that number.

    Args:
        floor: The least value, of any sign.

    Examples:
        >>> tx = gradtx.transforms.at_least(0.5)
        >>> print(tx.update(jnp.array([2.0, -4.0]), tx.init(jnp.zeros(2)))[0])
        [2.  0.5]
    """

    def update(u: Any, leaf: Leaf) -> Any:
        refuse_complex(u, leaf)
        return jnp.maximum(u, floor)

    return memoryless(update)


@transformation
def root():
    """Replace a non-negative update by its root, with a finite derivative at 0.

    Examples:
        >>> tx = gradtx.transforms.root()
        >>> print(tx.update(jnp.array([4.0, 16.0]), tx.init(jnp.zeros(2)))[0])
        [2. 4.]
    """
    return memoryless(lambda u, leaf: jnp.sqrt(jnp.maximum(u, jnp.finfo(u.dtype).tiny)))


@transformation
def block_mean(block_axes: Any = None):
    """Replace each block of an array by its mean.

    Args:
        block_axes: Axes of one block, a tuple or an int per array: a tree like the
            parameters, or a function from them to one. If None, all axes but the last
            of arrays with two or more axes, so kernels of shape `(inputs, outputs)`
            have one block per output; other arrays are unchanged.

    Examples:
        >>> tx = gradtx.divide_by(gradtx.transforms.block_mean())
        >>> kernel = jnp.array([[1.0, 2.0], [3.0, 6.0]])
        >>> print(tx.update(kernel, tx.init(kernel))[0])
        [[0.5 0.5]
         [1.5 1.5]]
    """

    def update(u: Any, leaf: Leaf) -> Any:
        return _mean_over(u, leaf.static)

    return memoryless(
        update, out=_mean_over, static=functools.partial(_axes_of, block_axes)
    )


def _mean_over(array: Any, axes: tuple[int, ...]) -> Any:
    return jnp.mean(array, axes, keepdims=True) if axes and array.size else array


def _axes_of(block_axes: Any, params: Any) -> Any:
    """The axes of one block, per array."""
    if block_axes is None:
        return jax.tree.map(lambda p: tuple(range(jnp.ndim(p) - 1)), params)
    tree = block_axes(params) if callable(block_axes) else block_axes
    misfits: list[str] = []

    def axes(p: Any, given: Any) -> tuple[int, ...] | None:
        if p is None:
            return None
        given = (given,) if isinstance(given, int) else tuple(given or ())
        fit = all(-jnp.ndim(p) <= axis < jnp.ndim(p) for axis in given)
        if not fit or len({axis % jnp.ndim(p) for axis in given}) < len(given):
            misfits.append(f"an array of shape {jnp.shape(p)}, got {given}")
            return ()
        return tuple(sorted(axis % jnp.ndim(p) for axis in given))

    try:
        found = map_with_none(axes, params, tree)
    except ValueError:
        raise ValueError(
            f"block_mean: block_axes must have axes for each array, a tuple or an int, "
            f"got {short_repr(tree)}"
        ) from None
    if misfits:
        raise ValueError(f"block_mean: block_axes must be axes of {misfits[0]}")
    return found


@transformation
def second_moment(
    decay: Decay,
    slot: str = "nu",
    bias_correction: bool = True,
    initial_value: Fixed[NonNegative] = 0.0,
):
    """The second moment: the moving average of the squared gradient.

    Args:
        decay: Decay of the average, in [0, 1).
        slot: Name of its slot.
        bias_correction: Whether to divide by `1 - decay**t`.
        initial_value: Initial value. At least 0.

    Examples:
        >>> tx = gradtx.second_moment(0.5)
        >>> updates, state = tx.update(jnp.array(4.0), tx.init(jnp.zeros(())))
        >>> print(updates, state["nu"])
        16.0 8.0
    """
    average = scale_by_ema(decay, slot, initial_value=initial_value)
    return corrected(chain(square(), average), decay, bias_correction)


@transformation
def centered_second_moment(
    decay: Decay, initial_scale: Fixed[NonNegative] = 0.0, bias_correction: bool = False
):
    """The moving variance: average of the square minus square of the average.

    Args:
        decay: Decay of both averages, in [0, 1).
        initial_scale: Initial value of the average of the square. At least 0.
        bias_correction: Whether to divide both averages by `1 - decay**t`.

    Keeps `mu` and `nu`. Rounding can make it negative; `divide_by_root` then takes 0.

    Examples:
        >>> tx = gradtx.centered_second_moment(0.5, bias_correction=True)
        >>> updates, state = tx.update(jnp.array(4.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(1.0), state)[0])
        0.0 2.0
    """
    mu = corrected(scale_by_ema(decay, "mu"), decay, bias_correction)
    return add(
        second_moment(decay, "nu", bias_correction, initial_scale),
        chain(mu, square()),
        weights=(1.0, -1.0),
    )
