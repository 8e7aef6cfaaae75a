"""Inventory of a transformation's numbers: their places and current values."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from gradtx.compiler.checks import check_keys
from gradtx.compiler.leaves import is_state
from gradtx.compiler.lower import first_program, program_of
from gradtx.compiler.naming import Trail, Unit
from gradtx.compiler.slot_names import qualified
from gradtx.core.arguments import NumberRole, Role
from gradtx.core.call import FactoryCall, FactoryValue
from gradtx.core.numbers import DecayValue, is_number, scheduled

Where = tuple[int, ...]
"""A leaf of a transformation: its index in the arguments, then in those of a member."""


class Number(NamedTuple):
    """A number of a transformation.

    Attributes:
        trail: The factories around it, and its argument.
        where: The leaf of the transformation.
        role: Its role.
        given: The number, or its schedule; None if it is in a state that is missing.
        count: The count for its schedule.
        is_kept: Whether it is in the state.
    """

    trail: Trail
    where: Where
    role: Role
    given: Any
    count: Any = 0
    is_kept: bool = False

    @property
    def argument(self) -> str:
        """Its argument, or the argument that contains it."""
        return self.trail[-1].text

    @property
    def is_read(self) -> bool:
        """Whether `update` reads it from the transformation, not from a state."""
        return _is_read(self.role) and not self.is_kept

    @property
    def is_scheduled(self) -> bool:
        """Whether it is given by a schedule."""
        return not is_number(self.given)

    @property
    def value(self) -> Any:
        """The number, or the value of its schedule at the count."""
        if self.is_scheduled:
            return scheduled(self.given, self.count)
        return self.given.value if isinstance(self.given, DecayValue) else self.given


Labels = tuple[str, ...]
"""The groups around a part of a transformation, outermost first."""


class Place:
    """The source of the numbers of a transformation: its state, with the counts."""

    def __init__(self, bound: FactoryCall | None = None, state: Any = None):
        self.count: Any = 0
        self.steps: dict[int, Any] = {}
        self.found: list[tuple[set[int], Labels, Any, Any]] = []
        if bound is None:
            return  # no state yet
        has_count = is_state(state)
        self.count = jnp.asarray(state["count"]) if has_count else None
        program = first_program(bound) if has_count else program_of(bound, None)
        check_keys(program, state or {}, program.foreign_keys)
        for op, keys in zip(program.ops, program.keys, strict=True):
            parts = [*program.around(op)]
            labels = tuple(part.label for part in reversed(parts) if part.label)
            around = {id(part.bound) for part in parts}
            for slot, tx in op.node.inner.items():
                self.found.append((around, labels, tx, state[keys[slot]]))
            if op.bound is not None and keeps_numbers(op.bound):
                kept = {slot: state[key] for slot, key in keys.items()}
                self.found.append((around, labels, None, kept))
            if op.node.clock is not None:
                self.steps[id(parts[0].bound)] = state[keys[op.node.clock]]

    def take(self, bound: FactoryCall, labels: Labels, member: Any = None) -> Any:
        """The member that runs and its state, or the slots with the numbers.

        Call it once per member: the next call for an equal place returns the next one.
        Returns None twice without a state.
        """
        for i, (around, where, it, value) in enumerate(self.found):
            is_there = id(bound) in around and where == labels
            if is_there and _is_run_as(member, it):
                del self.found[i]
                return it, value
        return None, None


def _is_run_as(member: Any, it: Any) -> bool:
    """Whether `it` is the member, or the member in the form that `editable` runs."""
    if it is member or it is None or member is None:
        return it is member
    return isinstance(it, FactoryValue) and it == changing(member)


def numbers_of(tx: Any, place: Place | None = None) -> Iterator[Number]:
    """Every number of a transformation of ours, in the order of its leaves."""
    return _numbers(tx.bound, units_of(tx, ()), place or Place())


def _numbers(
    bound: FactoryCall,
    trail: Trail,
    place: Place,
    labels: Labels = (),
    where: Where = (),
) -> Iterator[Number]:
    if keeps_numbers(bound):
        kept = bound.factory.facts.lists_numbers
        assert kept is not None
        yield from kept(bound, trail, place, labels, where)
        return
    spec = bound.spec
    places = zip(spec.roles, bound.leaves(), spec.names, spec.paths(), strict=True)
    names: dict[Any, str] = {}  # members of a named chain, which are pairs
    for i, (role, leaf, name, path) in enumerate(places):
        at = (*where, i)
        if path and isinstance(leaf, str):
            names[path[:-1]] = leaf
        if _is_number(role, leaf):
            unit = Unit(f"{name}{jax.tree_util.keystr(path)}", at)
            count = _count(role, bound, place)
            yield Number((*trail, unit), at, role, leaf, count)
        elif is_ours(leaf):
            groups = tuple(str(key.key) for key in path if hasattr(key, "key"))
            around = (*trail, *(Unit(group, at) for group in groups))
            units = units_of(leaf, at, names.get(path[:-1]))
            yield from numbers_inside(
                bound, leaf, (*around, *units), place, labels, groups, at
            )


def numbers_inside(
    bound: FactoryCall, leaf: Any, trail: Trail, place: Place,
    labels: Labels, groups: Labels, where: Where,
) -> Iterator[Number]:  # fmt: skip
    """The numbers of a member, which may have its own state."""
    it, state = place.take(bound, labels, leaf)
    if it is None:
        return _numbers(leaf.bound, trail, place, (*labels, *groups), where)
    return _numbers(it.bound, trail, Place(it.bound, state), (), where)


def is_ours(leaf: Any) -> bool:
    """Whether a leaf is one of our transformations, not a schedule or condition."""
    return isinstance(leaf, FactoryValue) and isinstance(
        leaf, optax.GradientTransformation
    )


def units_of(tx: Any, where: Where, name: str | None = None) -> Trail:
    """The units that a transformation adds to the names of its numbers."""
    facts = tx.bound.factory.facts
    if facts.pins:
        own = Unit(tx.arguments[facts.pins], where)
    else:
        own = Unit(tx.name, where, not facts.is_sequence and name is None)
    return (own,) if name is None else (Unit(name, where), own)


def _count(role: Any, bound: FactoryCall, place: Place) -> Any:
    """The count for a schedule."""
    if role.keeps_schedule:  # `accumulate` has its own count
        return place.steps.get(id(bound), place.count)
    return None if place.count is None else place.count + role.steps_ahead


def _is_read(role: Role) -> bool:
    """Whether `update` reads a number: it may then be scheduled, and traced."""
    return isinstance(role, NumberRole) and role.takes_schedule


def _is_number(role: Role, leaf: Any) -> bool:
    return isinstance(role, NumberRole) and (is_number(leaf) or callable(leaf))


def keeps_numbers(bound: FactoryCall) -> bool:
    """Whether the state has the numbers of a factory call."""
    return bound.factory.facts.lists_numbers is not None


def keys_of(numbers: Sequence[Number], start: int = 0) -> dict[Where, str]:
    """The keys under which `editable` keeps numbers that `update` reads.

    Saved states contain these keys, so they must not change: an argument's name, or for
    several of one name the `qualified` name from outside, without chains.

    Args:
        numbers: The numbers of the transformation in `editable`.
        start: Number of units around that transformation.
    """
    own = [number for number in numbers if not number.is_kept]
    by_argument: dict[str, list[Number]] = {}
    for number in own:
        by_argument.setdefault(number.argument, []).append(number)
    keys = {number.where: number.argument for number in own}
    for argument, them in by_argument.items():
        if len(them) > 1:
            around = [number.trail[start:-1] for number in them]
            trails = [tuple(x.text for x in units if x.is_in_keys) for units in around]
            for number, key in zip(them, qualified(argument, trails), strict=True):
                keys[number.where] = key
    return {number.where: keys[number.where] for number in own if number.is_read}


def float32(value: Any) -> jax.Array:
    """A number in the form of the state."""
    return jnp.asarray(value).astype(jnp.float32)


def follows(written: Any, given: Any) -> Any:
    """Whether to use the transformation's number: if unchanged, or NaN."""
    written = float32(written)
    return (written == given) | jnp.isnan(written)


