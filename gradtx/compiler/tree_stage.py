"""Stages of one rule that needs the whole tree."""

from __future__ import annotations

from typing import Any

from gradtx.compiler.checks import missing_slots
from gradtx.compiler.conditions import run_if
from gradtx.compiler.init import is_nothing, keep_tree
from gradtx.compiler.kernels import check_slots
from gradtx.compiler.program import Op
from gradtx.compiler.run import Run, cast
from gradtx.compiler.scopes import error_scope
from gradtx.compiler.stage import TreeStage
from gradtx.core.context import Tree
from gradtx.core.dtypes import LeafDTypes
from gradtx.core.rule import TreeRule, both


def run_tree_rule(run: Run, stage: TreeStage) -> None:
    """Run one rule that needs the whole tree."""
    k = stage.index
    op, keys, leaves = run.program.ops[k], run.program.keys[k], run.leaves
    rule = op.node
    assert isinstance(rule, TreeRule)
    active = [
        bool(on[k]) and precision is not None
        for on, precision in zip(run.active, run.precisions, strict=True)
    ]

    def only(values: list[Any]) -> Any:
        chosen = zip(values, active, strict=True)
        return leaves.treedef.unflatten([x if on else None for x, on in chosen])

    def read(register: int) -> Any:
        pairs = zip(run.registers[register], run.precisions, strict=True)
        return only([_as_seen(op, *pair) for pair in pairs])

    params = only(leaves.params) if leaves.has_params else None
    updates = read(op.inputs[0])
    slots = _slots(run, op, keys, params if leaves.has_params else updates)
    own = whole = None
    if leaves.has_params:
        mine = zip(leaves.params, run.active, strict=True)
        own = leaves.treedef.unflatten([p if on[k] else None for p, on in mine])
        whole = leaves.treedef.unflatten(leaves.params)
    extra = run.extra
    if op.splits_extra:
        extra = {name: leaves.split(tree, active) for name, tree in extra.items()}
    is_skipped, is_due = False, run.is_due
    if rule.waits and is_due is not None:
        is_skipped, is_due = ~is_due, None
    tree = Tree(
        params=params,
        own=own,
        whole=whole,
        grad=read(dict(op.marks).get("grad", op.inputs[0])),
        count=run.count,
        extra=extra,
        is_skipped=is_skipped,
    )

    def update(updates: Any, slots: Any) -> tuple[Any, Any]:
        return both(rule.update(updates, slots, tree), op.name)

    with error_scope(op.name):
        updates, slots = run_if(is_due, update, updates, slots)
    if op.bound is not None:
        check_slots(op.name, slots, op.slots)
    for name, slot in slots.items():
        keep_tree(run.new_state, op, keys[name], slot)
    outs = leaves.flatten(updates, f"what {op.name} returns")
    triples = zip(active, outs, run.registers[op.inputs[0]], strict=True)
    run.registers[op.out] = [new if on else old for on, new, old in triples]


def _as_seen(op: Op, x: Any, precision: LeafDTypes | None) -> Any:
    """An update in the dtype for an operation.

    A foreign operation gets the dtype that it would get in a chain of optax.
    """
    if precision is None or not precision.is_float:
        return x
    return cast(precision.out if op.bound is None else precision.compute, x)


def _slots(run: Run, op: Op, keys: dict[str, str], like: Any) -> dict[str, Any]:
    """The slots of an operation; without one in the state, the empty slot."""
    slots = {}
    for name, first in op.slots.items():
        key = keys[name]
        if key in run.state:
            slots[name] = run.state[key]
            continue
        slots[name] = first(like)
        if not is_nothing(slots[name]):
            raise missing_slots(run.program, [key], run.state)
    return slots
