"""RMSProp, Adagrad and Adadelta: divide by the root of past squares."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    Decay,
    Fixed,
    NonNegative,
    Positive,
    Scalar,
    ScalarOrSchedule,
)
from gradtx.core.arithmetic import abs2
from gradtx.core.context import Leaf
from gradtx.core.docstrings import described_by
from gradtx.core.rule import REAL_ZEROS, Rule
from gradtx.transforms.averages import running_sum, trace
from gradtx.transforms.combine import chain, identity
from gradtx.transforms.divide import divide_by_root
from gradtx.transforms.estimators import centered_second_moment, second_moment, square
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.transforms.weight_decay import add_decayed_weights


def _divide(estimator: Any, eps: Any, eps_in_sqrt: bool) -> Any:
    """Divide by the root of an estimate, with eps inside the root or added to it."""
    if eps_in_sqrt:
        return divide_by_root(estimator, eps=0.0, eps_root=eps)
    return divide_by_root(estimator, eps)


@transformation
def scale_by_rms(
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: Fixed[NonNegative] = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
):
    """Divide by the root of the moving average of the square.

    Hinton, Srivastava and Swersky 2012, lecture 6e: RMSProp. Same arguments, defaults
    and numbers as `optax.scale_by_rms`.

    Args:
        decay: Decay of the average, in [0, 1).
        eps: Added inside the root (in units of the square) or to the root. At least 0.
        initial_scale: Initial value of the average. At least 0.
        eps_in_sqrt: Whether to add eps inside the root.
        bias_correction: Whether to divide the average by `1 - decay**t`.

    Examples:
        >>> tx = gradtx.scale_by_rms(decay=0.75)
        >>> updates, state = tx.update(jnp.array(-30.0), tx.init(jnp.zeros(())))
        >>> print(f"{updates:.2f} {state['nu']:.2f}")
        -2.00 225.00
    """
    nu = second_moment(decay, "nu", bias_correction, initial_scale)
    return _divide(nu, eps, eps_in_sqrt)


@described_by(scale_by_rms)
@transformation
def scale_by_stddev(
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: Fixed[NonNegative] = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
):
    """Divide by the root of the moving variance.

    Graves 2013: https://arxiv.org/abs/1308.0850. Same arguments, defaults and numbers
    as `optax.scale_by_stddev`. Keeps `mu` and `nu`.

    Examples:
        >>> tx = gradtx.scale_by_stddev(decay=0.5)
        >>> updates, state = tx.update(jnp.array(4.0), tx.init(jnp.zeros(())))
        >>> print(f"{updates:.2f} {state['mu']:.2f} {state['nu']:.2f}")
        2.00 2.00 8.00
    """
    variance = centered_second_moment(decay, initial_scale, bias_correction)
    return _divide(variance, eps, eps_in_sqrt)


@transformation
def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: Fixed[NonNegative] = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Scalar | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
):
    """RMSProp: divide by the root of the moving average of the square.

    Hinton, Srivastava and Swersky 2012, lecture 6e; centered as Graves 2013:
    https://arxiv.org/abs/1308.0850. As in `optax.rmsprop`, the momentum comes after the
    learning rate.

    Args:
        learning_rate: A number or a schedule.
        decay: Decay of the average, in [0, 1).
        eps: Added inside the root or to the root. At least 0.
        initial_scale: Initial value of the average. At least 0.
        eps_in_sqrt: Whether to add eps inside the root.
        centered: Whether to divide by the root of the variance.
        momentum: Decay of a sum of steps, at least 0; None keeps no sum.
        nesterov: Whether to use Nesterov momentum.
        bias_correction: Whether to bias-correct the averages.

    Examples:
        >>> tx = gradtx.rmsprop(0.01, decay=0.99, momentum=0.9, eps_in_sqrt=False)
        >>> updates, state = tx.update(jnp.array(3.0), tx.init(jnp.zeros(())))
        >>> print(f"{updates:.2f}")
        -0.10
        >>> sorted(state)
        ['count', 'nu', 'trace']
    """
    scale_by = scale_by_stddev if centered else scale_by_rms
    return chain(
        scale_by(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
        identity() if momentum is None else trace(momentum, nesterov),
    )


@transformation
def scale_by_rss(
    initial_accumulator_value: Fixed[NonNegative] = 0.1, eps: NonNegative = 1e-7
):
    """Divide by the root of the sum of all squares so far.

    Duchi et al. 2011: https://jmlr.org/papers/v12/duchi11a.html. Same arguments,
    defaults and numbers as `optax.scale_by_rss`.

    Args:
        initial_accumulator_value: Initial value of the sum. At least 0.
        eps: Added inside the root. At least 0.

    Examples:
        >>> tx = gradtx.scale_by_rss(initial_accumulator_value=0.0)
        >>> _, state = tx.update(jnp.array(3.0), tx.init(jnp.zeros(())))
        >>> print(f"{tx.update(jnp.array(4.0), state)[0]:.2f}")
        0.80
    """
    total = running_sum("sum_of_squares", initial_accumulator_value)
    return _divide(chain(square(), total), eps, eps_in_sqrt=True)


@transformation
def adagrad(
    learning_rate: ScalarOrSchedule,
    initial_accumulator_value: Fixed[NonNegative] = 0.1,
    eps: NonNegative = 1e-7,
):
    """Adagrad: divide by the root of the sum of all squares.

    Duchi et al. 2011: https://jmlr.org/papers/v12/duchi11a.html. Same arguments,
    defaults and numbers as `optax.adagrad`.

    Args:
        learning_rate: A number or a schedule.
        initial_accumulator_value: Initial value of the sum. At least 0.
        eps: Added inside the root. At least 0.

    Keeps `sum_of_squares`, like the parameter, at least float32.

    Examples:
        >>> tx = gradtx.adagrad(1.0, initial_accumulator_value=0.0)
        >>> path = gradtx.trajectory(tx, lambda x: 3 * x, jnp.zeros(()), 4)
        >>> print(*(f"{u:.2f}" for u in jnp.diff(path.positions)))
        -1.00 -0.71 -0.58 -0.50
    """
    return chain(
        scale_by_rss(initial_accumulator_value, eps),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def scale_by_past_rms(decay: Decay, eps: Positive = 1e-6, slot: str = "e_x"):
    """Multiply by the root of the moving average of its own squared output.

    Args:
        decay: Decay of the average, in [0, 1).
        eps: Added inside the root. Positive: the first factor is its root.
        slot: Name of the average's slot.

    Examples:
        >>> tx = gradtx.scale_by_past_rms(0.5, eps=0.25)
        >>> updates, state = tx.update(jnp.array(8.0), tx.init(jnp.zeros(())))
        >>> print(updates, state["e_x"])
        4.0 8.0
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        u = jnp.sqrt(slots[slot] + eps) * u
        return u, {slot: decay.complement * abs2(u) + decay * slots[slot]}

    return Rule(update, {slot: REAL_ZEROS})


