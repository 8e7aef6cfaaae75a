"""Averages, their bias, and the second moments that are chains of them."""

from __future__ import annotations

import functools
from typing import Any

from jax import numpy as jnp

from gradtx.combine import add, chain, identity, moments
from gradtx.roles import Decay, DType, FirstValue, Member, NonNegative
from gradtx.rule import (
    Fork,
    Leaf,
    Rule,
    abs2,
    memoryless,
    refuse_complex,
)
from gradtx.transform import transformation


def full(value: Any, dtype: Any = None) -> Any:
    """The first value of a slot: filled with a number, like what reaches the rule."""
    return functools.partial(jnp.full_like, fill_value=value, dtype=dtype)


@transformation
def scale_by_ema(
    decay: Decay,
    slot: str = "ema",
    dtype: DType | None = None,
    initial_value: FirstValue = 0.0,
):
    """Replace the update by its exponential moving average.

    `ema = (1 - decay) * u + decay * ema`.

    Args:
        decay: In [0, 1).
        slot: The name that the average is kept under.
        dtype: What it is stored in; at least float32 if None. It is computed in at
            least float32 either way.
        initial_value: What it starts at. At least 0.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        ema = decay.complement * u + decay * slots[slot]
        return ema, {slot: ema}

    return Rule(update, {slot: full(initial_value, dtype)})


@transformation
def bias_correction(decay: Decay, steps_ahead: int = 0):
    """Divide by `1 - decay**t`: what an average that started at zero falls short of.

    Args:
        decay: The average's, in [0, 1).
        steps_ahead: Correct as if so many more updates had been made.
    """
    return memoryless(lambda u, leaf: u / (1 - decay ** (leaf.t + steps_ahead)))


@transformation
def square():
    """Replace the update by its square |u|**2, real also for complex u."""
    return memoryless(lambda u, leaf: abs2(u), out=jnp.real)


@transformation
def running_sum(slot: str = "sum_of_squares", initial_value: FirstValue = 0.0):
    """Replace the update by the sum of all updates so far.

    Args:
        slot: The name that the sum is kept under.
        initial_value: What the sum starts at. At least 0.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        total = u + slots[slot]
        return total, {slot: total}

    return Rule(update, {slot: full(initial_value)})


@transformation
def running_maximum(slot: str = "nu_max"):
    """Replace a non-negative update by its elementwise maximum so far.

    Args:
        slot: The name that the maximum is kept under.

    Raises:
        TypeError: At `update`: the update is complex.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        refuse_complex(u, leaf)
        maximum = jnp.maximum(slots[slot], u)
        return maximum, {slot: maximum}

    return Rule(update, {slot: full(0.0)})


@transformation
def divide_by_root(
    estimator: Member, eps: NonNegative = 1e-8, eps_root: NonNegative = 0.0
):
    """Divide by the root of an estimate: `u / (sqrt(v + eps_root) + eps)`.

    Args:
        estimator: A transformation that makes v, real and not negative, of the
            gradient: `leaf.grad`, which inside `moments` is what entered it. Its rules
            see the update that is divided as `leaf.flowing`.
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


def _root_of(estimator: Any, eps: Any, eps_in_sqrt: bool) -> Any:
    if eps_in_sqrt:
        return divide_by_root(estimator, eps=0.0, eps_root=eps)
    return divide_by_root(estimator, eps)


