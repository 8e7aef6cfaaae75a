"""The plan of a stage: its static part, and the places of its numbers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.program import Active, Op, Stage
from gradtx.core.dtypes import default_float
from gradtx.core.numbers import DecayValue, as_weak


class Broadcast(NamedTuple):
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


def unpack(plan: Plan, common: Broadcast, active: Active) -> list[Any]:
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
