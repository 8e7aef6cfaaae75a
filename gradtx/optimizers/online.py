"""Online learning: averaged SGD, FTRL, dual averaging, coin betting."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    Decay,
    Fixed,
    NonNegative,
    NonPositive,
    Positive,
    Scalar,
    ScalarOrSchedule,
)
from gradtx.core.arithmetic import abs2, safe_ratio
from gradtx.core.context import Leaf, refuse_complex
from gradtx.core.docstrings import described_by
from gradtx.core.rule import REAL_ZEROS, ZEROS, Rule, Slot, like_param, memoryless
from gradtx.transforms.averages import like_update
from gradtx.transforms.combine import chain
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.transforms.weight_decay import add_decayed_weights, decayed_step
from gradtx.wrappers.average import average_params


@transformation
def scale_by_falling_rate(
    learning_rate: ScalarOrSchedule, lambd: NonNegative, alpha: NonNegative
):
    """Multiply by `-learning_rate / (1 + lambd * learning_rate * (t - 1))**alpha`.

    Used by `asgd`.

    Args:
        learning_rate: Learning rate of the first update, a number or a schedule.
        lambd: Speed at which the rate falls, per unit of learning rate and update. At
            least 0.
        alpha: Power of the fall. At least 0.

    Examples:
        >>> tx = gradtx.scale_by_falling_rate(0.5, lambd=2.0, alpha=1.0)
        >>> updates, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
        >>> print(updates, tx.update(jnp.ones(()), state)[0])
        -0.5 -0.25
    """

    def update(u: Any, leaf: Leaf) -> Any:
        return -learning_rate / (1 + lambd * learning_rate * (leaf.t - 1)) ** alpha * u

    return memoryless(update, is_step=True)


@transformation
def asgd(
    learning_rate: ScalarOrSchedule = 1e-2,
    lambd: NonNegative = 1e-4,
    alpha: NonNegative = 0.75,
    t0: NonNegative = 1e6,
    weight_decay: Scalar = 0.0,
):
    """ASGD: descent with a falling learning rate, and an average of its iterates.

    Polyak and Juditsky 1992: https://doi.org/10.1137/0330046; as `torch.optim.ASGD`.

    Args:
        learning_rate: Initial learning rate, a number or a schedule.
        lambd: Speed at which it falls, and a weight decay. At least 0.
        alpha: Power of the fall. At least 0.
        t0: The average starts at update t0 + 2; before, it is the last iterate.
        weight_decay: `weight_decay * param` is added to the gradient.

    Keeps `average`, the parameters to evaluate with, see `eval_params`.

    Examples:
        >>> tx, params = gradtx.asgd(0.5, lambd=0.0, alpha=0.0, t0=0.0), jnp.array(4.0)
        >>> state = tx.init(params)
        >>> for _ in range(3):
        ...     updates, state = tx.update(2.5 * params, state, params)
        ...     params = params + updates
        >>> print(params, gradtx.eval_params(tx, state, params))
        -0.0625 0.09375
    """
    descent = chain(
        add_decayed_weights(weight_decay),
        add_decayed_weights(lambd),
        scale_by_falling_rate(learning_rate, lambd, alpha),
    )
    return average_params(descent, "polyak", t0 + 1)


@transformation
def scale_by_ftrl(
    learning_rate: NonNegative,
    learning_rate_power: NonPositive = -0.5,
    initial_accumulator_value: Fixed[NonNegative] = 0.1,
    l1: NonNegative = 0.0,
    l2: NonNegative = 0.0,
    l2_shrinkage: NonNegative = 0.0,
    beta: NonNegative = 0.0,
):
    """FTRL-Proximal's step, for sparse weights of linear models.

    McMahan et al. 2013: https://research.google/pubs/pub41159/; as `keras.optimizers`.
    The first step multiplies the initial parameters by `1 - (n0 / n1)**0.5`, where n is
    the sum of squares: they become about 0 if gradients are small and n0 is not 0.

    Args:
        learning_rate: A number or a schedule, at least 0; 0 changes nothing.
        learning_rate_power: Power of the sum of squares, at most 0; -0.5 in the paper.
        initial_accumulator_value: Initial sum of squares (0 in the paper). At least 0.
        l1: Weight of the absolute value. At least 0.
        l2: Weight of the square, half of the paper's. At least 0.
        l2_shrinkage: `2 * l2_shrinkage * param` is added to the gradient. At least 0.
        beta: Added to the root; 1 in the paper. At least 0.

    Keeps `accumulator` and `linear`.

    Raises:
        TypeError: At `update`: the update is complex.

    Examples:
        >>> tx, params = gradtx.scale_by_ftrl(1.0, l1=0.5), jnp.zeros(2)
        >>> updates, _ = tx.update(jnp.array([-2.0, 0.1]), tx.init(params), params)
        >>> print(*(f"{u:.2f}" for u in updates))
        0.74 0.00
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

    slots = {"accumulator": like_update(initial_accumulator_value), "linear": ZEROS}
    return Rule(update, slots, is_step=True)


