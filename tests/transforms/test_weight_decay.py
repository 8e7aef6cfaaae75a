from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.transforms.test_scaling import (
    PARAMS,
    SCHEDULE,
    assert_equals_optax,
    bits,
    update_once,
)


def only_matrices(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


MASKS = {
    "all": None,
    "tree": {"dense": {"kernel": True, "bias": False}, "norm": (True, None)},
    "prefix": {"dense": True, "norm": False},
    "one flag": True,
    "function": only_matrices,
    "function to a prefix": lambda params: {"dense": False, "norm": True},
    "flags of numpy": {"dense": np.bool_(True), "norm": np.bool_(False)},
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize(
    "weight_decay", [0.3, 0, SCHEDULE], ids=["0.3", "0", "schedule"]
)
def test_decayed_weights_equal_optax(weight_decay, mask):
    assert_equals_optax(
        gradtx.add_decayed_weights(weight_decay, mask),
        optax.add_decayed_weights(weight_decay, mask),
    )


@pytest.mark.parametrize("weight_decay", [0.3, SCHEDULE], ids=["0.3", "schedule"])
def test_decayed_weights_equal_optax_in_double(weight_decay):
    mask = MASKS["prefix"]
    assert_equals_optax(
        gradtx.add_decayed_weights(weight_decay, mask),
        optax.add_decayed_weights(weight_decay, mask),
        "float64",
        1e-12,
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "int32", "complex64"])
def test_masked_leaf_leaves_bit_for_bit(dtype):
    raw = np.array([0x7FC01234, 0x80000000, 0xFF800000, 0x00000001], np.uint32)
    grads = {"masked": jnp.asarray(raw.view(dtype)), "decayed": jnp.ones(2)}
    params = {"masked": jnp.ones_like(grads["masked"]), "decayed": jnp.ones(2)}
    tx = gradtx.add_decayed_weights(0.5, {"masked": False, "decayed": True})
    for update in (tx.update, jax.jit(tx.update)):
        updates: Any = update(grads, tx.init(params), params)[0]
        assert updates["masked"].dtype == dtype
        assert bits(updates["masked"]) == raw.tobytes()
        np.testing.assert_array_equal(updates["decayed"], [1.5, 1.5])


def test_decay_is_added_in_the_precision_of_the_parameter():
    grads, params = jnp.ones(2, jnp.bfloat16), jnp.full(2, 1 + 2**-10)
    updates = update_once(gradtx.add_decayed_weights(0.5), grads, params)
    assert updates.dtype == jnp.float32
    np.testing.assert_array_equal(updates, 1.5 + 2**-11)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gradtx.add_decayed_weights(0.1),
        lambda: gradtx.add_decayed_weights(0.1, True),
        lambda: gradtx.chain(gradtx.scale(2.0), gradtx.add_decayed_weights(0.1)),
        lambda: gradtx.adamw(0.1),
    ],
    ids=["alone", "masked", "chained", "adamw"],
)
def test_decay_without_parameters_raises(make):
    tx, grads = make(), jnp.ones(2)
    with pytest.raises(ValueError) as caught:
        tx.update(grads, tx.init(grads))
    assert str(caught.value) == (
        "add_decayed_weights: missing parameters; call update(updates, state, params)"
    )


@pytest.mark.parametrize("is_function", [False, True])
@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize(
    "mask",
    [
        {"dense": True},
        {"dense": True, "norms": False},
        {"dense": True, "norm": False, "head": True},
        {"dense": {"kernel": (True, False), "bias": True}, "norm": True},
        [True, False],
    ],
    ids=repr,
)
def test_mask_that_does_not_fit_raises(mask, is_nested, is_function):
    given = (lambda params: mask) if is_function else mask
    make = gradtx.adamw if is_nested else gradtx.add_decayed_weights
    tx = make(0.1, mask=given)
    state = make(0.1).init(PARAMS)
    message = (
        r"^add_decayed_weights: the mask must be a tree of bools with the structure of "
        r"the parameters or a prefix of it: "
    )
    with pytest.raises(ValueError, match=message):
        tx.init(PARAMS)
    with pytest.raises(ValueError, match=message):
        tx.update(PARAMS, state, PARAMS)


@pytest.mark.parametrize("is_function", [False, True])
@pytest.mark.parametrize("flag", ["yes", 1, 0.0, None])
def test_mask_of_other_things_than_bools_raises(flag, is_function):
    mask = {"dense": flag, "norm": True}
    with pytest.raises(TypeError) as caught:
        tx = gradtx.add_decayed_weights(0.1, (lambda _: mask) if is_function else mask)
        tx.init(PARAMS)
    assert str(caught.value) == (
        f"add_decayed_weights: the mask must hold bools, got {flag!r} at 'dense/bias'"
    )


def test_mask_does_not_change_with_the_tree_that_it_was_given_as():
    mask = {"dense": True, "norm": True}
    tx = gradtx.add_decayed_weights(0.5, mask)
    mask["dense"] = False
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    for leaf in jax.tree.leaves(update_once(tx, grads, grads)):
        np.testing.assert_array_equal(leaf, 1.5)
