"""Counterparts: for each slot, its field in the optax state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import optax
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.init import is_nothing
from gradtx.compiler.lower import program_of
from gradtx.compiler.program import Op, Program, recovered
from gradtx.core.call import FactoryValue
from gradtx.core.rule import Rule
from gradtx.interop.optax_fields import rebuild, structure_of

NUMBERS, SCHEDULES = "hyperparams", "hyperparams_states"
"""Fields of optax for numbers, and for the states of their schedules."""


Path = tuple[str, ...]
"""The keys from a state to a part of it."""


class Counterpart(NamedTuple):
    """A slot of a transformation, and its field in optax.

    Attributes:
        op: The operation that keeps the slot.
        slot: Its name in the operation.
        name: Its name in optax.
        path: Its path in the state.
        labels: The labels of its groups, outermost first.
        inner: The transformation whose whole state it is, or None.
        is_real: Whether the rule gets real numbers for complex gradients.
        is_own: Whether the slot declares that optax does not keep it.
        is_foreign: Whether it is the whole state of a foreign member; then its name is
            the structure of that state.
    """

    op: Op
    slot: str
    name: str
    path: Path
    labels: tuple[str, ...]
    inner: Any
    is_real: bool
    is_own: bool
    is_foreign: bool

    @property
    def key(self) -> str:
        """The key of the slot, for messages."""
        return "/".join(self.path)


def layout(
    tx: Any, state: Any, home: Path = (), labels: tuple[str, ...] = ()
) -> tuple[list[Counterpart], list[Path]]:
    """The slots of a transformation, in order, and the places of nested states.

    A wrapper that in optax keeps only the inner state adds no level: the slots of the
    inner transformation are listed among the others.

    Args:
        tx: The transformation.
        state: Its state, or the shapes of it, which identifies foreign members; None
            if unknown.
        home: The path of this state in the whole state.
        labels: The labels of its groups.
    """
    program, found, homes = program_of(tx.bound, jnp.zeros([], jnp.int32)), [], [home]
    is_real = _gets_reals(program)
    for op, keys in zip(program.ops, program.keys, strict=True):
        given = [program.masks[m].label for m in op.masks]
        mine = (*labels, *(str(label) for label in given if label is not None))
        for slot, declared in (op.shared | op.slots).items():
            if slot in op.node.recovered:
                continue  # not in optax, see `weights`
            name = op.node.in_optax.get(slot, declared.in_optax or slot)
            inner, key = op.node.inner.get(slot), keys[slot]
            path, kept = (*home, key), None if state is None else state.get(key)
            if name is None and isinstance(inner, FactoryValue):
                inside, more = layout(inner, kept, path, mine)
                found += inside
                homes += more
                continue
            is_foreign = name is None or op.bound is None
            if is_foreign and state is None:  # the structure for one array
                kept = jax.eval_shape(declared, jax.ShapeDtypeStruct((), float))
            if is_foreign and is_nothing(kept):
                continue
            name = structure_of(kept) if is_foreign else name or slot
            found.append(
                Counterpart(
                    op, slot, name, path, mine, inner, op.inputs[0] in is_real,
                    declared.is_only_here, is_foreign,
                )
            )  # fmt: skip
    return found, homes


def weights(tx: Any, count: Any, home: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The paths and values of the weights of averages, which optax does not keep."""
    program = program_of(tx.bound, count)
    for k, slot, key, weight in recovered(program):
        if key is not None:
            value = weight.recovered(count)
            if program.is_timed:
                value = _by_schedule(tx, count, k, slot)
            yield (*home, key), value
    for op, keys in zip(program.ops, program.keys, strict=True):
        for slot, inner in op.node.inner.items():
            is_passed = op.node.in_optax.get(slot, slot) is None
            if is_passed and isinstance(inner, FactoryValue):
                yield from weights(inner, count, (*home, keys[slot]))


def _by_schedule(tx: Any, count: Any, k: int, slot: str) -> Any:
    """A weight from the scheduled decays of all updates so far."""

    def one_more(i: Any, weight: Any) -> Any:
        mine = program_of(tx.bound, i).ops[k].node.recovered[slot]
        return mine.after(weight, i).astype(weight.dtype)

    return lax.fori_loop(0, count, one_more, jnp.zeros((), float))


def _gets_reals(program: Program) -> set[int]:
    """The registers with real numbers for complex gradients."""
    reals: set[int] = set()

    def flow(array: Any) -> None:
        arrays = {0: array}
        for op in program.ops:
            arrays[op.out] = like = arrays[op.inputs[0]]
            if isinstance(op.node, Rule) and not op.node.static:
                arrays[op.out] = op.node.out(like)
        reals.update(i for i, x in arrays.items() if not jnp.iscomplexobj(x))

    jax.eval_shape(flow, jax.ShapeDtypeStruct((), jnp.complex64))
    return reals


def foreign(owner: str, slots: list[Counterpart], state: Any) -> Counter[Any]:
    """The foreign members, counted by structure and groups.

    Raises:
        ValueError: A state of optax has other members of the same structure, so they
            cannot be told apart.
    """
    found = Counter((slot.name, slot.labels) for slot in slots if slot.is_foreign)
    there: Counter[Any] = Counter()

    def note(name: str, value: Any, member: Any, labels: tuple[str, ...]) -> None:
        there[name, labels] += member is None

    if found:
        rebuild(owner, state, note, wholes(slots), found, (), names(slots))
    for slot in slots:
        many = there[slot.name, slot.labels]
        if slot.is_foreign and many != found[slot.name, slot.labels]:
            raise ValueError(
                f"{owner}: {slot.key!r} is the state of a foreign member, and {many} "
                f"parts of optax's state may be it{'' if many else MAYBE_PARAMS}"
            )
    return found


MAYBE_PARAMS = "; give the parameters"


def names(slots: list[Counterpart]) -> set[str]:
    """The names of the optax fields of slots."""
    return {slot.name for slot in slots}


def wholes(slots: list[Counterpart]) -> Callable[[str, Any, tuple[str, ...]], bool]:
    """A function: whether a field in the optax state is a whole state here too.

    A state of `inject_hyperparams` is, as long as a state here keeps numbers.
    """
    states = {(slot.name, slot.labels) for slot in slots if slot.inner is not None}
    numbers = [slot.labels for slot in slots if slot.name == NUMBERS]

    def is_whole(name: str, owner: Any, labels: tuple[str, ...]) -> bool:
        if isinstance(owner, optax.MaskedState) or (name, labels) not in states:
            return False
        if not hasattr(owner, NUMBERS):
            return True
        is_here = labels in numbers
        if is_here:
            numbers.remove(labels)
        return is_here

    return is_whole