@described_by(scale_by_ftrl)
@transformation
def ftrl(
    learning_rate: NonNegative,
    learning_rate_power: NonPositive = -0.5,
    initial_accumulator_value: Fixed[NonNegative] = 0.1,
    l1: NonNegative = 0.0,
    l2: NonNegative = 0.0,
    l2_shrinkage: NonNegative = 0.0,
    beta: NonNegative = 0.0,
):
    """FTRL-Proximal: sparse weights of linear models; initialize them at 0.

    McMahan et al. 2013: https://research.google/pubs/pub41159/; as `keras.optimizers`.

    Examples:
        >>> tx, params = gradtx.ftrl(1.0, l1=0.5), jnp.zeros(2)
        >>> updates, _ = tx.update(jnp.array([-2.0, 0.1]), tx.init(params), params)
        >>> print(*(f"{u:.2f}" for u in updates))
        0.74 0.00
    """
    return scale_by_ftrl(
        learning_rate, learning_rate_power, initial_accumulator_value, l1, l2,
        l2_shrinkage, beta,
    )  # fmt: skip


@transformation
def scale_by_madgrad(
    learning_rate: Scalar, momentum: Decay = 0.9, eps: Positive = 1e-6
):
    """MADGRAD's step: momentumized, adaptive, dual averaged gradient.

    Defazio and Jelassi 2021, Algorithm 1: https://arxiv.org/abs/2101.11075. Returns the
    update, with its sign: do not negate it.

    Args:
        learning_rate: A number or a schedule.
        momentum: Weight of the current parameter in the next one, in [0, 1).
        eps: Added to the cube root, and to a learning rate that is not 0. Positive.

    Keeps `grad_sum_sq`, `s` and the first parameters `x0`.

    Examples:
        >>> tx, params = gradtx.scale_by_madgrad(0.5), jnp.zeros(())
        >>> print(f"{tx.update(jnp.array(8.0), tx.init(params), params)[0]:.2f}")
        -0.13
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        # As in the authors' code since 1.3: eps is not added to a rate of 0.
        rate = jnp.where(learning_rate == 0, 0, learning_rate + eps)
        weight = rate * jnp.sqrt(leaf.t)
        squares = slots["grad_sum_sq"] + weight * abs2(u)
        total = slots["s"] + weight * u
        # The floor acts only where all gradients were 0, for a finite derivative.
        size = jnp.cbrt(jnp.maximum(squares, jnp.finfo(squares.dtype).tiny)) + eps
        step = momentum.complement * (slots["x0"] - total / size - leaf.param)
        return step, slots | {"grad_sum_sq": squares, "s": total}

    slots = {"grad_sum_sq": REAL_ZEROS, "s": ZEROS, "x0": like_param()}
    return Rule(update, slots, is_step=True)


@described_by(scale_by_madgrad, decayed_step)
@transformation
def madgrad(
    learning_rate: ScalarOrSchedule,
    momentum: Decay = 0.9,
    weight_decay: Scalar = 0.0,
    eps: Positive = 1e-6,
):
    """MADGRAD: dual averaging over a cube root.

    Defazio and Jelassi 2021: https://arxiv.org/abs/2101.11075. Same arguments, defaults
    and numbers as `optax.contrib.madgrad`.

    Args:
        weight_decay: `weight_decay * param` is added to the gradient, so that the
            direction is computed with it. At least 0 as a rule; a constant 0 adds
            nothing.

    Examples:
        >>> tx = gradtx.madgrad(0.1)
        >>> path = gradtx.trajectory(tx, lambda x: (x - 3.0) ** 2, jnp.zeros(()), 200)
        >>> print(f"{path.positions[-1]:.2f}")
        3.00
    """
    return chain(
        add_decayed_weights(weight_decay),
        scale_by_madgrad(learning_rate, momentum, eps),
    )


@transformation
def scale_by_cocob(alpha: NonNegative = 100.0, eps: Fixed[Positive] = 1e-8):
    """COCOB-Backprop's step: bet a share of past winnings on each coordinate.

    Orabona and Tommasi 2017: https://arxiv.org/abs/1705.07795, Algorithm 2. Returns the
    update, with its sign: do not negate it.

    Args:
        alpha: Least denominator of a bet, in largest gradients so far. At least 0.
        eps: Initial value of the largest gradient. Positive.

    Keeps `init_particles`, `cumulative_gradients`, `scale`, `subgradients`, `reward`.

    Examples:
        >>> tx, params = gradtx.scale_by_cocob(), jnp.zeros(())
        >>> updates, _ = tx.update(jnp.array(-3.0), tx.init(params), params)
        >>> print(f"{updates:.2f}")
        0.01
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        size = jnp.abs(u)
        way = leaf.param - slots["init_particles"]
        scale = jnp.maximum(slots["scale"], size)
        total = slots["subgradients"] + size
        reward = jnp.maximum(slots["reward"] - jnp.real(jnp.conj(u) * way), 0)
        against = slots["cumulative_gradients"] - u
        # Two ratios, since the product of two gradients may be out of range.
        share = (scale + reward) / jnp.maximum(total + scale, alpha * scale)
        return against / scale * share - way, slots | {
            "cumulative_gradients": against,
            "scale": scale,
            "subgradients": total,
            "reward": reward,
        }

    return Rule(
        update,
        {
            "init_particles": like_param(),
            "cumulative_gradients": ZEROS,
            "scale": Slot(
                lambda array: jnp.full_like(array.real, eps), is_elementwise=True
            ),
            "subgradients": REAL_ZEROS,
            "reward": REAL_ZEROS,
        },
        is_step=True,
    )


@described_by(scale_by_cocob, decayed_step)
@transformation
def cocob(
    learning_rate: ScalarOrSchedule = 1.0,
    alpha: NonNegative = 100.0,
    eps: Fixed[Positive] = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """COCOB: coin betting on each coordinate, without a learning rate to tune.

    Orabona and Tommasi 2017: https://arxiv.org/abs/1705.07795. Same arguments, defaults
    and numbers as `optax.contrib.cocob`.

    Args:
        learning_rate: A number or a schedule that multiplies the gradient.
        weight_decay: `weight_decay * param` is added to the gradient, so that the
            direction is computed with it. At least 0 as a rule; a constant 0 adds
            nothing.

    Examples:
        >>> tx = gradtx.cocob()
        >>> path = gradtx.trajectory(tx, lambda x: (x - 3.0) ** 2, jnp.zeros(()), 500)
        >>> print(f"{path.positions[-1]:.1f}")
        3.0
    """
    return chain(
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        scale_by_cocob(alpha, eps),
    )
