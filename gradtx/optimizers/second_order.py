"""Sophia: divide by an estimate of the Hessian's diagonal."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    Decay,
    DType,
    Member,
    NonNegative,
    Positive,
    PositiveInt,
    Scalar,
    ScalarOrSchedule,
)
from gradtx.core.arithmetic import is_last_of, safe_ratio, whole
from gradtx.core.context import Leaf, SettleContext
from gradtx.core.docstrings import described_by
from gradtx.core.factory import part
from gradtx.core.numbers import is_constant_zero
from gradtx.core.rule import Slot, memoryless, zero
from gradtx.transforms.bias import first_moment
from gradtx.transforms.combine import chain, identity, moments
from gradtx.transforms.divide import divide_by
from gradtx.transforms.estimators import at_least
from gradtx.transforms.gradient_clipping import clip_magnitude
from gradtx.transforms.hessian import hutchinson_estimator_diag_hessian
from gradtx.transforms.periodic import average_every
from gradtx.transforms.scaling import scale
from gradtx.transforms.weight_decay import decayed_step

DIAGONAL = hutchinson_estimator_diag_hessian()


@part
@transformation
def _report_win_rate(threshold: Scalar, every: Scalar):
    """Print the share of elements below a threshold every `every` updates.

    Keeps that share as `win_rate`.
    """
    period = None if is_constant_zero(every) else jnp.maximum(whole(every), 1)

    def measure(u: Any, slots: Any, leaf: Leaf) -> Any:
        is_small = jnp.abs(u) < threshold
        return {
            "won": jnp.sum(is_small, dtype=float),
            "all": jnp.asarray(u.size, float),
        }

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
        rate = safe_ratio(total["won"], total["all"])
        # In integers: as a float a large count would be rounded.
        is_due = (every > 0) & is_last_of(step.count, jnp.maximum(whole(every), 1))
        lax.cond(
            is_due,
            lambda: jax.debug.print("Sophia optimizer win rate: {}", rate),
            lambda: None,
        )
        return {"win_rate": rate}

    return memoryless(
        lambda u, leaf: u,
        measure=measure,
        shared={"win_rate": Slot(zero, is_only_here=True)},
        settle=settle,
        period=period,
        passes=True,
    )


@transformation
def scale_by_sophia(
    b1: Decay = 0.965,
    b2: Decay = 0.99,
    eps: Positive = 1e-8,
    gamma: Scalar = 0.01,
    clip_threshold: NonNegative | None = 1.0,
    update_interval: PositiveInt = 10,
    hessian_diagonal_fn: Member = DIAGONAL,
    mu_dtype: DType | None = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: Scalar = 0,
):
    """Divide the momentum by a periodic estimate of the Hessian's diagonal, and clip.

    Liu et al. 2023 (Sophia), Algorithm 3: https://arxiv.org/abs/2305.14342. As in
    `optax.contrib.sophia`, call `update(updates, state, params, obj_fn=loss)`.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the average of estimates, in [0, 1).
        eps: Lower bound of the denominator. Positive.
        gamma: Factor of the average of estimates.
        clip_threshold: Largest magnitude of an element, at least 0; None clips nothing.
        update_interval: Number of updates between estimates, at least 1.
        hessian_diagonal_fn: Transformation that makes an estimate, see `average_every`.
        mu_dtype: Storage dtype of the first moment; at least float32 if None.
        verbose: Whether to keep and print the share of elements that are not clipped.
        print_win_rate_every_n_steps: Number of updates between prints; 0 prints none.

    Examples:
        >>> tx, params = gradtx.scale_by_sophia(b2=0.0), jnp.array(3.0)
        >>> _, state = tx.update(params, tx.init(params), params, obj_fn=jnp.square)
        >>> print(f"{state['nu']:.2f}")
        2.00
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


@described_by(scale_by_sophia, decayed_step, weight_decay_mask="mask")
@transformation
def sophia(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.965,
    b2: Decay = 0.99,
    eps: Positive = 1e-8,
    weight_decay: Scalar = 1e-4,
    weight_decay_mask: Any = None,
    gamma: Scalar = 0.01,
    clip_threshold: NonNegative | None = 1.0,
    update_interval: PositiveInt = 10,
    hessian_diagonal_fn: Member = DIAGONAL,
    mu_dtype: DType | None = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: Scalar = 0,
):
    """Sophia: momentum over a periodic estimate of the Hessian's diagonal, clipped.

    Liu et al. 2023: https://arxiv.org/abs/2305.14342. Same arguments, defaults and
    numbers as `optax.contrib.sophia`. Call `update(updates, state, params,
    obj_fn=...)`.

    Examples:
        >>> def loss(x):
        ...     return jnp.sum(jnp.array([1.0, 100.0]) * x**2)
        >>> tx, params = gradtx.sophia(0.1, b2=0.0, weight_decay=0.0), jnp.ones(2)
        >>> updates, state = tx.update(
        ...     jax.grad(loss)(params), tx.init(params), params, obj_fn=loss)
        >>> print(state["nu"])
        [  2. 200.]
    """
    direction = scale_by_sophia(
        b1, b2, eps, gamma, clip_threshold, update_interval, hessian_diagonal_fn,
        mu_dtype, verbose, print_win_rate_every_n_steps,
    )  # fmt: skip
    return decayed_step(direction, weight_decay, weight_decay_mask, learning_rate)
