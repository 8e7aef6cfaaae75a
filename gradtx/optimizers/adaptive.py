"""Optimizers that divide by an estimate of the gradient's size, or by its norm."""

from __future__ import annotations

from typing import Any

from gradtx.adam import scale_by_adam
from gradtx.averages import ema, trace
from gradtx.clip import clip_by_block_rms
from gradtx.combine import chain, identity, only
from gradtx.divide import (
    scale_by_adadelta,
    scale_by_novograd,
    scale_by_rms,
    scale_by_rss,
    scale_by_stddev,
)
from gradtx.factored import scale_by_factored_rms, scale_by_sm3
from gradtx.roles import (
    Decay,
    DType,
    FirstValue,
    NonNegative,
    Positive,
    Scalar,
    ScalarOrSchedule,
    Size,
)
from gradtx.scale import (
    add_decayed_weights,
    scale,
    scale_by_learning_rate,
    scale_by_param_block_rms,
    scale_by_trust_ratio,
)
from gradtx.step_size import scale_by_madgrad
from gradtx.transform import transformation


@transformation
def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: FirstValue = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Scalar | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
):
    """RMSProp: divide by the root of the moving average of the square.

    Hinton, Srivastava and Swersky 2012, lecture 6e; centered as Graves 2013:
    https://arxiv.org/abs/1308.0850. As optax, momentum after the learning rate.

    Args:
        learning_rate: A number or a schedule.
        decay: Of the average, in [0, 1).
        eps: Added inside the root, or to it. At least 0.
        initial_scale: What the average starts at. At least 0.
        eps_in_sqrt: Where eps is added.
        centered: Whether to divide by the root of the variance.
        momentum: Decay of a sum of steps, at least 0; None keeps no sum.
        nesterov: Whether to look one step ahead along the sum.
        bias_correction: Whether to correct the averages for their bias.
    """
    scale_by = scale_by_stddev if centered else scale_by_rms
    return chain(
        scale_by(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
        identity() if momentum is None else trace(momentum, nesterov),
    )


@transformation
def adagrad(
    learning_rate: ScalarOrSchedule,
    initial_accumulator_value: FirstValue = 0.1,
    eps: NonNegative = 1e-7,
):
    """Adagrad: divide by the root of the sum of all squares.

    Duchi et al. 2011: https://jmlr.org/papers/v12/duchi11a.html. As optax.

    Args:
        learning_rate: A number or a schedule.
        initial_accumulator_value: What the sum starts at. At least 0.
        eps: Added inside the root. At least 0.

    Keeps `sum_of_squares`, like the parameter, at least float32.
    """
    return chain(
        scale_by_rss(initial_accumulator_value, eps),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def adadelta(
    learning_rate: ScalarOrSchedule | None = None,
    rho: Decay = 0.9,
    eps: Positive = 1e-6,
    weight_decay: Scalar = 0.0,
    weight_decay_mask: Any = None,
):
    """Adadelta: gradients in units of their own size, times that of past updates.

    Zeiler 2012: https://arxiv.org/abs/1212.5701. As optax: without a learning rate the
    update keeps the gradient's sign, so give one (the paper's is 1).

    Args:
        learning_rate: A number, a schedule, or None, see `scale_by_learning_rate`.
        rho: Decay of both averages, in [0, 1).
        eps: Added inside both roots. Positive.
        weight_decay: Times the parameter, added to the gradient.
        weight_decay_mask: Which leaves decay, see `only`. All, if None.
    """
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_adadelta(rho, eps),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def novograd(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.25,
    eps: NonNegative = 1e-6,
    eps_root: NonNegative = 0.0,
    weight_decay: Scalar = 0.0,
):
    """NovoGrad: one second moment for each array; arguments as `scale_by_novograd`.

    Ginsburg et al. 2019: https://arxiv.org/abs/1905.11286. As optax.
    """
    return chain(
        scale_by_novograd(b1, b2, eps, eps_root, weight_decay),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def adafactor(
    learning_rate: ScalarOrSchedule | None = None,
    min_dim_size_to_factor: Size = 128,
    decay_rate: Scalar = 0.8,
    decay_offset: Scalar = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: Positive | None = 1.0,
    momentum: Decay | None = None,
    dtype_momentum: DType = "float32",
    weight_decay_rate: Scalar | None = None,
    eps: Positive = 1e-30,
    factored: bool = True,
    weight_decay_mask: Any = None,
):
    """Adafactor: Adam in the memory of a few vectors for each matrix.

    Shazeer and Stern 2018: https://arxiv.org/abs/1804.04235. As optax. The arguments
    up to `decay_offset`, `eps` and `factored` are those of `scale_by_factored_rms`, the
    mask that of `add_decayed_weights`. The learning rate is 1 if None; steps are in
    units of the parameters' root mean square with `multiply_by_parameter_scale`, and
    each array's is clipped to `clipping_threshold` before. `momentum` averages the
    updates and keeps that as `dtype_momentum`. The weight decay is not multiplied by
    the learning rate.
    """
    offset, least = decay_offset, min_dim_size_to_factor
    clipping, decay = clipping_threshold, weight_decay_rate
    return chain(
        scale_by_factored_rms(factored, decay_rate, offset, least, eps),
        identity() if clipping is None else clip_by_block_rms(clipping),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        scale_by_param_block_rms() if multiply_by_parameter_scale else identity(),
        identity() if momentum is None else ema(momentum, False, dtype_momentum),
        identity() if decay is None else add_decayed_weights(decay, weight_decay_mask),
        scale(-1.0),
    )


@transformation
def sm3(learning_rate: ScalarOrSchedule, momentum: Decay = 0.9):
    """SM3: Adagrad in the memory of one vector for each axis.

    Anil et al. 2019: https://arxiv.org/abs/1901.11150. As optax; see `scale_by_sm3`.

    Args:
        learning_rate: A number or a schedule.
        momentum: Decay of the average of updates, in [0, 1).
    """
    return chain(scale_by_sm3(momentum), scale_by_learning_rate(learning_rate))


@transformation
def madgrad(
    learning_rate: ScalarOrSchedule,
    momentum: Decay = 0.9,
    weight_decay: Scalar = 0.0,
    eps: Positive = 1e-6,
):
    """MADGRAD: dual averaging over a cube root; arguments as `scale_by_madgrad`.

    Defazio and Jelassi 2021: https://arxiv.org/abs/2101.11075. As optax; the weight
    decay is added to the gradient.
    """
    return chain(
        add_decayed_weights(weight_decay),
        scale_by_madgrad(learning_rate, momentum, eps),
    )


@transformation
def lars(
    learning_rate: ScalarOrSchedule,
    weight_decay: Scalar = 0.0,
    weight_decay_mask: Any = True,
    trust_coefficient: Scalar = 0.001,
    eps: NonNegative = 0.0,
    trust_ratio_mask: Any = True,
    momentum: Scalar = 0.9,
    nesterov: bool = False,
):
    """LARS: steps of each array in units of its norm.

    You et al. 2017: https://arxiv.org/abs/1708.03888. As optax, momentum after the
    learning rate. The masks say which leaves decay, and which are scaled, see `only`;
    `trust_coefficient` and `eps` as `scale_by_trust_ratio`.
    """
    ratio = scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps)
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        only(ratio, trust_ratio_mask),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov),
    )


@transformation
def lamb(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    eps_root: NonNegative = 0.0,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """LAMB: Adam's steps of each array in units of its norm.

    You et al. 2019: https://arxiv.org/abs/1904.00962. As optax; arguments as `adamw`.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def fromage(learning_rate: ScalarOrSchedule, min_norm: NonNegative = 1e-6):
    """Fromage: a step of a share of each array's norm, and back onto its sphere.

    Bernstein et al. 2020: https://arxiv.org/abs/2002.03432. As optax.

    Args:
        learning_rate: The share.
        min_norm: The least that a norm counts as. At least 0.
    """
    back = 1 / (1 + learning_rate**2) ** 0.5
    return chain(
        scale_by_trust_ratio(min_norm),
        scale_by_learning_rate(learning_rate * back),
        add_decayed_weights(back - 1),
    )
