"""Schedule-free SGD and AdamW: averaged iterates instead of a falling rate."""

from __future__ import annotations

from typing import Any

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    Decay,
    DType,
    Fixed,
    NonNegative,
    OpenDecay,
    Positive,
    Scalar,
    Steps,
)
from gradtx.core.docstrings import described_by
from gradtx.optimizers.rmsprop import scale_by_rms
from gradtx.schedules.warmups import warmup_constant_schedule
from gradtx.transforms.combine import chain
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.transforms.weight_decay import decay_if_any, decayed_step
from gradtx.wrappers.schedule_free import schedule_free


def _warmed(learning_rate: Any, warmup_steps: Any) -> Any:
    """The learning rate, after a linear warmup from 0."""
    if warmup_steps is None:
        return learning_rate
    return warmup_constant_schedule(0.0, learning_rate, warmup_steps)


@described_by(schedule_free, decayed_step)
@transformation
def schedule_free_sgd(
    learning_rate: Fixed[Positive] = 1.0,
    warmup_steps: Steps | None = None,
    b1: OpenDecay = 0.9,
    weight_decay: Scalar | None = None,
    weight_lr_power: Scalar = 2.0,
    state_dtype: DType | None = None,
):
    """Schedule-free SGD: SGD with averaged iterates instead of a schedule.

    Defazio et al. 2024: https://arxiv.org/abs/2405.15682. Same arguments, defaults and
    numbers as `optax.contrib.schedule_free_sgd`.

    Args:
        learning_rate: Positive. A number: no schedule is needed.
        warmup_steps: Steps of linear warmup from 0; no warmup if None.
        weight_decay: `weight_decay * param` is added to the gradient, so that the
            direction is computed with it. At least 0 as a rule; None adds nothing.

    Examples:
        >>> tx, params = gradtx.schedule_free_sgd(0.75), jnp.array(4.0)
        >>> state = tx.init(params)
        >>> for _ in range(20):
        ...     updates, state = tx.update(2 * (params - 3), state, params)
        ...     params = params + updates
        >>> print(f"{params:.3f} {gradtx.eval_params(tx, state, params):.3f}")
        3.009 3.004
    """
    rate = _warmed(learning_rate, warmup_steps)
    base = chain(decay_if_any(weight_decay), scale_by_learning_rate(rate))
    return schedule_free(base, rate, b1, weight_lr_power, state_dtype)


@transformation
def schedule_free_adamw(
    learning_rate: Fixed[Positive] = 0.0025,
    warmup_steps: Steps | None = None,
    b1: OpenDecay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    weight_decay: Scalar = 0.0,
    weight_lr_power: Scalar = 2.0,
    state_dtype: DType | None = None,
):
    """Schedule-free AdamW: AdamW with averaged iterates instead of a schedule.

    Defazio et al. 2024: https://arxiv.org/abs/2405.15682. Same arguments, defaults and
    numbers as `optax.contrib.schedule_free_adamw`.

    Args:
        learning_rate: Positive. A number: no schedule is needed.
        warmup_steps: Steps of linear warmup from 0; no warmup if None.
        b1: Weight of the mean in the parameters, in (0, 1); see `interpolate_iterates`.
        b2: Decay of the second moment, in [0, 1).
        eps: Added to the root. At least 0.
        weight_decay: Decoupled weight decay, times the learning rate.
        weight_lr_power: An iterate's weight is the learning rate to this power.
        state_dtype: Storage dtype of the iterates; at least float32 if None.

    Examples:
        >>> tx, params = gradtx.schedule_free_adamw(0.1, warmup_steps=5), jnp.array(4.0)
        >>> state = tx.init(params)
        >>> for _ in range(100):
        ...     updates, state = tx.update(2 * (params - 3), state, params)
        ...     params = params + updates
        >>> print(f"{gradtx.eval_params(tx, state, params):.1f}")
        3.0
    """
    rate = _warmed(learning_rate, warmup_steps)
    direction = scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True)
    base = decayed_step(direction, weight_decay, None, rate)
    return schedule_free(base, rate, b1, weight_lr_power, state_dtype)
