"""Evaluation: the parameters to evaluate with, such as an average."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.checks import check_keys, check_state
from gradtx.compiler.foreign import pair_of
from gradtx.compiler.leaves import Leaves
from gradtx.compiler.lower import program_of
from gradtx.compiler.masks import active_of
from gradtx.compiler.program import Op
from gradtx.compiler.scopes import error_scope
from gradtx.core.call import FactoryValue
from gradtx.core.context import no_state
from gradtx.core.dtypes import wide
from gradtx.core.rule import Rule


def eval_params(tx: Any, state: Any, params: Any) -> Any:
    """The parameters to evaluate with, from the trained ones.

    They differ from `params` if `tx` contains, at any depth, a transformation that
    averages parameters or computes gradients at other points (`average_params`,
    `lookahead`, `schedule_free`, `sam`). Of several, the outermost decides. For a
    foreign transformation, whose content is unknown, they are the parameters
    themselves.

    Args:
        tx: A transformation, or `MultiSteps`.
        state: Its state.
        params: The parameters after the update that made the state.

    Returns:
        A tree like the parameters.

    Raises:
        TypeError: `tx` is not a transformation.

    Examples:
        >>> average = gradtx.average_params(gradtx.sgd(1.0), decay=0.5)
        >>> tx, params = gradtx.chain(gradtx.clip(1.0), average), jnp.array(0.0)
        >>> updates, state = tx.update(jnp.array(-3.0), tx.init(params), params)
        >>> params = params + updates
        >>> print(params, gradtx.eval_params(tx, state, params))
        1.0 0.5
    """
    tx = pair_of("eval_params", tx)
    if not isinstance(tx, FactoryValue):
        return params
    check_state(tx.name, state)
    is_kept = isinstance(state, Mapping)
    program = program_of(tx.bound, jnp.asarray(state["count"]) if is_kept else None)
    if is_kept:
        check_keys(program, state, program.foreign_keys)
    leaves = Leaves(tx.name, params, None)
    active = active_of(program, params, leaves.treedef)
    found = list(leaves.updates)
    for k, (op, keys) in enumerate(zip(program.ops, program.keys, strict=True)):
        if op.node.evaluate is None and not op.node.inner:
            continue
        if not isinstance(state, Mapping):
            raise no_state(op.name, "keeps what to evaluate with")
        chosen = [i for i, on in enumerate(active) if on[k] and _is_float(found[i])]
        kept = {name: state[key] for name, key in keys.items()}
        with error_scope(op.name):
            evaluated = _of_leaf if isinstance(op.node, Rule) else _of_tree
            for i, new in evaluated(op, leaves, chosen, kept):
                found[i] = jnp.asarray(new).astype(found[i].dtype)
    return leaves.treedef.unflatten(found)


def _is_float(x: Any) -> bool:
    return x is not None and jnp.issubdtype(x.dtype, jnp.inexact)


def _of_leaf(op: Op, leaves: Leaves, chosen: Any, kept: Any) -> Any:
    evaluate: Any = op.node.evaluate
    shared = {name: kept[name] for name in op.shared}
    slots = {name: leaves.flatten(kept[name], f"slot {name!r}") for name in op.slots}
    for i in chosen:
        mine = {name: each[i] for name, each in slots.items()}
        if all(x is not None for x in mine.values()):
            yield i, evaluate(wide(leaves.updates[i]), jax.tree.map(wide, mine), shared)


def _of_tree(op: Op, leaves: Leaves, chosen: Any, kept: Any) -> Any:
    evaluate: Any = op.node.evaluate or functools.partial(_of_inner, op.node.inner)
    masked = [x if i in chosen else None for i, x in enumerate(leaves.updates)]
    new = evaluate(leaves.treedef.unflatten(masked), kept)
    flat = leaves.flatten(new, f"what {op.name} evaluates with")
    return [(i, flat[i]) for i in chosen]


def _of_inner(inner: Mapping[str, Any], params: Any, slots: Any) -> Any:
    for slot, transform in inner.items():
        params = eval_params(transform, slots[slot], params)
    return params
