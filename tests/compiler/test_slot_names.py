"""The keys of a state: slots of one name behind a pinned one, and behind labels."""

from typing import Any

import chex
import jax
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality, registry

PARAMS: Any = {"w": jnp.ones((2, 3)), "v": jnp.full(3, 2.0)}
GRADS: Any = {"w": jnp.full((2, 3), 0.5), "v": jnp.array([1.0, -2.0, 3.0])}
LABELS = {"w": "a", "v": "b"}


def keys(tx):
    return {*tx.init(PARAMS)} - {"count"}


def path(tx):
    """Four updates, each with the state of the one before."""
    params, grads = (
        jax.tree.map(lambda x: x.astype(float), t) for t in (PARAMS, GRADS)
    )
    state, found = tx.init(params), []
    for i in range(4):
        now = jax.tree.map(lambda g, i=i: g * (i + 1), grads)
        updates, state = jax.jit(tx.update)(now, state, params)
        found.append(updates)
    return found


def two_memories(m):
    """A chain that keeps `nu` twice."""
    return m.chain(m.adam(0.1), m.scale_by_rms())


MADE = {
    "partition of a chain": lambda m: m.partition(
        {"a": m.sgd(0.1), "b": two_memories(m)}, LABELS
    ),
    "chain of partitions": lambda m: m.chain(
        m.partition({"a": m.adam(0.1), "b": m.sgd(0.1, 0.9)}, LABELS),
        m.partition({"a": m.scale_by_rms(), "b": m.trace(0.5)}, LABELS),
        m.partition({"a": m.scale_by_adam(), "b": m.trace(0.5)}, LABELS),
    ),
    "equal partitions": lambda m: m.chain(
        *2 * (m.partition({"a": m.adam(0.1), "b": two_memories(m)}, LABELS),)
    ),
    "partition in a partition": lambda m: m.partition(
        {
            "a": m.chain(*2 * (m.partition({"x": m.adam(0.1)}, lambda p: "x"),)),
            "b": m.sgd(0.1),
        },
        lambda p: {"w": "a", "v": "b"},
    ),
    "named chain": lambda m: m.named_chain(
        ("first", two_memories(m)), ("second", m.scale_by_rms())
    ),
    "masked partitions": lambda m: m.chain(
        *2
        * (
            m.partition(
                {"a": m.trace(0.9), "b": m.masked(two_memories(m), True)}, LABELS
            ),
        )
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_slots_of_one_name_behind_labels_are_qualified_and_equal_optax(name):
    ours: Any = MADE[name](gradtx)
    with equality.as_optax_needs(), jax.enable_x64(True):
        pairs = [*zip(path(ours), path(MADE[name](optax)), strict=True)]
    for mine, its in pairs:
        chex.assert_trees_all_close(mine, its, rtol=1e-12)
    state = ours.init(PARAMS)
    again = gradtx.restore(ours, PARAMS, state)
    assert not again.renamed and not again.new
    chex.assert_trees_all_equal(again.state, state)


def test_behind_a_pin_they_are_qualified_by_what_is_inside():
    assert keys(MADE["partition of a chain"](gradtx)) == {
        "b.mu",
        "b.adam.nu",
        "b.scale_by_rms.nu",
    }
    fast = gradtx.named("fast", two_memories(gradtx))
    inside = {"fast.mu", "fast.adam.nu", "fast.scale_by_rms.nu"}
    assert keys(fast) == inside
    assert keys(gradtx.chain(fast, gradtx.adam(0.1))) == inside | {"mu", "nu"}


def test_behind_labels_of_several_partitions_by_what_is_around():
    assert keys(MADE["chain of partitions"](gradtx)) == {
        *(f"partition.a.mu.{i}of2" for i in (1, 2)),
        *(f"partition.a.nu.{i}of3" for i in (1, 2, 3)),
        *(f"partition.b.trace.{i}of3" for i in (1, 2, 3)),
    }
    pinned = gradtx.named("residual", gradtx.trace(0.5))
    came = gradtx.came(0.1)
    assert keys(gradtx.chain(came, pinned)) == keys(came) | {"residual.trace"}


def test_names_that_a_user_pinned_twice_are_still_an_error():
    fast = gradtx.named("fast", gradtx.trace(0.5))
    for tx in (
        gradtx.chain(fast, fast),
        gradtx.partition({"a": gradtx.chain(fast, fast), "b": fast}, LABELS),
    ):
        with pytest.raises(
            ValueError, match=r"kept under '(a\.)?fast\.trace'; name them"
        ):
            tx.init(PARAMS)


@pytest.mark.parametrize("name", registry.TRANSFORMATIONS)
def test_a_label_may_have_any_transformation_twice(name):
    tx: Any = registry.TRANSFORMATIONS[name]()
    if name == "named":  # it pins a name for good
        return
    try:
        alone = {*gradtx.chain(tx, tx).init(PARAMS)}
    except ValueError as error:
        assert "must be around the whole optimizer" in str(error)
        return
    made = gradtx.partition({"a": gradtx.chain(tx, tx)}, lambda params: "a")
    assert len(made.init(PARAMS)) == len(alone)
