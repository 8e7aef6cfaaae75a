"""Clipping of elements, arrays, units and examples, and by the parameters."""

from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.runs import assert_equals_paper
from tests.transforms.test_gradient_clipping import update_once


def update_once_at(tx, grads, params):
    return update_once(tx, jnp.asarray(grads), jnp.asarray(params))


def clipped_magnitude(g):
    return g * np.minimum(1, 0.7 / np.maximum(np.abs(g), 1e-30))


def clipped_rms(g):
    return g / max(1, np.sqrt(np.mean(np.abs(g) ** 2)) / 0.7)


def clipped_to_a_share(g, p):
    """Brock et al. 2021, equation 3: a vector is one unit."""
    most = 0.2 * max(np.linalg.norm(p), 1.5)
    return g * min(1, most / np.linalg.norm(g))


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(
    ("tx", "formula"),
    [
        (gradtx.clip_magnitude(0.7), lambda g, p: clipped_magnitude(g)),
        (gradtx.clip_by_block_rms(0.7), lambda g, p: clipped_rms(g)),
        (gradtx.adaptive_grad_clip(0.2, 1.5), clipped_to_a_share),
        (gradtx.zero_nans(), lambda g, p: g),
    ],
    ids=["magnitude", "block rms", "adaptive", "nans"],
)
def test_clip_equals_its_formula(tx, formula, is_complex):
    assert_equals_paper(tx, lambda g, p: map(formula, g, p), is_complex)


def test_clipped_magnitude_is_the_clipped_value_of_reals():
    grads = jnp.array([np.inf, -3.0, 0.5, -0.25, 0.0, np.nan])
    ours, its = (
        update_once(tx(0.5), grads) for tx in (gradtx.clip_magnitude, gradtx.clip)
    )
    np.testing.assert_array_equal(ours, its)


@pytest.mark.parametrize("threshold", [gradtx.constant_schedule(0.5), 0.5])
def test_root_mean_square_is_of_each_array(threshold):
    grads = {
        "a": jnp.array([3.0, -3.0]),
        "b": jnp.full((2, 2), 0.25),
        "c": jnp.float32(1),
    }
    updates = update_once(gradtx.clip_by_block_rms(threshold), grads)
    np.testing.assert_allclose(updates["a"], [0.5, -0.5], rtol=1e-6)
    np.testing.assert_array_equal(updates["b"], grads["b"])
    np.testing.assert_allclose(updates["c"], 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("axis", "units"),
    [(None, (0,)), (0, (0,)), (1, (1,)), ((0, 1), (0, 1)), ((), ())],
    ids=str,
)
def test_gradients_of_units_are_clipped_to_their_parameters(axis, units):
    grads, params = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    updates = update_once_at(gradtx.adaptive_grad_clip(0.5, 1e-3, axis), grads, params)
    norms = [np.sqrt(np.sum(x**2, axis=units, keepdims=True)) for x in (grads, params)]
    shares = np.minimum(1, 0.5 * np.maximum(norms[1], 1e-3) / norms[0])
    np.testing.assert_allclose(updates, grads * shares, rtol=1e-5)
    assert np.any(shares < 1)


