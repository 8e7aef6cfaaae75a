"""Composable gradient transformations for JAX.

Every optimizer is a pure `(init, update)` pair over pytrees, composed from primitives.
"""

from importlib import import_module as _import_module
from typing import Any as _Any

import optax as _optax
from optax import with_extra_args_support as with_extra_args_support
from optax.contrib import GaLoreDimensionNumbers as GaLoreDimensionNumbers

from gradtx import contrib as contrib
from gradtx import estimate as estimate
from gradtx import transforms as transforms
from gradtx.accumulation import MultiSteps as MultiSteps
from gradtx.accumulation import accumulate as accumulate
from gradtx.adam import first_moment as first_moment
from gradtx.adam import nesterov_correction as nesterov_correction
from gradtx.adam import rectify as rectify
from gradtx.adam import scale_by_acprop as scale_by_acprop
from gradtx.adam import scale_by_adam as scale_by_adam
from gradtx.adam import scale_by_adam_atan2 as scale_by_adam_atan2
from gradtx.adam import scale_by_adamax as scale_by_adamax
from gradtx.adam import scale_by_amsgrad as scale_by_amsgrad
from gradtx.adam import scale_by_belief as scale_by_belief
from gradtx.adam import scale_by_nadam as scale_by_nadam
from gradtx.adam import scale_by_radam as scale_by_radam
from gradtx.adam import scale_by_yogi as scale_by_yogi
from gradtx.adam import scheduled_nesterov_correction as scheduled_nesterov_correction
from gradtx.apollo import scale_by_apollo as scale_by_apollo
from gradtx.apply import apply_updates as apply_updates
from gradtx.averages import at_first as at_first
from gradtx.averages import bias_correction as bias_correction
from gradtx.averages import dampen as dampen
from gradtx.averages import difference as difference
from gradtx.averages import ema as ema
from gradtx.averages import running_maximum as running_maximum
from gradtx.averages import running_sum as running_sum
from gradtx.averages import scale_by_ema as scale_by_ema
from gradtx.averages import sign_average as sign_average
from gradtx.averages import trace as trace
from gradtx.clip import adaptive_grad_clip as adaptive_grad_clip
from gradtx.clip import clip as clip
from gradtx.clip import clip_by_block_norm as clip_by_block_norm
from gradtx.clip import clip_by_block_rms as clip_by_block_rms
from gradtx.clip import clip_by_global_norm as clip_by_global_norm
from gradtx.clip import clip_magnitude as clip_magnitude
from gradtx.clip import keep_params_nonnegative as keep_params_nonnegative
from gradtx.clip import per_example_global_norm_clip as per_example_global_norm_clip
from gradtx.clip import per_example_layer_norm_clip as per_example_layer_norm_clip
from gradtx.clip import unitwise_clip as unitwise_clip
from gradtx.clip import unitwise_norm as unitwise_norm
from gradtx.clip import zero_nans as zero_nans
from gradtx.combine import add as add
from gradtx.combine import chain as chain
from gradtx.combine import identity as identity
from gradtx.combine import let as let
from gradtx.combine import moments as moments
from gradtx.combine import named as named
from gradtx.combine import only as only
from gradtx.combine import recall as recall
from gradtx.combine import stateless as stateless
from gradtx.combine import stateless_with_tree_map as stateless_with_tree_map
from gradtx.config import from_config as from_config
from gradtx.config import register as register
from gradtx.config import to_config as to_config
from gradtx.curvature import average_every as average_every
from gradtx.curvature import scale_by_sophia as scale_by_sophia
from gradtx.diagnostics import clipping as clipping
from gradtx.diagnostics import metrics as metrics
from gradtx.diagnostics import norms as norms
from gradtx.diagnostics import record as record
from gradtx.distance import mechanize as mechanize
from gradtx.distance import scale_by_cocob as scale_by_cocob
from gradtx.distance import (
    scale_by_distance_over_gradients as scale_by_distance_over_gradients,
)
from gradtx.distance import scale_by_dog as scale_by_dog
from gradtx.distance import scale_by_dowg as scale_by_dowg
from gradtx.divide import at_least as at_least
from gradtx.divide import atan2_of_root as atan2_of_root
from gradtx.divide import block_mean as block_mean
from gradtx.divide import centered_second_moment as centered_second_moment
from gradtx.divide import clip_by_normalized_rms as clip_by_normalized_rms
from gradtx.divide import divide_by as divide_by
from gradtx.divide import divide_by_root as divide_by_root
from gradtx.divide import magnitude as magnitude
from gradtx.divide import root as root
from gradtx.divide import scale_by_adadelta as scale_by_adadelta
from gradtx.divide import scale_by_novograd as scale_by_novograd
from gradtx.divide import scale_by_past_rms as scale_by_past_rms
from gradtx.divide import scale_by_rms as scale_by_rms
from gradtx.divide import scale_by_rss as scale_by_rss
from gradtx.divide import scale_by_stddev as scale_by_stddev
from gradtx.divide import second_moment as second_moment
from gradtx.divide import shift as shift
from gradtx.divide import square as square
from gradtx.evaluation import eval_params as eval_params
from gradtx.factored import covered_sum as covered_sum
from gradtx.factored import factored_average as factored_average
from gradtx.factored import factored_ema as factored_ema
from gradtx.factored import scale_by_adam_mini as scale_by_adam_mini
from gradtx.factored import scale_by_came as scale_by_came
from gradtx.factored import scale_by_factored_rms as scale_by_factored_rms
from gradtx.factored import scale_by_sm3 as scale_by_sm3
from gradtx.fallback import register_submodules as _register_submodules
from gradtx.fusion import enable_cpu_fusion as enable_cpu_fusion
from gradtx.grouping import freeze as freeze
from gradtx.grouping import frozen as frozen
from gradtx.grouping import groups as groups
from gradtx.grouping import masked as masked
from gradtx.grouping import multi_transform as multi_transform
from gradtx.grouping import named_chain as named_chain
from gradtx.grouping import partition as partition
from gradtx.grouping import selective_transform as selective_transform
from gradtx.hyperparameters import editable as editable
from gradtx.hyperparameters import hyperparams as hyperparams
from gradtx.injection import inject_hyperparams as inject_hyperparams
from gradtx.inspection import describe as describe
from gradtx.inspection import explain as explain
from gradtx.inspection import memory as memory
from gradtx.interchange import from_optax as from_optax
from gradtx.interchange import to_optax as to_optax
from gradtx.iterates import average_params as average_params
from gradtx.iterates import interpolate_iterates as interpolate_iterates
from gradtx.iterates import lookahead as lookahead
from gradtx.iterates import schedule_free as schedule_free
from gradtx.iterates import schedule_free_eval_params as schedule_free_eval_params
from gradtx.layouts import flatten as flatten
from gradtx.layouts import split_real_and_imaginary as split_real_and_imaginary
from gradtx.lbfgs import scale_by_lbfgs as scale_by_lbfgs
from gradtx.linesearch import (
    scale_by_backtracking_linesearch as scale_by_backtracking_linesearch,
)
from gradtx.linesearch import value_and_grad_from_state as value_and_grad_from_state
from gradtx.mixtures import scale_by_adan as scale_by_adan
from gradtx.mixtures import scale_by_ademamix as scale_by_ademamix
from gradtx.mixtures import scale_by_aggmo as scale_by_aggmo
from gradtx.mixtures import scale_by_lion as scale_by_lion
from gradtx.mixtures import scale_by_qhadam as scale_by_qhadam
from gradtx.mixtures import scale_by_simplified_ademamix as scale_by_simplified_ademamix
from gradtx.modifiers import add_cautious_decay as add_cautious_decay
from gradtx.modifiers import cautious as cautious
from gradtx.modifiers import grams as grams
from gradtx.modifiers import grokfast as grokfast
from gradtx.modifiers import mars as mars
from gradtx.modifiers import orthograd as orthograd
from gradtx.monitoring import measure_with_ema as measure_with_ema
from gradtx.monitoring import monitor as monitor
from gradtx.monitoring import snapshot as snapshot
from gradtx.noise import add_noise as add_noise
from gradtx.noise import (
    differentially_private_aggregate as differentially_private_aggregate,
)
from gradtx.noise import (
    hutchinson_estimator_diag_hessian as hutchinson_estimator_diag_hessian,
)
from gradtx.normalized import scale_by_adopt as scale_by_adopt
from gradtx.normalized import scale_by_laprop as scale_by_laprop
from gradtx.online import scale_by_falling_rate as scale_by_falling_rate
from gradtx.online import scale_by_ftrl as scale_by_ftrl
from gradtx.optimizers.adam import acprop as acprop
from gradtx.optimizers.adam import adabelief as adabelief
from gradtx.optimizers.adam import adam as adam
from gradtx.optimizers.adam import adamax as adamax
from gradtx.optimizers.adam import adamaxw as adamaxw
from gradtx.optimizers.adam import adamw as adamw
from gradtx.optimizers.adam import adopt as adopt
from gradtx.optimizers.adam import amsgrad as amsgrad
from gradtx.optimizers.adam import nadam as nadam
from gradtx.optimizers.adam import nadamw as nadamw
from gradtx.optimizers.adam import optimistic_adam_v2 as optimistic_adam_v2
from gradtx.optimizers.adam import radam as radam
from gradtx.optimizers.adam import yogi as yogi
from gradtx.optimizers.adaptive import adadelta as adadelta
from gradtx.optimizers.adaptive import adafactor as adafactor
from gradtx.optimizers.adaptive import adagrad as adagrad
from gradtx.optimizers.adaptive import fromage as fromage
from gradtx.optimizers.adaptive import lamb as lamb
from gradtx.optimizers.adaptive import lars as lars
from gradtx.optimizers.adaptive import madgrad as madgrad
from gradtx.optimizers.adaptive import novograd as novograd
from gradtx.optimizers.adaptive import rmsprop as rmsprop
from gradtx.optimizers.adaptive import sm3 as sm3
from gradtx.optimizers.low_rank import galore as galore
from gradtx.optimizers.mixtures import adan as adan
from gradtx.optimizers.mixtures import ademamix as ademamix
from gradtx.optimizers.mixtures import simplified_ademamix as simplified_ademamix
from gradtx.optimizers.momentum import dpsgd as dpsgd
from gradtx.optimizers.momentum import lion as lion
from gradtx.optimizers.momentum import momentum as momentum
from gradtx.optimizers.momentum import noisy_sgd as noisy_sgd
from gradtx.optimizers.momentum import (
    optimistic_gradient_descent as optimistic_gradient_descent,
)
from gradtx.optimizers.momentum import rprop as rprop
from gradtx.optimizers.momentum import sgd as sgd
from gradtx.optimizers.momentum import sign_sgd as sign_sgd
from gradtx.optimizers.momentum import signum as signum
from gradtx.optimizers.online import asgd as asgd
from gradtx.optimizers.online import ftrl as ftrl
from gradtx.optimizers.parameter_free import cocob as cocob
from gradtx.optimizers.parameter_free import dadapt_adamw as dadapt_adamw
from gradtx.optimizers.parameter_free import dog as dog
from gradtx.optimizers.parameter_free import dowg as dowg
from gradtx.optimizers.parameter_free import momo as momo
from gradtx.optimizers.parameter_free import momo_adam as momo_adam
from gradtx.optimizers.parameter_free import polyak_sgd as polyak_sgd
from gradtx.optimizers.parameter_free import prodigy as prodigy
from gradtx.optimizers.recent import adam_atan2 as adam_atan2
from gradtx.optimizers.recent import adam_mini as adam_mini
from gradtx.optimizers.recent import adamc as adamc
from gradtx.optimizers.recent import aggmo as aggmo
from gradtx.optimizers.recent import apollo as apollo
from gradtx.optimizers.recent import came as came
from gradtx.optimizers.recent import laprop as laprop
from gradtx.optimizers.recent import qhadam as qhadam
from gradtx.optimizers.recent import stable_adamw as stable_adamw
from gradtx.optimizers.schedule_free import schedule_free_adamw as schedule_free_adamw
from gradtx.optimizers.schedule_free import schedule_free_sgd as schedule_free_sgd
from gradtx.optimizers.second_order import lbfgs as lbfgs
from gradtx.optimizers.second_order import sophia as sophia
from gradtx.past_norms import adagc as adagc
from gradtx.past_norms import limit_norm_growth as limit_norm_growth
from gradtx.plateau import reduce_on_plateau as reduce_on_plateau
from gradtx.restoring import Restored as Restored
from gradtx.restoring import restore as restore
from gradtx.roles import Constant as Constant
from gradtx.roles import Decay as Decay
from gradtx.roles import DType as DType
from gradtx.roles import Every as Every
from gradtx.roles import FirstValue as FirstValue
from gradtx.roles import Key as Key
from gradtx.roles import Member as Member
from gradtx.roles import NonNegative as NonNegative
from gradtx.roles import NonPositive as NonPositive
from gradtx.roles import OpenDecay as OpenDecay
from gradtx.roles import Positive as Positive
from gradtx.roles import Scalar as Scalar
from gradtx.roles import ScalarOrSchedule as ScalarOrSchedule
from gradtx.roles import Share as Share
from gradtx.roles import Size as Size
from gradtx.rule import Leaf as Leaf
from gradtx.rule import Rule as Rule
from gradtx.rule import Step as Step
from gradtx.rule import Tree as Tree
from gradtx.rule import TreeRule as TreeRule
from gradtx.rule import memoryless as memoryless
from gradtx.scale import add_decayed_weights as add_decayed_weights
from gradtx.scale import apply_every as apply_every
from gradtx.scale import centralize as centralize
from gradtx.scale import normalize as normalize
from gradtx.scale import normalize_by_update_norm as normalize_by_update_norm
from gradtx.scale import scale as scale
from gradtx.scale import scale_by_learning_rate as scale_by_learning_rate
from gradtx.scale import scale_by_optimistic_gradient as scale_by_optimistic_gradient
from gradtx.scale import scale_by_param_block_norm as scale_by_param_block_norm
from gradtx.scale import scale_by_param_block_rms as scale_by_param_block_rms
from gradtx.scale import scale_by_schedule as scale_by_schedule
from gradtx.scale import scale_by_sign as scale_by_sign
from gradtx.scale import scale_by_tanh as scale_by_tanh
from gradtx.scale import scale_by_trust_ratio as scale_by_trust_ratio
from gradtx.scale import set_to_zero as set_to_zero
from gradtx.schedules import Schedule as Schedule
from gradtx.schedules import constant_schedule as constant_schedule
from gradtx.schedules import cosine_decay_schedule as cosine_decay_schedule
from gradtx.schedules import cosine_onecycle_schedule as cosine_onecycle_schedule
from gradtx.schedules import cyclic_schedule as cyclic_schedule
from gradtx.schedules import exponential_decay as exponential_decay
from gradtx.schedules import inverse_sqrt_decay as inverse_sqrt_decay
from gradtx.schedules import inverse_time_decay as inverse_time_decay
from gradtx.schedules import join_schedules as join_schedules
from gradtx.schedules import linear_onecycle_schedule as linear_onecycle_schedule
from gradtx.schedules import linear_schedule as linear_schedule
from gradtx.schedules import piecewise_constant_schedule as piecewise_constant_schedule
from gradtx.schedules import (
    piecewise_interpolate_schedule as piecewise_interpolate_schedule,
)
from gradtx.schedules import polynomial_schedule as polynomial_schedule
from gradtx.schedules import rex_schedule as rex_schedule
from gradtx.schedules import schedule as schedule
from gradtx.schedules import sgdr_schedule as sgdr_schedule
from gradtx.schedules import transition_schedule as transition_schedule
from gradtx.schedules import warmup_constant_schedule as warmup_constant_schedule
from gradtx.schedules import (
    warmup_cosine_decay_schedule as warmup_cosine_decay_schedule,
)
from gradtx.schedules import (
    warmup_exponential_decay_schedule as warmup_exponential_decay_schedule,
)
from gradtx.schedules import (
    warmup_inverse_sqrt_schedule as warmup_inverse_sqrt_schedule,
)
from gradtx.schedules import (
    warmup_stable_decay_schedule as warmup_stable_decay_schedule,
)
from gradtx.sharpness import sam as sam
from gradtx.skipping import apply_if_finite as apply_if_finite
from gradtx.skipping import norm_above as norm_above
from gradtx.skipping import norm_spikes as norm_spikes
from gradtx.skipping import not_finite as not_finite
from gradtx.skipping import skip as skip
from gradtx.skipping import skip_large_updates as skip_large_updates
from gradtx.skipping import skip_not_finite as skip_not_finite
from gradtx.stable import DEFINED as _DEFINED
from gradtx.stable import register_old_modules as _register_old_modules
from gradtx.stable import stable as _stable
from gradtx.state_dict import State as State
from gradtx.step_size import scale_by_dadapt_adam as scale_by_dadapt_adam
from gradtx.step_size import scale_by_madgrad as scale_by_madgrad
from gradtx.step_size import scale_by_model_step as scale_by_model_step
from gradtx.step_size import scale_by_polyak as scale_by_polyak
from gradtx.step_size import scale_by_prodigy as scale_by_prodigy
from gradtx.step_size import scale_by_rprop as scale_by_rprop
from gradtx.subspace import in_subspace as in_subspace
from gradtx.subspace import main_directions as main_directions
from gradtx.subspace import scale_by_galore as scale_by_galore
from gradtx.trajectories import Trajectory as Trajectory
from gradtx.trajectories import trajectory as trajectory
from gradtx.transform import GradientTransformation as GradientTransformation
from gradtx.transform import transformation as transformation
from gradtx.wrap import conditionally_mask as conditionally_mask
from gradtx.wrap import conditionally_transform as conditionally_transform
from gradtx.zoom import scale_by_zoom_linesearch as scale_by_zoom_linesearch

__version__ = "0.6.0"

for _exported in list(globals().values()):
    if getattr(_exported, "__module__", "").startswith("gradtx."):
        _stable(_exported)
_register_submodules()
_register_old_modules()


_ON_DEMAND = ("laws", "plot", "testing")


def __getattr__(name: str) -> _Any:
    """Names that are not ours (losses, projections, ...) are optax's."""
    if name in _ON_DEMAND:
        return _import_module(f"gradtx.{name}")
    if name in _DEFINED:
        return _DEFINED[name]
    if name.startswith("_"):
        raise AttributeError(f"module 'gradtx' has no attribute {name!r}")
    try:
        return getattr(_optax, name)
    except AttributeError:
        message = f"neither gradtx nor optax has {name!r}"
        raise AttributeError(message) from None


def __dir__() -> list[str]:
    theirs = (name for name in dir(_optax) if not name.startswith("_"))
    return sorted({*globals(), *theirs})
