"""optax's own tests, which its package ships, with gradtx's names in optax's modules.

Those that must fail are listed with the reason; one that begins to pass fails here.
"""

import contextlib
import functools
import importlib.util
import pathlib
import sys
import types
import unittest

import optax
import optax.contrib  # loads what the tests import
import pytest

import gradtx
from tests import equality

pytestmark = pytest.mark.skipif(
    optax.__version__ != "0.2.8", reason="the lists below are of the tests of 0.2.8"
)

MODULES = {
    "_src": "alias combine factorized float64 linesearch sharding transform",
    "contrib": "_common _galore _muon _privacy _reduce_on_plateau _sam _schedule_free",
    "schedules": "_inject _join _schedule",
    "transforms": "_accumulation _adding _clipping _combining _conditionality "
    "_constraining _freezing _masking _monitoring",
}

MUST_FAIL = {
    "it wants a class of optax's, or unpacks a state; ours is a dict of slots": {
        "combine_Compose": "chain",
        "combining_Combining": "chain",
        "constraining_Constraints": "zero_nans",
        "galore_GaLore": "3d_memory_reduction_with_dimension_numbers",
        "reduce_on_plateau_ReduceLROnPlateau": (
            "learning_rate_reduced_after_cooldown_period_is_over0 "
            "learning_rate_reduced_after_cooldown_period_is_over1"
        ),
    },
    "it reads a state inside a state; ours is flat, or has None for a masked leaf": {
        "galore_GaLore": "dimension_numbers_right_projection "
        "left_vs_right_projection_state_shapes0 "
        "left_vs_right_projection_state_shapes1 "
        "left_vs_right_projection_state_shapes2 "
        "memory_reduction_vs_full_moments "
        "mu_dtype_controls_moment_dtype "
        "rank_is_clipped_to_min_dimension",
        "masking_Masked": "masked_state_structure tree_map_params",
        "muon_Muon": "dim_nums_combinations_aol dim_nums_combinations_frobenius "
        "dim_nums_combinations_schatten",
    },
    "it gives a state that `init` did not make": {
        "reduce_on_plateau_ReduceLROnPlateau": "learning_rate_is_not_reduced0 "
        "learning_rate_is_not_reduced1 "
        "learning_rate_not_reduced_after_end_scale_is_reached0 "
        "learning_rate_not_reduced_after_end_scale_is_reached1 "
        "learning_rate_not_reduced_during_cooldown0 "
        "learning_rate_not_reduced_during_cooldown1",
    },
    "it wants a state that does not count": {
        "freezing_Freeze": "freeze_updates_flat_freeze_a freeze_updates_flat_freeze_b "
        "freeze_updates_flat_freeze_all freeze_updates_flat_freeze_none "
        "freeze_updates_nested_freeze_l1_0 freeze_updates_nested_freeze_l2_w",
    },
    "it wants moments of bfloat16 parameters in bfloat16": {
        "alias_Alias": "explicit_dtype10 explicit_dtype11 explicit_dtype9",
        "schedule_free_ScheduleFree": "explicit_dtype3",
    },
    "it wants complex moments without their imaginary parts": {
        "alias_Alias": "explicit_dtype27 explicit_dtype28 explicit_dtype29",
    },
    "it wants injected numbers in the parameters' dtype; ours are float32": {
        "inject_InjectHyperparams": "hyperparam_default_dtype_bf16 "
        "hyperparam_default_dtype_f32",
    },
    "it gives integer updates to a rule of ours that computes, which refuses them": {
        "clipping_Clipping": "per_example_global_norm_clip",
        "combine_ExtraArgs": "extra_args",
        "combining_ExtraArgs": "extra_args",
        "inject_InjectHyperparams": "inject_hyperparams_starts_with_step_count_zero",
    },
    "it wants the gradient as the update of a masked leaf; ours freezes it": {
        "masking_Masked": "mask_compatible_callable_pytree masked_sgd "
        "masked_sgd_w_mask_fn masked_stateful_sgd masked_stateful_sgd_w_mask_fn "
        "nested_mask_sgd nested_mask_stateful_sgd prefix_mask_sgd "
        "prefix_mask_stateful_sgd",
    },
    "it wants another text or class of error": {
        "freezing_Freeze": "bad_structure_raises",
        "freezing_SelectiveTransform": "selective_bad_structure",
        "linesearch_ZoomLinesearch": "failure_descent_direction failure_flat_fun "
        "failure_too_small_max_stepsize value_and_grad_from_state "
        "zoom_linesearch_raises_on_unused_extra_args",
        "transform_Transform": "lion_invalid_mode_raises",
    },
    "it wants the end value at a rate of 1; ours stays, as at rates beside 1": {
        "schedule_Exponential": "end_value_with_staircase1 end_value_with_staircase4",
    },
}
"""By reason and class, without Test, and name, without test."""

