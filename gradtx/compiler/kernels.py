"""Kernels: the rules of one stage, run on one leaf, traced once for each shape.

The cache key is the computation: rules without their numbers, their registers, the
masks of the leaf, dtypes. `hoist.py` keeps the traces by shape. Numbers enter as traced
scalars, so a new number does not recompile.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.hoist import Kernel
from gradtx.compiler.scopes import error_scope, whole_tree
from gradtx.compiler.stage import Active, Broadcast, Stage, StaticOp, unpack
from gradtx.core.call import FactoryCall
from gradtx.core.context import Leaf
from gradtx.core.dtypes import LeafDTypes
from gradtx.core.errors import current_path, dtype_and_shape
from gradtx.core.nodes import Fork
from gradtx.core.rule import both
from gradtx.core.trees import is_none


class LeafInput(NamedTuple):
    """The inputs of one leaf: its registers, slots and places by operation."""

    registers: tuple[Any, ...]
    slots: dict[int, dict[str, Any]]
    param: Any
    place: dict[int, Any]


class LeafOutput(NamedTuple):
    """The outputs for one leaf."""

    registers: tuple[Any, ...]
    slots: dict[int, dict[str, Any]]


class _LeafRun:
    """One run of a stage on a leaf."""

    def __init__(
        self,
        stage: Stage,
        active: Active,
        precision: LeafDTypes,
        broadcast: Broadcast,
        leaf: LeafInput,
    ):
        self.precision, self.broadcast, self.leaf = precision, broadcast, leaf
        registers = map(precision.cast, leaf.registers)
        self.registers = dict(zip(stage.reads, registers, strict=True))
        if 0 in self.registers:
            u = self.registers[0].astype(precision.compute)
            self.registers[0] = zero_unless(broadcast.is_due, u)
        self.param = None
        if leaf.param is not None:
            self.param = jnp.asarray(leaf.param)
            if precision.is_float:
                self.param = self.param.astype(precision.compute)
        children = unpack(stage, broadcast, active)
        nodes: list[Any] = [
            FactoryCall(op.spec, numbers).call() if on else None
            for op, numbers, on in zip(stage.ops, children, active, strict=True)
        ]
        self.steps = [*zip(stage.ops, nodes, active, strict=True)]

    def context(self, op: StaticOp, node: Any, active: Any) -> Leaf:
        u = self.registers[op.inputs[0]]
        marks = {name: self.registers[register] for name, register in op.marks}
        grad = marks.get("grad", u)
        cast = functools.partial(jax.tree.map, self.precision.cast)
        broadcast, k = self.broadcast, op.index
        before = cast(broadcast.before.get(k, {}))
        key = None
        if node.key is not None:
            key = node.key_of(before.pop("key"), self.leaf.place[k])
        return Leaf(
            owner=op.name,
            grad=grad,
            flowing=marks.get("flowing", grad),
            marks=marks,
            clock=broadcast.count,
            total=cast(broadcast.totals.get(k)),
            shared=cast(broadcast.shared.get(k, {})),
            before=before,
            key=key,
            extra={need: broadcast.extra[need] for need in node.needs},
            static=None if active is True else active.value,
            array=self.param,
        )

    def slots(self, k: int) -> dict[str, Any]:
        slots = self.leaf.slots.get(k, {}).items()
        return {name: x if x is None else self.precision.cast(x) for name, x in slots}


@functools.lru_cache(maxsize=1024)
def update_kernel(stage: Stage, active: Active, precision: LeafDTypes) -> Kernel:
    """The update of one leaf by a stage: the leaves of its `LeafOutput`."""

    def update(broadcast: Broadcast, leaf: LeafInput):
        run = _LeafRun(stage, active, precision, broadcast, leaf)
        registers, new_slots = run.registers, {}
        for op, node, is_active in run.steps:
            u, *branches = (registers[r] for r in op.inputs)
            registers[op.out] = u
            if not is_active:
                continue
            context, stored = run.context(op, node, is_active), leaf.slots.get(op.index)
            with error_scope(op.name, stored):
                if isinstance(node, Fork):
                    registers[op.out] = node.join(u, tuple(branches), context)
                    continue
                before = run.slots(op.index)
                u, slots = both(node.update(u, before, context), op.name)
                u, slots = keep_if(broadcast.is_due, u, slots, before)
                new_slots[op.index] = like_before(slots, stored or {}, op.name)
            registers[op.out] = u
        outs = [registers[r] for r in stage.writes]
        if precision.is_float and stage.out in stage.writes:
            i = stage.writes.index(stage.out)
            outs[i] = lax.convert_element_type(jnp.asarray(outs[i]), precision.out)
        return jax.tree.leaves(LeafOutput(tuple(outs), new_slots), is_leaf=is_none)

    return Kernel(update)


@functools.lru_cache(maxsize=1024)
def measure_kernel(stage: Stage, active: Active, precision: LeafDTypes) -> Kernel:
    """The measurements of one leaf, by operation."""

    def measure(broadcast: Broadcast, leaf: LeafInput):
        run = _LeafRun(stage, active, precision, broadcast, leaf)
        totals = {}
        for op, node, is_active in run.steps:
            if is_active and node.measure is not None:
                u, context = (
                    run.registers[op.inputs[0]],
                    run.context(op, node, is_active),
                )
                with error_scope(op.name):
                    totals[op.index] = node.measure(u, run.slots(op.index), context)
        return totals

    return Kernel(measure)


def select(is_due: Any, new: Any, old: Any) -> Any:
    """The new value where an update is due or unconditional, else the old one."""
    return new if is_due is None else lax.select_n(is_due, old, new)


def zero_unless(is_due: Any, u: Any) -> Any:
    """The update, or zeros if it is not due, so that derivatives have no NaN."""
    return u if is_due is None else lax.select_n(is_due, jnp.zeros_like(u), u)


def keep_if(is_due: Any, u: Any, slots: Any, before: Any) -> tuple[Any, Any]:
    """The update and slots of a rule, or the old ones if it is not due.

    If the update *is* a new slot value, return the stored one, so that XLA computes it
    once: a second computation would read the old slot, which is overwritten.
    """
    kept = {
        name: new if new is None else select(is_due, new, before.get(name, new))
        for name, new in slots.items()
    }
    return next((kept[name] for name, new in slots.items() if new is u), u), kept


def check_slots(owner: str, slots: Collection[str], known: Collection[str]) -> None:
    """Raise unless a rule returned all of its slots, and no other."""
    if {*slots} != {*known}:
        given = f"but its update returned {sorted(slots)}"
        raise ValueError(f"{owner}: keeps {sorted(known)}, {given}")


def like_before(slots: Any, before: dict[str, Any], owner: str) -> dict[str, Any]:
    """New slots in their storage dtypes; raise for another shape or name."""
    check_slots(owner, slots, before)
    stored: dict[str, Any] = {}
    for name, old in before.items():
        if old is None:
            stored[name] = None
            continue
        new = jnp.asarray(slots[name])
        loses = jnp.iscomplexobj(new) and not jnp.iscomplexobj(old)
        if new.shape != old.shape or loses:
            raise ValueError(
                f"{owner}: at {current_path.get(whole_tree)()!r} slot {name!r} is "
                f"{dtype_and_shape(old)} in the state, but the update makes it "
                f"{dtype_and_shape(new)}"
            )
        stored[name] = lax.convert_element_type(new, old.dtype)
    return stored
