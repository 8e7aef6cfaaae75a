"""Division by an estimate of the gradient's size, and what estimates are made of."""

from __future__ import annotations

import functools
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.arithmetic import abs2, ratio, safe_sqrt
from gradtx.averages import corrected, running_sum, scale_by_ema
from gradtx.combine import add, chain
from gradtx.connectives import Fork
from gradtx.errors import told
from gradtx.roles import Decay, DType, FirstValue, Member, NonNegative, Positive, Scalar
from gradtx.rule import Leaf, Rule, memoryless, refuse_complex
from gradtx.scale import add_decayed_weights, block_norm
from gradtx.stable import stable
from gradtx.transform import transformation
from gradtx.trees import map_with_none


@transformation
def square():
    """Replace the update by its square |u|**2, real also for complex u."""
    return memoryless(lambda u, leaf: abs2(u), out=jnp.real)


@transformation
def magnitude():
    """Replace the update by its magnitude |u|, real also for complex u."""
    return memoryless(lambda u, leaf: jnp.abs(u), out=jnp.real)


@transformation
def shift(by: Scalar):
    """Add a number to every element."""
    return memoryless(lambda u, leaf: u + by)


@transformation
def at_least(floor: Scalar):
    """Replace elements below a number by it; complex ones have no order."""

    def update(u: Any, leaf: Leaf) -> Any:
        refuse_complex(u, leaf)
        return jnp.maximum(u, floor)

    return memoryless(update)


@transformation
def root():
    """Replace a non-negative update by its root; the derivative is finite at 0."""
    return memoryless(lambda u, leaf: jnp.sqrt(jnp.maximum(u, jnp.finfo(u.dtype).tiny)))


@transformation
def divide_by(estimator: Member):
    """Divide by an estimate, `u / v`.

    Args:
        estimator: A transformation that makes v, real and positive, of the gradient:
            `leaf.grad`, which inside `moments` is what entered it. Its rules see the
            update that is divided as `leaf.flowing`.
    """

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        (v,) = outputs
        # Nothing is squared, in the derivative neither. But XLA multiplies what divides
        # one after the other, such as this and a bias correction, which may be 2**-24.
        return ratio(u, jnp.maximum(v, float(jnp.finfo(v.dtype).tiny) * 2.0**24))

    return Fork((estimator,), join, measures=True)


