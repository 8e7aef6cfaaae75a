import dataclasses
from typing import Any

import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.lower import program_of
from gradtx.core import rule
from gradtx.core.rule import (
    Rule,
    Slot,
    TreeRule,
    both,
    memoryless,
    scalar_of,
    slot_of,
)
from tests.probes import empty_leaf

NO_FUNCTION: Any = "zeros"
LEAF = empty_leaf()


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


def test_a_bare_function_is_a_slot_that_declares_nothing_else():
    slot = slot_of("probe", "mu", jnp.zeros_like)
    assert slot == Slot(jnp.zeros_like) == scalar_of("probe", "mu", jnp.zeros_like)
    assert slot.dtype is slot.in_optax is None
    assert not (slot.is_elementwise or slot.is_param or slot.is_only_here)
    declared = Slot(jnp.zeros_like, is_param=True)
    assert slot_of("probe", "mu", declared) is declared
    with pytest.raises(TypeError, match="positional"):
        Slot(*[jnp.zeros_like, "bfloat16"])


@pytest.mark.parametrize("kind", [Rule, TreeRule])
def test_operations_have_slots_whether_a_rule_gives_functions_or_slots(kind):
    @gradtx.transformation
    def keeping(is_bare: bool):
        slots = {"mu": jnp.zeros_like if is_bare else Slot(jnp.zeros_like)}
        return kind(lambda u, slots, leaf: (u, slots), slots)

    bare, declared = keeping(True), keeping(False)
    params = jnp.ones(3)
    for tx in (bare, declared):
        (op,) = program_of(tx.bound, jnp.int32(0)).ops
        assert op.slots == {"mu": Slot(jnp.zeros_like)}
        state = tx.init(params)
        np.testing.assert_array_equal(state["mu"], jnp.zeros(3))
        np.testing.assert_array_equal(tx.update(params, state)[1]["mu"], 0)


def test_a_slot_starts_in_its_dtype_and_complex_ones_stay_complex():
    def first(dtype, array):
        return Slot(rule.unchanged, dtype=dtype)(array)

    real, imaginary = jnp.ones(2), jnp.ones(2, "complex64")
    assert first(None, real) is real
    assert first("bfloat16", real).dtype == "bfloat16"
    assert first("float32", imaginary).dtype == "complex64"
    np.testing.assert_array_equal(first("float32", imaginary), imaginary)
    assert first("bfloat16", imaginary).dtype == "bfloat16"  # refused at an update
    assert Slot(lambda array: None, dtype="bfloat16")(real) is None
    tree = Slot(lambda params: params, dtype="float16")({"w": real, "b": None})
    assert tree["w"].dtype == "float16" and tree["b"] is None


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (3, TypeError, "slot 'mu' must be a Slot, or a function .* got 3"),
        (Slot(NO_FUNCTION), TypeError, "slot 'mu' must be a Slot, .* got 'zeros'"),
        (
            Slot(jnp.zeros_like, dtype="wide"),
            TypeError,
            "slot 'mu' must have a dtype or None as its dtype, got 'wide'",
        ),
        (
            Slot(jnp.zeros_like, in_optax="nu", is_only_here=True),
            ValueError,
            "slot 'mu' cannot be both is_only_here=True and in_optax='nu'",
        ),
    ],
)
def test_nonsense_for_a_slot_is_an_error_that_names_the_owner(given, error, message):
    def passing(u, slots, leaf):
        return u, slots

    @gradtx.transformation
    def odd(is_scalar: bool):
        mine = {"mu": given}
        return Rule(passing, shared=mine) if is_scalar else Rule(passing, mine)

    for is_scalar in (False, True):
        with pytest.raises(error, match=f"odd: {message}"):
            odd(is_scalar).init(jnp.ones(2))


@pytest.mark.parametrize("declared", ["is_elementwise", "is_param"])
def test_a_scalar_of_the_tree_is_not_like_a_parameter(declared):
    slot = dataclasses.replace(Slot(rule.zero), **{declared: True})
    with pytest.raises(
        ValueError, match=f"probe: 's' is one scalar .* {declared}=True"
    ):
        scalar_of("probe", "s", slot)


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


def test_a_first_value_may_be_a_number_where_the_dtype_is_declared():
    assert Slot(lambda array: 0.0, dtype="bfloat16")(jnp.ones(3)).dtype == jnp.bfloat16


@pytest.mark.parametrize("init", [Slot, Slot(jnp.zeros_like)])
def test_a_slot_that_is_made_of_slots_is_an_error_that_names_its_owner(init):
    with pytest.raises(
        TypeError, match="probe: slot 'm' must be a Slot, or a function"
    ):
        slot_of("probe", "m", Slot(init) if isinstance(init, Slot) else init)
