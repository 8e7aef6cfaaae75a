from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import registry
from tests.probes import GRADS, PARAMS, scale_by_value


def test_a_missing_extra_argument_is_an_error_that_names_who_needs_it():
    tx = gradtx.chain(gradtx.scale(2.0), scale_by_value())
    with pytest.raises(TypeError) as raised:
        tx.update(GRADS, tx.init(PARAMS), PARAMS)
    assert str(raised.value) == (
        "chain: scale_by_value: missing extra argument 'value'; "
        "call update(updates, state, params, value=...)"
    )


@pytest.mark.parametrize("name", ["valeu", "vlaue", "gard", "parms", "los"])
def test_a_misspelled_extra_argument_is_an_error(name):
    tx = gradtx.sgd(0.1)
    with pytest.raises(
        TypeError, match=f"sgd: unexpected extra argument '{name}'; did you"
    ):
        tx.update(GRADS, tx.init(PARAMS), PARAMS, **{name: 1.0})


@pytest.mark.parametrize(
    "name", ["value", "grad", "value_fn", "obj_fn", "loss", "grad_norm", "batch"]
)
def test_an_extra_argument_that_nobody_needs_is_passed_over(name):
    tx = gradtx.sgd(0.1)
    tx.update(GRADS, tx.init(PARAMS), PARAMS, **{name: 1.0})


@pytest.mark.parametrize(
    ("leaf", "dtype"),
    [
        (jnp.arange(3), "int32"),
        (jnp.ones(3, bool), "bool"),
        (jax.random.key(0), "key<fry>"),
    ],
)
def test_a_rule_refuses_leaves_that_are_not_floats(leaf, dtype):
    params = {"layer": {"steps": leaf}, "w": jnp.ones(2)}
    tx = gradtx.adam(0.1)
    state = tx.init(params)
    with pytest.raises(TypeError) as raised:
        tx.update(params, state, params)
    assert str(raised.value) == (
        "adam: scale_by_ema computes on floats, but the leaf at 'layer/steps' is "
        f"{dtype}; mask it, or give None as its gradient"
    )


def test_a_masked_integer_leaf_is_fine():
    params = {"steps": jnp.arange(3), "w": jnp.ones(2)}
    tx = gradtx.add_decayed_weights(0.1, {"steps": False, "w": True})
    updates, _ = tx.update(params, tx.init(params), params)
    assert updates["steps"] is params["steps"]


def test_a_leaf_that_is_no_array_is_an_error():
    tx = gradtx.sgd(0.1)
    with pytest.raises(
        TypeError, match="sgd: the leaf at 'a' must be an array, got 'x'"
    ):
        tx.update({"a": "x"}, tx.init({"a": jnp.ones(1)}))


def test_trees_that_do_not_match_are_an_error_with_the_paths():
    tx = gradtx.adam(0.1)
    state = tx.init(PARAMS)
    wrong = {"w": GRADS["w"], "bias": GRADS["b"]}
    with pytest.raises(ValueError) as raised:
        tx.update(wrong, state, PARAMS)
    assert str(raised.value) == (
        "adam: the updates must have the structure of the parameters; "
        "missing: 'b/0'; unexpected: 'bias/0'"
    )
    with pytest.raises(
        ValueError, match="adam: slot 'mu' must have the structure of the"
    ):
        tx.update({"v": GRADS["w"]}, state)


def test_shapes_that_do_not_match_are_an_error_with_the_path():
    tx = gradtx.adam(0.1)
    wrong = {"w": GRADS["w"].T, "b": GRADS["b"]}
    with pytest.raises(ValueError) as raised:
        tx.update(wrong, tx.init(PARAMS), PARAMS)
    assert str(raised.value) == (
        "adam: at 'w' the update has shape (3, 2), but the parameter (2, 3)"
    )


def test_missing_params_are_an_error_that_names_who_needs_them():
    tx = gradtx.adamw(0.1)
    with pytest.raises(ValueError) as raised:
        tx.update(GRADS, tx.init(PARAMS))
    assert str(raised.value) == (
        "add_decayed_weights: missing parameters; call update(updates, state, params)"
    )


def test_a_state_that_init_did_not_make_is_an_error():
    tx = gradtx.adam(0.1)
    state = tx.init(PARAMS)
    lacking = {k: v for k, v in state.items() if k != "mu"}
    with pytest.raises(ValueError) as raised:
        tx.update(GRADS, lacking)
    assert str(raised.value) == (
        "adam: missing in the state: 'mu'; it holds 'count', 'nu'"
    )
    with pytest.raises(ValueError, match="adam: unexpected in the state: 'trace'"):
        tx.update(GRADS, {**state, "trace": state["mu"]})
    with pytest.raises(TypeError, match="adam: the state must be the dict that init"):
        tx.update(GRADS, optax.adam(0.1).init(PARAMS))


def test_a_leaf_that_init_did_not_see_is_an_error():
    tx = gradtx.adam(0.1)
    state = tx.init({"w": jnp.ones(2), "v": None})
    both = {"w": jnp.ones(2), "v": jnp.ones(2)}
    with pytest.raises(
        ValueError, match="adam: slot 'mu' has nothing at 'v', since init"
    ):
        tx.update(both, state, both)


def test_an_extra_argument_that_a_foreign_member_declares_is_known():
    def update(updates, state, params=None, *, loss_values, **extra):
        return jax.tree.map(lambda u: loss_values * u, updates), state

    pair: Any = optax.GradientTransformationExtraArgs
    tx = gradtx.chain(pair(lambda p: optax.EmptyState(), update), gradtx.scale(1.0))
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, loss_values=2.0)
    np.testing.assert_allclose(updates["w"], 2 * GRADS["w"])
    gradtx.sgd(0.1).update(GRADS, {"count": jnp.int32(0)}, grad_fn=None, loss_fn=None)


