"""Optimizers that use curvature."""

from __future__ import annotations

from typing import Any

from gradtx.combine import chain, identity
from gradtx.curvature import DIAGONAL, scale_by_sophia
from gradtx.lbfgs import scale_by_lbfgs
from gradtx.roles import (
    Decay,
    DType,
    Every,
    Member,
    NonNegative,
    Positive,
    Scalar,
    ScalarOrSchedule,
    Size,
)
from gradtx.scale import add_decayed_weights, scale, scale_by_learning_rate
from gradtx.transform import transformation
from gradtx.zoom import scale_by_zoom_linesearch

ZOOM = scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")


@transformation
def lbfgs(
    learning_rate: ScalarOrSchedule | None = None,
    memory_size: Size = 10,
    scale_init_precond: bool = True,
    linesearch: Member | None = ZOOM,
):
    """L-BFGS with a line search.

    Liu and Nocedal 1989: https://doi.org/10.1007/BF01589116. As optax.

    Args:
        learning_rate: A number or a schedule, which the line search then scales; None
            is 1.
        memory_size: How many steps are remembered. An int, at least 1.
        scale_init_precond: Whether the inverse Hessian before these is scaled.
        linesearch: A transformation that scales the step; None for none.

    The line search needs `value`, `grad` and `value_fn` in `update`; get the first two
    from `value_and_grad_from_state`, which computes nothing twice.
    """
    return chain(
        scale_by_lbfgs(memory_size, scale_init_precond),
        scale(-1.0) if learning_rate is None else scale_by_learning_rate(learning_rate),
        identity() if linesearch is None else linesearch,
    )


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
    update_interval: Every = 10,
    hessian_diagonal_fn: Member = DIAGONAL,
    mu_dtype: DType | None = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: Scalar = 0,
):
    """Sophia: clipped steps over a diagonal of the Hessian that is rarely estimated.

    Liu et al. 2023: https://arxiv.org/abs/2305.14342. As optax; arguments as
    `scale_by_sophia`, with decoupled weight decay as in `adamw`. Call
    `update(updates, state, params, obj_fn=...)`.
    """
    steps = scale_by_sophia(
        b1, b2, eps, gamma, clip_threshold, update_interval, hessian_diagonal_fn,
        mu_dtype, verbose, print_win_rate_every_n_steps,
    )  # fmt: skip
    return chain(
        steps,
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )
