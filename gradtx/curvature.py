"""Division by an estimate of the curvature."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from gradtx.adam import first_moment
from gradtx.arithmetic import safe_ratio, whole
from gradtx.clip import clip_magnitude
from gradtx.combine import chain, identity, moments
from gradtx.divide import at_least, divide_by
from gradtx.noise import hutchinson_estimator_diag_hessian
from gradtx.numbers import is_constant_zero
from gradtx.roles import Decay, DType, Every, Member, NonNegative, Positive, Scalar
from gradtx.rule import Leaf, Step, Tree, TreeRule, memoryless
from gradtx.scale import scale
from gradtx.stable import stable
from gradtx.transform import transformation
from gradtx.trees import like, map_with_none, wide_zeros
from gradtx.wrap import run

DIAGONAL = hutchinson_estimator_diag_hessian()


@transformation
def average_every(every: Every, transform: Member, decay: Decay):
    """The average of what a transformation makes at every k-th update only.

    Gives the average before this update; at the first update zeros.

    Args:
        every: k, at least 1. The transformation does not run at other updates.
        transform: Gets the gradient that entered the enclosing `moments`.
        decay: Of the average, in [0, 1).

    Keeps the average as `nu`, at least float32, and the transformation's own state
    whole as `hessian_fn_state`.
    """

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        nu, state = slots["nu"], slots["hessian_fn_state"]

        def average(old: Any, new: Any) -> Any:
            if old is None or new is None:
                return None
            return decay.complement * new + decay * old

        def refresh() -> tuple[Any, Any]:
            new, after = run(transform, tree.grad, state, tree)
            new = map_with_none(average, nu, new)
            return like(new, nu), after

        is_due = tree.count % whole(every) == 0
        new, after = lax.cond(is_due, refresh, lambda: (nu, state))
        return nu, {"nu": new, "hessian_fn_state": after}

    slots = {"nu": wide_zeros, "hessian_fn_state": transform.init}
    return TreeRule(update, slots, period=every)


@stable
@transformation
def _report_win_rate(threshold: Scalar, every: Scalar):
    """Print the share of elements below a threshold, every so many updates.

    Keeps it as `win_rate`.
    """
    period = None if is_constant_zero(every) else jnp.maximum(whole(every), 1)

    def measure(u: Any, slots: Any, leaf: Leaf) -> Any:
        is_small = jnp.abs(u) < threshold
        return {
            "won": jnp.sum(is_small, dtype=float),
            "all": jnp.asarray(u.size, float),
        }

    def settle(total: Any, shared: Any, step: Step) -> Any:
        rate = safe_ratio(total["won"], total["all"])
        # A whole number in integers: as a float the count is rounded.
        number = jnp.maximum(whole(every), 1)
        is_due = (every > 0) & (step.count % number == number - 1)
        lax.cond(
            is_due,
            lambda: jax.debug.print("Sophia optimizer win rate: {}", rate),
            lambda: None,
        )
        return {"win_rate": rate}

    zero = {"win_rate": lambda arrays: jnp.zeros(())}
    return memoryless(
        lambda u, leaf: u, measure=measure, shared=zero, settle=settle, period=period
    )


@transformation
def scale_by_sophia(
    b1: Decay = 0.965,
    b2: Decay = 0.99,
    eps: Positive = 1e-8,
    gamma: Scalar = 0.01,
    clip_threshold: NonNegative | None = 1.0,
    update_interval: Every = 10,
    hessian_diagonal_fn: Member = DIAGONAL,
    mu_dtype: DType | None = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: Scalar = 0,
):
    """Divide the average gradient by a rarely estimated diagonal of the Hessian; clip.

    Liu et al. 2023, Algorithm 3: https://arxiv.org/abs/2305.14342. As optax: call
    `update(updates, state, params, obj_fn=...)`.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the average of estimates, in [0, 1).
        eps: The least that is divided by. Positive.
        gamma: What the average is multiplied by.
        clip_threshold: What elements are clipped to, at least 0; None clips nothing.
        update_interval: After how many updates an estimate is made, at least 1.
        hessian_diagonal_fn: What makes it, see `average_every`.
        mu_dtype: What the first moment is stored in; at least float32 if None.
        verbose: Whether to keep and print the share of elements that are not clipped.
        print_win_rate_every_n_steps: How often; 0 prints nothing.
    """
    curvature = average_every(update_interval, hessian_diagonal_fn, b2)
    is_reported = verbose and clip_threshold is not None
    return moments(
        first_moment(b1, mu_dtype),
        divide_by(chain(curvature, scale(gamma), at_least(eps))),
        _report_win_rate(clip_threshold, print_win_rate_every_n_steps)
        if is_reported
        else identity(),
        identity() if clip_threshold is None else clip_magnitude(clip_threshold),
    )
