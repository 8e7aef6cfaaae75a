import chex
import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.kernel_stage import run_kernels
from gradtx.compiler.stage import Stage
from tests.probes import GRADS, PARAMS
from tests.stages import opened, run_all


def test_registers_are_columns_that_stages_fill_in_order():
    tx = gradtx.chain(gradtx.scale(2.0), gradtx.clip_by_global_norm(1.0))
    run, program = opened(tx)
    first, second = program.stages
    assert isinstance(first, Stage) and isinstance(second, Stage)
    run_kernels(run, first)
    doubled = [2 * g for g in jax.tree.leaves(GRADS)]
    chex.assert_trees_all_equal(run.registers[1], doubled)
    run_kernels(run, second)
    norm = np.sqrt(sum(np.sum(np.square(x)) for x in run.registers[2]))
    np.testing.assert_allclose(norm, 1, rtol=1e-6)


def test_kernels_are_made_once_for_a_program():
    tx = gradtx.sgd(0.1)
    _, program = opened(tx)
    for _ in range(2):
        run, again = opened(tx)
        run_all(run, again)
        (stage,) = program.stages
        assert again is program and isinstance(stage, Stage)
        assert len(stage.kernels) == 1  # leaves alike share it


def test_a_slot_that_is_missing_at_a_leaf_is_an_error_with_its_path():
    tx = gradtx.trace(0.9)
    state = tx.init(PARAMS)
    state = state | {"trace": state["trace"] | {"w": None}}
    with pytest.raises(ValueError, match="slot 'trace' has nothing at 'w'"):
        tx.update(GRADS, state, PARAMS)


def test_a_measurement_is_summed_over_the_leaves_that_a_mask_selects():
    tx = gradtx.only(gradtx.clip_by_global_norm(1.0), {"w": True, "b": False})
    run, program = opened(tx)
    out = run_all(run, program)
    norm = np.sqrt(np.sum(np.square(GRADS["w"])))
    np.testing.assert_allclose(out["w"], GRADS["w"] / max(norm, 1), rtol=1e-6)


def test_whole_tree_scalars_are_settled_once_an_update():
    seen = []

    @gradtx.transformation
    def counted():
        def settle(total, shared, step):
            seen.append(int(step.count))
            return {"runs": shared["runs"] + 1}

        return gradtx.memoryless(
            lambda u, leaf: u * leaf.shared["runs"],
            shared={"runs": lambda arrays: jnp.zeros(())},
            settle=settle,
        )

    run, program = opened(counted())
    out = run_all(run, program)
    chex.assert_trees_all_equal(out, GRADS)
    assert seen == [0] and run.new_state["runs"] == 1
