"""Kernels: the rules of one stage, run on one leaf, traced once for each shape.

The cache key is the computation: rules without their numbers, their wiring, the masks
of the leaf, dtypes. `hoist.py` keeps the traces by shape. Numbers enter as traced
scalars, so a new number compiles nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.hoist import Kernel
from gradtx.compiler.plan import Broadcast, Plan, Wiring, unpack
from gradtx.compiler.program import Active
from gradtx.compiler.scopes import error_scope, whole_tree
from gradtx.core.call import FactoryCall
from gradtx.core.context import Leaf
from gradtx.core.dtypes import LeafDTypes
from gradtx.core.errors import current_path, dtype_and_shape
from gradtx.core.nodes import Fork
from gradtx.core.rule import both
from gradtx.core.trees import is_none


class LeafInput(NamedTuple):
    """What one leaf gets: its registers, slots by operation, its place for each."""

    registers: tuple[Any, ...]
    slots: dict[int, dict[str, Any]]
    param: Any
    place: dict[int, Any]


class LeafOutput(NamedTuple):
    """What an update makes for one leaf."""

    registers: tuple[Any, ...]
    slots: dict[int, dict[str, Any]]


class _Run:
    """One leaf on its way through a stage."""

    def __init__(
        self,
        plan: Plan,
        active: Active,
        precision: LeafDTypes,
        common: Broadcast,
        leaf: LeafInput,
    ):
        self.precision, self.common, self.leaf = precision, common, leaf
        registers = map(precision.cast, leaf.registers)
        self.registers = dict(zip(plan.reads, registers, strict=True))
        if 0 in self.registers:
            u = self.registers[0].astype(precision.compute)
            self.registers[0] = zero_unless(common.is_due, u)
        self.param = None
        if leaf.param is not None:
            self.param = jnp.asarray(leaf.param)
            if precision.is_float:
                self.param = self.param.astype(precision.compute)
        children = unpack(plan, common, active)
        self.nodes: list[Any] = [
            FactoryCall(wiring.spec, numbers).call() if is_active else None
            for wiring, numbers, is_active in zip(
                plan.wirings, children, active, strict=True
            )
        ]

    def context(self, i: int, wiring: Wiring, node: Any, active: Any) -> Leaf:
        u = self.registers[wiring.inputs[0]]
        marks = {name: self.registers[register] for name, register in wiring.marks}
        grad = marks.get("grad", u)
        cast = functools.partial(jax.tree.map, self.precision.cast)
        common, key = self.common, None
        shared, before = (cast(it.get(i, {})) for it in (common.shared, common.before))
        if node.key is not None:
            key = node.key_of(before.pop("key"), self.leaf.place[i])
        extra = {need: common.extra[need] for need in node.needs}
        static = None if active is True else active.value
        return Leaf(
            wiring.name, grad, marks.get("flowing", grad), marks, common.count,
            cast(common.totals.get(i)), shared, before, key, extra, static, self.param,
        )  # fmt: skip

    def slots(self, i: int) -> dict[str, Any]:
        slots = self.leaf.slots.get(i, {}).items()
        return {k: v if v is None else self.precision.cast(v) for k, v in slots}


@functools.lru_cache(maxsize=1024)
def update_kernel(
    plan: Plan, active: Active, precision: LeafDTypes, out: int
) -> Kernel:
    """The update of one leaf by a stage: the leaves of its `LeafOutput`."""

    def update(common: Broadcast, leaf: LeafInput):
        run = _Run(plan, active, precision, common, leaf)
        registers, new_slots = run.registers, {}
        for i, wiring, node, is_active in zip(
            plan.ops, plan.wirings, run.nodes, active, strict=True
        ):
            u, *branches = (registers[r] for r in wiring.inputs)
            if not is_active:
                registers[wiring.out] = u
                continue
            context = run.context(i, wiring, node, is_active)
            with error_scope(wiring.name, leaf.slots.get(i)):
                if isinstance(node, Fork):
                    u = node.join(u, tuple(branches), context)
                else:
                    before = run.slots(i)
                    u, slots = both(node.update(u, before, context), wiring.name)
                    u, slots = keep_if(common.is_due, u, slots, before)
                    new_slots[i] = like_before(
                        slots, leaf.slots.get(i, {}), wiring.name
                    )
            registers[wiring.out] = u
        outs = [registers[r] for r in plan.writes]
        outs = tuple(
            [
                lax.convert_element_type(jnp.asarray(x), precision.out)
                if r == out and precision.is_float
                else x
                for r, x in zip(plan.writes, outs, strict=True)
            ]
        )
        return jax.tree.leaves(LeafOutput(outs, new_slots), is_leaf=is_none)

    return Kernel(update)


def select(is_due: Any, new: Any, old: Any) -> Any:
    """The new where an update is due, or no condition is put on it."""
    return new if is_due is None else lax.select_n(is_due, old, new)


def zero_unless(is_due: Any, u: Any) -> Any:
    """The update, or zeros if it is not due: derivatives would show its NaN."""
    return u if is_due is None else lax.select_n(is_due, jnp.zeros_like(u), u)


def keep_if(is_due: Any, u: Any, slots: Any, before: Any) -> tuple[Any, Any]:
    """The update and the slots of a rule, selected from the old ones if it is not due.

    If the update is a new slot value, the stored one leaves, so that XLA computes it
    once: a second computation would read the old slot, which is overwritten.
    """
    kept = {
        name: new if new is None else select(is_due, new, before.get(name, new))
        for name, new in slots.items()
    }
    return next((kept[name] for name, new in slots.items() if new is u), u), kept


def check_slots(owner: str, slots: Collection[str], known: Collection[str]) -> None:
    """Raise unless a rule returned all slots that it keeps, and no other."""
    if {*slots} != {*known}:
        given = f"but its update returned {sorted(slots)}"
        raise ValueError(f"{owner}: keeps {sorted(known)}, {given}")


def like_before(slots: Any, before: dict[str, Any], owner: str) -> dict[str, Any]:
    """New slots in the dtype they are stored in; another shape or name is an error."""
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


@functools.lru_cache(maxsize=1024)
def measure_kernel(plan: Plan, active: Active, precision: LeafDTypes) -> Kernel:
    """The measurements of one leaf, by operation."""

    def measure(common: Broadcast, leaf: LeafInput):
        run = _Run(plan, active, precision, common, leaf)
        totals = {}
        for i, wiring, node, is_active in zip(
            plan.ops, plan.wirings, run.nodes, active, strict=True
        ):
            if is_active and node.measure is not None:
                u = run.registers[wiring.inputs[0]]
                context = run.context(i, wiring, node, is_active)
                with error_scope(wiring.name):
                    totals[i] = node.measure(u, run.slots(i), context)
        return totals

    return Kernel(measure)
