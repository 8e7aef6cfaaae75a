"""Rules of online and stochastic approximation."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.arithmetic import safe_ratio
from gradtx.averages import full
from gradtx.roles import FirstValue, NonNegative, NonPositive, ScalarOrSchedule
from gradtx.rule import Leaf, Rule, memoryless, refuse_complex
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
    learning_rate: NonNegative,
    learning_rate_power: NonPositive = -0.5,
    initial_accumulator_value: FirstValue = 0.1,
    l1: NonNegative = 0.0,
    l2: NonNegative = 0.0,
    l2_shrinkage: NonNegative = 0.0,
    beta: NonNegative = 0.0,
):
    """The step of FTRL-Proximal, of sparse weights of linear models.

    McMahan et al. 2013: https://research.google/pubs/pub41159/; as `keras.optimizers`.
    Of where parameters start the first step leaves `1 - (n0 / n1)**0.5`, n the sum of
    squares: nothing, if gradients are small and n0 is not 0.

    Args:
        learning_rate: At least 0, a number or a schedule; where it is 0 nothing moves.
        learning_rate_power: Of the sum of squares, at most 0; the paper's is -0.5.
        initial_accumulator_value: What that starts at (0 in the paper). At least 0.
        l1: Of the absolute value. At least 0.
        l2: Of the square: half of the paper's. At least 0.
        l2_shrinkage: `2 * l2_shrinkage * param` is added to the gradient. At least 0.
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
        is_idle = learning_rate == 0
        rate = jnp.where(is_idle, 1, learning_rate)
        n = slots["accumulator"] + jnp.square(u)
        sigma = (power(n) - power(slots["accumulator"])) / rate
        linear = slots["linear"] + u + (2 * l2_shrinkage - sigma) * leaf.param
        quadratic = (power(n) + beta) / rate + 2 * l2
        shrunk = jnp.clip(linear, -l1, l1) - linear
        new = jnp.where(quadratic == 0, leaf.param, safe_ratio(shrunk, quadratic))
        kept = {"accumulator": n, "linear": linear}
        kept = {name: jnp.where(is_idle, slots[name], x) for name, x in kept.items()}
        return jnp.where(is_idle, 0, new - leaf.param), kept

    slots = {"accumulator": full(initial_accumulator_value), "linear": full(0.0)}
    return Rule(update, slots)
