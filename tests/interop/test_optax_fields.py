from collections import OrderedDict
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from optax import contrib

from gradtx.core.prng import is_key
from gradtx.interop.optax_fields import (
    Field,
    count_of,
    counted,
    real_part,
    rebuild,
    structure_of,
    to_ours,
    to_theirs,
)
from gradtx.wrappers.layouts import RealAndImaginary

pytestmark = pytest.mark.usefixtures("standard_promotion")

PARAMS = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}


def fields_of(state, is_whole=lambda *it: False, foreign=()):
    """The fields of a state, in order, and the state as it is rebuilt."""
    found = []

    def visit(name, value, owner, labels):
        found.append(Field(name, value, owner, labels))
        return value

    return found, rebuild("tool", state, visit, is_whole, foreign)


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert is_key(a) == is_key(b)
        mine, theirs = (jax.random.key_data(x) if is_key(x) else x for x in (a, b))
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    "tx",
    [
        optax.adamw(0.1),
        optax.apply_if_finite(optax.sgd(0.1, momentum=0.9), 3),
        optax.named_chain(("x", optax.trace(0.9)), ("y", optax.scale_by_adam())),
        optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
        contrib.reduce_on_plateau(),
    ],
    ids=["chain", "wrapper", "named chain", "MultiSteps", "plateau"],
)
def test_a_state_is_rebuilt_of_its_fields(tx):
    state = tx.init(PARAMS)
    _, again = fields_of(state)
    assert type(again) is type(state)
    same(again, state)


def test_fields_that_hold_states_are_gone_into_unless_they_are_whole():
    state = optax.apply_if_finite(optax.trace(0.9), 3).init(PARAMS)
    names = [field.name for field in fields_of(state)[0]]
    assert "trace" in names and "inner_state" not in names
    names = [field.name for field in fields_of(state, lambda *it: True)[0]]
    assert "trace" not in names and "inner_state" in names


def test_fields_in_groups_have_their_labels():
    tx = optax.partition(
        {"x": optax.trace(0.9), "y": optax.scale_by_adam()}, {"w": "x", "b": "y"}
    )
    found, _ = fields_of(tx.init(PARAMS))
    assert {(field.name, field.labels) for field in found} == {
        ("trace", ("x",)),
        ("count", ("y",)),
        ("mu", ("y",)),
        ("nu", ("y",)),
    }


def test_the_state_of_a_foreign_member_is_visited_whole():
    state: Any = optax.chain(optax.trace(0.9), optax.scale_by_adam()).init(PARAMS)
    key = structure_of(state[0])
    found, _ = fields_of(state, foreign=[(key, ())])
    assert [field.name for field in found] == [key, "count", "mu", "nu"]
    assert found[0].value is state[0]


def test_the_structure_of_a_state_is_the_same_behind_a_mask():
    masked: Any = optax.masked(optax.trace(0.9), {"w": True, "b": False}).init(PARAMS)
    plain = optax.trace(0.9).init({"w": PARAMS["w"]})
    assert structure_of(masked.inner_state) == structure_of(plain)
    assert structure_of(optax.trace(0.9).init(PARAMS)) != structure_of(plain)


def test_what_is_no_state_of_optax_is_an_error():
    with pytest.raises(
        TypeError, match=r"tool: expected a state from .* got a ndarray"
    ):
        fields_of((np.ones(2),))
    assert fields_of(OrderedDict(x=()))[1] == OrderedDict(x=())


def field(name, value, owner=None):
    return Field(name, value, owner, ())


def test_the_count_is_that_of_the_field_that_tells_it_best():
    assert count_of([]) == 0
    assert count_of([field("mu", 7), field("step_count", 4)]) == 3
    assert count_of([field("is_init_step", jnp.asarray(True))]) == 0
    assert count_of([field("t", 5), field("count", 3)]) == 3
    every: Any = optax.apply_every(2).init(PARAMS)
    assert count_of([field("count", 1, every), field("t", 5)]) == 5


def test_what_tells_the_count_is_told_it_in_its_own_way():
    count = jnp.int32(7)
    assert counted("count", count, None) == 7
    assert counted("count", count, 4) == 3
    assert counted("step_count", count, None) == 8
    assert not counted("is_init_step", count, None)
    assert counted("is_init_step", jnp.int32(0), None)


@pytest.mark.parametrize(
    "tx",
    [
        optax.sm3(0.1),
        optax.scale_by_factored_rms(min_dim_size_to_factor=2),
        contrib.split_real_and_imaginary(optax.trace(0.9)),
        optax.add_noise(0.1, 0.5, key=jax.random.key(7)),
        optax.masked(optax.trace(0.9), {"w": True, "b": False}),
    ],
    ids=["lists", "factors", "pairs", "keys", "masked"],
)
def test_a_field_goes_to_ours_and_back(tx):
    params = jax.tree.map(lambda p: p.astype("complex64"), PARAMS)
    state = tx.init(params if "split" in tx.init.__qualname__ else PARAMS)
    for name, value, owner, _ in fields_of(state)[0]:
        there = to_ours(name, value, owner)
        same(to_theirs(name, there, value, owner), value)


def test_as_slots_what_is_absent_is_none_and_pairs_are_ours():
    masked: Any = optax.masked(optax.trace(0.9), {"w": True, "b": False}).init(PARAMS)
    owner = masked.inner_state
    assert to_ours("trace", owner.trace, owner)["b"] is None
    split = contrib.split_real_and_imaginary(optax.trace(0.9))
    pairs: Any = split.init(jnp.ones(2, "complex64"))
    owner = pairs.inner_state
    assert isinstance(to_ours("trace", owner.trace, owner), RealAndImaginary)
    typed: Any = to_ours("rng_key", jax.random.key(7), None)
    np.testing.assert_array_equal(typed, jax.random.PRNGKey(7))


def test_the_vectors_of_sm3_are_one():
    state: Any = optax.sm3(0.1).init(PARAMS)
    owner = state[0]
    vectors = to_ours("mu", owner.mu, owner)
    assert vectors["w"].shape == (3 + 2,) and vectors["b"].shape == (2,)


def test_only_what_has_no_imaginary_part_is_made_real():
    real = real_part("tool", "nu", jnp.array([1 + 0j, 2]))
    assert real.dtype == "float32"
    np.testing.assert_array_equal(real, [1, 2])
    with pytest.raises(ValueError, match="tool: optax's 'nu' has an imaginary part"):
        real_part("tool", "nu", jnp.array([1j]))
