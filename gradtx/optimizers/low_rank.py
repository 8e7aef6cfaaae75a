"""Optimizers that keep their state in a subspace."""

from __future__ import annotations

from typing import Any

from gradtx.combine import chain
from gradtx.roles import Every, Member, Scalar, ScalarOrSchedule, Size
from gradtx.scale import add_decayed_weights, scale_by_learning_rate
from gradtx.subspace import scale_by_galore
from gradtx.transform import transformation


@transformation
def galore(
    learning_rate: ScalarOrSchedule,
    rank: Size = 128,
    update_proj_gap: Every = 200,
    scale: Scalar = 1.0,
    base_optimizer: Member | None = None,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
    weight_dimension_numbers: Any = None,
):
    """GaLore: Adam, or another transformation, in the gradients' main directions.

    Zhao et al. 2024: https://arxiv.org/abs/2403.03507. As optax; arguments as
    `in_subspace`, with decoupled weight decay as in `adamw`.
    """
    numbers = weight_dimension_numbers
    return chain(
        scale_by_galore(rank, update_proj_gap, scale, base_optimizer, numbers),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
