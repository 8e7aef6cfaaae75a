import jax
import numpy as np
import pytest
from jax import numpy as jnp

from gradtx.compiler.conditions import run_if

U, S = jnp.ones(2), {"kept": jnp.zeros(2)}


def step(updates, state):
    return 2 * updates, {"kept": state["kept"] + updates}


def test_without_a_condition_a_step_is_run_as_it_is():
    seen = []

    def plain(updates, state):
        seen.append((updates, state))
        return updates, state

    assert run_if(None, plain, U, S) == (U, S)
    assert seen == [(U, S)]


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize("is_due", [False, True])
def test_a_step_is_run_where_it_is_due_and_else_the_state_stays(is_due, is_jitted):
    def run(is_due):
        return run_if(is_due, step, U, S, lambda updates: -updates)

    flag = jnp.asarray(is_due)
    updates, state = jax.jit(run)(flag) if is_jitted else run(flag)
    np.testing.assert_array_equal(updates, 2 if is_due else -1)
    np.testing.assert_array_equal(state["kept"], 1 if is_due else 0)


def test_otherwise_the_updates_leave_as_they_came():
    updates, state = run_if(jnp.asarray(False), step, U, S)
    assert updates is U and state is S


@pytest.mark.parametrize("is_due", [False, True])
def test_updates_leave_in_their_own_dtype_either_way(is_due):
    half = jnp.ones(2, "bfloat16")

    def widen(updates, state):
        return updates.astype("float32"), state

    for flag in (jnp.asarray(is_due), is_due):
        assert run_if(flag, widen, half, S)[0].dtype == "bfloat16"
    traced = jax.jit(lambda flag: run_if(flag, widen, half, S)[0])
    assert traced(is_due).dtype == "bfloat16"


def test_the_errors_of_a_step_that_is_not_due_come_at_once():
    def wrong(updates, state):
        raise RuntimeError("wrong")

    with pytest.raises(RuntimeError, match="wrong"):
        run_if(jnp.asarray(False), wrong, U, S)


def test_a_traced_condition_computes_only_one_branch():
    called = []

    def noted(updates, state):
        jax.debug.callback(lambda: called.append(1))
        return updates, state

    run = jax.jit(lambda is_due: run_if(is_due, noted, U, S))
    for is_due in (False, True):
        jax.block_until_ready(run(is_due))
        jax.effects_barrier()
    assert called == [1]
