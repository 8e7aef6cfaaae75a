"""Step sizes that are estimated: from distances, and from values of the loss."""

from __future__ import annotations

from typing import Any, Literal

from jax import numpy as jnp

from gradtx.arithmetic import abs2, bare_sqrt, inner, safe_ratio, safe_sqrt
from gradtx.averages import Weight
from gradtx.roles import Decay, FirstValue, NonNegative, Positive, Rate, Scalar
from gradtx.rule import (
    Leaf,
    Rule,
    Step,
    memoryless,
    real_zeros,
    squared_norm,
    unchanged,
    zero,
)
from gradtx.transform import transformation


@transformation
def scale_by_polyak(
    f_min: Scalar = 0.0,
    max_learning_rate: NonNegative = 1.0,
    eps: NonNegative = 0.0,
    variant: Literal["sps", "sps+"] = "sps",
):
    """Scale by Polyak's step `(value - f_min) / (squared norm + eps)`.

    Loizou et al. 2020: https://arxiv.org/abs/2002.10542. As optax: call
    `update(updates, state, params, value=...)` with the loss.

    Args:
        f_min: The least that the loss can be.
        max_learning_rate: The longest step. At least 0.
        eps: Added to the squared global norm of the updates. At least 0.
        variant: "sps+" takes no step where the loss is below `f_min`; "sps" steps back.
    """

    def update(u: Any, leaf: Leaf) -> Any:
        value = jnp.asarray(leaf.extra["value"])
        if value.shape:
            raise ValueError(
                f"{leaf.owner}: value must be a scalar, got shape {value.shape}"
            )
        gap = value.astype(u.real.dtype) - f_min
        gap = jnp.maximum(gap, 0) if variant == "sps+" else gap
        size = leaf.total + eps
        # Its square may be 0 where the gradient is not: then the step is the longest.
        is_flat = size == 0
        step = jnp.minimum(gap / jnp.where(is_flat, 1, size), max_learning_rate)
        return u * jnp.where(is_flat, jnp.where(gap > 0, max_learning_rate, 0), step)

    return memoryless(update, measure=squared_norm, needs=("value",))


def _adam_weights(b1: Any, b2: Any) -> tuple[Weight, Weight]:
    return Weight(b1, "exp_avg_weight"), Weight(b2, "exp_avg_sq_weight")


def _adam_rate(rate: Any, weights: tuple[Any, Any]) -> Any:
    """A learning rate with Adam's bias corrections in it."""
    return rate * safe_sqrt(weights[1]) / weights[0]


def _rate_at(leaf: Leaf, learning_rate: Any, weights: tuple[Weight, Weight]) -> Any:
    """The rate of an update, in units of the distance before it.

    From what was before it, since what measures is asked before anything is settled.
    """
    now, _ = _settled(weights, leaf.before, leaf)
    return _adam_rate(leaf.before["estim_lr"] * learning_rate, now)


def _settled(weights: tuple[Weight, Weight], shared: Any, step: Step | Leaf) -> Any:
    """Both weights at this update, and what is kept of them."""
    (one, kept_one), (two, kept_two) = (w.settle(shared, step) for w in weights)
    return (one, two), kept_one | kept_two


def _kept(first: Any, weights: tuple[Weight, Weight]) -> dict[str, Any]:
    """The scalars of an estimate of the distance, which starts at a number."""
    estimate = {
        "estim_lr": lambda arrays: jnp.asarray(first, float),
        "numerator_weighted": zero,
    }
    return {
        "shared": estimate | weights[0].shared | weights[1].shared,
        "recovered": {weight.slot: weight for weight in weights},
    }


@transformation
def scale_by_prodigy(
    learning_rate: Scalar = 1.0,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    beta3: Decay | None = None,
    eps: Positive = 1e-8,
    estim_lr0: Positive = 1e-6,
    estim_lr_coef: Scalar = 1.0,
    weight_decay: Scalar = 0.0,
    safeguard_warmup: bool = False,
):
    """Adam's step, its learning rate in units of an estimated distance.

    Mishchenko and Defazio 2023, Algorithm 4: https://arxiv.org/abs/2306.06101. As
    optax's `prodigy`, but for the sign; arguments as there.
    """
    b1, b2 = betas
    b3 = b2**0.5 if beta3 is None else beta3
    weights = _adam_weights(b1, b2)

    def next_sum(u: Any, slots: Any, leaf: Leaf) -> Any:
        d = leaf.before["estim_lr"]
        rate = d if safeguard_warmup else _rate_at(leaf, learning_rate, weights)
        return b3 * slots["grad_sum"] + d / estim_lr0 * rate * u

    def measure(u: Any, slots: Any, leaf: Leaf) -> Any:
        return {
            "gain": inner(u, slots["params0"] - leaf.param),
            "size": jnp.sum(jnp.abs(next_sum(u, slots, leaf))),
        }

    def settle(total: Any, shared: Any, step: Step) -> Any:
        d = shared["estim_lr"]
        now, kept = _settled(weights, shared, step)
        rate = _adam_rate(d * learning_rate, now)
        numerator = b3 * shared["numerator_weighted"]
        numerator += d / estim_lr0 * rate * total["gain"]
        estimate = estim_lr_coef * safe_ratio(numerator, total["size"])
        new = {"estim_lr": jnp.maximum(d, estimate), "numerator_weighted": numerator}
        return new | kept

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        d = leaf.before["estim_lr"]
        mu = b1 * slots["exp_avg"] + b1.complement * d * u
        nu = b2 * slots["exp_avg_sq"] + b2.complement * abs2(d * u)
        direction = mu / (safe_sqrt(nu) + leaf.shared["estim_lr"] * eps)
        rate = _rate_at(leaf, learning_rate, weights)
        total = next_sum(u, slots, leaf)
        new = {"exp_avg": mu, "exp_avg_sq": nu, "grad_sum": total}
        return rate * (direction + weight_decay * leaf.param), slots | new

    slots = {
        "exp_avg": jnp.zeros_like,
        "exp_avg_sq": real_zeros,
        "grad_sum": jnp.zeros_like,
        "params0": unchanged,
    }
    kept = _kept(estim_lr0, weights)
    return Rule(update, slots, measure, settle=settle, **kept)


