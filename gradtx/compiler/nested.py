"""Nested transformations: run them inside a tree rule, also under a condition.

The operands of a condition are the inner state, which is not copied, and the updates.
"""

from __future__ import annotations

from typing import Any

import jax
import optax

from gradtx.compiler.conditions import run_if
from gradtx.compiler.lower import first_program, programs_in
from gradtx.compiler.masks import active_of, members_of
from gradtx.compiler.steps import is_frozen
from gradtx.compiler.update import update_if
from gradtx.core.call import FactoryValue
from gradtx.core.context import Tree
from gradtx.core.rule import TreeRule
from gradtx.core.trees import is_none, like, zeros


def run(transform: Any, updates: Any, state: Any, tree: Tree) -> tuple[Any, Any]:
    """Run a transformation inside a tree rule.

    Our own ones skip leaves without an update, and keep the dtypes of their states.
    """
    if isinstance(transform, FactoryValue):
        ours: Any = transform
        return ours.update(updates, state, tree.own, **tree.extra)
    inner: Any = optax.with_extra_args_support(transform)
    out, after = inner.update(updates, state, tree.params, **tree.extra)
    is_alike = jax.tree.structure(after) == jax.tree.structure(state)
    return out, like(after, state) if is_alike else after


def anew(transform: Any, params: Any, state: Any) -> Any:
    """The initial state of a transformation, with the types of a given state."""
    first = jax.tree.leaves(transform.init(params), is_leaf=is_none)
    return like(jax.tree.structure(state, is_leaf=is_none).unflatten(first), state)


def trained(transform: Any, tree: Any, params: Any = None) -> Any:
    """A tree with None where a transformation freezes the parameters.

    Args:
        transform: The transformation.
        tree: A tree like its parameters.
        params: Its parameters; the tree if None.
    """
    params = tree if params is None else params
    treedef = jax.tree.structure(params)
    frozen = _frozen(transform, params, treedef)
    if not any(frozen):
        return tree
    pairs = zip(treedef.flatten_up_to(tree), frozen, strict=True)
    return treedef.unflatten([None if is_off else x for x, is_off in pairs])


def _frozen(transform: Any, params: Any, treedef: Any) -> list[bool]:
    """Per parameter, whether a transformation freezes it and no tree rule gets it.

    Also looks inside a tree rule that is the only operation.
    """
    frozen = [False] * treedef.num_leaves
    programs = programs_in(transform)
    if not any(program.may_freeze for program in programs):
        return frozen
    program = first_program(transform.bound)
    active = active_of(program, params, treedef)
    trees = [k for k, op in enumerate(program.ops) if isinstance(op.node, TreeRule)]
    if program.may_freeze:
        frozen = [
            is_frozen(program, on) and not any(on[k] for k in trees) for on in active
        ]
    is_alone = len(program.ops) == 1
    members = members_of(program, params, treedef, active) if is_alone else ()
    for inner, mine in members:
        inside = _frozen(inner, mine, treedef)
        frozen = [a or b for a, b in zip(frozen, inside, strict=True)]
    return frozen


def run_when(
    is_due: Any, transform: Any, updates: Any, state: Any, tree: Tree, *otherwise: Any
) -> tuple[Any, Any]:
    """Run it if due, otherwise map the updates, and leave the state unchanged."""

    def step(given: Any, before: Any) -> tuple[Any, Any]:
        return run(transform, given, before, tree)

    return run_if(is_due, step, updates, state, *otherwise)


def run_unless(
    is_skipped: Any, transform: Any, updates: Any, state: Any, tree: Tree
) -> tuple[Any, Any]:
    """Run it unless a rarely true condition holds; then return zeros."""
    if not isinstance(transform, FactoryValue):
        return run_when(~is_skipped, transform, updates, state, tree, zeros)
    return update_if(transform.bound, ~is_skipped, updates, state, tree.own, tree.extra)
