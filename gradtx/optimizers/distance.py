"""DoG and DoWG: step sizes from the distance to the initial parameters."""

from __future__ import annotations

from typing import Any, Literal

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    DType,
    Fixed,
    NonNegative,
    Positive,
    Scalar,
    ScalarOrSchedule,
)
from gradtx.core.arithmetic import abs2, safe_sqrt
from gradtx.core.context import Leaf, SettleContext
from gradtx.core.docstrings import described_by
from gradtx.core.rule import Rule, like_param, zero
from gradtx.transforms.combine import chain
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.transforms.vector_norms import norm, norm_of_all
from gradtx.transforms.weight_decay import decay_if_any, decayed_step

FirstStep = tuple[Literal["distance", "learning_rate", "heuristic"], Fixed[NonNegative]]


def _measure_distance(u: Any, slots: Any, leaf: Leaf) -> Any:
    way = leaf.param - slots["init_params"]
    return {"distance": jnp.sum(abs2(way)), "gradient": jnp.sum(abs2(u))}


@transformation
def scale_by_dog(
    init_step: FirstStep = ("heuristic", 1e-6),
    eps: Positive = 1e-8,
):
    """Scale by the largest distance so far over the norm of all gradients (DoG).

    Ivgi et al. 2023: https://arxiv.org/abs/2302.12022. Same numbers as in
    `optax.contrib.dog`.

    Args:
        init_step: Kind and value of the first step. The value is at least 0; the kind
            is "distance", "learning_rate", or "heuristic": a distance in units of
            1 + the norm of the parameters.
        eps: Added to the sum of squared gradients. Positive.

    Keeps `init_params`, and two numbers, `max_dist` and `sum_sq_norm_grads`.

    Examples:
        >>> tx, params = gradtx.scale_by_dog(("distance", 0.5)), jnp.array(3.0)
        >>> print(f"{tx.update(jnp.array(8.0), tx.init(params), params)[0]:.2f}")
        0.50
    """
    kind, first = init_step

    def first_distance(arrays: Any) -> Any:
        size = 1 + norm_of_all(arrays)
        return {"distance": 1.0, "learning_rate": 0.0, "heuristic": size}[kind] * first

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
        distance = safe_sqrt(total["distance"])
        return {
            "max_dist": jnp.maximum(shared["max_dist"], distance),
            "sum_sq_norm_grads": shared["sum_sq_norm_grads"] + total["gradient"],
        }

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        shared = leaf.shared
        rate = shared["max_dist"] / jnp.sqrt(shared["sum_sq_norm_grads"] + eps)
        if kind == "learning_rate":
            rate = jnp.where(leaf.t == 1, first, rate)
        return u * rate, slots

    return Rule(
        update,
        {"init_params": like_param()},
        _measure_distance,
        {"max_dist": first_distance, "sum_sq_norm_grads": zero},
        settle,
    )


