from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.leaves import Leaves
from gradtx.compiler.lower import program_of
from gradtx.compiler.stages import Update
from tests.probes import GRADS, PARAMS

CLIPPED = gradtx.chain(gradtx.scale(2.0), gradtx.clip_by_global_norm(1.0))


def opened(tx, grads=GRADS, params=PARAMS, is_due=None, **extra):
    """An update before its first stage, and its program."""
    program = program_of(tx.bound, jnp.int32(0))
    leaves = Leaves(tx.name, grads, params)
    state = tx.init(params)
    return Update(program, leaves, state, state["count"], extra, is_due), program


def run(update, program):
    for stage in program.stages:
        if stage.is_tree:
            update.tree_stage(stage.ops[0])
        else:
            update.kernel_stage(stage)
    return update.results()


def test_registers_are_columns_that_stages_fill_in_order():
    update, program = opened(CLIPPED)
    first, second = program.stages
    update.kernel_stage(first)
    doubled = [2 * g for g in jax.tree.leaves(GRADS)]
    jax.tree.map(np.testing.assert_array_equal, update.registers[1], doubled)
    update.kernel_stage(second)
    norm = np.sqrt(sum(np.sum(np.square(x)) for x in update.registers[2]))
    np.testing.assert_allclose(norm, 1, rtol=1e-6)


def test_the_stages_of_an_update_are_what_update_runs():
    tx = gradtx.chain(CLIPPED, optax.trace(0.9), gradtx.adam(0.1))
    update, program = opened(tx)
    out = run(update, program)
    expected = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, out, expected[0])
    jax.tree.map(np.testing.assert_array_equal, update.new_state, dict(expected[1]))


@pytest.mark.parametrize("is_due", [True, False])
def test_what_is_not_due_gives_zeros_and_leaves_the_state(is_due):
    tx = gradtx.chain(gradtx.adam(0.1), optax.trace(0.9), gradtx.add_noise(0.1, 0.5, 7))
    update, program = opened(tx, is_due=jnp.asarray(is_due))
    out = run(update, program)
    state = tx.init(PARAMS)
    after: Any = tx.update(GRADS, state, PARAMS)
    zeros = jax.tree.map(jnp.zeros_like, GRADS)
    expected = after if is_due else (zeros, state)
    same = np.testing.assert_array_equal
    jax.tree.map(same, (out, update.new_state), (expected[0], dict(expected[1])))


def test_a_plan_and_its_kernels_are_made_once_for_a_program():
    tx = gradtx.sgd(0.1)
    _, program = opened(tx)
    for _ in range(2):
        update, again = opened(tx)
        run(update, again)
        assert again is program
        assert len(program.memo) == 2  # a plan, and a kernel for leaves alike


def test_leaves_that_nothing_acts_on_leave_as_they_came():
    tx = gradtx.only(gradtx.scale(2.0), {"w": True, "b": False})
    update, program = opened(tx)
    out = run(update, program)
    assert out["b"][0] is GRADS["b"][0]
    np.testing.assert_array_equal(out["w"], 2 * GRADS["w"])


def test_updates_leave_in_the_precision_of_the_gradient_and_the_parameter():
    half = jax.tree.map(lambda x: x.astype("bfloat16"), PARAMS)
    update, program = opened(gradtx.adam(0.1), half, half)
    assert {x.dtype.name for x in jax.tree.leaves(run(update, program))} == {"bfloat16"}
    assert update.new_state["mu"]["w"].dtype == "float32"


def test_what_a_tree_rule_is_given_has_none_where_it_does_not_act():
    seen = []

    def update(updates, state, params=None):
        seen.append((updates, params))
        return updates, state

    foreign = optax.GradientTransformation(lambda params: (), update)
    tx = gradtx.only(gradtx.chain(foreign), {"w": True, "b": False})
    run(*opened(tx))
    ((updates, params),) = seen
    assert updates["b"] == [None] and params["b"] == [None]
    assert updates["w"].shape == params["w"].shape == (2, 3)


def test_a_foreign_member_gets_the_dtypes_that_it_would_get_in_optax():
    seen = []

    def update(updates, state, params=None):
        seen.append(updates["w"].dtype)
        return updates, state

    foreign = optax.GradientTransformation(lambda params: (), update)
    half = jax.tree.map(lambda x: x.astype("bfloat16"), PARAMS)
    tx = gradtx.chain(gradtx.scale(2.0), foreign, gradtx.scale(2.0))
    run(*opened(tx, half, half))
    assert seen == [jnp.bfloat16]


def test_a_tree_rule_that_waits_is_run_and_told_that_it_is_skipped():
    seen = []

    @gradtx.transformation
    def waiting(waits: bool):
        def update(updates, slots, tree):
            seen.append(bool(tree.is_skipped))
            return updates, slots

        return gradtx.TreeRule(update, waits=waits)

    run(*opened(waiting(True), is_due=jnp.asarray(False)))
    run(*opened(waiting(True), is_due=jnp.asarray(True)))
    assert seen == [True, False]


def test_the_extra_arguments_behind_a_mask_are_masked_where_that_is_asked_for():
    seen = []

    def update(updates, state, params=None, *, other=None, **rest):
        seen.append(other)
        return updates, state

    foreign = optax.GradientTransformationExtraArgs(lambda params: (), update)
    mask = {"w": True, "b": False}
    for split in (True, False):
        tx = gradtx.masked(foreign, mask, mask_compatible_extra_args=split)
        tx.update(GRADS, tx.init(PARAMS), PARAMS, other=PARAMS)
    assert seen[0]["b"] == [None] and seen[1]["b"] is PARAMS["b"]


def test_a_tree_rule_that_forgets_a_slot_is_told_which():
    @gradtx.transformation
    def forgetful():
        slots = {"kept": lambda params: jnp.zeros(())}
        return gradtx.TreeRule(lambda updates, slots, tree: (updates, {}), slots)

    tx, params = forgetful(), {"w": jnp.ones(2)}
    message = r"forgetful: keeps \['kept'\], but its update returned \[\]"
    with pytest.raises(ValueError, match=message):
        tx.update(params, tx.init(params), params)
