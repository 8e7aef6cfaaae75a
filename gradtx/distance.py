"""Step sizes from the distance that parameters have come: no learning rate to tune."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from jax import lax
from jax import numpy as jnp

from gradtx.arithmetic import abs2, inner, safe_sqrt
from gradtx.averages import holding
from gradtx.combine import chain, identity, let
from gradtx.roles import (
    DType,
    FirstValue,
    Member,
    NonNegative,
    Positive,
    Rate,
    Scalar,
    Size,
)
from gradtx.rule import Leaf, Private, Rule, Step, unchanged, zero
from gradtx.stable import stable
from gradtx.transform import transformation
from gradtx.vector_norms import global_norm, norm, norm_of_all, squares_apart


def _measure_distance(u: Any, slots: Any, leaf: Leaf) -> Any:
    way = leaf.param - slots["init_params"]
    return {"distance": jnp.sum(abs2(way)), "gradient": jnp.sum(abs2(u))}


@transformation
def scale_by_dog(
    init_step: tuple[Literal["distance", "learning_rate", "heuristic"], FirstValue] = (
        "heuristic",
        1e-6,
    ),
    eps: Positive = 1e-8,
):
    """Scale by the distance over gradients (DoG): how far we came over how hard.

    Ivgi et al. 2023: https://arxiv.org/abs/2302.12022. As optax.

    Args:
        init_step: What the first step is made of, and a number, at least 0: a
            "distance", a "learning_rate", or "heuristic", a distance in units of
            1 + the norm of the parameters.
        eps: Added to the sum of squared gradients. Positive.

    Keeps `init_params`, and two numbers, `max_dist` and `sum_sq_norm_grads`.
    """
    kind, first = init_step

    def first_distance(arrays: Any) -> Any:
        size = 1 + norm_of_all(arrays)
        return {"distance": 1.0, "learning_rate": 0.0, "heuristic": size}[kind] * first

    def settle(total: Any, shared: Any, step: Step) -> Any:
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
        {"init_params": unchanged},
        _measure_distance,
        {"max_dist": first_distance, "sum_sq_norm_grads": zero},
        settle,
    )


@transformation
def scale_by_dowg(init_estim_sq_dist: FirstValue | None = None, eps: Positive = 1e-4):
    """Scale by the squared distance over gradients that are weighted by it (DoWG).

    Khaled et al. 2023: https://arxiv.org/abs/2305.16284. As optax.

    Args:
        init_estim_sq_dist: The first squared distance, at least 0; eps if None.
        eps: Added to the root of the sum. Positive.

    Keeps `init_params`, and two numbers, `estim_sq_dist` and `weighted_sq_norm_grads`.
    """
    start = eps if init_estim_sq_dist is None else init_estim_sq_dist

    def settle(total: Any, shared: Any, step: Step) -> Any:
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
    slots = {"init_params": unchanged}
    return Rule(update, slots, _measure_distance, shared, settle)


@transformation
def scale_by_distance_over_gradients(
    reps_rel: FirstValue = 1e-6,
    eps: Positive = 1e-8,
    param_dtype: DType = jnp.float32,
    global_scale: Scalar = 1.0,
):
    """The distance over gradients of each array by itself.

    Ivgi et al. 2023: https://arxiv.org/abs/2302.12022, appendix. As optax.

    Args:
        reps_rel: The first distance, in units of 1 + the norm of the array. At least 0.
        eps: Added to the sum of squared gradients. Positive.
        param_dtype: What the first parameters are stored in.
        global_scale: What the ratio is multiplied by.

    Keeps `init_params`, and for each array `max_dist` and `grad_sum_of_squares`.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        distance = norm(leaf.param - slots["init_params"])
        distance = jnp.maximum(slots["max_dist"], distance)
        total = slots["grad_sum_of_squares"] + jnp.sum(abs2(u))
        rate = global_scale * distance / jnp.sqrt(total + eps)
        return u * rate, slots | {"max_dist": distance, "grad_sum_of_squares": total}

    def stored(array: Any) -> Any:
        return array.astype(holding(array, param_dtype))

    return Rule(
        update,
        {
            "max_dist": lambda array: reps_rel * (1 + norm(array)),
            "grad_sum_of_squares": lambda array: jnp.zeros((), array.real.dtype),
            "init_params": stored,
        },
    )


