"""Prodigy and D-Adaptation: Adam whose learning rate is an estimated distance."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Decay, Fixed, Positive, Scalar, ScalarOrSchedule
from gradtx.core.arithmetic import abs2, bare_sqrt, inner, safe_ratio, safe_sqrt
from gradtx.core.context import Leaf, SettleContext
from gradtx.core.docstrings import described_by
from gradtx.core.rule import REAL_ZEROS, ZEROS, Rule, like_param, zero
from gradtx.transforms.bias import Weight
from gradtx.transforms.combine import chain
from gradtx.transforms.scaling import scale

SLOTS = {"exp_avg": ZEROS, "exp_avg_sq": REAL_ZEROS, "grad_sum": ZEROS}


def _adam_weights(b1: Any, b2: Any) -> tuple[Weight, Weight]:
    return Weight(b1, "exp_avg_weight"), Weight(b2, "exp_avg_sq_weight")


def _adam_rate(rate: Any, weights: tuple[Any, Any]) -> Any:
    """The learning rate times Adam's bias corrections."""
    return rate * safe_sqrt(weights[1]) / weights[0]


def _rate_at(leaf: Leaf, learning_rate: Any, weights: tuple[Weight, Weight]) -> Any:
    """Learning rate of this update, from the distance estimated before it.

    It reads the scalars of the last update, since `measure` runs before `settle`.
    """
    now, _ = _settled(weights, leaf.before, leaf)
    return _adam_rate(leaf.before["estim_lr"] * learning_rate, now)


def _settled(
    weights: tuple[Weight, Weight], shared: Any, step: SettleContext | Leaf
) -> Any:
    """Both weights at this update, and the scalars that store them."""
    (one, kept_one), (two, kept_two) = (w.settle(shared, step) for w in weights)
    return (one, two), kept_one | kept_two


def _kept(first: Any, weights: tuple[Weight, Weight]) -> dict[str, Any]:
    """The scalars of an estimate of the distance, with its initial value."""
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

    Mishchenko and Defazio 2023 (Prodigy), Algorithm 4:
    https://arxiv.org/abs/2306.06101. As `prodigy`, but for the sign.

    Args:
        learning_rate: A number or a schedule, in units of the estimate.
        betas: Decays of both moments, each in [0, 1).
        beta3: Decay of the estimate's sums, in [0, 1); `betas[1]**0.5` if None.
        eps: Added to the root, times the estimate. Positive.
        estim_lr0: Initial estimate of the distance. Positive.
        estim_lr_coef: Factor of each new estimate.
        weight_decay: Decoupled weight decay, times the learning rate.
        safeguard_warmup: Whether the sum of gradients omits the learning rate.

    Examples:
        >>> tx, params = gradtx.scale_by_prodigy(estim_lr0=0.5), jnp.zeros(())
        >>> updates, state = tx.update(jnp.array(-3.0), tx.init(params), params)
        >>> print(f"{updates:.2f} {state['estim_lr']:.2f}")
        -0.50 0.50
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

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
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

    kept = _kept(estim_lr0, weights)
    slots = SLOTS | {"params0": like_param()}
    return Rule(update, slots, measure, settle=settle, is_step=True, **kept)


@described_by(scale_by_prodigy)
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
    """Prodigy: Adam with an estimate of the distance to the solution as learning rate.

    Mishchenko and Defazio 2023: https://arxiv.org/abs/2306.06101. Same arguments,
    defaults and numbers as `optax.contrib.prodigy`.

    Keeps `exp_avg`, `exp_avg_sq`, `grad_sum`, the initial parameters `params0`, and two
    numbers, `estim_lr` and `numerator_weighted`.

    Examples:
        >>> tx = gradtx.prodigy(gradtx.cosine_decay_schedule(1.0, 300))
        >>> path = gradtx.trajectory(tx, lambda x: (x - 3.0) ** 2, jnp.zeros(()), 300)
        >>> print(f"{path.positions[-1]:.1f}")
        3.0
    """
    steps = scale_by_prodigy(
        learning_rate, betas, beta3, eps, estim_lr0, estim_lr_coef, weight_decay,
        safeguard_warmup,
    )  # fmt: skip
    return chain(steps, scale(-1.0))


@described_by(scale_by_prodigy)
@transformation
def scale_by_dadapt_adam(
    learning_rate: Scalar = 1.0,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Positive = 1e-8,
    estim_lr0: Fixed[Positive] = 1e-6,
    weight_decay: Scalar = 0.0,
):
    """Adam's step, its learning rate in units of an estimated distance.

    Defazio and Mishchenko 2023 (D-Adaptation): https://arxiv.org/abs/2301.07733. As
    `dadapt_adamw`, but for the sign.

    Args:
        eps: In units of the gradient. Positive.

    Examples:
        >>> tx, params = gradtx.scale_by_dadapt_adam(estim_lr0=0.5), jnp.zeros(())
        >>> updates, state = tx.update(jnp.array(-3.0), tx.init(params), params)
        >>> print(f"{updates:.2f} {state['estim_lr']:.2f}")
        -0.50 0.50
    """
    b1, b2 = betas
    weights = _adam_weights(b1, b2)
    root = b2**0.5
    new = b2.complement / (1 + root)  # 1 - root, without cancellation

    def next_sum(u: Any, slots: Any, leaf: Leaf) -> Any:
        rate = _rate_at(leaf, learning_rate, weights)
        return root * slots["grad_sum"] + new * rate * u

    def measure(u: Any, slots: Any, leaf: Leaf) -> Any:
        scaled = slots["grad_sum"] / (bare_sqrt(slots["exp_avg_sq"]) + eps)
        return {
            "gain": inner(u, scaled),
            "size": jnp.sum(jnp.abs(next_sum(u, slots, leaf))),
        }

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
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

    kept = _kept(estim_lr0, weights)
    return Rule(update, SLOTS, measure, settle=settle, is_step=True, **kept)


@described_by(scale_by_dadapt_adam)
@transformation
def dadapt_adamw(
    learning_rate: ScalarOrSchedule = 1.0,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Positive = 1e-8,
    estim_lr0: Fixed[Positive] = 1e-6,
    weight_decay: Scalar = 0.0,
):
    """D-Adapt AdamW: AdamW with an estimate of the distance as its learning rate.

    Defazio and Mishchenko 2023: https://arxiv.org/abs/2301.07733. Same arguments,
    defaults and numbers as `optax.contrib.dadapt_adamw`.

    Keeps `exp_avg`, `exp_avg_sq`, `grad_sum`, and two numbers, `estim_lr` and
    `numerator_weighted`.

    Examples:
        >>> tx = gradtx.dadapt_adamw()
        >>> path = gradtx.trajectory(tx, lambda x: (x - 3.0) ** 2, jnp.zeros(()), 200)
        >>> print(f"{path.positions[-1]:.1f}")
        3.0
    """
    steps = scale_by_dadapt_adam(learning_rate, betas, eps, estim_lr0, weight_decay)
    return chain(steps, scale(-1.0))
