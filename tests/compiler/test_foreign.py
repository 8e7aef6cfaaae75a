import functools
from typing import Any

import chex
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.foreign import name_of_foreign, ours, pair_of, rule_of_foreign

anything: Any = gradtx  # what mistakes are made with


def test_a_foreign_transformation_has_the_name_of_what_made_it():
    assert name_of_foreign(optax.scale_by_adam()) == "scale_by_adam"
    update: Any = functools.partial(max)
    nameless = optax.GradientTransformation(lambda params: (), update)
    assert name_of_foreign(nameless) == "optax"


def test_what_is_no_transformation_is_named_with_a_hint():
    with pytest.raises(TypeError, match="tool: tx must be a transformation, got 3"):
        pair_of("tool", 3)
    with pytest.raises(TypeError, match="; call it to make one"):
        pair_of("tool", gradtx.sgd)
    with pytest.raises(TypeError, match="; give them one by one"):
        pair_of("tool", [gradtx.sgd(0.1)])


def test_what_is_of_optax_is_not_ours():
    tx = gradtx.sgd(0.1)
    assert ours("tool", tx) is tx and pair_of("tool", tx) is tx
    with pytest.raises(TypeError, match="tool: tx must be of gradtx, got 'trace' of"):
        ours("tool", optax.trace(0.9))


def test_a_foreign_state_is_whole_under_its_name():
    rule = rule_of_foreign(optax.trace(0.9))
    params = {"w": jnp.ones(2)}
    (state,) = (first(params) for first in rule.slots.values())
    assert rule.slots.keys() == {"trace"} and isinstance(state, optax.TraceState)
    assert rule.takes_integers


def test_a_foreign_member_computes_in_a_chain_as_alone():
    grads = jnp.array([1.0, -2.0])
    tx = gradtx.chain(optax.trace(0.9), gradtx.scale(2.0))
    state, theirs = tx.init(grads), optax.trace(0.9).init(grads)
    for _ in range(3):
        updates, state = tx.update(grads, state)
        expected, theirs = optax.trace(0.9).update(grads, theirs)
        np.testing.assert_array_equal(updates / 2, expected)
    chex.assert_trees_all_equal(state["trace"], theirs)


def test_the_arguments_that_a_foreign_update_declares_are_taken():
    def update(updates, state, params=None, *, value=None, **rest):
        return updates, state

    tx = optax.GradientTransformationExtraArgs(lambda params: (), update)
    assert {"value", "**"} <= {*rule_of_foreign(tx).takes}
    assert "**" not in rule_of_foreign(optax.trace(0.9)).takes
