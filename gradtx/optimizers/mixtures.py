"""Optimizers whose momentum is made of several."""

from __future__ import annotations

from typing import Any

from gradtx.combine import chain
from gradtx.mixtures import (
    scale_by_adan,
    scale_by_ademamix,
    scale_by_simplified_ademamix,
)
from gradtx.roles import Decay, DType, NonNegative, Scalar, ScalarOrSchedule
from gradtx.scale import add_decayed_weights, scale_by_learning_rate
from gradtx.transform import transformation


@transformation
def adan(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.98,
    b2: Decay = 0.92,
    b3: Decay = 0.99,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """Adaptive Nesterov momentum; arguments as `scale_by_adan`.

    Xie et al. 2022: https://arxiv.org/abs/2208.06677. As optax.
    """
    return chain(
        scale_by_adan(b1, b2, b3, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def ademamix(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    b3: Decay = 0.9999,
    alpha: Scalar = 5.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """Adam with a fast and a slow average; arguments as `scale_by_ademamix`.

    Pagliardini et al. 2024: https://arxiv.org/abs/2409.03137. As optax.
    """
    return chain(
        scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root, mu_dtype),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def simplified_ademamix(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.99,
    b2: Decay = 0.95,
    alpha: Scalar = 0.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """Adam with a sum and the gradient; arguments as `scale_by_simplified_ademamix`.

    Morwani et al. 2025: https://arxiv.org/abs/2502.02431. As optax.
    """
    return chain(
        scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