NOT_OURS = {
    "None": None,
    "EmptyState": optax.EmptyState(),
    "dict": {},
    "tuple": (),
    "list": [],
    "states of optax": optax.chain(optax.clip(1.0), optax.adam(0.1)).init(PARAMS),
    "a count and more": {"count": jnp.int32(3), "mu": PARAMS},
    "no count": {"mu": PARAMS},
    "array": jnp.arange(3),
}


def keeps_nothing(name):
    """Whether the state of an example is its count, and nothing reads that."""
    tx: Any = registry.TRANSFORMATIONS[name]()
    state = tx.init(PARAMS)
    if state.keys() != {"count"}:
        return False
    try:
        outcome(tx, name, None)
    except ValueError as error:
        return "counts" not in str(error)
    return True


def outcome(tx, name, state):
    """The updates and the state that a transformation makes of another state."""
    case: Any = registry.CASES.get(name, {})
    extra = case["extra"](PARAMS, GRADS) if "extra" in case else {}
    return tx.update(GRADS, state, PARAMS, **extra)


KEEP_NOTHING = [name for name in registry.TRANSFORMATIONS if keeps_nothing(name)]


def test_enough_keeps_nothing():
    assert {"scale", "sgd", "clip", "identity", "normalize", "masked"} & {*KEEP_NOTHING}
    assert len(KEEP_NOTHING) > 25


@pytest.mark.parametrize("given", NOT_OURS)
@pytest.mark.parametrize("name", KEEP_NOTHING)
def test_what_keeps_and_counts_nothing_gives_any_state_back_as_in_optax(name, given):
    tx: Any = registry.TRANSFORMATIONS[name]()
    expected, counted = outcome(tx, name, tx.init(PARAMS))
    assert counted["count"] == 1
    updates, state = outcome(tx, name, NOT_OURS[given])
    chex.assert_trees_all_equal(updates, expected)
    assert state is NOT_OURS[given]


@pytest.mark.parametrize("given", NOT_OURS)
def test_so_do_chains_of_it_foreign_members_included(given):
    tx: Any = gradtx.chain(
        optax.clip(0.5), gradtx.masked(optax.scale(2.0), True), gradtx.sgd(0.1)
    )
    expected, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    updates, state = tx.update(GRADS, NOT_OURS[given], PARAMS)
    chex.assert_trees_all_equal(updates, expected)
    assert state is NOT_OURS[given]
    jitted: Any = jax.jit(tx.update)(GRADS, NOT_OURS[given], PARAMS)
    assert jax.tree.structure(jitted[1]) == jax.tree.structure(NOT_OURS[given])


@pytest.mark.parametrize("given", [name for name in NOT_OURS if name != "None"])
@pytest.mark.parametrize(
    "tx",
    [gradtx.adam(0.1), gradtx.bias_correction(0.9), gradtx.sgd(lambda count: 0.1)],
    ids=lambda tx: tx.name,
)
def test_what_keeps_or_counts_something_refuses_other_states(tx, given):
    with pytest.raises((ValueError, TypeError), match=r"state( that| must be the|:)"):
        tx.update(GRADS, NOT_OURS[given], PARAMS)


@pytest.mark.parametrize(
    ("tx", "why"),
    [
        (gradtx.adam(0.1), "adam: keeps 'mu', 'nu'"),
        (gradtx.bias_correction(0.9), "bias_correction: counts updates"),
        (gradtx.sgd(lambda count: 0.1), "sgd: has a schedule, which counts"),
        (gradtx.chain(optax.adam(0.1)), "chain: keeps 'chain'"),
        (gradtx.chain(gradtx.add_noise(0.1, 0.5, 0)), "chain: keeps 'key'"),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_what_keeps_or_counts_something_refuses_no_state(tx, why):
    for run in (tx.update, jax.jit(tx.update)):
        with pytest.raises(ValueError) as raised:
            run(GRADS, None, PARAMS)
        assert str(raised.value) == f"{why}; give the state that init makes, not None"


def test_beside_a_gradient_of_none_there_may_be_anything_as_in_equinox():
    grads = {"w": jnp.ones(2), "activation": None, "name": None}
    params = {"w": jnp.ones(2), "activation": jnp.tanh, "name": "layer"}
    tx = gradtx.adamw(0.1)
    updates, _ = tx.update(grads, tx.init(grads), params)
    assert updates["activation"] is None and updates["name"] is None
    expected, _ = tx.update(grads, tx.init(grads), grads)
    np.testing.assert_array_equal(updates["w"], expected["w"])


def test_all_missing_extra_arguments_are_named_at_once():
    tx = gradtx.scale_by_zoom_linesearch(3)
    with pytest.raises(TypeError) as raised:
        tx.update(GRADS, tx.init(PARAMS), PARAMS)
    assert str(raised.value) == (
        "scale_by_zoom_linesearch: missing extra arguments 'grad', 'value', "
        "'value_fn'; "
        "call update(updates, state, params, grad=..., value=..., value_fn=...)"
    )


def test_a_foreign_member_that_takes_any_extra_argument_may_get_any():
    def update(updates, state, params=None, **extra):
        return jax.tree.map(lambda u: extra["lossy"] * u, updates), state

    foreign = optax.GradientTransformationExtraArgs(lambda params: (), update)
    tx = gradtx.chain(foreign, gradtx.sgd(1.0))
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, lossy=2.0)
    np.testing.assert_array_equal(updates["w"], -2 * GRADS["w"])
