"""Modifiers of any direction: cautious, Grams, MARS, Grokfast, OrthoGrad."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.lower import first_program
from gradtx.compiler.steps import whole_flow
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Decay, Member, NonNegative, Positive, Scalar
from gradtx.core.arithmetic import inner, safe_ratio
from gradtx.core.call import FactoryValue
from gradtx.core.context import Leaf
from gradtx.core.errors import short_repr
from gradtx.core.members import AbsentMember
from gradtx.core.nodes import Fork
from gradtx.core.rule import memoryless
from gradtx.transforms.averages import difference, scale_by_ema
from gradtx.transforms.combine import add, chain, identity
from gradtx.transforms.gradient_clipping import clip_by_block_norm
from gradtx.transforms.vector_norms import norm, over


def agreement(x: Any, y: Any) -> Any:
    """The sign of the product of reals, even where the product underflows."""
    return jnp.real(jnp.conj(jnp.sign(x)) * jnp.sign(y))


def _check_direction(owner: str, transform: Any) -> None:
    """Raise for a transformation that makes steps, since these have opposite signs."""
    if isinstance(transform, AbsentMember):  # already checked by its layout
        return
    is_known = isinstance(transform, FactoryValue)
    if is_known:
        is_known = whole_flow(first_program(transform.bound)).is_direction
    if not is_known:
        raise TypeError(
            f"{owner}: expected a direction of gradtx, such as scale_by_adam(), before "
            f"weight decay and learning rate, got {short_repr(transform)}"
        )


@transformation
def cautious(transform: Member, min_share: Positive = 1e-3):
    """Cautious: keep only elements of the direction with the gradient's sign.

    These are divided by the fraction of elements kept. Liang et al. 2024:
    https://arxiv.org/abs/2411.16085, with the scale of the authors' C-AdamW.

    Args:
        transform: Transformation that makes the direction: `cautious(scale_by_adam())`.
        min_share: Lower bound of that fraction, per array. Positive.

    Raises:
        TypeError: The transformation may change signs: it has a learning rate, a scale
            or a foreign transformation.

    Examples:
        >>> tx = gradtx.cautious(gradtx.scale_by_ema(0.5))
        >>> _, state = tx.update(jnp.array([8.0, 8.0]), tx.init(jnp.zeros(2)))
        >>> print(tx.update(jnp.array([-1.0, 8.0]), state)[0])
        [ 0. 12.]
    """
    _check_direction("cautious", transform)

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        (direction,) = outputs
        agrees = agreement(direction, u) > 0
        share = jnp.mean(agrees.astype(u.real.dtype))
        return jnp.where(agrees, direction, 0) / jnp.maximum(share, min_share)

    return Fork((transform,), join)


@transformation
def grams(transform: Member):
    """Grams: the magnitude of a direction with the signs of the gradient.

    Cao et al. 2024: https://arxiv.org/abs/2412.17107.

    Args:
        transform: Transformation that makes the direction: `grams(scale_by_adam())`.

    Raises:
        TypeError: As `cautious`.

    Examples:
        >>> tx = gradtx.grams(gradtx.scale_by_ema(0.5))
        >>> _, state = tx.update(jnp.array([8.0, 8.0]), tx.init(jnp.zeros(2)))
        >>> print(tx.update(jnp.array([-2.0, 8.0]), state)[0])
        [-1.  6.]
    """
    _check_direction("grams", transform)

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        (direction,) = outputs
        return jnp.sign(u) * jnp.abs(direction)

    return Fork((transform,), join)


@transformation
def mars(
    gamma: NonNegative = 0.025, b1: Decay = 0.95, max_norm: NonNegative | None = 1.0
):
    """MARS: add the gradient's change to it, to reduce its variance, and clip.

    `g + gamma * b1 / (1 - b1) * (g - g_last)`, with each array's norm clipped. Yuan et
    al. 2024: https://arxiv.org/abs/2411.10438, the approximation that needs no second
    gradient. As in the paper, the first gradient is unchanged. The authors' code takes
    0 as the one before it, and changes only matrices (see `only`).

    Args:
        gamma: Weight of the change. At least 0.
        b1: `b1` of the optimizer after it, in [0, 1): `adamw(lr, b1=0.95, b2=0.99)`.
        max_norm: Largest norm of each array, at least 0; None clips nothing.

    Keeps `previous_gradient`.

    Examples:
        >>> tx = gradtx.mars(gamma=0.5, b1=0.5, max_norm=None)
        >>> updates, state = tx.update(jnp.array(4.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(6.0), state)[0])
        4.0 7.0
    """
    change = difference("previous_gradient")
    weights = (1.0, gamma * b1 / b1.complement)
    return chain(
        add(identity(), change, weights=weights),
        identity() if max_norm is None else clip_by_block_norm(max_norm),
    )


@transformation
def grokfast(alpha: Decay = 0.98, factor: Scalar = 2.0):
    """Grokfast: add the gradient's average, which amplifies slowly changing gradients.

    Lee et al. 2024: https://arxiv.org/abs/2405.20233, Algorithm 2.

    Args:
        alpha: Decay of the average, in [0, 1). It starts at the first gradient.
        factor: Factor of the average (lambda in the paper).

    Keeps `slow_gradient`.

    Examples:
        >>> tx = gradtx.chain(gradtx.grokfast(alpha=0.5, factor=2.0), gradtx.sgd(0.5))
        >>> updates, state = tx.update(jnp.array(4.0), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.array(0.0), state)[0])
        -6.0 -2.0
    """
    slow = scale_by_ema(alpha, "slow_gradient", initial_value=None)
    return add(identity(), slow, weights=(1.0, factor))


@transformation
def orthograd(rescale: bool = True):
    """OrthoGrad: remove each gradient's component along its parameter, per array.

    Prieto et al. 2025: https://arxiv.org/abs/2501.04697. The remainder is scaled to the
    norm of the gradient, as in the authors' code; a remainder as small as rounding
    errors becomes 0 (there it is scaled too). Arrays of one element are unchanged.

    Args:
        rescale: Whether to scale the remainder.

    Examples:
        >>> tx, params = gradtx.orthograd(rescale=False), jnp.array([2.0, 0.0])
        >>> print(tx.update(jnp.array([3.0, 4.0]), tx.init(params), params)[0])
        [0. 4.]
    """

    def update(u: Any, leaf: Leaf) -> Any:
        if u.size == 1:  # it has no orthogonal component
            return u
        size = norm(leaf.param)
        along = over(leaf.param, jnp.where(size == 0, 1, size))
        rest = u - inner(along, u) * along
        if not rescale:
            return rest
        whole, left = norm(u), norm(rest)
        is_rounding = left <= 16 * jnp.finfo(u.dtype).eps * whole
        return rest * jnp.where(is_rounding, 0, safe_ratio(whole, left))

    return memoryless(update)
