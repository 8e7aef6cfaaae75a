"""Lowering: evaluate schedules, run recipes, lay out their rules as a program.

Numbers are resolved first (schedules are evaluated at the count), then recipes run, and
their parts become operations on registers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import optax
from jax import numpy as jnp

from gradtx.compiler.foreign import name_of_foreign, rule_of_foreign
from gradtx.compiler.program import Mask, Op, Origin, Pin, Program
from gradtx.compiler.slot_names import settle_keys
from gradtx.compiler.stage import stages_of
from gradtx.core.call import FactoryCall, FactoryValue
from gradtx.core.context import no_state
from gradtx.core.errors import short_repr
from gradtx.core.internals import is_staging
from gradtx.core.nodes import Chain, Fork, Groups, Let, Masked, Named, Recall
from gradtx.core.rule import Rule, TreeRule


def program_of(bound: FactoryCall, count: Any) -> Program:
    """The program of a transformation, its schedules evaluated at `count`.

    It is stored with the transformation, except in two cases: if numbers depend on the
    count, and during a trace, where numbers computed by a recipe are tracers.
    """
    if bound.program is None:
        program = _Lowering(count).run(bound)
        if program.is_timed or is_staging():
            return program
        bound.program = program
    return bound.program


def first_program(bound: FactoryCall) -> Program:
    """The program of a transformation before any update.

    It is stored even if numbers are scheduled: for `init`, and for all that does not
    depend on numbers.
    """
    if bound.first_program is None:
        program = program_of(bound, jnp.zeros([], jnp.int32))
        if is_staging():
            return program
        bound.first_program = program
    return bound.first_program


def programs_in(tx: Any) -> Iterator[Program]:
    """The programs of a transformation and of those inside its tree rules."""
    if not isinstance(tx, FactoryValue):
        return
    program = first_program(tx.bound)
    yield program
    for op in program.ops:
        for inner in op.node.inner.values():
            yield from programs_in(inner)


def takes_batch(tx: Any) -> bool:
    """Whether a transformation consumes a leading example axis of gradients."""
    return any(op.node.takes_batch for it in programs_in(tx) for op in it.ops)


@dataclasses.dataclass(frozen=True)
class _Scope:
    marks: tuple[tuple[Any, int], ...] = ()
    masks: tuple[int, ...] = ()
    trail: tuple[str, ...] = ()
    pin: Pin | None = None
    splits_extra: bool = False
    part: int | None = None
    label: str | None = None
    within: int | None = None

    def mark(self, name: Any, register: int) -> _Scope:
        """The scope with one more named register."""
        marks = tuple((dict(self.marks) | {name: register}).items())
        return dataclasses.replace(self, marks=marks)


class _Lowering:
    def __init__(self, count: Any):
        self.count = count
        self.ops: list[Op] = []
        self.masks: list[Mask] = []
        self.parts: list[Origin] = []
        self.registers, self.pins = 1, 0
        self.is_timed, self.is_pure = False, True

    def run(self, bound: FactoryCall) -> Program:
        out = self.remembered(bound, 0, _Scope())
        return Program(
            bound.factory.name,
            tuple(self.ops),
            stages_of(self.ops, out),
            settle_keys(self.ops, self.masks, bound.factory.name),
            tuple(self.masks),
            tuple(self.parts),
            out,
            self.is_timed,
            self.is_pure,
        )

    def lower(self, tx: Any, u: int, scope: _Scope) -> int:
        """Add a transformation that reads register u; return its output register."""
        if isinstance(tx, FactoryValue):
            return self.remembered(tx.bound, u, scope)
        scope = self.part(None, scope)
        return self.emit(None, rule_of_foreign(tx), (u,), scope, name_of_foreign(tx))

    def part(self, bound: FactoryCall | None, scope: _Scope) -> _Scope:
        """Add a part; return the scope inside it."""
        self.parts.append(Origin(bound, scope.part, scope.label))
        return dataclasses.replace(scope, part=len(self.parts) - 1, label=None)

    def remembered(self, bound: FactoryCall, u: int, scope: _Scope) -> int:
        scope = self.part(bound, scope)
        if bound.is_scheduled:
            if self.count is None:
                raise no_state(bound.factory.name, "has a schedule, which counts")
            self.is_timed = True
            self.is_pure &= all(map(_is_pure, bound.schedules()))
            bound = bound.at(self.count)
        node, name = bound.call(), bound.factory.name
        match node:
            case Chain(members, is_scope):
                scope = scope.mark("grad", u) if is_scope else scope
                for member in members:
                    u = self.lower(member, u, scope)
                return u
            case Fork(branches, _, measures):
                start = dict(scope.marks).get("grad", u) if measures else u
                inner = scope.mark("flowing", u) if measures else scope
                outs = [self.lower(branch, start, inner) for branch in branches]
                # The branches are lowered: the join keeps its own numbers only.
                own = bound.without_members()
                return self.emit(own, node, (u, *outs), scope, name)
            case Let(mark, value, body):
                value = self.lower(value, u, scope)
                return self.lower(body, u, scope.mark(mark, value))
            case Recall(mark):
                registers = dict(scope.marks)
                if mark not in registers:
                    raise ValueError(
                        f"recall: expected a let of {str(mark)!r} around it, got none"
                    )
                if scope.masks:  # excluded leaves get the input
                    return self.emit(bound, node, (u,), scope, name)
                return registers[mark]
            case Masked(inner, mask, splits_extra, freezes, hides):
                owner = scope.trail[-1] if bound.factory.facts.is_part else name
                freezes = freezes and not self.only_scales(inner)
                mask = Mask(owner, mask, freezes=freezes, hides=hides)
                return self.lower(inner, u, self.masked(scope, mask, splits_extra))
            case Groups(members, labels, splits_extra, pins, hides):
                for label, member in members.items():
                    mask = Mask(name, labels, label, hides=hides)
                    inner = self.masked(scope, mask, splits_extra)
                    trail = (*scope.trail, name, str(label))
                    inner = dataclasses.replace(
                        inner, trail=trail, label=str(label), within=scope.part
                    )
                    inner = self.pinned(inner, str(label)) if pins else inner
                    u = self.lower(member, u, inner)
                return u
            case Named(key, inner):
                return self.lower(inner, u, self.pinned(scope, key))
            case Rule() | TreeRule():
                return self.emit(bound, node, (u,), scope, name)
            case optax.GradientTransformation():
                trail = (*scope.trail, name)
                scope = dataclasses.replace(scope, trail=trail, within=scope.part)
                return self.lower(node, u, scope)
        raise TypeError(
            f"{name}: a factory must return a gradient transformation or a rule, "
            f"got {short_repr(node)}"
        )

    def only_scales(self, member: Any) -> bool:
        """Whether a member is a single scale: excluded leaves pass, as in optax."""
        bound = getattr(member, "bound", None)
        if bound is None or (bound.is_scheduled and self.count is None):
            return False
        node = bound.at(self.count).call()
        return isinstance(node, Rule) and node.factor is not None

    def masked(self, scope: _Scope, mask: Mask, splits_extra: bool) -> _Scope:
        """A scope with one more mask."""
        masks = (*scope.masks, len(self.masks))
        self.masks.append(mask._replace(within=scope.masks))
        splits_extra |= scope.splits_extra
        return dataclasses.replace(scope, masks=masks, splits_extra=splits_extra)

    def pinned(self, scope: _Scope, key: str) -> _Scope:
        """A scope with one more prefix of slot names."""
        self.pins += 1
        key = key if scope.pin is None else f"{scope.pin.key}.{key}"
        pin = Pin(key, self.pins, len(scope.trail), scope.within)
        return dataclasses.replace(scope, pin=pin)

    def emit(
        self,
        bound: FactoryCall | None,
        node: Any,
        inputs: Any,
        scope: _Scope,
        name: str,
    ):
        out, self.registers = self.registers, self.registers + 1
        marks = scope.marks + ((("entered", 0),) if node.sees_entry else ())
        inside = tuple(
            first_program(tx.bound)
            for tx in node.inner.values()
            if isinstance(tx, FactoryValue)
        )
        # Messages name the recipe around a private factory.
        is_part = bound is not None and bound.factory.facts.is_part and scope.trail
        trail = scope.trail if is_part else (*scope.trail, name)
        self.ops.append(
            Op(
                bound=bound,
                node=node,
                inputs=inputs,
                marks=marks,
                out=out,
                masks=scope.masks,
                trail=trail,
                pin=scope.pin,
                inside=inside,
                splits_extra=scope.splits_extra,
                part=scope.part or 0,
            )
        )
        return out


def _is_pure(schedule: Any) -> bool:
    """Whether a schedule and its parts all remember their arguments."""
    if not isinstance(schedule, FactoryValue):
        return False
    return all(_is_pure(part) for part in schedule.bound.leaves() if callable(part))
