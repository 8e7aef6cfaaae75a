"""Updates taken apart: before their first stage, and stage by stage."""

from typing import Any

import jax.numpy as jnp

from gradtx.compiler.kernel_stage import run_kernels
from gradtx.compiler.leaves import Leaves
from gradtx.compiler.lower import program_of
from gradtx.compiler.program import Program
from gradtx.compiler.run import Run
from gradtx.compiler.stage import Stage
from gradtx.compiler.tree_stage import run_tree_rule
from tests.probes import GRADS, PARAMS


def opened(
    tx: Any, grads: Any = GRADS, params: Any = PARAMS, is_due: Any = None, **extra: Any
) -> tuple[Run, Program]:
    """An update before its first stage, and its program."""
    program = program_of(tx.bound, jnp.int32(0))
    leaves = Leaves(tx.name, grads, params)
    state = tx.init(params)
    return Run(program, leaves, state, state["count"], extra, is_due), program


def run_all(run: Run, program: Program) -> Any:
    """The updates that leave an update which was opened."""
    for stage in program.stages:
        if isinstance(stage, Stage):
            run_kernels(run, stage)
        else:
            run_tree_rule(run, stage)
    return run.results()
