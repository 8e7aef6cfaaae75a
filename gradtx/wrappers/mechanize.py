"""Mechanic: learn a global scale of the displacement from the initial parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Member, NonNegative, Positive, Size
from gradtx.core.arithmetic import inner, safe_sqrt
from gradtx.core.context import Leaf, Private, SettleContext
from gradtx.core.factory import part
from gradtx.core.rule import Rule, like_param
from gradtx.transforms.combine import chain, identity, let
from gradtx.transforms.vector_norms import global_norm, squares_apart


@transformation
def mechanize(
    base_optimizer: Member,
    weight_decay: NonNegative = 1e-2,
    eps: Positive = 1e-8,
    s_init: Positive = 1e-6,
    num_betas: Size = 6,
):
    """Mechanic: learn a global scale of the displacement from the initial parameters.

    Cutkosky et al. 2023: https://arxiv.org/abs/2306.00144. Same arguments, defaults and
    numbers as `optax.contrib.mechanize`.

    Args:
        base_optimizer: The optimizer; its learning rate is relative to the scale.
        weight_decay: Weight decay in the gradient that the scale is learned from. At
            least 0.
        eps: Added to denominators. Positive.
        s_init: Initial scale. Positive.
        num_betas: Number of scales to learn, with decays from 0.9 on.

    Keeps the initial parameters as `x0`; `s`, whose sum is the scale, `r`, `m` and `v`,
    each with `num_betas` numbers; and the optimizer's slots.

    Examples:
        >>> tx = gradtx.mechanize(gradtx.sgd(1.0), weight_decay=0.0)
        >>> path = gradtx.trajectory(tx, lambda x: (x - 3.0) ** 2, jnp.zeros(()), 200)
        >>> print(f"{path.positions[-1]:.1f}")
        3.0
    """
    tuned = _learn_scale(weight_decay, eps, s_init, num_betas)
    return let(GRADIENT, identity(), chain(base_optimizer, tuned))


GRADIENT = Private("gradient")


@part
@transformation
def _learn_scale(
    weight_decay: NonNegative, eps: Positive, s_init: Positive, num_betas: Size
):
    betas = 1 - 0.1 ** np.arange(1.0, num_betas + 1)

    def measure(u: Any, slots: Any, leaf: Leaf) -> Any:
        # A barrier, so that XLA does not write out this difference for its two uses.
        grad, param, x0 = lax.optimization_barrier(
            (leaf.recall(GRADIENT), leaf.param, slots["x0"])
        )
        return {
            "gradient": squares_apart(grad),
            "param": squares_apart(param),
            "gain": inner(grad, x0 - param),
            "decay": -inner(param, param - x0),
        }

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
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
    return Rule(update, {"x0": like_param()}, measure, shared, settle, is_step=True)
