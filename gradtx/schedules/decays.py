"""Single curves: from an initial value to a final one, or decaying forever."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from jax import numpy as jnp

from gradtx.core.annotations import Count, Duration, Fixed, NonNegative, Scalar, Steps
from gradtx.core.docstrings import described_by
from gradtx.schedules.core import schedule
from gradtx.schedules.counts import (
    as_float,
    before,
    chosen,
    minus,
    raised,
    shares,
    since,
    stairs,
    static,
    turns,
)

Curve = Literal["linear", "cosine", "1-sqrt", "rex"]


def _linear(left: Any, done: Any) -> tuple[Any, Any]:
    return left, done


def _cosine(left: Any, done: Any) -> tuple[Any, Any]:
    # (1 + cos(pi done)) / 2 cancels where it is small.
    return jnp.sin(jnp.pi / 2 * left) ** 2, jnp.sin(jnp.pi / 2 * done) ** 2


def _one_less_root(left: Any, done: Any) -> tuple[Any, Any]:
    root = _power(done, 0.5)
    return left / (1 + root), root


def _rex(left: Any, done: Any) -> tuple[Any, Any]:
    return left / (0.5 + 0.5 * left), done / (1 + left)


# The fractions of the transition left (from 1 to 0) and done (1 minus that), from the
# fractions of the steps left and done.
CURVES: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "linear": _linear,
    "cosine": _cosine,
    "1-sqrt": _one_less_root,
    "rex": _rex,
}


def _power(base: Any, exponent: Any) -> Any:
    """A power of a base of at least 0, with finite derivatives at 0 too."""
    is_positive = base > 0
    at_zero = chosen(exponent > 0, 0.0, 1.0)
    inside = jnp.where(is_positive, base, 1) ** exponent
    return jnp.where(is_positive, inside, at_zero)


def _powers(left: Any, done: Any, exponent: Any) -> tuple[Any, Any]:
    """`left**exponent` and 1 minus that, each accurate where it is small."""
    if static(exponent) == 1:
        return left, done
    is_left = left > 0
    logarithm = jnp.where(
        done < 0.5,
        jnp.log1p(-jnp.minimum(done, 0.5)),
        jnp.log(jnp.where(is_left, left, 1)),
    )
    at_zero = chosen(exponent > 0, 1.0, 0.0)
    behind = jnp.where(is_left, -jnp.expm1(exponent * logarithm), at_zero)
    return _power(left, exponent), behind


@schedule
def constant_schedule(value: Fixed[Scalar]):
    """Constant: the same value at every count.

    Args:
        value: The value.

    Examples:
        >>> rate = gradtx.constant_schedule(0.25)
        >>> print(rate(0), rate(1000))
        0.25 0.25
    """
    return lambda count: value


@schedule
def transition_schedule(
    init_value: Fixed[Scalar],
    end_value: Fixed[Scalar],
    transition_steps: Steps,
    transition_begin: Steps = 0,
    curve: Curve = "linear",
    power: Fixed[NonNegative] = 1.0,
):
    """Transition from `init_value` to `end_value` along a curve.

    Args:
        init_value: The value up to `transition_begin`.
        end_value: The value from `transition_begin + transition_steps` on.
        transition_steps: Steps of the transition. At least 0; 0 is a jump.
        transition_begin: The count at which it starts. At least 0.
        curve: The fraction left at progress p: "linear" is 1 - p, "cosine"
            (1 + cos(pi p)) / 2, "1-sqrt" 1 - sqrt(p), "rex" 2 (1 - p) / (2 - p).
        power: Exponent of that fraction. At least 0; with 0 the value is constant.

    Examples:
        >>> rate = gradtx.transition_schedule(1.0, 0.0, 100, curve="1-sqrt")
        >>> print(*(f"{rate(count):.2f}" for count in (0, 25, 100)))
        1.00 0.50 0.00
    """
    if static(transition_steps) == 0:
        return lambda count: chosen(
            before(count, transition_begin), init_value, end_value
        )
    if static(transition_steps) == math.inf:
        return lambda count: init_value

    def value(count: Any) -> Any:
        # Traced steps may be 0: then counts before the beginning are inside.
        is_inside = before(minus(count, transition_begin), transition_steps)
        passed = since(count, transition_begin)
        left, done = _powers(*CURVES[curve](*shares(passed, transition_steps)), power)
        # Two products: the difference of the values times a fraction would cancel where
        # one of the values is 0.
        between = init_value * left + end_value * done
        is_constant = chosen(power > 0, False, True)
        return chosen(is_constant, init_value, chosen(is_inside, between, end_value))

    return value


@schedule
def polynomial_schedule(
    init_value: Fixed[Scalar],
    end_value: Fixed[Scalar],
    power: Fixed[NonNegative],
    transition_steps: Count,
    transition_begin: Count = 0,
):
    """Polynomial: from `init_value` to `end_value` along `(1 - progress)**power`.

    Args:
        init_value: The value up to `transition_begin`.
        end_value: The value from `transition_begin + transition_steps` on.
        power: Exponent, at least 0; 1 is linear.
        transition_steps: Steps of the transition. If not positive, the value is
            constant, as in optax.
        transition_begin: The count at which it starts; 0 if below.

    Raises:
        ValueError: A number is out of its range.

    Examples:
        >>> rate = gradtx.polynomial_schedule(1.0, 0.0, power=2, transition_steps=100)
        >>> print(*(f"{rate(count):.2f}" for count in (0, 50, 100)))
        1.00 0.25 0.00
    """
    if static(transition_steps) is None:
        end_value = jnp.where(transition_steps > 0, end_value, init_value)
    elif transition_steps <= 0:
        return constant_schedule(init_value)
    return transition_schedule(
        init_value,
        end_value,
        transition_steps,
        _from_zero(transition_begin),
        "linear",
        power,
    )


def _from_zero(begin: Any) -> Any:
    """The beginning, at least 0, as in optax."""
    return chosen(begin < 0, 0, begin)


@described_by(polynomial_schedule)
@schedule
def linear_schedule(
    init_value: Fixed[Scalar],
    end_value: Fixed[Scalar],
    transition_steps: Count,
    transition_begin: Count = 0,
):
    """Linear from `init_value` to `end_value`; see `polynomial_schedule`.

    Examples:
        >>> rate = gradtx.linear_schedule(1.0, 0.5, 100, transition_begin=10)
        >>> print(*(f"{rate(count):.2f}" for count in (0, 10, 60, 110)))
        1.00 1.00 0.75 0.50
    """
    return polynomial_schedule(
        init_value, end_value, 1.0, transition_steps, transition_begin
    )


@schedule
def rex_schedule(
    init_value: Fixed[Scalar],
    end_value: Fixed[Scalar],
    transition_steps: Duration,
    transition_begin: Steps = 0,
):
    """REX: a curve that decays slowly at first and fast at the end of the steps.

    At progress p, the fraction (1 - p) / (1/2 + (1 - p) / 2) is left. Chen, Wolfe and
    Kyrillidis 2021: https://arxiv.org/abs/2107.04197, where the end value is 0.

    Args:
        init_value: The value up to `transition_begin`.
        end_value: The value from `transition_begin + transition_steps` on.
        transition_steps: Steps of the transition. Positive.
        transition_begin: The count at which it starts. At least 0.

    Examples:
        >>> rate = gradtx.rex_schedule(1.0, 0.0, transition_steps=100)
        >>> print(*(f"{rate(count):.2f}" for count in (0, 50, 90, 100)))
        1.00 0.67 0.18 0.00
    """
    return transition_schedule(
        init_value, end_value, transition_steps, transition_begin, "rex"
    )


@schedule
def cosine_decay_schedule(
    init_value: Fixed[Scalar],
    decay_steps: Duration,
    alpha: Fixed[Scalar] = 0.0,
    exponent: Fixed[NonNegative] = 1.0,
):
    """Cosine decay: half a cosine from `init_value` to `alpha * init_value`.

    Loshchilov and Hutter 2016: https://arxiv.org/abs/1608.03983.

    Args:
        init_value: The value at count 0.
        decay_steps: Steps of the decay. Positive.
        alpha: The final value over the initial one.
        exponent: Exponent of the half cosine, which falls from 1 to 0. At least 0.

    Examples:
        >>> rate = gradtx.cosine_decay_schedule(1.0, decay_steps=100, alpha=0.1)
        >>> print(*(f"{rate(count):.2f}" for count in (0, 50, 100)))
        1.00 0.55 0.10
    """
    end_value = alpha * init_value
    return transition_schedule(
        init_value, end_value, decay_steps, 0, "cosine", exponent
    )


@schedule
def exponential_decay(
    init_value: Fixed[Scalar],
    transition_steps: Count,
    decay_rate: Fixed[NonNegative],
    transition_begin: Count = 0,
    staircase: bool = False,
    end_value: Fixed[Scalar] | None = None,
):
    """`init_value * decay_rate**((count - transition_begin) / transition_steps)`.

    Args:
        init_value: The value up to `transition_begin`.
        transition_steps: Steps per factor of `decay_rate`. If not positive, the value
            is constant, as in optax.
        decay_rate: At least 0; above 1 the value grows. With 0, as in optax, and with 1
            the value is constant.
        transition_begin: The count at which the decay starts; 0 if below.
        staircase: Whether to change only at whole multiples of `transition_steps`.
        end_value: Lower bound of the value for a rate below 1, upper bound for a rate
            above 1; no bound if None.

    Raises:
        ValueError: The rate is below 0.

    Examples:
        >>> rate = gradtx.exponential_decay(1.0, 100, 0.5, staircase=True)
        >>> print(*(f"{rate(count):.2f}" for count in (0, 99, 100, 200)))
        1.00 1.00 0.50 0.25
    """
    begin = _from_zero(transition_begin)
    rate = chosen(transition_steps > 0, chosen(decay_rate > 0, decay_rate, 1.0), 1.0)
    steps = chosen(transition_steps > 0, transition_steps, 1.0)

    def value(count: Any) -> Any:
        if staircase:
            intervals = stairs(count, begin, steps)
        else:
            intervals = as_float(since(count, begin)) / steps
        decayed = init_value * raised(rate, intervals)
        if end_value is None:
            return decayed
        is_past = chosen(
            rate < 1,
            decayed < end_value,
            chosen(rate > 1, decayed > end_value, False),
        )
        if is_past is False:
            return decayed
        # Past its bound a growing value overflows and has no derivative.
        inside = init_value * raised(rate, jnp.where(is_past, 0, intervals))
        return jnp.where(is_past, end_value, inside)

    return value


@schedule
def inverse_time_decay(
    init_value: Fixed[Scalar],
    decay_rate: Fixed[NonNegative],
    interval: Duration | None = None,
):
    """Inverse time decay: `init_value / (1 + decay_rate * count)`, or its staircase.

    Args:
        init_value: The value at count 0.
        decay_rate: At least 0. From 0.2 with rate 1: 0.2, 0.1, 0.067, 0.05, 0.04.
        interval: If given, `count // interval` replaces the count.

    Examples:
        >>> rate = gradtx.inverse_time_decay(0.2, decay_rate=1.0)
        >>> print(*(f"{rate(count):.3f}" for count in (0, 1, 2, 3)))
        0.200 0.100 0.067 0.050
    """

    def value(count: Any) -> Any:
        intervals = count if interval is None else turns(count, interval)[0]
        return init_value / (1 + decay_rate * as_float(intervals))

    return value


@schedule
def inverse_sqrt_decay(init_value: Fixed[Scalar], timescale: Duration = 1):
    """`init_value / sqrt(1 + count / timescale)`: k / sqrt(t) with a timescale of 1.

    With these steps the regret of gradient descent is O(sqrt(t)): Zinkevich 2003,
    Online Convex Programming, Theorem 1.

    Args:
        init_value: The value at count 0, k.
        timescale: Number of steps after which the squared value is halved. Positive.

    Examples:
        >>> rate = gradtx.inverse_sqrt_decay(1.0, timescale=100)
        >>> print(*(f"{rate(count):.2f}" for count in (0, 300, 9900)))
        1.00 0.50 0.10
    """
    return lambda count: init_value / jnp.sqrt(1 + as_float(count) / timescale)
