"""Optimizers of online and stochastic approximation."""

from __future__ import annotations

from gradtx.combine import chain
from gradtx.iterates import average_params
from gradtx.online import scale_by_falling_rate, scale_by_ftrl
from gradtx.roles import (
    FirstValue,
    NonNegative,
    NonPositive,
    Scalar,
    ScalarOrSchedule,
)
from gradtx.scale import add_decayed_weights
from gradtx.transform import transformation


@transformation
def asgd(
    learning_rate: ScalarOrSchedule = 1e-2,
    lambd: NonNegative = 1e-4,
    alpha: NonNegative = 0.75,
    t0: NonNegative = 1e6,
    weight_decay: Scalar = 0.0,
):
    """Descent with a falling rate, and the average of its points.

    Polyak and Juditsky 1992: https://doi.org/10.1137/0330046; as `torch.optim.ASGD`.

    Args:
        learning_rate: The first rate, a number or a schedule of it.
        lambd: How fast it falls, and the decay of the parameters. At least 0.
        alpha: The power of its fall. At least 0.
        t0: The average is of the points from update t0 + 2 on; before, the last point.
        weight_decay: Times the parameter, added to the gradient.

    Keeps `average`, which is what to evaluate with, see `eval_params`.
    """
    descent = chain(
        add_decayed_weights(weight_decay),
        add_decayed_weights(lambd),
        scale_by_falling_rate(learning_rate, lambd, alpha),
    )
    return average_params(descent, "polyak", t0 + 1)


@transformation
def ftrl(
    learning_rate: NonNegative,
    learning_rate_power: NonPositive = -0.5,
    initial_accumulator_value: FirstValue = 0.1,
    l1: NonNegative = 0.0,
    l2: NonNegative = 0.0,
    l2_shrinkage: NonNegative = 0.0,
    beta: NonNegative = 0.0,
):
    """FTRL-Proximal: sparse weights of linear models, which start at 0.

    McMahan et al. 2013: https://research.google/pubs/pub41159/; as `keras.optimizers`.
    Arguments as `scale_by_ftrl`.
    """
    return scale_by_ftrl(
        learning_rate, learning_rate_power, initial_accumulator_value, l1, l2,
        l2_shrinkage, beta,
    )  # fmt: skip
