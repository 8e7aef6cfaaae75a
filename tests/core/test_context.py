import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from gradtx.core.context import (
    NoStateError,
    Private,
    SettleContext,
    Tree,
    refuse_complex,
)
from gradtx.core.errors import at_path
from tests.probes import empty_leaf

LEAF = empty_leaf(
    grad=1.0, flowing=1.0, marks={"grad": 1.0}, clock=jnp.int32(3), array=2.0
)


def test_the_number_of_an_update_is_one_more_than_the_count_and_a_weak_float():
    for context in (LEAF, SettleContext(jnp.int32(3), {})):
        t = context.t
        assert t.weak_type and jnp.issubdtype(t.dtype, jnp.floating)
        assert t == 4


def test_without_a_state_there_is_no_count():
    leaf = dataclasses.replace(LEAF, clock=None)
    for read in (lambda: leaf.count, lambda: leaf.t):
        with pytest.raises(NoStateError) as caught:
            read()
        assert str(caught.value) == (
            "probe: counts updates; give the state that init makes, not None"
        )


def test_without_parameters_there_is_none_to_read():
    assert LEAF.param == 2.0
    with pytest.raises(ValueError, match="probe: missing parameters; call update"):
        _ = dataclasses.replace(LEAF, array=None).param


def test_only_what_is_let_is_recalled():
    assert LEAF.recall("grad") == 1.0
    with pytest.raises(
        ValueError, match="probe: expected a let of 'mean' around it, got none"
    ):
        LEAF.recall("mean")


def test_a_private_name_is_no_string_of_a_users():
    leaf = dataclasses.replace(LEAF, marks={Private("mean"): 5.0})
    assert leaf.recall(Private("mean")) == 5.0
    with pytest.raises(
        ValueError, match="expected a let of 'mean' around it, got none"
    ):
        leaf.recall("mean")


def test_what_orders_numbers_refuses_complex_ones_and_says_where():
    refuse_complex(jnp.ones(2), LEAF)
    with (
        pytest.raises(TypeError, match=r"complex numbers .* at 'w' is complex64"),
        at_path(lambda: "w"),
    ):
        refuse_complex(jnp.ones(2, jnp.complex64), LEAF)
    assert LEAF.path == "?"


def test_the_parameters_of_a_part_are_filled_from_the_whole():
    mine: Any = {"w": jnp.ones(2), "b": None}
    whole = {"w": jnp.zeros(2), "b": jnp.full(3, 7.0)}
    tree = Tree(mine, mine, whole, None, jnp.int32(0), {})
    filled = tree.filled(mine)
    np.testing.assert_array_equal(filled["w"], 1)
    np.testing.assert_array_equal(filled["b"], 7)


def test_a_tree_at_other_parameters_keeps_what_it_does_not_update():
    params: Any = {"w": jnp.ones(2), "b": None, "frozen": None}
    own: Any = {"w": jnp.ones(2), "b": jnp.ones(2), "frozen": None}
    whole = jax.tree.map(lambda _: jnp.zeros(2), {"w": 0, "b": 0, "frozen": 0})
    moved: Any = {"w": jnp.full(2, 5.0), "b": jnp.full(2, 6.0), "frozen": None}
    there = Tree(params, own, whole, None, jnp.int32(0), {}).at(moved)
    np.testing.assert_array_equal(there.params["w"], 5)
    assert there.params["b"] is None and there.params["frozen"] is None
    assert there.own is moved
    firsts = [there.whole[name][0] for name in ("w", "b", "frozen")]
    np.testing.assert_array_equal(firsts, [5, 6, 0])