def test_gradients_of_parameters_that_vanish_are_clipped_to_eps():
    tx, zeros = gradtx.adaptive_grad_clip(0.5, 0.1), jnp.zeros(2)
    np.testing.assert_allclose(
        update_once_at(tx, [3.0, 4.0], zeros), [0.03, 0.04], rtol=1e-6
    )
    slope = jax.grad(lambda g: jnp.sum(update_once_at(tx, g, zeros)))(zeros)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "clip",
    [gradtx.per_example_global_norm_clip, gradtx.per_example_layer_norm_clip],
)
def test_examples_without_a_gradient_are_not_clipped(clip, dtype):
    """In optax their shares are 0 / 0 and repaired; here derivatives are finite."""
    grads = {"a": jnp.array([[0.0, 0.0], [3.0, 4.0]], dtype), "absent": None}
    total, count = clip(grads, 1.0)
    assert total["a"].dtype == dtype and total["absent"] is None
    np.testing.assert_allclose(total["a"].astype("float32"), [0.6, 0.8], rtol=4e-3)
    np.testing.assert_array_equal(jax.tree.leaves(count), [1])
    slope = jax.grad(lambda g: jnp.sum(clip({"a": g}, 1.0)[0]["a"]))(grads["a"])
    assert np.isfinite(slope.astype("float32")).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gradtx.unitwise_norm(jnp.ones((1,) * 4 + (2, 2))),
            "unitwise_norm: axis must be given for 6 axes",
        ),
        (
            lambda: gradtx.unitwise_clip(jnp.ones(2), jnp.ones(3), jnp.ones(2)),
            "unitwise_clip: the shapes must be equal, got (2,), (3,), (2,)",
        ),
        (
            lambda: gradtx.per_example_global_norm_clip([jnp.ones((3, 2)), 1.0], 1.0),
            "per_example_global_norm_clip: every gradient must have the same number of "
            "examples as its first axis, got shapes [(3, 2), ()]",
        ),
        (
            lambda: gradtx.per_example_layer_norm_clip([jnp.ones(3), jnp.ones(2)], 1.0),
            "per_example_layer_norm_clip: every gradient must have the same number of "
            "examples as its first axis, got shapes [(3,), (2,)]",
        ),
        (
            lambda: gradtx.clip_magnitude(-1.0),
            "clip_magnitude: max_magnitude must be at least 0, got -1.0",
        ),
        (
            lambda: gradtx.clip_by_block_rms(0.0),
            "clip_by_block_rms: threshold must be positive, got 0.0",
        ),
        (
            lambda: gradtx.adaptive_grad_clip(0.1, -1.0),
            "adaptive_grad_clip: eps must be at least 0, got -1.0",
        ),
    ],
)
def test_bad_shapes_and_limits_raise(call, message):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "make", [lambda: gradtx.adaptive_grad_clip(0.1), gradtx.keep_params_nonnegative]
)
def test_clip_by_the_parameters_needs_them(make):
    tx, grads = make(), jnp.ones(2)
    with pytest.raises(ValueError) as caught:
        update_once(tx, grads)
    assert str(caught.value) == (
        f"{tx.name}: missing parameters; call update(updates, state, params)"
    )


def test_parameters_stay_at_least_zero():
    tx = gradtx.keep_params_nonnegative()
    params = jnp.array([1.0, 1.0, 1.0, 0.0, -1.0, 2.0])
    steps = jnp.array([-2.0, -1.0, 0.5, -1e-30, 0.5, np.nan])
    updates = update_once(tx, steps, params)
    np.testing.assert_array_equal(updates, [-1.0, -1.0, 0.5, -0.0, 1.0, np.nan])
    with pytest.raises(TypeError) as caught:
        update_once(tx, *jnp.ones((2, 3), "complex64"))
    assert str(caught.value) == (
        "keep_params_nonnegative: complex numbers have no order, "
        "but the update at '<root>' is complex64"
    )


def test_nans_become_zeros_and_are_reported():
    tx: Any = gradtx.zero_nans()
    params: Any = {"a": jnp.ones(2), "b": jnp.ones((), "bfloat16")}
    state, bad = tx.init(params), {**params, "a": jnp.array([np.nan, np.inf])}
    assert state["found_nan"] == {"a": False, "b": False}
    updates, state = jax.jit(tx.update)(bad, state)
    np.testing.assert_array_equal(updates["a"], [0, np.inf])
    assert state["found_nan"] == {"a": True, "b": False}
    assert state["found_nan"]["a"].dtype == bool
    _, state = tx.update(params, state)
    assert state["found_nan"] == {"a": False, "b": False}
