from typing import Any

import chex
import jax
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.nested import anew, run, run_unless, run_when, trained
from gradtx.core.context import Tree

PARAMS: Any = {"w": jnp.ones(2), "b": jnp.full(3, 2.0)}
GRADS: Any = {"w": jnp.array([1.0, -2.0]), "b": jnp.full(3, 0.5)}
MEMBERS = {"ours": gradtx.trace(0.5), "foreign": optax.trace(0.5)}
each_member = pytest.mark.parametrize("tx", MEMBERS.values(), ids=MEMBERS)


def tree_of(params, **extra):
    return Tree(params, params, params, None, jnp.int32(0), extra)


def equal(one, other):
    chex.assert_trees_all_equal(one, other)


def flags(value):
    """A bool as it is, and as a traced one."""
    return lambda call: (call(jnp.asarray(value)), jax.jit(call)(value))


@each_member
def test_a_transformation_inside_runs_as_alone(tx):
    state = tx.init(PARAMS)
    updates, after = run(tx, GRADS, state, tree_of(PARAMS))
    equal((updates, after), tx.update(GRADS, state, PARAMS))


def test_extra_arguments_reach_what_takes_them():
    tx = gradtx.scale_by_polyak()
    updates, _ = run(tx, GRADS, tx.init(PARAMS), tree_of(PARAMS, value=2.0))
    equal(updates, tx.update(GRADS, tx.init(PARAMS), PARAMS, value=2.0)[0])
    run(
        optax.trace(0.5), GRADS, optax.trace(0.5).init(PARAMS), tree_of(PARAMS, value=2)
    )


def test_a_foreign_state_keeps_its_dtypes():
    def update(updates, state, params=None):
        return updates, jax.tree.map(lambda x: x.astype("float32"), state)

    tx = optax.GradientTransformation(lambda params: params, update)
    state = jnp.ones(2, "bfloat16")
    _, after = run(tx, jnp.ones(2), state, tree_of(jnp.ones(2)))
    assert after.dtype == "bfloat16"


@each_member
def test_a_state_is_made_anew_in_the_dtypes_of_another(tx):
    state = jax.tree.map(
        lambda x: x.astype("bfloat16") if x.ndim else x, tx.init(PARAMS)
    )
    old = jax.tree.map(lambda x: x + jnp.ones_like(x), state)
    made = anew(tx, PARAMS, old)
    assert jax.tree.structure(made) == jax.tree.structure(old)
    equal(made, jax.tree.map(jnp.zeros_like, old))
    dtypes = [x.dtype for x in jax.tree.leaves(made)]
    assert dtypes == [x.dtype for x in jax.tree.leaves(old)]


@each_member
@pytest.mark.parametrize("is_due", [False, True])
def test_what_is_not_due_leaves_the_state_and_makes_something_else(tx, is_due):
    state = tx.init(PARAMS)

    def call(is_due):
        return run_when(
            is_due,
            tx,
            GRADS,
            state,
            tree_of(PARAMS),
            lambda u: jax.tree.map(jnp.abs, u),
        )

    due = run(tx, GRADS, state, tree_of(PARAMS))
    for made in flags(is_due)(call):
        equal(made, due if is_due else (jax.tree.map(jnp.abs, GRADS), state))


@each_member
@pytest.mark.parametrize("is_skipped", [False, True])
def test_what_is_skipped_gives_zeros_and_leaves_the_state(tx, is_skipped):
    state = tx.init(PARAMS)

    def call(is_skipped):
        return run_unless(is_skipped, tx, GRADS, state, tree_of(PARAMS))

    due = run(tx, GRADS, state, tree_of(PARAMS))
    for made in flags(is_skipped)(call):
        zeros = jax.tree.map(jnp.zeros_like, GRADS)
        equal(made, (zeros, state) if is_skipped else due)


def test_what_is_frozen_is_not_trained_at_any_depth():
    frozen = gradtx.groups({"b": gradtx.frozen(), "**": gradtx.sgd(0.1)})
    for tx in (frozen, gradtx.accumulate(gradtx.accumulate(frozen, 2), 2)):
        left = trained(tx, GRADS, PARAMS)
        assert left["b"] is None and left["w"] is GRADS["w"]
    assert trained(gradtx.sgd(0.1), GRADS, PARAMS) is GRADS
    assert trained(optax.set_to_zero(), GRADS, PARAMS) is GRADS


def test_a_frozen_leaf_that_something_else_sees_is_trained():
    frozen = gradtx.groups({"b": gradtx.frozen(), "**": gradtx.sgd(0.1)})
    tx = gradtx.chain(optax.clip_by_global_norm(1.0), frozen)
    assert trained(tx, GRADS, PARAMS)["b"] is not None
