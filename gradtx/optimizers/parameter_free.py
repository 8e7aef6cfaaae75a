"""Optimizers without a learning rate to tune."""

from __future__ import annotations

from typing import Any, Literal

from gradtx.averages import scale_by_ema
from gradtx.combine import chain, identity, let, moments, recall
from gradtx.distance import scale_by_cocob, scale_by_dog, scale_by_dowg
from gradtx.divide import divide_by_root, second_moment
from gradtx.optimizers.momentum import sgd
from gradtx.roles import (
    Decay,
    FirstValue,
    NonNegative,
    Positive,
    Rate,
    Scalar,
    ScalarOrSchedule,
)
from gradtx.scale import add_decayed_weights, scale, scale_by_learning_rate
from gradtx.step_size import (
    scale_by_dadapt_adam,
    scale_by_model_step,
    scale_by_polyak,
    scale_by_prodigy,
)
from gradtx.transform import transformation


def _decayed(weight_decay: Any, mask: Any) -> Any:
    """Weight decay in the gradient, if there is any."""
    no_decay = weight_decay is None
    return identity() if no_decay else add_decayed_weights(weight_decay, mask)


@transformation
def dog(
    learning_rate: ScalarOrSchedule = 1.0,
    init_step: tuple[Literal["distance", "learning_rate", "heuristic"], FirstValue] = (
        "heuristic",
        1e-6,
    ),
    eps: Positive = 1e-8,
    weight_decay: Scalar | None = None,
    mask: Any = None,
):
    """Distance over gradients; arguments as `scale_by_dog` and `add_decayed_weights`.

    Ivgi et al. 2023: https://arxiv.org/abs/2302.12022. As optax.
    """
    return chain(
        _decayed(weight_decay, mask),
        scale_by_dog(init_step, eps),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def dowg(
    learning_rate: ScalarOrSchedule = 1.0,
    init_estim_sq_dist: FirstValue | None = None,
    eps: Positive = 1e-4,
    weight_decay: Scalar | None = None,
    mask: Any = None,
):
    """Distance over weighted gradients; arguments as `scale_by_dowg` and `dog`.

    Khaled et al. 2023: https://arxiv.org/abs/2305.16284. As optax.
    """
    return chain(
        _decayed(weight_decay, mask),
        scale_by_dowg(init_estim_sq_dist, eps),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def cocob(
    learning_rate: ScalarOrSchedule = 1.0,
    alpha: NonNegative = 100.0,
    eps: Rate = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """Coin betting; arguments as `scale_by_cocob`, the decay is in the gradient.

    Orabona and Tommasi 2017: https://arxiv.org/abs/1705.07795. As optax. The learning
    rate multiplies the gradient.
    """
    return chain(
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        scale_by_cocob(alpha, eps),
    )


@transformation
def prodigy(
    learning_rate: ScalarOrSchedule = 1.0,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    beta3: Decay | None = None,
    eps: Positive = 1e-8,
    estim_lr0: Positive = 1e-6,
    estim_lr_coef: Scalar = 1.0,
    weight_decay: Scalar = 0.0,
    safeguard_warmup: bool = False,
):
    """Prodigy: Adam with an estimate of the distance to the solution.

    Mishchenko and Defazio 2023: https://arxiv.org/abs/2306.06101. As optax.

    Args:
        learning_rate: In units of the estimate.
        betas: Decays of both moments, each in [0, 1).
        beta3: Decay of the estimate's sums, in [0, 1); the root of the second if None.
        eps: In units of the estimate. Positive.
        estim_lr0: The first estimate. Positive.
        estim_lr_coef: What a new estimate is multiplied by.
        weight_decay: Times the parameter and the learning rate, decoupled.
        safeguard_warmup: Whether the sum of gradients leaves out the learning rate.

    Keeps `exp_avg`, `exp_avg_sq`, `grad_sum`, the first parameters `params0`, and two
    numbers, `estim_lr` and `numerator_weighted`.
    """
    steps = scale_by_prodigy(
        learning_rate, betas, beta3, eps, estim_lr0, estim_lr_coef, weight_decay,
        safeguard_warmup,
    )  # fmt: skip
    return chain(steps, scale(-1.0))


@transformation
def dadapt_adamw(
    learning_rate: ScalarOrSchedule = 1.0,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Positive = 1e-8,
    estim_lr0: Rate = 1e-6,
    weight_decay: Scalar = 0.0,
):
    """D-Adaptation of AdamW: an estimate of the distance as its learning rate.

    Defazio and Mishchenko 2023: https://arxiv.org/abs/2301.07733. As optax; arguments
    as `prodigy`, but that eps is in units of the gradient.

    Keeps `exp_avg`, `exp_avg_sq`, `grad_sum`, and two numbers, `estim_lr` and
    `numerator_weighted`.
    """
    steps = scale_by_dadapt_adam(learning_rate, betas, eps, estim_lr0, weight_decay)
    return chain(steps, scale(-1.0))


@transformation
def momo(
    learning_rate: ScalarOrSchedule = 1.0,
    beta: Decay = 0.9,
    lower_bound: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    adapt_lower_bound: bool = False,
):
    """MoMo: momentum, its step from a model of the loss.

    Schaipp et al. 2023: https://arxiv.org/abs/2305.07583. As optax; arguments as
    `scale_by_model_step`. Call `update(updates, state, params, value=...)`.
    """
    step = scale_by_model_step(
        learning_rate, beta, lower_bound, weight_decay, adapt_lower_bound
    )
    average = scale_by_ema(beta, "exp_avg", initial_value=None)
    body = chain(recall("average"), step, scale(-1.0))
    return moments(let("average", average, body))


@transformation
def momo_adam(
    learning_rate: ScalarOrSchedule = 1e-2,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    lower_bound: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    adapt_lower_bound: bool = False,
):
    """MoMo-Adam: Adam, its step from a model of the loss.

    Schaipp et al. 2023: https://arxiv.org/abs/2305.07583. As optax; arguments as
    `scale_by_adam` and `scale_by_model_step`.
    """
    step = scale_by_model_step(
        learning_rate, b1, lower_bound, weight_decay, adapt_lower_bound, True
    )
    adaptive = divide_by_root(second_moment(b2, "exp_avg_sq"), eps)
    body = chain(recall("average"), adaptive, step, scale(-1.0))
    return moments(let("average", scale_by_ema(b1, "exp_avg"), body))


@transformation
def polyak_sgd(
    max_learning_rate: NonNegative = 1.0,
    scaling: ScalarOrSchedule = 1.0,
    f_min: Scalar = 0.0,
    eps: NonNegative = 0.0,
    variant: Literal["sps", "sps+"] = "sps",
):
    """Gradient descent with Polyak's step; arguments as `scale_by_polyak`.

    Loizou et al. 2020: https://arxiv.org/abs/2002.10542. As optax: the gradient is
    multiplied by `scaling` first. Call `update(updates, state, params, value=...)`.
    """
    return chain(sgd(scaling), scale_by_polyak(f_min, max_learning_rate, eps, variant))
