from typing import Any

import jax
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.init import is_nothing, shapes_of
from tests import registry

LIKE = jax.ShapeDtypeStruct
TREES = {
    "real": {"w": LIKE((4, 3), "float32"), "b": LIKE((3,), "bfloat16"), "s": 1.0},
    "complex": {"w": LIKE((4, 3), "complex64"), "b": [LIKE((3,), "float32"), None]},
}


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("name", registry.TRANSFORMATIONS)
def test_the_state_of_shapes_is_that_of_arrays(name, tree):
    """To the weak type: it is made without tracing `init`."""
    if tree == "complex" and name in registry.REAL_ONLY:
        return
    tx = registry.TRANSFORMATIONS[name]()
    shapes, traced = tx.init(TREES[tree]), jax.eval_shape(tx.init, TREES[tree])
    assert jax.tree.structure(shapes) == jax.tree.structure(traced)
    looks = [[*map(jax.typeof, jax.tree.leaves(it))] for it in (shapes, traced)]
    assert looks[0] == looks[1]


PARAMS: Any = {"w": jnp.ones((2, 3)), "b": [jnp.ones(3, "bfloat16"), None]}


def test_a_state_is_flat_with_a_count_and_a_tree_a_slot():
    state = gradtx.adam(0.1).init(PARAMS)
    assert [*state] == ["count", "mu", "nu"]
    for slot in ("mu", "nu"):
        assert jax.tree.structure(state[slot]) == jax.tree.structure(PARAMS)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(state[slot])} == {"float32"}


@pytest.mark.parametrize("name", registry.TRANSFORMATIONS)
def test_every_value_is_strong_and_in_a_buffer_of_its_own(name):
    params = {"w": jnp.ones((4, 3)), "b": jnp.ones(4)}
    state = registry.TRANSFORMATIONS[name]().init(params)
    arrays = [x for x in jax.tree.leaves(state) if isinstance(x, jax.Array)]
    arrays = [x for x in arrays if not jnp.issubdtype(x.dtype, jax.dtypes.extended)]
    assert not any(x.weak_type for x in arrays)
    buffers = [x.unsafe_buffer_pointer() for x in (*arrays, *params.values()) if x.size]
    assert len({*buffers}) == len(buffers)


def test_shapes_for_shapes_and_arrays_for_arrays():
    tx = gradtx.chain(gradtx.adam(0.1), gradtx.add_noise(0.1, 0.5, 7))
    shapes = jax.eval_shape(lambda: PARAMS)
    for state, kind in ((tx.init(shapes), jax.ShapeDtypeStruct),
                        (tx.init(PARAMS), jax.Array)):  # fmt: skip
        assert all(isinstance(leaf, kind) for leaf in jax.tree.leaves(state))


def test_shapes_make_no_array_of_the_size_of_a_parameter():
    huge = {"w": jax.ShapeDtypeStruct((2**20, 2**20), "float32")}
    assert gradtx.adam(0.1).init(huge)["mu"]["w"].shape == (2**20, 2**20)


def test_a_leaf_that_is_masked_has_nothing_in_the_slots_of_what_is_masked():
    state = gradtx.only(gradtx.trace(0.9), {"w": True, "b": False}).init(PARAMS)
    assert state["trace"]["b"] == [None, None] and state["trace"]["w"].shape == (2, 3)
    foreign = gradtx.chain(optax.trace(0.9))
    theirs = gradtx.only(foreign, {"w": True, "b": False}).init(PARAMS)["trace"].trace
    assert theirs["b"] == [None, None] and theirs["w"].shape == (2, 3)


def test_the_slots_of_groups_are_one_tree():
    groups = {"w": gradtx.sgd(0.1, momentum=0.9), "**": gradtx.sgd(0.1, momentum=0.5)}
    state = gradtx.groups(groups).init(PARAMS)
    assert [*state] == ["count", "trace"]
    assert len(jax.tree.leaves(state["trace"])) == 2


def test_an_integer_has_no_slots_until_a_rule_refuses_it():
    program = gradtx.sgd(0.1, momentum=0.9).init({"w": jnp.ones(2), "n": jnp.int32(3)})
    assert program["trace"]["n"] is None and program["trace"]["w"].shape == (2,)


def test_a_foreign_state_that_holds_nothing_is_not_kept():
    for nothing in (None, (), (optax.EmptyState(), (optax.EmptyState(),))):
        assert is_nothing(nothing)
    assert not is_nothing(optax.TraceState(trace=jnp.ones(2)))
    assert [*gradtx.chain(optax.scale(2.0)).init(PARAMS)] == ["count"]


def test_an_error_in_a_first_value_names_the_transformation():
    def first(array):
        raise RuntimeError("no first value")

    @gradtx.transformation
    def odd():
        return gradtx.Rule(lambda u, slots, leaf: (u, slots), {"kept": first})

    with pytest.raises(RuntimeError) as caught:
        odd().init(PARAMS)
    assert caught.value.__notes__[0].startswith("in odd, at ")


def test_the_shapes_of_a_tree_are_those_of_its_arrays():
    assert shapes_of({"w": jnp.ones((2, 3), "bfloat16")}) == {
        "w": jax.ShapeDtypeStruct((2, 3), "bfloat16")
    }