@transformation
def divide_by_root(
    estimator: Member, eps: NonNegative = 1e-8, eps_root: NonNegative = 0.0
):
    """Divide by the root of an estimate: `u / (sqrt(v + eps_root) + eps)`.

    Args:
        estimator: A transformation that makes v, real and not negative, of the
            gradient, as in `divide_by`.
        eps: Added to the root, so in units of the gradient. At least 0.
        eps_root: Added inside the root. At least 0.

    An estimate below 0 (from rounding) counts as 0, and the root is of no less than
    the smallest normal number: where gradients vanish, the update and its derivative
    are finite.
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
    """Scale each array down where gradients outgrow the estimate of their size.

    By the root of the mean of `grad**2 / max(v, eps**2)`, if that exceeds a threshold.
    Wortsman et al. 2023 (StableAdamW), Algorithm 2: https://arxiv.org/abs/2304.13013.

    Args:
        estimator: A transformation that makes v of the gradient, as in `divide_by`.
        threshold: Positive.
        eps: The least root of v. At least 0.
    """

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        (v,) = outputs
        floor = jnp.maximum(eps**2, jnp.finfo(v.dtype).tiny)
        size = safe_sqrt(jnp.mean(abs2(leaf.grad) / jnp.maximum(v, floor)))
        return u / jnp.maximum(1, size / threshold)

    return Fork((estimator,), join, measures=True)


@transformation
def atan2_of_root(estimator: Member, a: Scalar = 1.27, b: Positive = 1.0):
    """Divide by the root of an estimate, bounded and without an eps.

    `a * atan2(u, b * sqrt(v))`; of complex u by its magnitude. Everett et al. 2024:
    https://arxiv.org/abs/2407.05872.

    Args:
        estimator: A transformation that makes v of the gradient, as in `divide_by`.
        a: What the angle is multiplied by: 4 / pi gives 1 where u is the root.
        b: What the root is multiplied by. Positive.
    """

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        (v,) = outputs
        size = b * jnp.sqrt(jnp.maximum(v, jnp.finfo(v.dtype).tiny))
        if jnp.iscomplexobj(u):
            return a * jnp.sign(u) * jnp.arctan2(jnp.abs(u), size)
        return a * jnp.arctan2(u, size)

    return Fork((estimator,), join, measures=True)


@transformation
def block_mean(block_axes: Any = None):
    """Replace each block of an array by its mean.

    Args:
        block_axes: The axes of one block, for each array a tuple or an int: a tree like
            the parameters, or a function from these to one. If None, all but the last
            of matrices and larger arrays, so that kernels of shape `(inputs, outputs)`
            have a block for each output; other arrays stay.
    """

    def update(u: Any, leaf: Leaf) -> Any:
        return _mean_over(u, leaf.setting)

    return memoryless(
        update, out=_mean_over, setting=functools.partial(_axes_of, block_axes)
    )


def _mean_over(array: Any, axes: tuple[int, ...]) -> Any:
    return jnp.mean(array, axes, keepdims=True) if axes and array.size else array


def _axes_of(block_axes: Any, params: Any) -> Any:
    """For each array the axes of one block."""
    if block_axes is None:
        return jax.tree.map(lambda p: tuple(range(jnp.ndim(p) - 1)), params)
    tree = block_axes(params) if callable(block_axes) else block_axes

    def axes(p: Any, given: Any) -> tuple[int, ...] | None:
        if p is None:
            return None
        given = (given,) if isinstance(given, int) else tuple(given or ())
        fit = all(-jnp.ndim(p) <= axis < jnp.ndim(p) for axis in given)
        if not fit or len({axis % jnp.ndim(p) for axis in given}) < len(given):
            raise ValueError(
                f"block_mean: block_axes must be axes of an array of shape "
                f"{jnp.shape(p)}, got {given}"
            )
        return tuple(sorted(axis % jnp.ndim(p) for axis in given))

    try:
        return map_with_none(axes, params, tree)
    except ValueError as error:
        if "block_mean" in str(error):
            raise
        raise ValueError(
            f"block_mean: block_axes must have axes for each array, a tuple or an int, "
            f"got {told(tree)}"
        ) from None


def _divide(estimator: Any, eps: Any, eps_in_sqrt: bool) -> Any:
    """Division by the root of an estimate, eps inside the root or added to it."""
    if eps_in_sqrt:
        return divide_by_root(estimator, eps=0.0, eps_root=eps)
    return divide_by_root(estimator, eps)


@transformation
def second_moment(
    decay: Decay,
    slot: str = "nu",
    bias_correction: bool = True,
    initial_value: FirstValue = 0.0,
):
    """The moving average of the square, an estimator.

    Args:
        decay: Of the average, in [0, 1).
        slot: The name that it is kept under.
        bias_correction: Whether to divide it by `1 - decay**t`.
        initial_value: What it starts at. At least 0.
    """
    average = scale_by_ema(decay, slot, initial_value=initial_value)
    return corrected(chain(square(), average), decay, bias_correction)


@transformation
def scale_by_rms(
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: FirstValue = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
):
    """Divide by the root of the moving average of the square.

    Hinton, Srivastava and Swersky 2012, lecture 6e: RMSProp. As optax.

    Args:
        decay: Of the average, in [0, 1).
        eps: Added inside the root (in units of the square) or to it. At least 0.
        initial_scale: What the average starts at. At least 0.
        eps_in_sqrt: Where eps is added.
        bias_correction: Whether to divide the average by `1 - decay**t`.
    """
    nu = second_moment(decay, "nu", bias_correction, initial_scale)
    return _divide(nu, eps, eps_in_sqrt)


@transformation
def centered_second_moment(
    decay: Decay, initial_scale: FirstValue = 0.0, bias_correction: bool = False
):
    """The moving variance: average of the square less square of the average.

    Args:
        decay: Of both averages, in [0, 1).
        initial_scale: What the average of the square starts at. At least 0.
        bias_correction: Whether to divide both averages by `1 - decay**t`.

    Keeps `mu` and `nu`. Rounding can make it negative; a root takes that as 0.
    """
    mu = corrected(scale_by_ema(decay, "mu"), decay, bias_correction)
    return add(
        second_moment(decay, "nu", bias_correction, initial_scale),
        chain(mu, square()),
        weights=(1.0, -1.0),
    )


@transformation
def scale_by_stddev(
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: FirstValue = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
):
    """Divide by the root of the moving variance; arguments as `scale_by_rms`.

    Graves 2013: https://arxiv.org/abs/1308.0850. As optax. Keeps `mu` and `nu`.
    """
    variance = centered_second_moment(decay, initial_scale, bias_correction)
    return _divide(variance, eps, eps_in_sqrt)


@transformation
def scale_by_rss(initial_accumulator_value: FirstValue = 0.1, eps: NonNegative = 1e-7):
    """Divide by the root of the sum of all squares so far.

    Duchi et al. 2011: https://jmlr.org/papers/v12/duchi11a.html. As optax.

    Args:
        initial_accumulator_value: What the sum starts at. At least 0.
        eps: Added inside the root. At least 0.
    """
    total = running_sum("sum_of_squares", initial_accumulator_value)
    return _divide(chain(square(), total), eps, eps_in_sqrt=True)


@transformation
def scale_by_past_rms(decay: Decay, eps: Positive = 1e-6, slot: str = "e_x"):
    """Multiply by the root of the moving average of the square of what this gave.

    Args:
        decay: Of the average, in [0, 1).
        eps: Added inside the root. Positive: it is all that the first step is made of.
        slot: The name that the average is kept under.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        u = jnp.sqrt(slots[slot] + eps) * u
        return u, {slot: decay.complement * abs2(u) + decay * slots[slot]}

    return Rule(update, {slot: lambda array: jnp.zeros_like(array.real)})


