from typing import Any

import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.core import rule
from gradtx.core.context import Leaf
from gradtx.core.rule import Rule, TreeRule, both, memoryless

LEAF = Leaf(
    owner="probe",
    grad=0.0,
    flowing=0.0,
    marks={},
    clock=None,
    total=None,
    shared={},
    before={},
    key=None,
    extra={},
    static=None,
    array=None,
)


def test_a_rule_that_says_nothing_else_keeps_and_asks_for_nothing():
    for made in (Rule(lambda *it: it[:2]), TreeRule(lambda *it: it[:2])):
        assert dict(made.slots) == dict(made.shared) == dict(made.inner) == {}
        assert made.needs == () and made.key is None and made.measure is None
        assert not (made.takes_batch or made.takes_integers or made.freezes)
        assert made.evaluate is None and made.period is None
    array = jnp.ones(2)
    assert Rule(lambda *it: it[:2]).out(array) is array


def test_a_rule_without_memory_gives_the_slots_back_that_it_got():
    made = memoryless(lambda u, leaf: 2 * u, needs=("value",))
    slots = {"of": "others"}
    assert made.update(3.0, slots, LEAF) == (6.0, slots)
    assert made.needs == ("value",)


def test_what_leaves_a_rule_is_a_pair_of_an_update_and_slots():
    good: Any = (1.0, {"mu": 2.0})
    assert both(good, "probe") is good
    for bad in (1.0, (1.0,), [1.0, {}], (1.0, 2.0), (1.0, {}, {}), None):
        with pytest.raises(TypeError, match=r"probe: update must give .* got "):
            both(bad, "probe")


def test_first_values_are_in_the_kind_of_the_array():
    array = jnp.ones(2, "complex64")
    assert rule.unchanged(array) is array
    sizes = rule.real_zeros(array)
    assert sizes.dtype == "float32" and sizes.shape == (2,) and not sizes.any()
    assert rule.zero([array]).shape == ()


def test_the_squared_norm_of_complex_updates_is_real():
    squared = rule.squared_norm(jnp.array([3 + 4j, 1j]), {}, LEAF)
    assert squared == 26 and not jnp.iscomplexobj(squared)


def test_a_primitive_is_a_rule_and_the_engine_lifts_it_to_trees():
    @gradtx.transformation
    def doubled():
        return memoryless(lambda u, leaf: 2 * u)

    tree = {"w": jnp.ones((2, 3)), "b": (jnp.ones(()), None)}
    updates, state = doubled().update(tree, doubled().init(tree))
    assert updates["b"][1] is None
    np.testing.assert_array_equal(updates["w"], 2)
    assert state.keys() == {"count"} and state["count"] == 1
