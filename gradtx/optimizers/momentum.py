"""Gradient descent, and its momentum."""

from __future__ import annotations

from gradtx.averages import scale_by_ema, trace
from gradtx.combine import chain, identity
from gradtx.roles import Decay, DType, NonNegative, ScalarOrSchedule
from gradtx.scale import scale_by_learning_rate
from gradtx.transform import transformation


@transformation
def sgd(
    learning_rate: ScalarOrSchedule,
    momentum: NonNegative | None = None,
    nesterov: bool = False,
    accumulator_dtype: DType | None = None,
):
    """Gradient descent, with momentum as a decaying sum if asked for.

    Sutskever et al. 2013: http://proceedings.mlr.press/v28/sutskever13.pdf. As optax.

    Args:
        learning_rate: A number or a schedule.
        momentum: Decay of the sum, at least 0; None keeps no sum.
        nesterov: Whether to look one step ahead along the sum.
        accumulator_dtype: What the sum is stored in; at least float32 if None.

    Keeps `trace`, like the parameter, if there is momentum.
    """
    has_momentum = momentum is not None
    return chain(
        trace(momentum, nesterov, accumulator_dtype) if has_momentum else identity(),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def momentum(learning_rate: ScalarOrSchedule, decay: Decay = 0.9):
    """Gradient descent along the average gradient: `v = b v + (1 - b) g`.

    The averaging form, whose steps are `1 - b` times those of `sgd(momentum=b)`.

    Args:
        learning_rate: A number or a schedule.
        decay: b, in [0, 1): the average is over about 1 / (1 - b) gradients.

    Keeps `mu`, like the parameter, at least float32.
    """
    return chain(scale_by_ema(decay, "mu"), scale_by_learning_rate(learning_rate))
