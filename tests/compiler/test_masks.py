from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.lower import program_of
from gradtx.compiler.masks import (
    active_of,
    is_function,
    masks_of,
    members_of,
    places_of,
    seen_by,
)
from gradtx.compiler.stage import Static

PARAMS: Any = {"a": jnp.ones(2), "b": jnp.ones((2, 2)), "c": jnp.ones(())}
TREEDEF = jax.tree.structure(PARAMS)
MASK = {"a": True, "b": False, "c": True}


def program(tx):
    return program_of(tx.bound, jnp.int32(0))


def active(tx):
    return active_of(program(tx), PARAMS, TREEDEF)


def test_without_masks_all_leaves_go_through_all_operations():
    assert active(gradtx.sgd(0.1, momentum=0.9)) == [(True, True)] * 3


@pytest.mark.parametrize(
    "mask",
    [MASK, lambda params: MASK, {**MASK, "b": np.bool_(False)}],
    ids=["tree", "function", "NumPy"],
)
def test_a_mask_is_a_tree_of_bools_or_a_function_to_one(mask):
    tx = gradtx.chain(gradtx.scale(1.0), gradtx.only(gradtx.scale(2.0), mask))
    assert active(tx) == [(True, True), (True, False), (True, True)]


def test_one_bool_is_a_mask_of_the_tree_in_its_place():
    tx = gradtx.only(gradtx.scale(2.0), {"x": False, "y": True})
    params = {"x": PARAMS, "y": jnp.ones(2)}
    treedef = jax.tree.structure(params)
    assert masks_of(program(tx), params, treedef) == [[False] * 3 + [True]]


def test_labels_are_masks_of_which_a_leaf_is_in_one():
    tx = gradtx.partition(
        {"x": gradtx.scale(2.0), "y": gradtx.scale(3.0)}, {"a": "x", "b": "y", "c": "x"}
    )
    assert active(tx) == [(True, False), (False, True), (True, False)]


def test_the_labels_of_a_grouping_are_asked_for_once():
    asked = []

    def labels(params):
        asked.append(params)
        return {"a": "x", "b": "y", "c": "x"}

    tx = gradtx.partition({"x": gradtx.scale(2.0), "y": gradtx.scale(3.0)}, labels)
    made = program(tx)
    asked.clear()
    masks_of(made, PARAMS, TREEDEF)
    assert len(asked) == 1


def test_a_mask_that_freezes_leaves_none_where_an_operation_is_off():
    masked = gradtx.masked(gradtx.trace(0.9), MASK)
    assert active(masked) == [(True,), (None,), (True,)]
    scaled = gradtx.masked(gradtx.scale(2.0), MASK)  # which freezes none
    assert active(scaled) == [(True,), (False,), (True,)]
    assert active(gradtx.only(gradtx.scale(2.0), MASK)) == [(True,), (False,), (True,)]


def test_a_rule_may_have_something_static_for_each_leaf():
    @gradtx.transformation
    def ranked():
        return gradtx.memoryless(
            lambda u, leaf: u * leaf.static,
            static=lambda params: jax.tree.map(lambda p: p.ndim, params),
        )

    assert active(ranked()) == [(Static(1),), (Static(2),), (Static(0),)]
    assert active(gradtx.only(ranked(), MASK)) == [(Static(1),), (False,), (Static(0),)]


def test_where_a_mask_hides_leaves_those_that_are_shown_are_numbered():
    noise = gradtx.add_noise(0.1, 0.5, 7)
    mask = {"a": False, "b": True, "c": True}
    hidden, seen = gradtx.masked(noise, mask), gradtx.only(noise, mask)
    places = places_of(program(hidden), PARAMS, TREEDEF)
    assert places[0][1:] == [0, 1]
    assert places_of(program(seen), PARAMS, TREEDEF)[0] == [0, 1, 2]
    assert places_of(program(gradtx.sgd(0.1)), PARAMS, TREEDEF) == {}


def test_a_function_sees_what_is_not_hidden_from_it():
    for wrap, is_hidden in ((gradtx.masked, True), (gradtx.only, False)):
        seen = []

        def mask(params, seen=seen):
            seen.append(params)
            return MASK

        active(wrap(gradtx.masked(gradtx.scale(2.0), mask), {**MASK, "c": False}))
        assert (seen[-1]["c"] is None) == (seen[-1]["b"] is None) == is_hidden
        assert seen[-1]["a"] is PARAMS["a"]


def test_an_operation_sees_none_where_it_does_not_act():
    on = active(gradtx.only(gradtx.scale(2.0), MASK))
    seen = seen_by(0, PARAMS, TREEDEF, on)
    assert seen["b"] is None and seen["a"] is PARAMS["a"]
    assert seen_by(0, PARAMS, TREEDEF, None) is None


def test_what_is_inside_of_a_tree_rule_sees_what_that_sees():
    inner = gradtx.sgd(0.1)
    tx = gradtx.only(gradtx.accumulate(inner, 2), MASK)
    made = program(tx)
    ((member, params),) = members_of(
        made, PARAMS, TREEDEF, active_of(made, PARAMS, TREEDEF)
    )
    assert member == inner and params["b"] is None and params["a"] is PARAMS["a"]


class Called:
    def __init__(self, flag):
        self.flag = flag

    def __call__(self):
        return self.flag


def test_a_callable_module_is_a_tree_and_no_function():
    jax.tree_util.register_pytree_node(
        Called, lambda it: ((it.flag,), None), lambda _, flags: Called(*flags)
    )
    assert is_function(lambda params: MASK) and not is_function(MASK)
    assert callable(Called(True)) and not is_function(Called(True))


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        ({"a": True, "b": 3, "c": True}, TypeError, "must hold bools, got 3 at 'b'"),
        ({"a": True}, ValueError, "must be a tree of bools with the structure of the"),
    ],
)
def test_a_mask_that_is_none_is_an_error(mask, error, message):
    with pytest.raises(error, match=f"only: the mask {message}"):
        active(gradtx.only(gradtx.scale(2.0), mask))
