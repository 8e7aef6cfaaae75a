import functools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from optax import contrib

import gradtx
from tests import equality
from tests.settings import OPTAX
from tests.settings_of_primitives import PRIMITIVES

NAMES = """
    scale scale_by_schedule scale_by_learning_rate identity set_to_zero stateless
    stateless_with_tree_map scale_by_sign add_decayed_weights scale_by_param_block_norm
    scale_by_param_block_rms scale_by_trust_ratio centralize normalize
    normalize_by_update_norm scale_by_optimistic_gradient apply_every trace ema
    scale_by_rms scale_by_stddev scale_by_rss scale_by_adadelta scale_by_novograd
    scale_by_adam scale_by_amsgrad scale_by_adamax scale_by_belief scale_by_acprop
    scale_by_yogi scale_by_radam scale_by_adopt scale_by_adan scale_by_ademamix
    scale_by_simplified_ademamix scale_by_lion scale_by_factored_rms scale_by_sm3
    scale_by_dog scale_by_dowg scale_by_distance_over_gradients scale_by_cocob
    scale_by_polyak scale_by_madgrad scale_by_rprop clip clip_by_block_rms
    clip_by_global_norm adaptive_grad_clip keep_params_nonnegative zero_nans add_noise
    hutchinson_estimator_diag_hessian differentially_private_aggregate
"""
# Where they are held against optax instead.
ELSEWHERE = {
    "scale_by_backtracking_linesearch": "test_linesearch.py",
    "scale_by_zoom_linesearch": "test_linesearch.py",
    "scale_by_lbfgs": "test_lbfgs.py",
    "scale_by_galore": "test_optimizers.py, as galore",
    "scale_by_muon": "comes with the matrix methods",
}

# Where optax's own numbers are coarser than the dtype, by how much, and why.
COARSE = {
    ("scale_by_madgrad", "float64"): (
        1e-4,
        "optax takes the root of an int32 count, in float32",
    ),
    ("scale_by_madgrad, scheduled", "float64"): (1e-4, "as scale_by_madgrad"),
    ("scale_by_factored_rms", "float64"): (1e-6, "optax computes its decay in float32"),
    ("scale_by_radam", "float64"): (1e-11, "as radam in test_optimizers"),
    ("scale_by_adopt", "float32"): (
        1e-4,
        "optax takes 1 - b2 of an array: in float32 1.7e-4 of it at 0.9999",
    ),
    ("scale_by_adopt, not clipped", "float32"): (1e-5, "as scale_by_adopt"),
}
# Where updates nearly vanish at some steps, by cancellation that magnifies whatever
# rounding there was: compared over all steps of a leaf together.
CANCELLING = {"scale_by_novograd": "a sum of steps of unit size and of both signs"}
# Where optax gives the rounded difference of two parameters; see test_optimizers.
BY_PARAMETERS = ("scale_by_cocob", "scale_by_madgrad")
# Where optax fails on a scalar: an IndexError, and an update of another shape.
NO_SCALARS = ("scale_by_sm3", "scale_by_distance_over_gradients")
EXAMPLES = "differentially_private_aggregate"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitive_equals_optax_over_thirty_steps(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        equality.assert_equals_optax(
            PRIMITIVES[name],
            dtype,
            tolerance=COARSE.get((name, dtype), (None,))[0],
            by_step=name not in CANCELLING,
            by_parameters=name.startswith(BY_PARAMETERS),
            without="scalar" if name.startswith(NO_SCALARS) else "",
            examples=(3,) if name.startswith(EXAMPLES) else (),
            run=equality.QUICKLY[dtype],
        )


def test_every_primitive_of_optax_is_held_against_it():
    names = set(NAMES.split())
    held = {setting.split(",")[0] for setting in PRIMITIVES}
    assert held == names
    public = {name for module in (optax, contrib) for name in dir(module)}
    scalings = {name for name in public if name.startswith("scale_by")}
    assert scalings <= names | ELSEWHERE.keys()
    for name in names:  # ours, and not optax's through `__getattr__`
        assert vars(gradtx)[name] is not vars(OPTAX)[name]


def unit(shape, axis=None):
    return lambda m: m.unitwise_norm(gradients(shape), axis)


def gradients(shape):
    return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape), float)


def examples():
    return equality.mixed_tree(float, 3, 4)