@transformation
def scale_by_cocob(alpha: NonNegative = 100.0, eps: Rate = 1e-8):
    """Bet on each coordinate, a share of what past bets have won (COCOB-Backprop).

    Orabona and Tommasi 2017: https://arxiv.org/abs/1705.07795, Algorithm 2. As optax;
    gives the step, not a gradient.

    Args:
        alpha: How many times the largest gradient the first bets are cut by.
        eps: What the largest gradient starts at. Positive.

    Keeps `init_particles`, `cumulative_gradients`, `scale`, `subgradients`, `reward`.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        size = jnp.abs(u)
        way = leaf.param - slots["init_particles"]
        scale = jnp.maximum(slots["scale"], size)
        total = slots["subgradients"] + size
        reward = jnp.maximum(slots["reward"] - jnp.real(jnp.conj(u) * way), 0)
        against = slots["cumulative_gradients"] - u
        # A share by a share: the product of two gradients may be out of range.
        share = (scale + reward) / jnp.maximum(total + scale, alpha * scale)
        return against / scale * share - way, {
            "init_particles": slots["init_particles"],
            "cumulative_gradients": against,
            "scale": scale,
            "subgradients": total,
            "reward": reward,
        }

    def zeros(array: Any) -> Any:
        return jnp.zeros_like(array.real)

    return Rule(
        update,
        {
            "init_particles": unchanged,
            "cumulative_gradients": jnp.zeros_like,
            "scale": lambda array: jnp.full_like(array.real, eps),
            "subgradients": zeros,
            "reward": zeros,
        },
    )


@transformation
def mechanize(
    base_optimizer: Member,
    weight_decay: NonNegative = 1e-2,
    eps: Positive = 1e-8,
    s_init: Positive = 1e-6,
    num_betas: Size = 6,
):
    """Learn the scale of an optimizer's way from the first parameters (Mechanic).

    Cutkosky et al. 2023: https://arxiv.org/abs/2306.00144. As optax.

    Args:
        base_optimizer: The optimizer, its learning rate without a scale.
        weight_decay: Of the gradient that the scale is learned from. At least 0.
        eps: Added to what is divided by. Positive.
        s_init: The first scale. Positive.
        num_betas: How many scales are learned, with decays from 0.9 on.

    Keeps the first parameters as `x0`, and `s`, whose sum is the scale, `r`, `m`, `v`,
    each of `num_betas` numbers, beside what the optimizer keeps.
    """
    tuned = _learn_scale(weight_decay, eps, s_init, num_betas)
    return let(GRADIENT, identity(), chain(base_optimizer, tuned))


GRADIENT = Private("gradient")


@stable
@transformation
def _learn_scale(
    weight_decay: NonNegative, eps: Positive, s_init: Positive, num_betas: Size
):
    betas = 1 - 0.1 ** np.arange(1.0, num_betas + 1)

    def measure(u: Any, slots: Any, leaf: Leaf) -> Any:
        # Behind a barrier, no difference twice: XLA writes out what several read.
        grad, param, x0 = lax.optimization_barrier(
            (leaf.recall(GRADIENT), leaf.param, slots["x0"])
        )
        return {
            "gradient": squares_apart(grad),
            "param": squares_apart(param),
            "gain": inner(grad, x0 - param),
            "decay": -inner(param, param - x0),
        }

    def settle(total: Any, shared: Any, step: Step) -> Any:
        scale = jnp.sum(shared["s"])
        shrink = weight_decay * scale * global_norm(total["gradient"])
        shrink /= global_norm(total["param"]) + eps
        gain = (total["gain"] + shrink * total["decay"]) / (scale + eps)
        clipped = lax.clamp(-shared["m"], gain * jnp.ones(num_betas), shared["m"])
        m = jnp.maximum(betas * shared["m"], jnp.abs(gain) + eps)
        v = betas**2 * shared["v"] + gain**2
        r = betas * shared["r"] + clipped * shared["s"]
        wealth = s_init / num_betas * m + jnp.maximum(r, 0)
        return {"s": wealth / (safe_sqrt(v) + eps), "r": r, "m": m, "v": v}

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        before, scale = jnp.sum(leaf.before["s"]), jnp.sum(leaf.shared["s"])
        way = slots["x0"] - leaf.param
        return way - scale * (way / (before + eps) - u), slots

    def zeros(arrays: Any) -> Any:
        return jnp.zeros(num_betas)

    shared = {"s": lambda arrays: jnp.full(num_betas, s_init, float)}
    shared |= dict.fromkeys("rmv", zeros)
    return Rule(update, {"x0": unchanged}, measure, shared, settle)