@transformation
def scale_by_dadapt_adam(
    learning_rate: Scalar = 1.0,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Positive = 1e-8,
    estim_lr0: Rate = 1e-6,
    weight_decay: Scalar = 0.0,
):
    """Adam's step, its learning rate in units of an estimated distance.

    Defazio and Mishchenko 2023 (D-Adaptation): https://arxiv.org/abs/2301.07733. As
    optax's `dadapt_adamw`, but for the sign; arguments as there.
    """
    b1, b2 = betas
    weights = _adam_weights(b1, b2)
    root = b2**0.5
    new = b2.complement / (1 + root)  # 1 - root, without a difference of neighbours

    def next_sum(u: Any, slots: Any, leaf: Leaf) -> Any:
        rate = _rate_at(leaf, learning_rate, weights)
        return root * slots["grad_sum"] + new * rate * u

    def measure(u: Any, slots: Any, leaf: Leaf) -> Any:
        scaled = slots["grad_sum"] / (bare_sqrt(slots["exp_avg_sq"]) + eps)
        return {
            "gain": inner(u, scaled),
            "size": jnp.sum(jnp.abs(next_sum(u, slots, leaf))),
        }

    def settle(total: Any, shared: Any, step: Step) -> Any:
        d = shared["estim_lr"]
        now, kept = _settled(weights, shared, step)
        rate = _adam_rate(d * learning_rate, now)
        numerator = root * shared["numerator_weighted"] + new * rate * total["gain"]
        estimate = safe_ratio(numerator, new * total["size"])
        found = {"estim_lr": jnp.maximum(d, estimate), "numerator_weighted": numerator}
        return found | kept

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        rate = _rate_at(leaf, learning_rate, weights)
        mu = b1 * slots["exp_avg"] + b1.complement * rate * u
        nu = b2 * slots["exp_avg_sq"] + b2.complement * abs2(u)
        step = mu / (bare_sqrt(nu) + eps) + weight_decay * rate * leaf.param
        total = next_sum(u, slots, leaf)
        return step, {"exp_avg": mu, "exp_avg_sq": nu, "grad_sum": total}

    slots = {
        "exp_avg": jnp.zeros_like,
        "exp_avg_sq": real_zeros,
        "grad_sum": jnp.zeros_like,
    }
    kept = _kept(estim_lr0, weights)
    return Rule(update, slots, measure, settle=settle, **kept)


