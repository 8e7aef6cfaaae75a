"""Composable gradient transformations for JAX.

Every optimizer is a pure `(init, update)` pair over pytrees, composed from primitives.
Parts used by recipes only are in `gradtx.transforms`, older names of annotations in
`gradtx.annotations`; they are attributes of `gradtx` too, but not listed here.
"""

from importlib import import_module as _import_module
from typing import Any as _Any

import optax as _optax
from optax import with_extra_args_support as with_extra_args_support
from optax.contrib import GaLoreDimensionNumbers as GaLoreDimensionNumbers
from optax.contrib import MuonDimensionNumbers as MuonDimensionNumbers

from gradtx import annotations as annotations
from gradtx import contrib as contrib
from gradtx import estimate as estimate
from gradtx import matrices as matrices
from gradtx import transforms as transforms
from gradtx.by_name import list_optimizers as list_optimizers
from gradtx.by_name import optimizer as optimizer
from gradtx.compiler.evaluate import eval_params as eval_params
from gradtx.compiler.fusion import enable_cpu_fusion as enable_cpu_fusion
from gradtx.compiler.transformation import (
    GradientTransformation as GradientTransformation,
)
from gradtx.compiler.transformation import transformation as transformation
from gradtx.core.annotations import Decay as Decay
from gradtx.core.annotations import DType as DType
from gradtx.core.annotations import Fixed as Fixed
from gradtx.core.annotations import Fraction as Fraction
from gradtx.core.annotations import Key as Key
from gradtx.core.annotations import Member as Member
from gradtx.core.annotations import NonNegative as NonNegative
from gradtx.core.annotations import Positive as Positive
from gradtx.core.annotations import PositiveInt as PositiveInt
from gradtx.core.annotations import Scalar as Scalar
from gradtx.core.annotations import ScalarOrSchedule as ScalarOrSchedule
from gradtx.core.annotations import Size as Size
from gradtx.core.apply import apply_updates as apply_updates
from gradtx.core.context import Leaf as Leaf
from gradtx.core.context import SettleContext as SettleContext
from gradtx.core.context import Tree as Tree
from gradtx.core.fallback import register_submodules as _register_submodules
from gradtx.core.rule import Node as Node
from gradtx.core.rule import Rule as Rule
from gradtx.core.rule import Slot as Slot
from gradtx.core.rule import TreeRule as TreeRule
from gradtx.core.rule import memoryless as memoryless
from gradtx.core.stable import DEFINED as _DEFINED
from gradtx.core.stable import register_old_modules as _register_old_modules
from gradtx.core.stable import stable as _stable
from gradtx.core.state import State as State
from gradtx.interop.checkpoints import Restored as Restored
from gradtx.interop.checkpoints import restore as restore
from gradtx.interop.configs import from_config as from_config
from gradtx.interop.configs import register as register
from gradtx.interop.configs import to_config as to_config
from gradtx.interop.optax_states import from_optax as from_optax
from gradtx.interop.optax_states import to_optax as to_optax
from gradtx.introspect.describe import describe as describe
from gradtx.introspect.describe import explain as explain
from gradtx.introspect.memory import memory as memory
from gradtx.introspect.metrics import clipping as clipping
from gradtx.introspect.metrics import metrics as metrics
from gradtx.introspect.metrics import norms as norms
from gradtx.introspect.metrics import record as record
from gradtx.introspect.monitor import measure_with_ema as measure_with_ema
from gradtx.introspect.monitor import monitor as monitor
from gradtx.introspect.monitor import snapshot as snapshot
from gradtx.matrices.projections import main_directions as main_directions
from gradtx.matrices.subspace import in_subspace as in_subspace
from gradtx.optimizers.adabelief import acprop as acprop
from gradtx.optimizers.adabelief import adabelief as adabelief
from gradtx.optimizers.adabelief import scale_by_acprop as scale_by_acprop
from gradtx.optimizers.adabelief import scale_by_belief as scale_by_belief
from gradtx.optimizers.adam import adam as adam
from gradtx.optimizers.adam import adamc as adamc
from gradtx.optimizers.adam import adamw as adamw
from gradtx.optimizers.adam import amsgrad as amsgrad
from gradtx.optimizers.adam import nadam as nadam
from gradtx.optimizers.adam import nadamw as nadamw
from gradtx.optimizers.adam import optimistic_adam_v2 as optimistic_adam_v2
from gradtx.optimizers.adam import scale_by_adam as scale_by_adam
from gradtx.optimizers.adam import scale_by_amsgrad as scale_by_amsgrad
from gradtx.optimizers.adam import scale_by_nadam as scale_by_nadam
from gradtx.optimizers.adam import (
    scheduled_nesterov_correction as scheduled_nesterov_correction,
)
from gradtx.optimizers.adam_variants import adam_atan2 as adam_atan2
from gradtx.optimizers.adam_variants import adamax as adamax
from gradtx.optimizers.adam_variants import adamaxw as adamaxw
from gradtx.optimizers.adam_variants import radam as radam
from gradtx.optimizers.adam_variants import rectify as rectify
from gradtx.optimizers.adam_variants import scale_by_adam_atan2 as scale_by_adam_atan2
from gradtx.optimizers.adam_variants import scale_by_adamax as scale_by_adamax
from gradtx.optimizers.adam_variants import scale_by_radam as scale_by_radam
from gradtx.optimizers.adam_variants import scale_by_yogi as scale_by_yogi
from gradtx.optimizers.adam_variants import stable_adamw as stable_adamw
from gradtx.optimizers.adam_variants import yogi as yogi
from gradtx.optimizers.distance import dog as dog
from gradtx.optimizers.distance import dowg as dowg
from gradtx.optimizers.distance import (
    scale_by_distance_over_gradients as scale_by_distance_over_gradients,
)
from gradtx.optimizers.distance import scale_by_dog as scale_by_dog
from gradtx.optimizers.distance import scale_by_dowg as scale_by_dowg
from gradtx.optimizers.layerwise import fromage as fromage
from gradtx.optimizers.layerwise import lamb as lamb
from gradtx.optimizers.layerwise import lars as lars
from gradtx.optimizers.layerwise import novograd as novograd
from gradtx.optimizers.layerwise import scale_by_novograd as scale_by_novograd
from gradtx.optimizers.layerwise import scale_by_trust_ratio as scale_by_trust_ratio
from gradtx.optimizers.lbfgs import lbfgs as lbfgs
from gradtx.optimizers.lbfgs import scale_by_lbfgs as scale_by_lbfgs
from gradtx.optimizers.loss_model import momo as momo
from gradtx.optimizers.loss_model import momo_adam as momo_adam
from gradtx.optimizers.loss_model import polyak_sgd as polyak_sgd
from gradtx.optimizers.loss_model import scale_by_model_step as scale_by_model_step
from gradtx.optimizers.loss_model import scale_by_polyak as scale_by_polyak
from gradtx.optimizers.low_memory import adafactor as adafactor
from gradtx.optimizers.low_memory import adam_mini as adam_mini
from gradtx.optimizers.low_memory import came as came
from gradtx.optimizers.low_memory import scale_by_adam_mini as scale_by_adam_mini
from gradtx.optimizers.low_memory import scale_by_came as scale_by_came
from gradtx.optimizers.low_memory import scale_by_factored_rms as scale_by_factored_rms
from gradtx.optimizers.low_memory import scale_by_sm3 as scale_by_sm3
from gradtx.optimizers.low_memory import sm3 as sm3
from gradtx.optimizers.low_rank import apollo as apollo
from gradtx.optimizers.low_rank import galore as galore
from gradtx.optimizers.low_rank import scale_by_apollo as scale_by_apollo
from gradtx.optimizers.low_rank import scale_by_galore as scale_by_galore
from gradtx.optimizers.mixed_momentum import adan as adan
from gradtx.optimizers.mixed_momentum import ademamix as ademamix
from gradtx.optimizers.mixed_momentum import aggmo as aggmo
from gradtx.optimizers.mixed_momentum import lion as lion
from gradtx.optimizers.mixed_momentum import qhadam as qhadam
from gradtx.optimizers.mixed_momentum import scale_by_adan as scale_by_adan
from gradtx.optimizers.mixed_momentum import scale_by_ademamix as scale_by_ademamix
from gradtx.optimizers.mixed_momentum import scale_by_aggmo as scale_by_aggmo
from gradtx.optimizers.mixed_momentum import scale_by_lion as scale_by_lion
from gradtx.optimizers.mixed_momentum import scale_by_qhadam as scale_by_qhadam
from gradtx.optimizers.mixed_momentum import (
    scale_by_simplified_ademamix as scale_by_simplified_ademamix,
)
from gradtx.optimizers.mixed_momentum import simplified_ademamix as simplified_ademamix
from gradtx.optimizers.muon import muon as muon
from gradtx.optimizers.muon import scale_by_muon as scale_by_muon
from gradtx.optimizers.normalized import adopt as adopt
from gradtx.optimizers.normalized import laprop as laprop
from gradtx.optimizers.normalized import scale_by_adopt as scale_by_adopt
from gradtx.optimizers.normalized import scale_by_laprop as scale_by_laprop
from gradtx.optimizers.online import asgd as asgd
from gradtx.optimizers.online import cocob as cocob
from gradtx.optimizers.online import ftrl as ftrl
from gradtx.optimizers.online import madgrad as madgrad
from gradtx.optimizers.online import scale_by_cocob as scale_by_cocob
from gradtx.optimizers.online import scale_by_falling_rate as scale_by_falling_rate
from gradtx.optimizers.online import scale_by_ftrl as scale_by_ftrl
from gradtx.optimizers.online import scale_by_madgrad as scale_by_madgrad
from gradtx.optimizers.prodigy import dadapt_adamw as dadapt_adamw
from gradtx.optimizers.prodigy import prodigy as prodigy
from gradtx.optimizers.prodigy import scale_by_dadapt_adam as scale_by_dadapt_adam
from gradtx.optimizers.prodigy import scale_by_prodigy as scale_by_prodigy
from gradtx.optimizers.rmsprop import adadelta as adadelta
from gradtx.optimizers.rmsprop import adagrad as adagrad
from gradtx.optimizers.rmsprop import rmsprop as rmsprop
from gradtx.optimizers.rmsprop import scale_by_adadelta as scale_by_adadelta
from gradtx.optimizers.rmsprop import scale_by_past_rms as scale_by_past_rms
from gradtx.optimizers.rmsprop import scale_by_rms as scale_by_rms
from gradtx.optimizers.rmsprop import scale_by_rss as scale_by_rss
from gradtx.optimizers.rmsprop import scale_by_stddev as scale_by_stddev
from gradtx.optimizers.rprop import rprop as rprop
from gradtx.optimizers.rprop import scale_by_rprop as scale_by_rprop
from gradtx.optimizers.schedule_free import schedule_free_adamw as schedule_free_adamw
from gradtx.optimizers.schedule_free import schedule_free_sgd as schedule_free_sgd
from gradtx.optimizers.second_order import scale_by_sophia as scale_by_sophia
from gradtx.optimizers.second_order import sophia as sophia
from gradtx.optimizers.sgd import dpsgd as dpsgd
from gradtx.optimizers.sgd import momentum as momentum
from gradtx.optimizers.sgd import noisy_sgd as noisy_sgd
from gradtx.optimizers.sgd import (
    optimistic_gradient_descent as optimistic_gradient_descent,
)
from gradtx.optimizers.sgd import sgd as sgd
from gradtx.optimizers.sgd import sign_sgd as sign_sgd
from gradtx.optimizers.sgd import signum as signum
from gradtx.rate_finder import RateCurve as RateCurve
from gradtx.rate_finder import find_learning_rate as find_learning_rate
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
from gradtx.schedules import per_epoch as per_epoch
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
from gradtx.trajectories import Trajectory as Trajectory
from gradtx.trajectories import trajectory as trajectory
from gradtx.transforms.averages import running_sum as running_sum
from gradtx.transforms.averages import scale_by_ema as scale_by_ema
from gradtx.transforms.averages import trace as trace
from gradtx.transforms.bias import bias_correction as bias_correction
from gradtx.transforms.bias import ema as ema
from gradtx.transforms.bias import first_moment as first_moment
from gradtx.transforms.combine import add as add
from gradtx.transforms.combine import chain as chain
from gradtx.transforms.combine import identity as identity
from gradtx.transforms.combine import let as let
from gradtx.transforms.combine import moments as moments
from gradtx.transforms.combine import named as named
from gradtx.transforms.combine import only as only
from gradtx.transforms.combine import recall as recall
from gradtx.transforms.combine import stateless as stateless
from gradtx.transforms.combine import stateless_with_tree_map as stateless_with_tree_map
from gradtx.transforms.decay_masks import decay_mask as decay_mask
from gradtx.transforms.divide import divide_by as divide_by
from gradtx.transforms.divide import divide_by_root as divide_by_root
from gradtx.transforms.estimators import (
    centered_second_moment as centered_second_moment,
)
from gradtx.transforms.estimators import second_moment as second_moment
from gradtx.transforms.estimators import square as square
from gradtx.transforms.gradient_clipping import adaptive_grad_clip as adaptive_grad_clip
from gradtx.transforms.gradient_clipping import clip as clip
from gradtx.transforms.gradient_clipping import clip_by_block_norm as clip_by_block_norm
from gradtx.transforms.gradient_clipping import clip_by_block_rms as clip_by_block_rms
from gradtx.transforms.gradient_clipping import (
    clip_by_global_norm as clip_by_global_norm,
)
from gradtx.transforms.gradient_clipping import clip_magnitude as clip_magnitude
from gradtx.transforms.gradient_clipping import (
    keep_params_nonnegative as keep_params_nonnegative,
)
from gradtx.transforms.gradient_clipping import unitwise_clip as unitwise_clip
from gradtx.transforms.gradient_clipping import unitwise_norm as unitwise_norm
from gradtx.transforms.gradient_clipping import zero_nans as zero_nans
from gradtx.transforms.grouping import freeze as freeze
from gradtx.transforms.grouping import frozen as frozen
from gradtx.transforms.grouping import groups as groups
from gradtx.transforms.grouping import masked as masked
from gradtx.transforms.grouping import multi_transform as multi_transform
from gradtx.transforms.grouping import named_chain as named_chain
from gradtx.transforms.grouping import partition as partition
from gradtx.transforms.grouping import selective_transform as selective_transform
from gradtx.transforms.hessian import (
    hutchinson_estimator_diag_hessian as hutchinson_estimator_diag_hessian,
)
from gradtx.transforms.layer_groups import layer_decay as layer_decay
from gradtx.transforms.linesearch import (
    scale_by_backtracking_linesearch as scale_by_backtracking_linesearch,
)
from gradtx.transforms.linesearch import (
    value_and_grad_from_state as value_and_grad_from_state,
)
from gradtx.transforms.modifiers import cautious as cautious
from gradtx.transforms.modifiers import grams as grams
from gradtx.transforms.modifiers import grokfast as grokfast
from gradtx.transforms.modifiers import mars as mars
from gradtx.transforms.modifiers import orthograd as orthograd
from gradtx.transforms.noise import add_noise as add_noise
from gradtx.transforms.past_norms import adagc as adagc
from gradtx.transforms.past_norms import limit_norm_growth as limit_norm_growth
from gradtx.transforms.periodic import apply_every as apply_every
from gradtx.transforms.plateau import reduce_on_plateau as reduce_on_plateau
from gradtx.transforms.privacy import (
    differentially_private_aggregate as differentially_private_aggregate,
)
from gradtx.transforms.privacy import (
    per_example_global_norm_clip as per_example_global_norm_clip,
)
from gradtx.transforms.privacy import (
    per_example_layer_norm_clip as per_example_layer_norm_clip,
)
from gradtx.transforms.scaling import centralize as centralize
from gradtx.transforms.scaling import normalize as normalize
from gradtx.transforms.scaling import (
    normalize_by_update_norm as normalize_by_update_norm,
)
from gradtx.transforms.scaling import scale as scale
from gradtx.transforms.scaling import scale_by_learning_rate as scale_by_learning_rate
from gradtx.transforms.scaling import (
    scale_by_optimistic_gradient as scale_by_optimistic_gradient,
)
from gradtx.transforms.scaling import (
    scale_by_param_block_norm as scale_by_param_block_norm,
)
from gradtx.transforms.scaling import (
    scale_by_param_block_rms as scale_by_param_block_rms,
)
from gradtx.transforms.scaling import scale_by_schedule as scale_by_schedule
from gradtx.transforms.scaling import scale_by_sign as scale_by_sign
from gradtx.transforms.scaling import set_to_zero as set_to_zero
from gradtx.transforms.weight_decay import add_cautious_decay as add_cautious_decay
from gradtx.transforms.weight_decay import add_decayed_weights as add_decayed_weights
from gradtx.transforms.zoom import scale_by_zoom_linesearch as scale_by_zoom_linesearch
from gradtx.wrappers.accumulate import MultiSteps as MultiSteps
from gradtx.wrappers.accumulate import accumulate as accumulate
from gradtx.wrappers.average import average_params as average_params
from gradtx.wrappers.average import lookahead as lookahead
from gradtx.wrappers.conditional import conditionally_mask as conditionally_mask
from gradtx.wrappers.conditional import (
    conditionally_transform as conditionally_transform,
)
from gradtx.wrappers.hyperparameters import editable as editable
from gradtx.wrappers.hyperparameters import hyperparams as hyperparams
from gradtx.wrappers.inject import inject_hyperparams as inject_hyperparams
from gradtx.wrappers.layouts import flatten as flatten
from gradtx.wrappers.layouts import split_real_and_imaginary as split_real_and_imaginary
from gradtx.wrappers.loss_scale import loss_scale as loss_scale
from gradtx.wrappers.loss_scale import loss_scale_of as loss_scale_of
from gradtx.wrappers.mechanize import mechanize as mechanize
from gradtx.wrappers.noise_scale import (
    accumulate_with_noise_scale as accumulate_with_noise_scale,
)
from gradtx.wrappers.sam import sam as sam
from gradtx.wrappers.schedule_free import interpolate_iterates as interpolate_iterates
from gradtx.wrappers.schedule_free import schedule_free as schedule_free
from gradtx.wrappers.schedule_free import (
    schedule_free_eval_params as schedule_free_eval_params,
)
from gradtx.wrappers.skip import apply_if_finite as apply_if_finite
from gradtx.wrappers.skip import norm_above as norm_above
from gradtx.wrappers.skip import norm_spikes as norm_spikes
from gradtx.wrappers.skip import not_finite as not_finite
from gradtx.wrappers.skip import skip as skip
from gradtx.wrappers.skip import skip_large_updates as skip_large_updates
from gradtx.wrappers.skip import skip_not_finite as skip_not_finite

