from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.leaves import Leaves, floats, is_float0, is_state, trees_in

PARAMS: Any = {"b": jnp.ones(3), "w": (jnp.ones(2), jnp.ones(4))}


def sizes(arrays):
    return [None if x is None else x.size for x in arrays]


def test_updates_and_parameters_are_in_one_order():
    leaves = Leaves("tx", jax.tree.map(lambda p: 2 * p, PARAMS), PARAMS)
    assert sizes(leaves.updates) == sizes(leaves.params) == [3, 2, 4]
    assert [leaves.path(i) for i in range(3)] == ["b", "w/0", "w/1"]


def test_without_parameters_updates_give_the_structure():
    leaves = Leaves("tx", PARAMS, None)
    assert leaves.params == [None] * 3 and not leaves.has_params
    assert leaves.treedef == jax.tree.structure(PARAMS)


def test_none_beside_a_leaf_or_a_tree_of_them_skips_these():
    for updates, expected in (
        ({"b": None, "w": PARAMS["w"]}, [None, 2, 4]),
        ({"b": PARAMS["b"], "w": None}, [3, None, None]),
        (None, [None, None, None]),
    ):
        leaves = Leaves("tx", updates, PARAMS)
        assert sizes(leaves.updates) == expected
        assert sizes(leaves.params) == [3, 2, 4]
        given = leaves.as_given(leaves.updates)
        assert jax.tree.structure(given) == jax.tree.structure(updates)


def test_without_parameters_slots_tell_where_leaves_are_skipped():
    leaves = Leaves("tx", {"b": PARAMS["b"], "w": None}, None)
    assert sizes(leaves.updates) == [3]
    leaves.admit_none([PARAMS], ["something else"])
    assert sizes(leaves.updates) == [3, None, None]
    assert leaves.path(2) == "w/1"
    assert leaves.as_given(leaves.updates) == {"b": PARAMS["b"], "w": None}


def test_another_structure_is_an_error_with_the_paths():
    with pytest.raises(ValueError) as caught:
        Leaves("tx", {"b": jnp.ones(3), "x": jnp.ones(2)}, PARAMS)
    message = "tx: the updates must have the structure of the parameters; "
    assert str(caught.value).startswith(message)
    assert "missing: 'w/0', 'w/1'; unexpected: 'x'" in str(caught.value)


def test_what_is_no_array_is_an_error_with_the_path():
    with pytest.raises(TypeError, match="tx: the leaf at 'w/1' must be an array, got"):
        Leaves("tx", {"b": 1.0, "w": (1.0, "word")}, None)


def test_beside_none_there_may_be_anything():
    params = {"w": jnp.ones(2), "act": jax.nn.relu}
    leaves = Leaves("tx", {"w": jnp.ones(2), "act": None}, params)
    assert leaves.params[0] is jax.nn.relu


def test_a_tree_like_the_parameters_is_split_and_others_stay_whole():
    leaves = Leaves("tx", PARAMS, PARAMS)
    tree = leaves.split(PARAMS, [True, False, True])
    assert tree["b"] is PARAMS["b"] and tree["w"][0] is None
    other = {"value": jnp.ones(())}
    assert leaves.split(other, [True, False, True]) is other


def test_floats_are_arrays_and_what_is_none_is_refused_where_it_is():
    made = floats({"x": 1.0, "y": np.ones(2)}, "tool")
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(made))
    with pytest.raises(TypeError, match="tool: y must be floats, got int32"):
        floats({"x": 1.0, "y": np.int32(3)}, "tool")


def test_the_gradient_of_an_integer_is_float0():
    grads = jax.grad(lambda n: 1.0, allow_int=True)(3)
    assert is_float0(grads) and not is_float0(jnp.ones(2)) and not is_float0(None)
    assert Leaves("tx", {"n": grads}, {"n": jnp.int32(3)}).updates[0] is grads


def test_trees_in_a_state_are_found_in_states_inside():
    state = gradtx.accumulate(gradtx.sgd(0.1, momentum=0.9), 2).init(PARAMS)
    assert is_state(state) and is_state(state["inner"]) and not is_state({"mu": 0})
    assert any(tree is state["inner"]["trace"] for tree in trees_in(state))
    assert not any(is_state(tree) for tree in trees_in(state))
