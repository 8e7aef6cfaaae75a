from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles import updates_of

rng = np.random.default_rng(0)
PARAMS: Any = {
    "dense": {"kernel": rng.normal(size=(2, 3)), "bias": rng.normal(size=3)},
    "norm": (rng.normal(size=3), None),
}
GRADS = [jax.tree.map(lambda p: rng.normal(size=p.shape), PARAMS) for _ in range(4)]
SCHEDULE = gradtx.linear_schedule(0.5, -0.25, 3)


def assert_equals_optax(mine, theirs, dtype="float32", rtol=1e-6):
    """The same updates at each step, up to the order of an addition."""
    with jax.enable_x64(dtype == "float64"):
        params, *grads = (
            jax.tree.map(lambda x: jnp.asarray(x, dtype), t) for t in (PARAMS, *GRADS)
        )
        runs = [updates_of(tx, grads, params) for tx in (mine, theirs)]
        for one, other in zip(*runs, strict=True):
            assert jax.tree.map(jax.typeof, one) == jax.tree.map(jax.typeof, other)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(
                    a, b, rtol=rtol, atol=rtol / 10
                ),
                one,
                other,
            )


def update_once(tx, grads, params=None):
    return tx.update(grads, tx.init(grads if params is None else params), params)[0]


@pytest.mark.parametrize("number", [0.5, -2, 0, np.float32(0.1), jnp.array(3.0)])
@pytest.mark.parametrize(
    ("make", "sign"),
    [
        (gradtx.scale, 1),
        (gradtx.scale_by_learning_rate, -1),
        (lambda rate: gradtx.scale_by_learning_rate(rate, flip_sign=False), 1),
        (gradtx.scale_by_schedule, 1),
    ],
    ids=["scale", "learning rate", "kept sign", "schedule"],
)
def test_scale_multiplies_every_element_by_a_number(make, sign, number):
    updates = np.array([[1.5, -3.25], [0.0, 1e-20]], np.float32)
    scaled = update_once(make(number), jnp.asarray(updates))
    np.testing.assert_array_equal(scaled, np.float32(sign * number) * updates)


def rise(count: Any) -> Any:
    return jnp.sqrt(1.0 + count.astype(float))


SCALES: dict[str, Callable[[Any], Any]] = {
    "number": lambda lib: lib.scale(-0.3),
    "schedule": lambda lib: lib.scale_by_schedule(SCHEDULE),
    "function": lambda lib: lib.scale_by_schedule(rise),
    "learning rate": lambda lib: lib.scale_by_learning_rate(0.1),
    "scheduled rate": lambda lib: lib.scale_by_learning_rate(SCHEDULE),
    "kept sign": lambda lib: lib.scale_by_learning_rate(SCHEDULE, flip_sign=False),
    "sign": lambda lib: lib.scale_by_sign(),
}


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("make", SCALES.values(), ids=SCALES)
def test_scale_equals_optax(make, dtype, rtol):
    assert_equals_optax(make(gradtx), make(optax), dtype, rtol)


def test_scale_takes_a_schedule_as_scale_by_schedule_does():
    mine, theirs = gradtx.scale(SCHEDULE), optax.scale_by_schedule(SCHEDULE)
    assert_equals_optax(mine, theirs)


def test_number_is_exact_in_double_after_use_in_single():
    tx = gradtx.scale(0.1)
    assert update_once(tx, jnp.ones(2)).dtype == jnp.float32
    with jax.enable_x64(True):
        np.testing.assert_array_equal(update_once(tx, jnp.ones(2)), 0.1)


@pytest.mark.parametrize("flip_sign", [True, False])
def test_absent_learning_rate_changes_nothing(flip_sign):
    tx: Any = gradtx.scale_by_learning_rate(flip_sign=flip_sign)
    grads = jnp.array([1.0, -0.0, jnp.nan, jnp.inf])
    np.testing.assert_array_equal(bits(update_once(tx, grads)), bits(grads))
    assert tx.init(grads).keys() == {"count"}


def bits(array):
    return np.asarray(array).tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("number", [0.1, np.float32(0.1), SCHEDULE])
def test_scale_keeps_the_dtype_of_the_update(dtype, number):
    updates = jnp.array([1.0, -2.0], dtype)
    for tx in (gradtx.scale(number), gradtx.scale_by_learning_rate(number)):
        assert update_once(tx, updates).dtype == dtype


def test_sign_of_a_real_is_minus_one_zero_or_one():
    signs = update_once(gradtx.scale_by_sign(), jnp.array([3.0, -1e-30, 0.0, -np.inf]))
    np.testing.assert_array_equal(signs, [1, -1, 0, -1])
    assert np.isnan(update_once(gradtx.scale_by_sign(), jnp.array([np.nan])))


def test_sign_of_a_complex_is_its_direction():
    grads = jnp.array([3 + 4j, -2j, -5.0, 0.0], jnp.complex64)
    signs = update_once(gradtx.scale_by_sign(), grads)
    np.testing.assert_allclose(signs, [0.6 + 0.8j, -1j, -1, 0], rtol=1e-6)


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
        "add_decayed_weights: needs the parameters; call update(updates, state, params)"
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
        f"add_decayed_weights: the mask must hold bools, got {flag!r}"
    )


def test_mask_does_not_change_with_the_tree_that_it_was_given_as():
    mask = {"dense": True, "norm": True}
    tx = gradtx.add_decayed_weights(0.5, mask)
    mask["dense"] = False
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    for leaf in jax.tree.leaves(update_once(tx, grads, grads)):
        np.testing.assert_array_equal(leaf, 1.5)
