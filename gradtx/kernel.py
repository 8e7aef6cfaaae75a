"""Kernels: the rules of one stage, run on one leaf, traced once for each shape.

A kernel is cached by what it computes (rules without their numbers, their wiring, which
of them the leaf's masks select, dtypes); `hoist.py` keeps its traces by shape. Numbers
enter as traced scalars, so a new number compiles nothing.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from gradtx.binding import Bound
from gradtx.connectives import Fork
from gradtx.errors import current_path, looks
from gradtx.hoist import Kernel
from gradtx.numbers import DecayValue, as_weak, default_float
from gradtx.precision import Precision
from gradtx.program import Active, Op, Stage
from gradtx.rule import Leaf, both


class Common(NamedTuple):
    """What all leaves of a stage get.

    All scalar numbers are one vector: one operand of an un-jitted call, not many.
    """

    numbers: Any
    arrays: tuple[Any, ...]
    count: Any
    totals: dict[int, Any]
    shared: dict[int, Any]
    before: dict[int, Any]
    extra: dict[str, Any]
    is_due: Any


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


class Wiring(NamedTuple):
    """The static part of one operation."""

    spec: Any
    name: str
    inputs: tuple[int, ...]
    marks: tuple[tuple[Any, int], ...]
    out: int


class Plan(NamedTuple):
    """All that is static in a stage.

    Attributes:
        ops: The operations' indices.
        wirings: Their static parts.
        treedef: The structure of their children.
        places: For each number there, where it is passed: at an index of the vector
            (a decay's complement behind it), or, if negative, of the arrays.
        decays: For each number there, whether it changes if it is a decay, else None.
        owners: For each number there, whose it is, by its place in `ops`.
        reads: The registers that the stage reads.
        writes: The registers that it writes for later stages.
    """

    ops: tuple[int, ...]
    wirings: tuple[Wiring, ...]
    treedef: Any
    places: tuple[int, ...]
    decays: tuple[bool | None, ...]
    owners: tuple[int, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]


def plan_of(stage: Stage, ops: Sequence[Op]) -> Plan:
    """The static part of a stage."""
    chosen = [ops[i] for i in stage.ops]
    leaves, treedef = _numbers_of(chosen)
    places: list[int] = []
    scalars = arrays = 0
    for leaf in leaves:
        if np.ndim(leaf.value if _is_decay(leaf) else leaf):
            arrays += 1
            places.append(-arrays)
        else:
            places.append(scalars)
            scalars += 2 if _is_decay(leaf) else 1
    owners = [k for k, op in enumerate(chosen) for _ in _numbers_of([op])[0]]
    wirings = tuple(
        Wiring(op.bound and op.bound.spec, op.name, op.inputs, op.marks, op.out)
        for op in chosen
    )
    return Plan(
        tuple(stage.ops), wirings, treedef, tuple(places),
        tuple(getattr(leaf, "changes", None) for leaf in leaves), tuple(owners),
        stage.reads, stage.writes,
    )  # fmt: skip


def numbers_of(plan: Plan, ops: Sequence[Op]) -> tuple[Any, tuple[Any, ...]]:
    """The numbers of a stage: scalars in a vector, and arrays."""
    leaves, _ = _numbers_of([ops[i] for i in plan.ops])
    scalars: list[Any] = []
    arrays: list[Any] = []
    for leaf, place in zip(leaves, plan.places, strict=True):
        parts = [leaf.value, leaf.complement] if _is_decay(leaf) else [leaf]
        if place < 0:
            arrays.append(parts)
        else:
            scalars += parts
    return _pack(scalars), tuple(arrays)


def _numbers_of(ops: Sequence[Op]) -> tuple[list[Any], Any]:
    children = [op.bound.children for op in ops if op.bound is not None]
    return jax.tree.flatten(children, is_leaf=_is_decay)


def _pack(scalars: list[Any]) -> Any:
    """Scalars as one vector of the default float dtype; on the host if they are."""
    if any(isinstance(x, jax.Array) for x in scalars):
        return _stack(scalars)
    with np.errstate(over="ignore"):  # beyond float32's range is infinite there
        return np.asarray(scalars, default_float())


@functools.partial(jax.jit, inline=True)
def _stack(scalars: list[Any]) -> jax.Array:
    return jnp.stack([jnp.asarray(x).astype(float) for x in scalars])


def unpack(plan: Plan, common: Common, active: Active) -> list[Any]:
    """The children of each operation, their numbers as weakly typed scalars.

    What a leaf does not go through has None for numbers, and is not made.
    """

    def scalar(i: int) -> Any:
        return as_weak(lax.squeeze(lax.slice(common.numbers, (i,), (i + 1,)), (0,)))

    numbers = []
    for place, changes, owner in zip(
        plan.places, plan.decays, plan.owners, strict=True
    ):
        if not active[owner]:
            numbers.append(None)
            continue
        if place < 0:
            parts = common.arrays[-1 - place]
        else:
            parts = [scalar(place + i) for i in range(1 + (changes is not None))]
        is_number = changes is None
        numbers.append(parts[0] if is_number else SettledDecay(*parts, changes=changes))
    return jax.tree.unflatten(plan.treedef, numbers)


class SettledDecay(DecayValue):
    """A decay in a kernel: its complement was settled on the way in."""

    __slots__ = ()

    @property
    def complement(self) -> Any:
        """1 - b, as it was passed."""
        return self.kept


def _is_decay(value: Any) -> bool:
    return isinstance(value, DecayValue)


class _Run:
    """One leaf on its way through a stage."""

    def __init__(
        self,
        plan: Plan,
        active: Active,
        precision: Precision,
        common: Common,
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
            Bound(wiring.spec, numbers).call() if is_active else None
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
        setting = None if active is True else active.value
        return Leaf(
            wiring.name, grad, marks.get("flowing", grad), marks, common.count,
            cast(common.totals.get(i)), shared, before, key, extra, setting, self.param,
        )  # fmt: skip

    def slots(self, i: int) -> dict[str, Any]:
        slots = self.leaf.slots.get(i, {}).items()
        return {k: v if v is None else self.precision.cast(v) for k, v in slots}


@contextlib.contextmanager
def place(name: str, slots: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Names what runs inside, in the compiled module and in errors.

    Inside, any promotion is allowed, whatever the user forbids: the engine has brought
    all that a rule sees to one precision, and casts what it gives.
    """
    standard, any_rank = (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    )
    try:
        with jax.named_scope(name), standard, any_rank:
            yield
    except Exception as error:
        kept = [
            f"{key} is {looks(x)}" for key, x in (slots or {}).items() if x is not None
        ]
        where = ", where ".join([repr(current_path.get(whole_tree)()), *kept])
        error.add_note(f"in {name}, at {where}")
        raise


def whole_tree() -> str:
    """The path of what is no leaf."""
    return "<root>"


@functools.lru_cache(maxsize=1024)
def update_kernel(plan: Plan, active: Active, precision: Precision, out: int) -> Kernel:
    """The update of one leaf by a stage: the leaves of its `LeafOutput`."""

    def update(common: Common, leaf: LeafInput):
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
            with place(wiring.name, leaf.slots.get(i)):
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
        return jax.tree.leaves(LeafOutput(outs, new_slots), is_leaf=lambda x: x is None)

    return Kernel(update)


def select(is_due: Any, new: Any, old: Any) -> Any:
    """The new where an update is due, or no condition is put on it."""
    return new if is_due is None else lax.select_n(is_due, old, new)


def zero_unless(is_due: Any, u: Any) -> Any:
    """The update, or zeros if it is not due: derivatives would show its NaN."""
    return u if is_due is None else lax.select_n(is_due, jnp.zeros_like(u), u)


def keep_if(is_due: Any, u: Any, slots: Any, before: Any) -> tuple[Any, Any]:
    """What leaves a rule and what it keeps, under the condition that it is due.

    What it both gives and keeps leaves as it is kept: else an average that updates
    parameters is computed twice, and reads what it was before, which is written over.
    """
    kept = {
        name: new if new is None else select(is_due, new, before.get(name, new))
        for name, new in slots.items()
    }
    return next((kept[name] for name, new in slots.items() if new is u), u), kept


def like_before(slots: Any, before: dict[str, Any], owner: str) -> dict[str, Any]:
    """New slots in the dtype they are stored in; another shape or name is an error."""
    if slots.keys() != before.keys():
        given = f"but its update returned {sorted(slots)}"
        raise ValueError(f"{owner}: keeps {sorted(before)}, {given}")
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
                f"{looks(old)} in the state, but the update makes it {looks(new)}"
            )
        stored[name] = lax.convert_element_type(new, old.dtype)
    return stored


@functools.lru_cache(maxsize=1024)
def measure_kernel(plan: Plan, active: Active, precision: Precision) -> Kernel:
    """The measurements of one leaf, by operation."""

    def measure(common: Common, leaf: LeafInput):
        run = _Run(plan, active, precision, common, leaf)
        totals = {}
        for i, wiring, node, is_active in zip(
            plan.ops, plan.wirings, run.nodes, active, strict=True
        ):
            if is_active and node.measure is not None:
                u = run.registers[wiring.inputs[0]]
                context = run.context(i, wiring, node, is_active)
                with place(wiring.name):
                    totals[i] = node.measure(u, run.slots(i), context)
        return totals

    return Kernel(measure)