def _corrected(average: Any, decay: Any, is_corrected: bool) -> Any:
    """An average, corrected for its bias or not."""
    return chain(average, bias_correction(decay)) if is_corrected else average


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
    nu = chain(square(), scale_by_ema(decay, "nu", initial_value=initial_scale))
    return _root_of(_corrected(nu, decay, bias_correction), eps, eps_in_sqrt)


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
    nu = chain(square(), scale_by_ema(decay, "nu", initial_value=initial_scale))
    mu = scale_by_ema(decay, "mu")
    return add(
        _corrected(nu, decay, bias_correction),
        chain(_corrected(mu, decay, bias_correction), square()),
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
    return _root_of(variance, eps, eps_in_sqrt)


@transformation
def scale_by_rss(initial_accumulator_value: FirstValue = 0.1, eps: NonNegative = 1e-7):
    """Divide by the root of the sum of all squares so far.

    Duchi et al. 2011: https://jmlr.org/papers/v12/duchi11a.html. As optax.

    Args:
        initial_accumulator_value: What the sum starts at. At least 0.
        eps: Added inside the root. At least 0.
    """
    total = running_sum(initial_value=initial_accumulator_value)
    return _root_of(chain(square(), total), eps, eps_in_sqrt=True)


@transformation
def scale_by_adam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
):
    """Momentum chained with RMSProp, each corrected for its bias towards zero.

    Kingma and Ba 2014, Algorithm 1: https://arxiv.org/abs/1412.6980; with Nesterov's
    momentum Dozat 2016: https://openreview.net/pdf?id=OM0jvwB8jIp57ZJjtNEZ.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added to the root, so in units of the gradient. At least 0.
        eps_root: Added inside the root. At least 0.
        mu_dtype: What the first moment is stored in; at least float32 if None.
        nesterov: Whether the first moment looks one step ahead.

    Keeps `mu` and `nu`, each like the parameter, at least float32.
    """
    first = [scale_by_ema(b1, "mu", mu_dtype), bias_correction(b1, int(nesterov))]
    if nesterov:
        now = bias_correction(b1)
        first = [add(chain(*first), now, weights=(b1, b1.complement))]
    second = chain(square(), scale_by_ema(b2, "nu"), bias_correction(b2))
    return moments(*first, divide_by_root(second, eps, eps_root))


@transformation
def scale_by_amsgrad(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
):
    """Adam that divides by the largest second moment so far.

    Reddi et al. 2018: https://openreview.net/forum?id=ryQu7f-RZ. As optax: the
    maximum is taken after bias correction (torch takes it before).

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added to the root. At least 0.
        eps_root: Added inside the root. At least 0.
        mu_dtype: What the first moment is stored in; at least float32 if None.
        bias_correction_mu: Whether to correct the first moment (the paper does not).
        bias_correction_nu: Whether to correct the second moment (the paper does not).

    Keeps `mu`, `nu` and `nu_max`, each like the parameter, at least float32.
    """
    nu = _corrected(chain(square(), scale_by_ema(b2, "nu")), b2, bias_correction_nu)
    return moments(
        _corrected(scale_by_ema(b1, "mu", mu_dtype), b1, bias_correction_mu),
        divide_by_root(chain(nu, running_maximum()), eps, eps_root),
    )


@transformation
def trace(
    decay: NonNegative, nesterov: bool = False, accumulator_dtype: DType | None = None
):
    """Momentum as a decaying sum, `trace = u + decay * trace`.

    Polyak 1964; Nesterov's form as Sutskever et al. 2013:
    http://proceedings.mlr.press/v28/sutskever13.pdf. As optax.

    Args:
        decay: At least 0; below 1 for the sum to stay bounded.
        nesterov: Whether to give `u + decay * trace`.
        accumulator_dtype: What the sum is stored in; at least float32 if None. It is
            computed in at least float32 (in optax in the stored dtype).
    """
    if nesterov:
        heavy_ball = trace(decay, accumulator_dtype=accumulator_dtype)
        return add(identity(), heavy_ball, weights=(1.0, decay))

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        total = u + decay * slots["trace"]
        return total, {"trace": total}

    return Rule(update, {"trace": full(0.0, accumulator_dtype)})


@transformation
def ema(decay: Decay, debias: bool = True, accumulator_dtype: DType | None = None):
    """The update's exponential moving average, corrected for its bias. As optax.

    Args:
        decay: In [0, 1).
        debias: Whether to divide by `1 - decay**t`.
        accumulator_dtype: What it is stored in; at least float32 if None.
    """
    return _corrected(scale_by_ema(decay, dtype=accumulator_dtype), decay, debias)