def now(number: Number, written: Any, given: Any) -> Any:
    """The value of a number in the state for the next update."""
    own, written = float32(number.value), float32(written)
    return jnp.where(follows(written, given), own, written)


def changing(tx: Any, arguments: Collection[str] | None = None) -> Any:
    """The transformation, with decays that `update` reads marked as changing.

    Args:
        tx: A transformation of ours.
        arguments: Names of the arguments that may change, at any depth; all if None.
    """

    def one(role: Role, leaf: Any, name: str) -> Any:
        if arguments is not None and name not in arguments:
            return leaf
        if is_ours(leaf):
            return leaf if keeps_numbers(leaf.bound) else changing(leaf)
        if isinstance(leaf, DecayValue) and _is_read(role):
            return DecayValue(leaf.value, leaf.kept, changes=True)
        return leaf

    return type(tx)(tx.bound.mapped(one))


def with_numbers(tx: Any, values: Iterator[Any]) -> Any:
    """The transformation with other values of the numbers that `update` reads."""

    def one(role: Role, leaf: Any, name: str) -> Any:
        if _is_number(role, leaf):
            return next(values) if _is_read(role) else leaf
        if is_ours(leaf) and not keeps_numbers(leaf.bound):
            return with_numbers(leaf, values)
        return leaf

    return type(tx)(tx.bound.mapped(one))