@transformation
def scale_by_adadelta(rho: Decay = 0.9, eps: Positive = 1e-6):
    """Divide by the root mean square of gradients, multiply by that of past updates.

    Zeiler 2012: https://arxiv.org/abs/1212.5701. Same arguments, defaults and numbers
    as `optax.scale_by_adadelta`.

    Args:
        rho: Decay of both averages, in [0, 1).
        eps: Added inside both roots. Positive.

    Keeps `e_g` and `e_x`.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_adadelta(), gradtx.scale(-1.0))
        >>> sorted(tx.init(jnp.zeros(2)))
        ['count', 'e_g', 'e_x']
    """
    e_g = second_moment(rho, "e_g", bias_correction=False)
    return chain(
        divide_by_root(e_g, eps=0.0, eps_root=eps), scale_by_past_rms(rho, eps)
    )


@transformation
def adadelta(
    learning_rate: ScalarOrSchedule | None = None,
    rho: Decay = 0.9,
    eps: Positive = 1e-6,
    weight_decay: Scalar = 0.0,
    weight_decay_mask: Any = None,
):
    """Adadelta: multiply by the root mean square of updates over that of gradients.

    Zeiler 2012: https://arxiv.org/abs/1212.5701. As in `optax.adadelta`, without a
    learning rate the update has the gradient's sign: give one (1 in the paper).

    Args:
        learning_rate: A number, a schedule, or None, see `scale_by_learning_rate`.
        rho: Decay of both averages, in [0, 1).
        eps: Added inside both roots. Positive.
        weight_decay: `weight_decay * param` is added to the gradient.
        weight_decay_mask: The leaves that decay, see `only`; all if None.

    Examples:
        >>> tx = gradtx.adadelta(1.0)
        >>> path = gradtx.trajectory(tx, lambda x: (x - 3.0) ** 2, jnp.zeros(()), 1000)
        >>> print(f"{path.positions[-1]:.1f}")
        3.0
    """
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_adadelta(rho, eps),
        scale_by_learning_rate(learning_rate),
    )
