"""Division by an estimate of the gradient's size."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Member, NonNegative, Positive, Scalar
from gradtx.core.arithmetic import abs2, ratio, safe_sqrt
from gradtx.core.context import Leaf
from gradtx.core.nodes import Fork


@transformation
def divide_by(estimator: Member):
    """Divide by an estimate v of the gradient's size: `u / v`.

    Args:
        estimator: A transformation of the gradient into v, real and positive. The
            gradient is `leaf.grad`, inside `moments` the update that entered it. Its
            rules can read the update u as `leaf.flowing`.

    Examples:
        >>> tx = gradtx.divide_by(gradtx.chain(gradtx.magnitude(), gradtx.shift(1.0)))
        >>> print(tx.update(jnp.array([1.0, -3.0]), tx.init(jnp.zeros(2)))[0])
        [ 0.5  -0.75]
    """

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        (v,) = outputs
        # Nothing is squared, nor is it in the derivative. But XLA merges two divisions
        # in sequence, such as this and a bias correction, which may be 2**-24.
        return ratio(u, jnp.maximum(v, float(jnp.finfo(v.dtype).tiny) * 2.0**24))

    return Fork((estimator,), join, measures=True)


@transformation
def divide_by_root(
    estimator: Member, eps: NonNegative = 1e-8, eps_root: NonNegative = 0.0
):
    """Divide by the root of an estimate: `u / (sqrt(v + eps_root) + eps)`.

    Args:
        estimator: A transformation of the gradient into v, real and non-negative, as in
            `divide_by`.
        eps: Added to the root, so in units of the gradient. At least 0.
        eps_root: Added inside the root. At least 0.

    An estimate below 0 (from rounding) counts as 0, and the root's argument is at least
    the smallest normal number: for zero gradients the update and its derivative are
    finite.

    Examples:
        >>> tx = gradtx.divide_by_root(gradtx.second_moment(0.9))
        >>> updates, state = tx.update(jnp.array(-30.0), tx.init(jnp.zeros(())))
        >>> print(f"{updates:.2f} {state['nu']:.2f}")
        -1.00 90.00
    """

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        (v,) = outputs
        floor = jnp.maximum(eps_root, jnp.finfo(v.dtype).tiny)
        return u / (jnp.sqrt(jnp.maximum(v + eps_root, floor)) + eps)

    return Fork((estimator,), join, measures=True)


@transformation
def clip_by_normalized_rms(
    estimator: Member, threshold: Positive = 1.0, eps: NonNegative = 1e-6
):
    """StableAdamW's clipping: scale down arrays whose gradients exceed their estimate.

    Divide by the root of the mean of `grad**2 / max(v, eps**2)` over the threshold, if
    that ratio exceeds 1. Wortsman et al. 2023, Algorithm 2:
    https://arxiv.org/abs/2304.13013.

    Args:
        estimator: A transformation of the gradient into v, as in `divide_by`.
        threshold: Largest root mean square that is not scaled down. Positive.
        eps: Lower bound of the root of v. At least 0.

    Examples:
        >>> tx = gradtx.transforms.clip_by_normalized_rms(gradtx.second_moment(0.5))
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, 100.0):
        ...     updates, state = tx.update(jnp.array(gradient), state)
        ...     print(f"{updates:.1f}")
        1.0
        81.7
    """

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        (v,) = outputs
        floor = jnp.maximum(eps**2, jnp.finfo(v.dtype).tiny)
        size = safe_sqrt(jnp.mean(abs2(leaf.grad) / jnp.maximum(v, floor)))
        return u / jnp.maximum(1, size / threshold)

    return Fork((estimator,), join, measures=True)


@transformation
def atan2_of_root(estimator: Member, a: Scalar = 1.27, b: Positive = 1.0):
    """Divide by the root of an estimate with atan2: bounded, without `eps`.

    `a * atan2(u, b * sqrt(v))`; for complex u applied to the magnitude. Everett et al.
    2024: https://arxiv.org/abs/2407.05872.

    Args:
        estimator: A transformation of the gradient into v, as in `divide_by`.
        a: Factor of the angle; 4 / pi gives 1 where u equals the root.
        b: Factor of the root. Positive.

    Examples:
        >>> tx = gradtx.transforms.atan2_of_root(gradtx.second_moment(0.9))
        >>> updates, _ = tx.update(jnp.array([1e-12, -1e12]), tx.init(jnp.zeros(2)))
        >>> print(*(f"{u:.2f}" for u in updates))
        1.00 -1.00
    """

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        (v,) = outputs
        size = b * jnp.sqrt(jnp.maximum(v, jnp.finfo(v.dtype).tiny))
        if jnp.iscomplexobj(u):
            return a * jnp.sign(u) * jnp.arctan2(jnp.abs(u), size)
        return a * jnp.arctan2(u, size)

    return Fork((estimator,), join, measures=True)
