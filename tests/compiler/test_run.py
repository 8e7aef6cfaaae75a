from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.probes import GRADS, PARAMS
from tests.stages import opened, run_all


def test_the_stages_of_an_update_are_what_update_runs():
    clipped = gradtx.chain(gradtx.scale(2.0), gradtx.clip_by_global_norm(1.0))
    tx = gradtx.chain(clipped, optax.trace(0.9), gradtx.adam(0.1))
    run, program = opened(tx)
    out = run_all(run, program)
    expected = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    chex.assert_trees_all_equal(out, expected[0])
    chex.assert_trees_all_equal(run.new_state, dict(expected[1]))


@pytest.mark.parametrize("is_due", [True, False])
def test_what_is_not_due_gives_zeros_and_leaves_the_state(is_due):
    tx = gradtx.chain(gradtx.adam(0.1), optax.trace(0.9), gradtx.add_noise(0.1, 0.5, 7))
    run, program = opened(tx, is_due=jnp.asarray(is_due))
    out = run_all(run, program)
    state = tx.init(PARAMS)
    after: Any = tx.update(GRADS, state, PARAMS)
    zeros = jax.tree.map(jnp.zeros_like, GRADS)
    expected = after if is_due else (zeros, state)
    same = np.testing.assert_array_equal
    jax.tree.map(same, (out, run.new_state), (expected[0], dict(expected[1])))


def test_leaves_that_nothing_acts_on_leave_as_they_came():
    tx = gradtx.only(gradtx.scale(2.0), {"w": True, "b": False})
    run, program = opened(tx)
    out = run_all(run, program)
    assert out["b"][0] is GRADS["b"][0]
    np.testing.assert_array_equal(out["w"], 2 * GRADS["w"])


def test_updates_leave_in_the_precision_of_the_gradient_and_the_parameter():
    half = jax.tree.map(lambda x: x.astype("bfloat16"), PARAMS)
    run, program = opened(gradtx.adam(0.1), half, half)
    assert {x.dtype.name for x in jax.tree.leaves(run_all(run, program))} == {
        "bfloat16"
    }
    assert run.new_state["mu"]["w"].dtype == "float32"