FUNCTIONS = {
    **{f"unitwise_norm of {s}": unit(s) for s in [(), (3,), (1, 4), (1, 1, 5)]},
    **{
        f"unitwise_norm of {s}": unit(s)
        for s in [(2, 3), (2, 3, 4), (2, 3, 1, 2), (2, 1, 3, 1, 2)]
    },
    "unitwise_norm of an axis": unit((2, 3, 4), 1),
    "unitwise_norm of axes": unit((2, 1, 2, 1, 3, 2), (0, 5)),
    "unitwise_clip": lambda m: m.unitwise_clip(
        jnp.array([0.5, 2.0, 1.0, 0.0]),
        jnp.array([1.0, 1.0, 1.0, 0.0]),
        jnp.array([0.3, -2.0, 1.0, 0.0]),
    ),
    "unitwise_clip, div_eps": lambda m: m.unitwise_clip(
        *jnp.array([[0.1], [0.01], [3.0]]), div_eps=2.0
    ),
    "per_example_global_norm_clip": lambda m: m.per_example_global_norm_clip(
        examples(), 6.0
    ),
    "per_example_global_norm_clip to nothing": lambda m: m.per_example_global_norm_clip(
        examples(), 0.0
    ),
    "per_example_layer_norm_clip": lambda m: m.per_example_layer_norm_clip(
        examples(), 4.0
    ),
    "per_example_layer_norm_clip by size": lambda m: m.per_example_layer_norm_clip(
        examples(), 4.0, uniform=False
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_equals_optax(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        one, other = (functools.partial(FUNCTIONS[name], m) for m in (gradtx, OPTAX))
        ours = jax.jit(one)()
        with equality.as_optax_needs():
            theirs = jax.jit(other)()
        assert jax.tree.map(jax.typeof, ours) == jax.tree.map(jax.typeof, theirs)
        tolerance = 1e-12 if dtype == "float64" else 1e-6
        for one, other in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_some_examples_are_clipped_and_some_are_not():
    """So that the bounds above are between."""
    for name in ("per_example_global_norm_clip", "per_example_layer_norm_clip"):
        counts = jax.tree.leaves(FUNCTIONS[name](gradtx)[1])
        assert any(0 < count < 4 for count in counts)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_slots_of_bfloat16_parameters_are_in_single_precision(name):
    params = jax.eval_shape(lambda: equality.mixed_tree("bfloat16", 0))
    for key, slot in PRIMITIVES[name](gradtx).init(params).items():
        for kept in jax.tree.leaves(slot):
            is_float = jnp.issubdtype(kept.dtype, jnp.floating)
            assert kept.dtype == "float32" or not is_float, key


# Like the parameters; every other slot is real.
COMPLEX = {"mu", "trace", "ema", "grad_acc", "previous_gradient", "m", "v", "g"}
COMPLEX |= {"m1", "m2", "init_params", "init_particles", "cumulative_gradients"}
COMPLEX |= {"s", "x0", "prev_updates"}
# Where `nu` is the average, and `mu` are the maxima.
SWAPPED = {"scale_by_sm3": {"nu"}}
# Where `v` is a second moment.
SECOND = {"scale_by_factored_rms": set()}


@pytest.mark.parametrize("name", PRIMITIVES)
def test_slots_of_complex_parameters_are_complex_or_real(name):
    if name == "keep_params_nonnegative":
        return
    params = jax.ShapeDtypeStruct((2, 3), "complex64")
    expected = {**SWAPPED, **SECOND}.get(name.split(",")[0], COMPLEX)
    state = PRIMITIVES[name](gradtx).init(params)
    found = {
        key
        for key, slot in state.items()
        if any(jnp.iscomplexobj(kept) for kept in jax.tree.leaves(slot))
    }
    assert found == expected & state.keys()


DIFFERENTIATED = [
    "scale_by_trust_ratio, floored",
    "scale_by_stddev, corrected",
    "scale_by_novograd, decayed",
    "scale_by_acprop, fast",
    "scale_by_yogi, from a tenth",
    "scale_by_radam, Nesterov",
    "scale_by_adan, fast",
    "scale_by_ademamix, scheduled",
    "scale_by_factored_rms, small",
    "scale_by_sm3, averaged",
    "scale_by_dowg, from a distance",
    "scale_by_distance_over_gradients, scaled",
    "scale_by_cocob, bold",
    "scale_by_polyak, sps+",
    "scale_by_madgrad, scheduled",
    "scale_by_rprop, in bounds",
]


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_derivative_by_each_number_matches_finite_differences(name):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        grads, params, weights = jnp.asarray(rng.normal(size=(3, 3, 2, 3)))

        numbers, treedef = jax.tree.flatten(PRIMITIVES[name](gradtx))

        def loss(factors):
            tx = treedef.unflatten(list(jnp.asarray(numbers) * factors))
            state, total = tx.init(params[0]), 0.0
            for g, p, w in zip(grads, params, weights, strict=True):
                updates, state = tx.update(g, state, p, value=2.0)
                total += jnp.sum(w * updates)
            return total

        @jax.jit
        def slopes_and_ends(factors, moves):
            ends = [jax.vmap(loss)(factors[None] + sign * moves) for sign in (1, -1)]
            return jax.grad(loss)(factors), *ends

        ones, moves = jnp.ones(len(numbers)), 1e-5 * jnp.eye(len(numbers))
        slopes, up, down = slopes_and_ends(ones, moves)
        np.testing.assert_allclose(slopes, (up - down) / 2e-5, rtol=1e-5, atol=1e-8)
        assert np.count_nonzero(slopes) > 0