@transformation
def scale_by_model_step(
    learning_rate: Scalar,
    decay: Decay,
    lower_bound: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    adapt_lower_bound: bool = False,
    is_corrected: bool = False,
):
    """Scale so that the model of the loss along the average gradient ends at its bound.

    Schaipp et al. 2023 (MoMo): https://arxiv.org/abs/2305.07583, Algorithms 1 and 2.
    Stands inside `let("average", ...)` and `moments`; u is the average gradient, or it
    preconditioned. Call `update(updates, state, params, value=...)` with the loss.

    Args:
        learning_rate: The longest step.
        decay: Of the average, in [0, 1).
        lower_bound: The least that the loss can be.
        weight_decay: Times the parameter, decoupled.
        adapt_lower_bound: Whether to raise the bound as it proves too low.
        is_corrected: Whether the average started at zero, not at the first gradient.

    Keeps the averages `barf` of the loss and `gamma` of gradient times parameter, the
    bound `lb`, and the length `step_size` of the last step.
    """
    grown = 1 + learning_rate * weight_decay
    weight = Weight(decay, "barf_weight")

    def measure(u: Any, slots: Any, leaf: Leaf) -> Any:
        average = leaf.recall("average")
        return {
            "norm": inner(average, u),
            "now": inner(leaf.grad, leaf.param),
            "slope": inner(average, leaf.param),
        }

    def settle(total: Any, shared: Any, step: Step) -> Any:
        value = jnp.asarray(step.extra["value"]).astype(float)
        kept, new = decay, decay.complement
        share, weights = weight.settle(shared, step) if is_corrected else (1.0, {})
        if not is_corrected:
            kept, new = jnp.where(step.t == 1, 0, kept), jnp.where(step.t == 1, 1, new)
        barf = kept * shared["barf"] + new * value
        gamma = kept * shared["gamma"] + new * total["now"]
        lb = shared["lb"] if adapt_lower_bound else jnp.asarray(lower_bound, float)
        if adapt_lower_bound:
            cap = grown * (barf - gamma) + total["slope"]
            least = jnp.maximum(cap / (2 * share * grown), lower_bound)
            lb = jnp.where(cap < grown * share * lb, least, lb)
        gap = jnp.maximum(grown * (barf - share * lb - gamma) + total["slope"], 0)
        is_flat, longest = total["norm"] <= 0, learning_rate / share
        size = jnp.minimum(longest, gap / jnp.where(is_flat, 1, total["norm"]))
        # Its square may be 0 where the gradient is not: then the step is the longest.
        size = jnp.where(is_flat, jnp.where(gap > 0, longest, 0), size)
        if adapt_lower_bound:
            model = barf + total["slope"] - gamma - size * total["norm"] / 2
            lb = jnp.maximum(model / share, lower_bound)
        return {"barf": barf, "gamma": gamma, "lb": lb, "step_size": size, **weights}

    def update(u: Any, leaf: Leaf) -> Any:
        decayed = learning_rate * weight_decay / grown * leaf.param
        return leaf.shared["step_size"] * u + decayed

    shared = {
        "barf": zero,
        "gamma": zero,
        "lb": lambda arrays: jnp.asarray(lower_bound, float),
        "step_size": zero,
        **(weight.shared if is_corrected else {}),
    }
    return memoryless(
        update,
        measure=measure,
        shared=shared,
        settle=settle,
        needs=("value",),
        recovered={weight.slot: weight} if is_corrected else {},
    )


@transformation
def scale_by_madgrad(
    learning_rate: Scalar, momentum: Decay = 0.9, eps: Positive = 1e-6
):
    """Momentumized, adaptive, dual averaged gradient (MADGRAD).

    Defazio and Jelassi 2021, Algorithm 1: https://arxiv.org/abs/2101.11075. As optax;
    gives the step, not a gradient.

    Args:
        learning_rate: A number or a schedule.
        momentum: How much of the parameter stays, in [0, 1).
        eps: Added to the cube root, and to a learning rate that is not 0. Positive.

    Keeps `grad_sum_sq`, `s` and the first parameters `x0`.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        # As the authors' code since 1.3: at a rate of 0 nothing is added either.
        rate = jnp.where(learning_rate == 0, 0, learning_rate + eps)
        weight = rate * jnp.sqrt(leaf.t)
        squares = slots["grad_sum_sq"] + weight * abs2(u)
        total = slots["s"] + weight * u
        # The floor changes nothing where a gradient was, and its derivative is finite.
        size = jnp.cbrt(jnp.maximum(squares, jnp.finfo(squares.dtype).tiny)) + eps
        step = momentum.complement * (slots["x0"] - total / size - leaf.param)
        return step, slots | {"grad_sum_sq": squares, "s": total}

    slots = {"grad_sum_sq": real_zeros, "s": jnp.zeros_like, "x0": unchanged}
    return Rule(update, slots)


@transformation
def scale_by_rprop(
    learning_rate: FirstValue,
    eta_minus: Scalar = 0.5,
    eta_plus: Scalar = 1.2,
    min_step_size: NonNegative = 1e-6,
    max_step_size: NonNegative = 50.0,
    *,
    delayed: bool = True,
):
    """Give each element a step size that grows while its gradient keeps its sign.

    Riedmiller and Braun 1993: https://doi.org/10.1109/ICNN.1993.298623, in the form of
    Igel and Huesken 2000 (iRprop-): none takes a step after a change of sign. As optax,
    which gives the step of the update before; torch gives the new one.

    Args:
        learning_rate: The first step size. At least 0.
        eta_minus: What a step size is multiplied by where the sign has changed.
        eta_plus: And where it has not.
        min_step_size: The least step size. At least 0.
        max_step_size: The largest step size. At least 0.
        delayed: Whether to give the step of the update before.

    Keeps `step_sizes` and the last steps, `prev_updates`.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        last, size = slots["prev_updates"], slots["step_sizes"]
        agrees = jnp.real(jnp.conj(u) * last)
        moved = size * jnp.where(agrees > 0, eta_plus, eta_minus)
        moved = jnp.clip(moved, min_step_size, max_step_size)
        size = jnp.where(agrees == 0, size, moved)
        step = jnp.where(agrees < 0, 0, size * jnp.sign(u))
        given = jnp.where(agrees < 0, 0, last)
        new = {"step_sizes": size, "prev_updates": step}
        return (given if delayed else step), new

    return Rule(
        update,
        {
            "step_sizes": lambda array: jnp.full_like(array.real, learning_rate),
            "prev_updates": jnp.zeros_like,
        },
    )
