"""`update`: run a program, and make the next state."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.checks import check_extra, check_keys, check_state
from gradtx.compiler.kernel_stage import run_kernels
from gradtx.compiler.layout import program_at
from gradtx.compiler.leaves import Leaves, is_state
from gradtx.compiler.lower import program_of
from gradtx.compiler.program import Program
from gradtx.compiler.run import Run
from gradtx.compiler.stage import TreeStage
from gradtx.compiler.tree_stage import run_tree_rule
from gradtx.core.call import FactoryCall
from gradtx.core.context import NoStateError
from gradtx.core.state import typed_as


def update(
    bound: FactoryCall, /, updates: Any, state: Any, params: Any = None, **extra: Any
) -> tuple[Any, Any]:
    """Transform gradients, and make the new state.

    The state keeps its type: a plain dict stays one. As in optax, a stateless
    transformation takes any object as its state, and returns it.
    """
    return update_if(bound, None, updates, state, params, extra)


def update_if(
    bound: FactoryCall, is_due: Any, updates: Any, state: Any, params: Any, extra: Any
) -> tuple[Any, Any]:
    """As `update` where a traced bool is true; otherwise zeros and the old state.

    Each kernel selects between old and new slots, which costs nothing, since it reads
    the old ones anyway. So this is for a condition that is mostly true. Tree rules run
    under the condition.
    """

    def run(program: Program, kept: Any, count: Any) -> tuple[Any, Any]:
        check_extra(program, extra)
        leaves = Leaves(program.name, updates, params)
        this = Run(program, leaves, kept, count, extra, is_due)
        for stage in program.stages:
            if isinstance(stage, TreeStage):
                run_tree_rule(this, stage)
            else:
                run_kernels(this, stage)
        return this.results(), this.new_state

    program = None
    if is_state(state):
        count = jnp.asarray(state["count"], jnp.int32)
        program = program_at(bound, count)
        if not program.ignores(state):
            made = None
            try:
                made = run(program, state, count)
            except Exception:
                if program.layout is None:
                    raise
            if made is None:
                # A recipe may have stored a traced number where the layout cannot
                # replace it, as in a closure. Other errors are raised again here.
                made = run(program_of(bound, count), state, count)
                program.layout.is_usable = False
            return made[0], typed_as(state, made[1])
    try:
        return run(program_of(bound, None), {}, None)[0], state
    except NoStateError:
        check_state(bound.factory.name, state)
        if program is not None:
            check_keys(program, state, set())
        raise