@transformation
def scale_by_adadelta(rho: Decay = 0.9, eps: Positive = 1e-6):
    """Divide by the root mean square of gradients, multiply by that of updates.

    Zeiler 2012: https://arxiv.org/abs/1212.5701. As optax.

    Args:
        rho: Decay of both averages, in [0, 1).
        eps: Added inside both roots. Positive.

    Keeps `e_g` and `e_x`.
    """
    e_g = second_moment(rho, "e_g", bias_correction=False)
    return chain(
        divide_by_root(e_g, eps=0.0, eps_root=eps), scale_by_past_rms(rho, eps)
    )


@stable
@transformation
def _moving_norm(decay: Decay, eps_root: NonNegative):
    """The root of the moving average `nu` of squared norms.

    From the norms, whose squares may leave the range: of those only `nu` is kept.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        before = safe_sqrt(decay.value) * safe_sqrt(slots["nu"])
        size = jnp.hypot(jnp.sqrt(decay.complement) * u, before)
        size = jnp.where(leaf.t == 1, u, size)
        most = float(jnp.finfo(size.dtype).max) ** 0.5
        kept = jnp.where(size < jnp.inf, jnp.minimum(size, most), size)
        return jnp.hypot(size, safe_sqrt(eps_root)), {"nu": jnp.square(kept)}

    return Rule(update, {"nu": jnp.zeros_like})


@transformation
def scale_by_novograd(
    b1: Decay = 0.9,
    b2: Decay = 0.25,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    weight_decay: Scalar = 0.0,
    mu_dtype: DType | None = None,
):
    """Momentum of gradients that are divided by a moving norm of their whole array.

    Ginsburg et al. 2019: https://arxiv.org/abs/1905.11286. As optax.

    Args:
        b1: Decay of the sum of normalized gradients, in [0, 1).
        b2: Decay of the average of squared norms, in [0, 1).
        eps: Added to the root. At least 0.
        eps_root: Added inside the root. At least 0.
        weight_decay: Times the parameter, added before the sum.
        mu_dtype: What the sum is stored in; at least float32 if None.

    Keeps `mu`, like the parameter, and `nu`, one number for each array. Norms whose
    squares leave the range of its dtype count as at its end after their own step.
    """
    return chain(
        divide_by(chain(block_norm(), _moving_norm(b2, eps_root), shift(eps))),
        add_decayed_weights(weight_decay),
        running_sum("mu", 0.0, b1, mu_dtype),
    )
