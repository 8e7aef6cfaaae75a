"""Optimizers that optax does not have, of the family of Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from gradtx.adam import first_moment, scale_by_adam, scale_by_adam_atan2
from gradtx.apollo import scale_by_apollo
from gradtx.combine import chain, let, moments, only, recall
from gradtx.divide import clip_by_normalized_rms, divide_by_root, second_moment
from gradtx.factored import scale_by_adam_mini, scale_by_came
from gradtx.mixtures import scale_by_aggmo, scale_by_qhadam
from gradtx.normalized import scale_by_laprop
from gradtx.roles import (
    Decay,
    DType,
    Every,
    Key,
    NonNegative,
    Positive,
    Scalar,
    ScalarOrSchedule,
    Share,
    Size,
)
from gradtx.scale import add_decayed_weights, scale_by_learning_rate
from gradtx.transform import transformation


def decayed_step(
    direction: Any, weight_decay: Any, mask: Any, learning_rate: Any
) -> Any:
    """A step along a direction, with decoupled weight decay."""
    return chain(
        direction,
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def laprop(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-15,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """LaProp: momentum of normalized gradients; arguments as `scale_by_laprop`.

    Ziyin et al. 2020: https://arxiv.org/abs/2002.04839. Weight decay as in `adamw`; the
    learning rate is outside of the momentum, as in the paper.
    """
    direction = scale_by_laprop(b1, b2, eps, mu_dtype)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@transformation
def adamc(
    learning_rate: ScalarOrSchedule,
    max_learning_rate: Positive,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 1e-2,
    mask: Any = None,
    normalized: Any = True,
):
    """AdamW whose weight decay falls with the square of the learning rate.

    Defazio 2025: https://arxiv.org/abs/2506.02285. So the gradients of layers that
    normalization follows do not grow while the learning rate falls. Arguments as
    `adamw`, and the largest value of the learning rate, and as `normalized` a mask of
    the leaves of such layers, all but the output's: the others decay as in AdamW.
    """
    less = weight_decay * (learning_rate / max_learning_rate - 1)
    return chain(
        scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype),
        add_decayed_weights(weight_decay, mask),
        only(add_decayed_weights(less, mask), normalized),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def stable_adamw(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.99,
    eps: NonNegative = 1e-6,
    threshold: Positive = 1.0,
    weight_decay: Scalar = 1e-2,
    mask: Any = None,
):
    """AdamW with smaller steps where gradients outgrow their second moment.

    Wortsman et al. 2023: https://arxiv.org/abs/2304.13013, Algorithm 2. Arguments as
    `adamw` and `clip_by_normalized_rms`; weight decay is scaled down with the step.

    Keeps `mu` and `nu`.
    """
    body = chain(
        first_moment(b1),
        divide_by_root(recall("nu"), eps),
        add_decayed_weights(weight_decay, mask),
        clip_by_normalized_rms(recall("nu"), threshold, eps),
    )
    return chain(
        moments(let("nu", second_moment(b2), body)),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def adam_atan2(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.99,
    a: Scalar = 1.27,
    b: Positive = 1.0,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """Adam without an eps, its step bounded; arguments as `scale_by_adam_atan2`.

    Everett et al. 2024: https://arxiv.org/abs/2407.05872. Weight decay as in `adamw`.
    """
    direction = scale_by_adam_atan2(b1, b2, a, b, mu_dtype)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@transformation
def adam_mini(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    block_axes: Any = None,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """Adam with one second moment a block; arguments as `scale_by_adam_mini`.

    Zhang et al. 2024: https://arxiv.org/abs/2406.16793. Weight decay as in `adamw`.
    """
    direction = scale_by_adam_mini(b1, b2, eps, block_axes, mu_dtype)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@transformation
def qhadam(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.995,
    b2: Decay = 0.999,
    nu1: Share = 0.7,
    nu2: Share = 1.0,
    eps: NonNegative = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """Adam mixed with the gradient itself; arguments as `scale_by_qhadam`.

    Ma and Yarats 2018: https://arxiv.org/abs/1810.06801. Weight decay as in `adamw`.
    """
    direction = scale_by_qhadam(b1, b2, nu1, nu2, eps)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@transformation
def aggmo(
    learning_rate: ScalarOrSchedule,
    betas: Sequence[NonNegative] = (0.0, 0.9, 0.99),
):
    """Descent along the mean of several momenta; arguments as `scale_by_aggmo`.

    Lucas et al. 2018: https://arxiv.org/abs/1804.00325.
    """
    return chain(scale_by_aggmo(betas), scale_by_learning_rate(learning_rate))


@transformation
def came(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    b3: Decay = 0.9999,
    eps: Positive = 1e-30,
    eps_residual: Positive = 1e-16,
    clipping_threshold: Positive = 1.0,
    min_dim_size_to_factor: Size = 1,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """CAME: Adafactor that trusts updates near their average; see `scale_by_came`.

    Luo et al. 2023: https://arxiv.org/abs/2307.02047. Weight decay as in `adamw`.
    """
    direction = scale_by_came(
        b1, b2, b3, eps, eps_residual, clipping_threshold, min_dim_size_to_factor
    )
    return decayed_step(direction, weight_decay, mask, learning_rate)


@transformation
def apollo(
    learning_rate: ScalarOrSchedule,
    rank: Size = 128,
    every: Every = 200,
    scale: Positive = 1.0,
    granularity: Literal["channel", "tensor"] = "channel",
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    growth: Positive = 1.01,
    dimension_numbers: Any = None,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
    *,
    seed: Key = 0,
):
    """APOLLO: gradients of Adam's size for each channel; see `scale_by_apollo`.

    Zhu et al. 2024: https://arxiv.org/abs/2412.05270. Weight decay as in `adamw`.
    """
    direction = scale_by_apollo(
        rank, every, scale, granularity, b1, b2, eps, growth, dimension_numbers,
        seed=seed,
    )  # fmt: skip
    return decayed_step(direction, weight_decay, mask, learning_rate)
