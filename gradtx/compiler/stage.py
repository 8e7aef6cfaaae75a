"""Stages: the static parts of operations that run together, and their numbers.

The numbers of a stage are packed into one vector, and unpacked inside its kernels.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from gradtx.core.call import CallSpec
from gradtx.core.dtypes import default_float
from gradtx.core.numbers import DecayValue, as_weak
from gradtx.core.rule import TreeRule


class Static(NamedTuple):
    """The static value of a rule for one leaf."""

    value: Any


Active = tuple[bool | Static | None, ...]
"""Per operation, whether a leaf has it, or its `Static`; None if a freezing mask
excludes it."""


class Broadcast(NamedTuple):
    """The shared inputs of all leaves of a stage.

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


@dataclasses.dataclass(frozen=True)
class StaticOp:
    """The static part of an operation: `Op` without its numbers.

    Attributes:
        index: Its index in the program.
        spec: The call of its factory, without the numbers.
        name: Its name, for messages.
        inputs: The registers that it reads.
        marks: The named registers.
        out: The output register.
    """

    index: int
    spec: CallSpec
    name: str
    inputs: tuple[int, ...]
    marks: tuple[tuple[Any, int], ...]
    out: int


@dataclasses.dataclass(frozen=True)
class Stage:
    """Rules that run together, as one kernel per leaf. Equal stages share kernels.

    Attributes:
        ops: The static part of each operation.
        reads: The registers that the stage reads.
        writes: The registers that it writes for later stages.
        out: The output register of the program.
        treedef: The structure of the numbers of all operations.
        places: The place of each number: an index of the vector (followed by a
            decay's complement), or, if negative, of the arrays.
        changes: For a decay whether it changes, else None; per number.
        owners: The index in `ops` of each number's operation.
        kernels: Cache of kernels, by maker, operations of a leaf, and dtypes.
    """

    ops: tuple[StaticOp, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    out: int
    treedef: Any
    places: tuple[int, ...]
    changes: tuple[bool | None, ...]
    owners: tuple[int, ...]
    kernels: dict[Any, Any] = dataclasses.field(default_factory=dict, compare=False)


@dataclasses.dataclass(frozen=True)
class TreeStage:
    """A single rule that needs the whole tree, by the index of its operation."""

    index: int


def stages_of(ops: Sequence[Any], out: int) -> tuple[Stage | TreeStage, ...]:
    """The stages of operations, for a given output register.

    A rule that measures a value computed in the current stage begins a new stage.
    """
    groups: list[list[int]] = []
    written: set[int] = set()
    for k, op in enumerate(ops):
        follows = groups and not any(_needs_tree(ops[i]) for i in (groups[-1][-1], k))
        if not follows or (op.measures and op.reads & written):
            groups.append([])
            written = set()
        groups[-1].append(k)
        written.add(op.out)
    stages: list[Stage | TreeStage] = []
    later = {out}
    for group in reversed(groups):
        reads = set().union(*(ops[k].reads for k in group))
        writes = {ops[k].out for k in group}
        if _needs_tree(ops[group[0]]):
            stages.append(TreeStage(group[0]))
        else:
            mine = {k: ops[k] for k in group}
            passed = tuple(sorted(reads - writes)), tuple(sorted(writes & later))
            stages.append(_stage(mine, *passed, out))
        later |= reads
    return tuple(reversed(stages))


def _needs_tree(op: Any) -> bool:
    return isinstance(op.node, TreeRule)


def _stage(
    ops: Mapping[int, Any], reads: tuple[int, ...], writes: tuple[int, ...], out: int
) -> Stage:
    leaves, treedef = _numbers_of(ops.values())
    places: list[int] = []
    scalars = arrays = 0
    for leaf in leaves:
        if np.ndim(leaf.value if _is_decay(leaf) else leaf):
            arrays += 1
            places.append(-arrays)
        else:
            places.append(scalars)
            scalars += 2 if _is_decay(leaf) else 1
    return Stage(
        ops=tuple(
            StaticOp(
                k, op.bound and op.bound.spec, op.name, op.inputs, op.marks, op.out
            )
            for k, op in ops.items()
        ),
        reads=reads,
        writes=writes,
        out=out,
        treedef=treedef,
        places=tuple(places),
        changes=tuple(leaf.changes if _is_decay(leaf) else None for leaf in leaves),
        owners=tuple(
            i for i, op in enumerate(ops.values()) for _ in _numbers_of([op])[0]
        ),
    )


def _numbers_of(ops: Iterable[Any]) -> tuple[list[Any], Any]:
    children = [op.bound.children for op in ops if op.bound is not None]
    return jax.tree.flatten(children, is_leaf=_is_decay)


def _is_decay(value: Any) -> bool:
    return isinstance(value, DecayValue)


def pack(stage: Stage, ops: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
    """The numbers of a stage: scalars in a vector, and arrays."""
    leaves, _ = _numbers_of(ops[op.index] for op in stage.ops)
    scalars: list[Any] = []
    arrays: list[Any] = []
    for leaf, place in zip(leaves, stage.places, strict=True):
        parts = [leaf.value, leaf.complement] if _is_decay(leaf) else [leaf]
        if place < 0:
            arrays.append(parts)
        else:
            scalars += parts
    if any(isinstance(x, jax.Array) for x in scalars):
        return _stack(scalars), tuple(arrays)
    with np.errstate(over="ignore"):  # out of range of float32 becomes infinite
        return np.asarray(scalars, default_float()), tuple(arrays)


@functools.partial(jax.jit, inline=True)
def _stack(scalars: list[Any]) -> jax.Array:
    return jnp.stack([jnp.asarray(x).astype(float) for x in scalars])


def unpack(stage: Stage, broadcast: Broadcast, active: Active) -> list[Any]:
    """The children of each operation, their numbers as weakly typed scalars.

    Args:
        stage: The stage.
        broadcast: The shared inputs, with the numbers.
        active: Whether the leaf has each operation of the stage; if not, its numbers
            are None.
    """

    def scalar(i: int) -> Any:
        return as_weak(lax.squeeze(lax.slice(broadcast.numbers, (i,), (i + 1,)), (0,)))

    def number(place: int, changes: bool | None) -> Any:
        if place < 0:
            value, *complement = broadcast.arrays[-1 - place]
        else:
            size = 1 if changes is None else 2
            value, *complement = map(scalar, range(place, place + size))
        if changes is None:
            return value
        return DecayValue(value, complement[0], changes, is_settled=True)

    triples = zip(stage.places, stage.changes, stage.owners, strict=True)
    numbers = [
        number(place, changes) if active[owner] else None
        for place, changes, owner in triples
    ]
    return jax.tree.unflatten(stage.treedef, numbers)
