"""Optimizers that divide by an estimate of the gradient's size."""

from __future__ import annotations

from typing import Any

from gradtx.averages import (
    scale_by_adam,
    scale_by_amsgrad,
    scale_by_rms,
    scale_by_rss,
    scale_by_stddev,
    trace,
)
from gradtx.combine import chain, identity
from gradtx.roles import (
    Decay,
    DType,
    FirstValue,
    NonNegative,
    Scalar,
    ScalarOrSchedule,
)
from gradtx.scale import add_decayed_weights, scale_by_learning_rate
from gradtx.transform import transformation


@transformation
def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: FirstValue = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: NonNegative | None = None,
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
def adam(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
):
    """Adam: momentum chained with RMSProp; arguments as `scale_by_adam`.

    Kingma and Ba 2014: https://arxiv.org/abs/1412.6980. As optax.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def adamw(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
):
    """Adam with decoupled weight decay.

    Loshchilov and Hutter 2017: https://arxiv.org/abs/1711.05101. As optax, so the
    decay is multiplied by the learning rate. The leaves that decay are those that the
    mask selects, see `add_decayed_weights`; other arguments as `scale_by_adam`.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def nadamw(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = True,
):
    """AdamW with Nesterov's momentum; arguments as `adamw`."""
    return adamw(
        learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask,
        nesterov=nesterov,
    )  # fmt: skip


@transformation
def amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
):
    """Adam that divides by the largest second moment so far; see `scale_by_amsgrad`.

    Reddi et al. 2018: https://openreview.net/forum?id=ryQu7f-RZ. As optax.
    """
    return chain(
        scale_by_amsgrad(
            b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu
        ),
        scale_by_learning_rate(learning_rate),
    )
