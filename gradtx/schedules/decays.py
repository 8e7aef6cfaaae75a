"""Single curves: from a first value to a last one, or down forever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from jax import numpy as jnp

from gradtx.roles import Constant, Duration, Factor, Rate, Steps
from gradtx.schedules.core import schedule

Curve = Literal["linear", "cosine", "1-sqrt", "rex"]

# What is left of the way, from 1 to 0, when a share `done` of the steps is behind.
CURVES: dict[str, Callable[[Any], Any]] = {
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.5 * (1 + jnp.cos(jnp.pi * done)),
    "1-sqrt": lambda done: 1 - _power(done, 0.5),
    "rex": lambda done: (1 - done) / (0.5 + 0.5 * (1 - done)),
}


def _power(base: Any, exponent: Any) -> Any:
    """A positive power of a base of at least 0, with finite derivatives at 0 too."""
    is_positive = base > 0
    return jnp.where(is_positive, jnp.where(is_positive, base, 1) ** exponent, 0)


def _progress(count: Any, steps: Any) -> Any:
    """The share of the steps that is behind, in [0, 1]: exactly 1 at the end.

    A quotient of equals need not be 1: XLA multiplies by the reciprocal of a constant.
    """
    share = jnp.clip(count / jnp.where(steps > 0, steps, 1), 0, 1)
    return jnp.where(count < steps, share, 1)


@schedule
def constant_schedule(value: Constant):
    """The same value at every count."""
    return lambda count: value


@schedule
def transition_schedule(
    init_value: Constant,
    end_value: Constant,
    transition_steps: Steps,
    transition_begin: Steps = 0,
    curve: Curve = "linear",
    power: Rate = 1.0,
):
    """From `init_value` to `end_value` along a curve: what most others are made of.

    Args:
        init_value: The value up to `transition_begin`.
        end_value: The value from `transition_begin + transition_steps` on.
        transition_steps: Steps that the transition takes. At least 0, which is a jump.
        transition_begin: The count at which it starts. At least 0.
        curve: What is left of the way at progress p: "linear" is 1 - p, "cosine"
            (1 + cos(pi p)) / 2, "1-sqrt" 1 - sqrt(p), "rex" 2 (1 - p) / (2 - p).
        power: Of the curve. Positive.
    """

    def value(count: Any) -> Any:
        done = _progress(count - transition_begin, transition_steps)
        left = _power(CURVES[curve](done), power)
        return (init_value - end_value) * left + end_value

    return value


@schedule
def polynomial_schedule(
    init_value: Constant,
    end_value: Constant,
    power: Rate,
    transition_steps: Duration,
    transition_begin: Steps = 0,
):
    """From `init_value` to `end_value` along (1 - progress)**power.

    Args:
        init_value: The value up to `transition_begin`.
        end_value: The value from `transition_begin + transition_steps` on.
        power: Positive; 1 is a straight line.
        transition_steps: Steps that the transition takes. Positive.
        transition_begin: The count at which it starts. At least 0.

    Raises:
        ValueError: A number is out of its range (optax logs and is constant).
    """
    return transition_schedule(
        init_value, end_value, transition_steps, transition_begin, "linear", power
    )


@schedule
def linear_schedule(
    init_value: Constant,
    end_value: Constant,
    transition_steps: Duration,
    transition_begin: Steps = 0,
):
    """A straight line from `init_value` to `end_value`; see `polynomial_schedule`."""
    return transition_schedule(
        init_value, end_value, transition_steps, transition_begin
    )


@schedule
def rex_schedule(
    init_value: Constant,
    end_value: Constant,
    transition_steps: Duration,
    transition_begin: Steps = 0,
):
    """REX: a line that bends, slow at first and fast at the end of a budget of steps.

    (1 - p) / (1/2 + (1 - p) / 2) of the way is left at progress p. Chen, Wolfe and
    Kyrillidis 2021: https://arxiv.org/abs/2107.04197; they end at 0.

    Args:
        init_value: The value up to `transition_begin`.
        end_value: The value from `transition_begin + transition_steps` on.
        transition_steps: Steps that the transition takes. Positive.
        transition_begin: The count at which it starts. At least 0.
    """
    return transition_schedule(
        init_value, end_value, transition_steps, transition_begin, "rex"
    )


@schedule
def cosine_decay_schedule(
    init_value: Constant,
    decay_steps: Duration,
    alpha: Constant = 0.0,
    exponent: Rate = 1.0,
):
    """Half a cosine from `init_value` to `alpha * init_value`.

    Loshchilov and Hutter 2016: https://arxiv.org/abs/1608.03983.

    Args:
        init_value: The value at count 0.
        decay_steps: Steps that the decay takes. Positive.
        alpha: The last value's share of the first.
        exponent: A power of the half cosine, which falls from 1 to 0. Positive.
    """
    end_value = alpha * init_value
    return transition_schedule(
        init_value, end_value, decay_steps, 0, "cosine", exponent
    )


@schedule
def exponential_decay(
    init_value: Constant,
    transition_steps: Duration,
    decay_rate: Rate,
    transition_begin: Steps = 0,
    staircase: bool = False,
    end_value: Constant | None = None,
):
    """`init_value * decay_rate**((count - transition_begin) / transition_steps)`.

    Args:
        init_value: The value up to `transition_begin`.
        transition_steps: Steps in which the value changes by `decay_rate`. Positive.
        decay_rate: Above 0; a rate above 1 grows.
        transition_begin: The count at which the decay starts. At least 0.
        staircase: Whether to change only at whole multiples of `transition_steps`.
        end_value: A bound that the value does not cross, if given.

    Raises:
        ValueError: A number is out of its range (optax logs and is constant).
    """

    def value(count: Any) -> Any:
        elapsed = jnp.maximum(count - transition_begin, 0)
        # The floor of a quotient is off by one where XLA multiplies by a reciprocal.
        divide = jnp.floor_divide if staircase else jnp.divide
        intervals = divide(elapsed, transition_steps)
        decayed = init_value * decay_rate**intervals
        if end_value is None:
            return decayed
        is_past = jnp.where(decay_rate < 1, decayed < end_value, decayed > end_value)
        # Past its end a growing value overflows, and has no derivative.
        inside = init_value * decay_rate ** jnp.where(is_past, 0, intervals)
        return jnp.where(is_past, end_value, inside)

    return value


@schedule
def inverse_time_decay(
    init_value: Constant, decay_rate: Factor, interval: Duration | None = None
):
    """`init_value / (1 + decay_rate * count)`, or a staircase of it.

    Args:
        init_value: The value at count 0.
        decay_rate: At least 0. With 0.2 and rate 1: 0.2, 0.1, 0.067, 0.05, 0.04.
        interval: If given, the count is that of whole intervals of so many steps.
    """

    def value(count: Any) -> Any:
        intervals = count if interval is None else jnp.floor_divide(count, interval)
        return init_value / (1 + decay_rate * intervals)

    return value


@schedule
def inverse_sqrt_decay(init_value: Constant, timescale: Duration = 1):
    """`init_value / sqrt(1 + count / timescale)`: k / sqrt(t) at a timescale of 1.

    Such steps keep the regret of gradient descent at O(sqrt(t)): Zinkevich 2003,
    Online Convex Programming, Theorem 1.

    Args:
        init_value: The value at count 0, k.
        timescale: Steps after which the square of the value is halved. Positive.
    """
    return lambda count: init_value / jnp.sqrt(1 + count / timescale)