__version__ = "0.6.0"

for _exported in [*globals().values(), *vars(transforms).values()]:
    if getattr(_exported, "__module__", "").startswith("gradtx."):
        _stable(_exported)
_register_submodules()
_register_old_modules()


_ON_DEMAND = ("plot", "testing")
_INTERNAL = (
    "core", "compiler", "matrices", "wrappers", "optimizers", "introspect", "interop",
)  # fmt: skip


def __getattr__(name: str) -> _Any:
    """Parts of recipes; other names (losses, ...) are forwarded to optax."""
    if name in _ON_DEMAND:
        return _import_module(f"gradtx.{name}")
    if name in _DEFINED:
        return _DEFINED[name]
    if name.startswith("_"):
        raise AttributeError(f"module 'gradtx' has no attribute {name!r}")
    if name in vars(annotations):
        return vars(annotations)[name]
    try:
        return getattr(_optax, name)
    except AttributeError:
        message = f"neither gradtx nor optax has {name!r}"
        raise AttributeError(message) from None


def __dir__() -> list[str]:
    theirs = {name for name in dir(_optax) if name[0] != "_"}
    own = {name for name in globals() if name.startswith("__") or name[0] != "_"}
    return sorted(({*own, *_ON_DEMAND} | theirs) - {*_INTERNAL})