@transformation
def scale_by_distance_over_gradients(
    reps_rel: Fixed[NonNegative] = 1e-6,
    eps: Positive = 1e-8,
    param_dtype: DType = jnp.float32,
    global_scale: Scalar = 1.0,
):
    """DoG with a distance and a sum of squared gradients per array.

    Ivgi et al. 2023: https://arxiv.org/abs/2302.12022, appendix. Same arguments,
    defaults and numbers as `optax.scale_by_distance_over_gradients`.

    Args:
        reps_rel: Initial distance, in units of 1 + the norm of the array. At least 0.
        eps: Added to the sum of squared gradients. Positive.
        param_dtype: Storage dtype of the initial parameters.
        global_scale: Factor of the ratio.

    Keeps `init_params`, and per array `max_dist` and `grad_sum_of_squares`.

    Examples:
        >>> tx, params = gradtx.scale_by_distance_over_gradients(0.5), jnp.array(3.0)
        >>> print(f"{tx.update(jnp.array(8.0), tx.init(params), params)[0]:.2f}")
        2.00
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        distance = norm(leaf.param - slots["init_params"])
        distance = jnp.maximum(slots["max_dist"], distance)
        total = slots["grad_sum_of_squares"] + jnp.sum(abs2(u))
        rate = global_scale * distance / jnp.sqrt(total + eps)
        return u * rate, slots | {"max_dist": distance, "grad_sum_of_squares": total}

    return Rule(
        update,
        {
            "max_dist": lambda array: reps_rel * (1 + norm(array)),
            "grad_sum_of_squares": lambda array: jnp.zeros((), array.real.dtype),
            "init_params": like_param(param_dtype),
        },
    )


@described_by(scale_by_dog, decayed_step)
@transformation
def dog(
    learning_rate: ScalarOrSchedule = 1.0,
    init_step: FirstStep = ("heuristic", 1e-6),
    eps: Positive = 1e-8,
    weight_decay: Scalar | None = None,
    mask: Any = None,
):
    """DoG: a step size from the distance over the gradients so far.

    Ivgi et al. 2023: https://arxiv.org/abs/2302.12022. Same arguments, defaults and
    numbers as `optax.contrib.dog`.

    Args:
        weight_decay: `weight_decay * param` is added to the gradient, so that the
            direction is computed with it. At least 0 as a rule; None adds nothing.

    Examples:
        >>> tx = gradtx.dog()
        >>> path = gradtx.trajectory(tx, lambda x: (x - 3.0) ** 2, jnp.zeros(()), 200)
        >>> print(f"{path.positions[-1]:.1f}")
        3.0
    """
    return chain(
        decay_if_any(weight_decay, mask),
        scale_by_dog(init_step, eps),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def scale_by_dowg(
    init_estim_sq_dist: Fixed[NonNegative] | None = None, eps: Positive = 1e-4
):
    """DoWG: scale by the squared distance over the norm of distance-weighted gradients.

    Khaled et al. 2023: https://arxiv.org/abs/2305.16284. Same numbers as in
    `optax.contrib.dowg`.

    Args:
        init_estim_sq_dist: Initial squared distance, at least 0; `eps` if None.
        eps: Added to the root of the sum. Positive.

    Keeps `init_params`, and two numbers, `estim_sq_dist` and `weighted_sq_norm_grads`.

    Examples:
        >>> tx, params = gradtx.scale_by_dowg(0.25), jnp.array(3.0)
        >>> print(f"{tx.update(jnp.array(8.0), tx.init(params), params)[0]:.2f}")
        0.50
    """
    start = eps if init_estim_sq_dist is None else init_estim_sq_dist

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
        distance = jnp.maximum(shared["estim_sq_dist"], total["distance"])
        weighted = shared["weighted_sq_norm_grads"] + distance * total["gradient"]
        return {"estim_sq_dist": distance, "weighted_sq_norm_grads": weighted}

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        size = safe_sqrt(leaf.shared["weighted_sq_norm_grads"]) + eps
        return u * (leaf.shared["estim_sq_dist"] / size), slots

    shared = {
        "estim_sq_dist": lambda arrays: jnp.asarray(start, float),
        "weighted_sq_norm_grads": zero,
    }
    slots = {"init_params": like_param()}
    return Rule(update, slots, _measure_distance, shared, settle)


@described_by(scale_by_dowg, decayed_step)
@transformation
def dowg(
    learning_rate: ScalarOrSchedule = 1.0,
    init_estim_sq_dist: Fixed[NonNegative] | None = None,
    eps: Positive = 1e-4,
    weight_decay: Scalar | None = None,
    mask: Any = None,
):
    """DoWG: a step size from the squared distance over weighted gradients.

    Khaled et al. 2023: https://arxiv.org/abs/2305.16284. Same arguments, defaults and
    numbers as `optax.contrib.dowg`.

    Args:
        weight_decay: `weight_decay * param` is added to the gradient, so that the
            direction is computed with it. At least 0 as a rule; None adds nothing.

    Examples:
        >>> tx = gradtx.dowg()
        >>> path = gradtx.trajectory(tx, lambda x: (x - 3.0) ** 2, jnp.zeros(()), 200)
        >>> print(f"{path.positions[-1]:.1f}")
        3.0
    """
    return chain(
        decay_if_any(weight_decay, mask),
        scale_by_dowg(init_estim_sq_dist, eps),
        scale_by_learning_rate(learning_rate),
    )
