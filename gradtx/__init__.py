"""Composable gradient transformations for JAX.

Every optimizer is a pure `(init, update)` pair over pytrees, composed from primitives.
"""

from typing import Any as _Any

import optax as _optax

from gradtx.averages import bias_correction as bias_correction
from gradtx.averages import centered_second_moment as centered_second_moment
from gradtx.averages import divide_by_root as divide_by_root
from gradtx.averages import ema as ema
from gradtx.averages import running_maximum as running_maximum
from gradtx.averages import running_sum as running_sum
from gradtx.averages import scale_by_adam as scale_by_adam
from gradtx.averages import scale_by_amsgrad as scale_by_amsgrad
from gradtx.averages import scale_by_ema as scale_by_ema
from gradtx.averages import scale_by_rms as scale_by_rms
from gradtx.averages import scale_by_rss as scale_by_rss
from gradtx.averages import scale_by_stddev as scale_by_stddev
from gradtx.averages import square as square
from gradtx.averages import trace as trace
from gradtx.clip import clip as clip
from gradtx.clip import clip_by_global_norm as clip_by_global_norm
from gradtx.combine import add as add
from gradtx.combine import chain as chain
from gradtx.combine import identity as identity
from gradtx.combine import moments as moments
from gradtx.combine import named as named
from gradtx.optimizers.adaptive import adagrad as adagrad
from gradtx.optimizers.adaptive import adam as adam
from gradtx.optimizers.adaptive import adamw as adamw
from gradtx.optimizers.adaptive import amsgrad as amsgrad
from gradtx.optimizers.adaptive import nadamw as nadamw
from gradtx.optimizers.adaptive import rmsprop as rmsprop
from gradtx.optimizers.momentum import momentum as momentum
from gradtx.optimizers.momentum import sgd as sgd
from gradtx.roles import Constant as Constant
from gradtx.roles import Decay as Decay
from gradtx.roles import DType as DType
from gradtx.roles import FirstValue as FirstValue
from gradtx.roles import Member as Member
from gradtx.roles import NonNegative as NonNegative
from gradtx.roles import Positive as Positive
from gradtx.roles import Scalar as Scalar
from gradtx.roles import ScalarOrSchedule as ScalarOrSchedule
from gradtx.rule import Leaf as Leaf
from gradtx.rule import Rule as Rule
from gradtx.rule import Tree as Tree
from gradtx.rule import TreeRule as TreeRule
from gradtx.rule import memoryless as memoryless
from gradtx.scale import add_decayed_weights as add_decayed_weights
from gradtx.scale import scale as scale
from gradtx.scale import scale_by_learning_rate as scale_by_learning_rate
from gradtx.scale import scale_by_schedule as scale_by_schedule
from gradtx.scale import scale_by_sign as scale_by_sign
from gradtx.schedules import Schedule as Schedule
from gradtx.schedules import constant_schedule as constant_schedule
from gradtx.schedules import cosine_decay_schedule as cosine_decay_schedule
from gradtx.schedules import exponential_decay as exponential_decay
from gradtx.schedules import inverse_time_decay as inverse_time_decay
from gradtx.schedules import join_schedules as join_schedules
from gradtx.schedules import linear_schedule as linear_schedule
from gradtx.schedules import piecewise_constant_schedule as piecewise_constant_schedule
from gradtx.schedules import polynomial_schedule as polynomial_schedule
from gradtx.schedules import schedule as schedule
from gradtx.schedules import (
    warmup_cosine_decay_schedule as warmup_cosine_decay_schedule,
)
from gradtx.transform import GradientTransformation as GradientTransformation
from gradtx.transform import transformation as transformation

__version__ = "0.1.0"


def __getattr__(name: str) -> _Any:
    """Names that are not ours (losses, projections, ...) are optax's."""
    if name.startswith("_"):
        raise AttributeError(f"module 'gradtx' has no attribute {name!r}")
    try:
        return getattr(_optax, name)
    except AttributeError:
        message = f"neither gradtx nor optax has {name!r}"
        raise AttributeError(message) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_optax)})
