"""Adam and its kin, with and without weight decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradtx.adam import (
    scale_by_acprop,
    scale_by_adam,
    scale_by_adamax,
    scale_by_amsgrad,
    scale_by_belief,
    scale_by_nadam,
    scale_by_radam,
    scale_by_yogi,
)
from gradtx.combine import chain
from gradtx.normalized import fourth_root, scale_by_adopt
from gradtx.roles import (
    Decay,
    DType,
    Length,
    NonNegative,
    Positive,
    Scalar,
    ScalarOrSchedule,
)
from gradtx.scale import (
    add_decayed_weights,
    scale_by_learning_rate,
    scale_by_optimistic_gradient,
)
from gradtx.transform import transformation


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
def nadam(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = True,
    momentum_decay: NonNegative | None = None,
):
    """Adam with Nesterov's momentum; arguments as `scale_by_adam`.

    Dozat 2016: https://openreview.net/pdf?id=OM0jvwB8jIp57ZJjtNEZ. As optax, whose
    momentum is constant; `momentum_decay` (torch's default is 4e-3) makes it grow as
    in the paper, see `scale_by_nadam`.
    """
    if momentum_decay is None:
        direction = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    else:
        direction = scale_by_nadam(b1, b2, eps, eps_root, mu_dtype, momentum_decay)
    return chain(direction, scale_by_learning_rate(learning_rate))


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
    """AdamW with Nesterov's momentum; arguments as `adamw`.

    Dozat 2016: https://openreview.net/pdf?id=OM0jvwB8jIp57ZJjtNEZ. As optax.
    """
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
    *,
    max_before_correction: bool = False,
):
    """Adam that divides by the largest second moment so far; see `scale_by_amsgrad`.

    Reddi et al. 2018: https://openreview.net/forum?id=ryQu7f-RZ. As optax; torch's is
    `max_before_correction=True`.
    """
    largest = scale_by_amsgrad(
        b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu,
        max_before_correction=max_before_correction,
    )  # fmt: skip
    return chain(largest, scale_by_learning_rate(learning_rate))


@transformation
def adamax(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
):
    """Adam with the infinity norm; arguments as `scale_by_adamax`.

    Kingma and Ba 2014, Algorithm 2: https://arxiv.org/abs/1412.6980. As optax.
    """
    return chain(scale_by_adamax(b1, b2, eps), scale_by_learning_rate(learning_rate))


@transformation
def adamaxw(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    weight_decay: Scalar = 1e-4,
    mask: Any = None,
):
    """Adamax with decoupled weight decay; arguments as `scale_by_adamax` and `adamw`.

    Kingma and Ba 2014, Algorithm 2: https://arxiv.org/abs/1412.6980. As optax.
    """
    return chain(
        scale_by_adamax(b1, b2, eps),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def adabelief(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    *,
    nesterov: bool = False,
):
    """Adam that trusts gradients near their average; arguments as `scale_by_belief`.

    Zhuang et al. 2020: https://arxiv.org/abs/2010.07468. As optax.
    """
    return chain(
        scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def acprop(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """Division by the surprise of earlier gradients; arguments as `scale_by_acprop`.

    Zhuang et al. 2021: https://arxiv.org/abs/2110.05454. As optax.
    """
    return chain(
        scale_by_acprop(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def radam(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    threshold: Length = 5.0,
    *,
    nesterov: bool = False,
):
    """Rectified Adam; arguments as `scale_by_radam`.

    Liu et al. 2019: https://arxiv.org/abs/1908.03265. As optax.
    """
    return chain(
        scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def yogi(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-3,
):
    """Adam with a second moment that falls slowly; arguments as `scale_by_yogi`.

    Zaheer et al. 2018:
    https://papers.nips.cc/paper/8186-adaptive-methods-for-nonconvex-optimization.
    As optax.
    """
    return chain(scale_by_yogi(b1, b2, eps), scale_by_learning_rate(learning_rate))


@transformation
def adopt(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.9999,
    eps: Positive = 1e-6,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[Any], Any] = fourth_root,
):
    """Adam that converges with any second decay; arguments as `scale_by_adopt`.

    Taniguchi et al. 2024: https://arxiv.org/abs/2411.02853. As optax.
    """
    momentum = scale_by_adopt(
        b1, b2, eps, mu_dtype, nesterov=nesterov, use_clipping=use_clipping,
        clip_value_fn=clip_value_fn,
    )  # fmt: skip
    return chain(momentum, scale_by_learning_rate(learning_rate))


@transformation
def optimistic_adam_v2(
    learning_rate: ScalarOrSchedule,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 1.0,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    nesterov: bool = True,
):
    """Adam's update and its change; for games.

    Daskalakis et al. 2017: https://arxiv.org/abs/1711.00141. As optax; arguments as
    `scale_by_optimistic_gradient` and `scale_by_adam`.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_optimistic_gradient(alpha, beta),
        scale_by_learning_rate(learning_rate),
    )
