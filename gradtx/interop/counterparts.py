"""Counterparts: for each slot the field of optax's state."""

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
"""Where optax keeps numbers, and the states of the schedules that give some."""


Path = tuple[str, ...]
"""The keys from a state to a part of it."""


class Counterpart(NamedTuple):
    """A slot of a transformation, and its field in optax.

    Attributes:
        op: The operation that keeps it.
        slot: Its name there.
        name: Its name in optax.
        path: Where it is in the state.
        labels: The labels of the groups that it is in, outermost first.
        inner: The transformation whose whole state it is, or None.
        is_real: Whether the rule gets real numbers of complex gradients.
        is_own: Whether optax does not keep it, as the slot declares.
        is_foreign: Whether it is all that a foreign member keeps; then its name is the
            structure of that.
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
        """Its key, for messages."""
        return "/".join(self.path)


def layout(
    tx: Any, state: Any, home: Path = (), labels: tuple[str, ...] = ()
) -> tuple[list[Counterpart], list[Path]]:
    """The slots of a transformation, in its order, and where there are states.

    A wrapper of which optax keeps only the inner state adds no level: the slots of the
    inner transformation are listed among the others.

    Args:
        tx: The transformation.
        state: Its state, or the shapes of it, which tells foreign members from others;
            None if it is not known.
        home: Where in a state this one is.
        labels: The labels of the groups that it is in.
    """
    program, found, homes = program_of(tx.bound, jnp.zeros([], jnp.int32)), [], [home]
    is_real = _gets_reals(program)
    for op, keys in zip(program.ops, program.keys, strict=True):
        given = [program.masks[m].label for m in op.masks]
        mine = (*labels, *(str(label) for label in given if label is not None))
        for slot, declared in (op.shared | op.slots).items():
            if slot in op.node.recovered:
                continue  # optax keeps none: see `weights`
            name = op.node.in_optax.get(slot, declared.in_optax or slot)
            inner, key = op.node.inner.get(slot), keys[slot]
            path, kept = (*home, key), None if state is None else state.get(key)
            if name is None and isinstance(inner, FactoryValue):
                inside, more = layout(inner, kept, path, mine)
                found += inside
                homes += more
                continue
            is_foreign = name is None or op.bound is None
            if is_foreign and state is None:  # of what it is for one array
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
    """The weights of averages, which optax does not keep: where each is, and it."""
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
    """A weight by the decays of all updates so far, which schedules give."""

    def one_more(i: Any, weight: Any) -> Any:
        mine = program_of(tx.bound, i).ops[k].node.recovered[slot]
        return mine.after(weight, i).astype(weight.dtype)

    return lax.fori_loop(0, count, one_more, jnp.zeros((), float))


def _gets_reals(program: Program) -> set[int]:
    """The registers that hold real numbers of complex gradients."""
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
    """The foreign members by structure and groups, each as often as there are.

    Raises:
        ValueError: A state of optax has others of the same structure, so that nothing
            tells which are which.
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
    """The names of fields of optax's that slots are."""
    return {slot.name for slot in slots}


def wholes(slots: list[Counterpart]) -> Callable[[str, Any, tuple[str, ...]], bool]:
    """Whether a field of a state of optax, in some groups, is a whole state here too.

    One of `inject_hyperparams` is, as long as there is one here that keeps numbers.
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
