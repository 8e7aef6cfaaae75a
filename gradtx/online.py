"""Rules of online and stochastic approximation."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.averages import full
from gradtx.roles import FirstValue, NonNegative, Scalar, ScalarOrSchedule
from gradtx.rule import Leaf, Rule, memoryless, refuse_complex, safe_ratio
from gradtx.transform import transformation


@transformation
def scale_by_falling_rate(
    learning_rate: ScalarOrSchedule, lambd: NonNegative, alpha: NonNegative
):
    """Multiply by `-learning_rate / (1 + lambd * learning_rate * (t - 1))**alpha`.

    The falling rate of `asgd`.
    """

    def update(u: Any, leaf: Leaf) -> Any:
        return -learning_rate / (1 + lambd * learning_rate * (leaf.t - 1)) ** alpha * u

    return memoryless(update)


@transformation
def scale_by_ftrl(
    learning_rate: ScalarOrSchedule,
    learning_rate_power: Scalar = -0.5,
    initial_accumulator_value: FirstValue = 0.1,
    l1: NonNegative = 0.0,
    l2: NonNegative = 0.0,
    l2_shrinkage: NonNegative = 0.0,
    beta: NonNegative = 0.0,
):
    """The step of FTRL-Proximal, of sparse weights of linear models.

    McMahan et al. 2013: https://research.google/pubs/pub41159/; as `keras.optimizers`.
    Parameters follow from the sums alone: where they start is forgotten.

    Args:
        learning_rate: A number or a schedule.
        learning_rate_power: Of the sum of squares; the paper's is -0.5.
        initial_accumulator_value: What that starts at (0 in the paper). At least 0.
        l1: Of the absolute value. At least 0.
        l2: Of the square: half of the paper's. At least 0.
        l2_shrinkage: The same, of the gradients' loss only. At least 0.
        beta: Added to the root, as in the paper (which has 1). At least 0.

    Keeps `accumulator` and `linear`.

    Raises:
        TypeError: At `update`: the update is complex.
    """

    def power(n: Any) -> Any:
        is_zero = n == 0
        return jnp.where(is_zero, 0, jnp.where(is_zero, 1, n) ** -learning_rate_power)

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        refuse_complex(u, leaf)
        n = slots["accumulator"] + jnp.square(u)
        sigma = (power(n) - power(slots["accumulator"])) / learning_rate
        linear = slots["linear"] + u + (2 * l2_shrinkage - sigma) * leaf.param
        quadratic = (power(n) + beta) / learning_rate + 2 * l2
        shrunk = jnp.clip(linear, -l1, l1) - linear
        new = jnp.where(quadratic == 0, leaf.param, safe_ratio(shrunk, quadratic))
        return new - leaf.param, {"accumulator": n, "linear": linear}

    slots = {"accumulator": full(initial_accumulator_value), "linear": full(0.0)}
    return Rule(update, slots)