LEFT_OUT = {
    "alias_LBFGS.test_against_plain": "takes long, and test_lbfgs.py has the book's",
    "alias_Alias.test_optimization": "takes long, and test_convergence.py has as much",
    "alias_Alias.test_state_shape_dtype_shard": "takes long, and the laws have it",
    "clipping_Clipping.test_clip_by_block_rms": "optax rounds as ours, 1e-7 away",
    "linesearch_BacktrackingLinesearch.test_linesearch": "reads fields by their place",
}
"""By the beginnings of names."""


STATES = "Equality of new optimizer states."
"""A subtest of injected optimizers: ours keep the weights of injected decays."""


def in_place_of(module):
    """A copy of a module of optax with gradtx's functions where gradtx has them."""
    copy = types.ModuleType(module.__name__)
    copy.__dict__.update(vars(module))
    for name, value in vars(module).items():
        if name in vars(gradtx) and isinstance(value, types.FunctionType):
            setattr(copy, name, vars(gradtx)[name])
    return copy


def loaded(name):
    """A module of tests of optax, run where optax's modules are such copies."""
    originals = {
        path: module
        for path, module in sys.modules.items()
        if path.split(".")[0] == "optax" and "test" not in path
    }
    copies = {path: in_place_of(module) for path, module in originals.items()}
    for copy in copies.values():
        for attribute, value in list(vars(copy).items()):
            if isinstance(value, types.ModuleType) and value.__name__ in copies:
                setattr(copy, attribute, copies[value.__name__])
    folder = pathlib.Path(optax.__path__[0])
    path = folder.joinpath(*name.split(".")).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(f"optax.{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.update(copies)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.modules.update(originals)
    return module


def that_fails(method):
    """A test that passes where another one, subtests included, fails."""

    @functools.wraps(method)
    def test(self):
        self.subTest = lambda *_, **__: contextlib.nullcontext()
        with pytest.raises(Exception) as raised:
            method(self)
        assert not isinstance(raised.value, unittest.SkipTest)

    return test


def without_states(method):
    """A test without the subtest of states."""

    @functools.wraps(method)
    def test(self):
        real = self.subTest
        unless = contextlib.suppress(AssertionError, ValueError)
        self.subTest = lambda message: unless if message == STATES else real(message)
        method(self)

    return test


def collect():
    """The classes of tests, each under a name of its own."""
    must_fail = {
        f"{case}.test_{name}"
        for names_of in MUST_FAIL.values()
        for case, names in names_of.items()
        for name in names.split()
    }
    left, listed = set(LEFT_OUT), set(must_fail)
    for package, names in MODULES.items():
        for name in names.split():
            for case in vars(loaded(f"{package}.{name}_test")).values():
                if not (isinstance(case, type) and issubclass(case, unittest.TestCase)):
                    continue
                label = f"{name.strip('_')}_{case.__name__.removesuffix('Test')}"
                for test in unittest.defaultTestLoader.getTestCaseNames(case):
                    full = f"{label}.{test}"
                    if prefix := next(filter(full.startswith, LEFT_OUT), None):
                        setattr(case, test, None)
                        left.discard(prefix)
                    elif full in must_fail:
                        setattr(case, test, that_fails(getattr(case, test)))
                        listed.discard(full)
                    elif "wrapped_in_inject_hyperparams" in test:
                        setattr(case, test, without_states(getattr(case, test)))
                yield f"{label}Test", case
    assert not left and not listed, f"optax has no such test: {left | listed}"


@pytest.fixture(autouse=True)
def run_as_optax_does():
    with equality.as_optax_needs():
        yield


globals().update(collect())
