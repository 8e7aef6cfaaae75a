"""Programs: operations on registers, their stages and their slots.

Register 0 holds the argument of `update`. Consecutive rules form a stage, which is one
kernel per leaf. `lower.py` makes programs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gradtx.compiler.counts import common_period
from gradtx.compiler.stage import Active, Stage, TreeStage
from gradtx.core.call import FactoryCall
from gradtx.core.nodes import Fork, Recall
from gradtx.core.prng import raw_key
from gradtx.core.rule import Rule, Slot, TreeRule, scalar_of, slot_of


class Pin(NamedTuple):
    """A prefix of the names of a transformation's slots.

    Attributes:
        key: The prefix, including outer prefixes.
        scope: The identity of the pin: two may have the same name.
        start: Number of factories around it.
        within: Index of the part of the recipe or grouping that contains it; None in
            the top-level transformation.
    """

    key: str
    scope: int
    start: int
    within: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Op:
    """One operation: its computation, inputs and slots.

    Attributes:
        bound: The primitive, with resolved numbers; None if it is foreign.
        node: The node of the primitive.
        inputs: Registers: the update, then the branches of a fork.
        marks: Named registers: "grad", "flowing", and those of `let`.
        out: The output register.
        masks: Masks (by index) that a leaf must satisfy.
        trail: Names of the factories around it, outermost first.
        pin: The pinned prefix of its slots.
        inside: The programs of transformations whose whole states are its slots.
        splits_extra: Whether a mask around it splits the extra arguments too.
        part: The index of its part of the transformation.
    """

    bound: FactoryCall | None
    node: Rule | Fork | Recall | TreeRule
    inputs: tuple[int, ...]
    marks: tuple[tuple[Any, int], ...]
    out: int
    masks: tuple[int, ...]
    trail: tuple[str, ...]
    pin: Pin | None
    inside: tuple[Program, ...]
    splits_extra: bool
    part: int

    @property
    def name(self) -> str:
        """The innermost factory's name, for messages."""
        return self.trail[-1]

    @functools.cached_property
    def reads(self) -> set[int]:
        """The registers that it reads."""
        return {*self.inputs, *(register for _, register in self.marks)}

    @functools.cached_property
    def slots(self) -> dict[str, Slot]:
        """The slots by name; whole states of transformations first."""
        inner = {name: Slot(tx.init) for name, tx in self.node.inner.items()}
        given = self.node.slots.items()
        return inner | {name: slot_of(self.name, name, it) for name, it in given}

    @functools.cached_property
    def shared(self) -> dict[str, Slot]:
        """The whole-tree scalars by name, including the PRNG key."""
        given, key = self.node.shared.items(), self.node.key
        shared = {name: scalar_of(self.name, name, it) for name, it in given}
        if key is not None:
            shared["key"] = Slot(lambda arrays: raw_key(key), in_optax="rng_key")
        return shared

    def keeps_by_leaf(self, name: str) -> bool:
        """Whether a slot has a value per leaf, not one for the tree."""
        return isinstance(self.node, Rule) and name in self.slots

    @property
    def holds_foreign(self) -> bool:
        """Whether this is, or contains, a foreign transformation."""
        return self.bound is None or self.bound.holds_foreign

    @functools.cached_property
    def average(self) -> Rule | None:
        """The rule, possibly nested, that averages the parameters."""
        if isinstance(self.node, Rule) and self.node.evaluate is not None:
            return self.node
        inner = (op.average for program in self.inside for op in program.ops)
        return next((rule for rule in inner if rule is not None), None)

    @property
    def has_key(self) -> bool:
        """Whether it draws random numbers."""
        return self.node.key is not None

    @property
    def measures(self) -> bool:
        """Whether it needs measurements of the whole tree."""
        return self.node.measure is not None

    @property
    def needs(self) -> tuple[str, ...]:
        """The extra arguments that it needs."""
        return self.node.needs


class Mask(NamedTuple):
    """The leaves that a transformation acts on.

    Attributes:
        owner: The name of the transformation, for messages.
        given: A tree of bools, or of labels; or a function from the parameters to one.
        label: The label of these leaves in the tree; None for bools.
        freezes: Whether it freezes the other leaves if it excludes them from a step.
        within: The masks, by index, around it.
        hides: Whether the transformation gets only these leaves, as in optax: mask
            functions get None elsewhere, and random draws count the remaining leaves.
    """

    owner: str
    given: Any
    label: Any = None
    freezes: bool = False
    within: tuple[int, ...] = ()
    hides: bool = False

    def excludes(self, other: Mask) -> bool:
        """Whether both are different groups of one grouping, without common leaves."""
        return self.given is other.given and self.label != other.label


class Origin(NamedTuple):
    """The origin of a part of a transformation: the factory call that made it.

    Attributes:
        bound: The factory and its arguments, as given; None if it is foreign.
        around: The index of the part around it; None for the whole.
        label: Its group, if it is a member of `groups`.
    """

    bound: FactoryCall | None
    around: int | None
    label: str | None


@dataclasses.dataclass(frozen=True)
class Program:
    """The operations of a transformation, in order.

    Attributes:
        name: The transformation's name.
        ops: All operations.
        stages: The stages that run them.
        keys: The keys of each operation's slots in the state.
        masks: The masks that operations refer to.
        parts: The results of factories, each after the one around it.
        out: The output register.
        is_timed: Whether numbers depend on the count.
        is_pure: Whether numbers depend on nothing else, since all schedules remember
            their arguments. A plain function may depend on more.
        layout: The `Layout` that made it, or None.
        frozen: Cache: whether leaves with the same operations are frozen.
        made: Cache: the operation that made the updates of such leaves.
        exact: Cache: whether these updates are exact differences.
        first_slots: Cache: initial slots by shape and operations.
    """

    name: str
    ops: tuple[Op, ...]
    stages: tuple[Stage | TreeStage, ...]
    keys: tuple[dict[str, str], ...]
    masks: tuple[Mask, ...]
    parts: tuple[Origin, ...]
    out: int
    is_timed: bool
    is_pure: bool
    layout: Any = None
    frozen: dict[Active, bool] = dataclasses.field(default_factory=dict)
    made: dict[Active, int | None] = dataclasses.field(default_factory=dict)
    exact: dict[Active, bool] = dataclasses.field(default_factory=dict)
    first_slots: dict[tuple[Active, Any], dict[str, Any]] = dataclasses.field(
        default_factory=dict
    )

    @functools.cached_property
    def everything(self) -> Active:
        """The `Active` of a leaf with all operations."""
        return (True,) * len(self.ops)

    def around(self, op: Op) -> Iterator[Origin]:
        """The part of an operation, and the parts around it, outwards."""
        at: int | None = op.part
        while at is not None:
            yield self.parts[at]
            at = self.parts[at].around

    @functools.cached_property
    def takes_batch(self) -> bool:
        """Whether an operation consumes a leading example axis."""
        return any(op.node.takes_batch for op in self.ops)

    @functools.cached_property
    def may_freeze(self) -> bool:
        """Whether a leaf may be frozen."""
        return bool(self.freezing) or any(op.node.freezes for op in self.ops)

    @functools.cached_property
    def may_be_exact(self) -> bool:
        """Whether an operation, possibly nested, returns exact differences."""
        inside = (program for op in self.ops for program in op.inside)
        return any(op.node.is_exact for op in self.ops) or any(
            program.may_be_exact for program in inside
        )

    @functools.cached_property
    def freezing(self) -> set[int]:
        """The masks, by index, that freeze leaves which they exclude from a step."""
        return {m for m, mask in enumerate(self.masks) if mask.freezes}

    @functools.cached_property
    def averages(self) -> bool:
        """Whether an operation averages the parameters."""
        return any(op.average is not None for op in self.ops)

    @property
    def period(self) -> Any:
        """The common period of periodic operations; None without any."""
        periods = [op.node.period for op in self.ops]
        return common_period([period for period in periods if period is not None])

    @property
    def foreign_arguments(self) -> set[str]:
        """The keyword arguments that foreign transformations declare."""
        return {
            name
            for op in self.ops
            if isinstance(op.node, TreeRule)
            for name in op.node.takes
        }

    @property
    def takes_anything(self) -> bool:
        """Whether a foreign transformation declares `**extra`."""
        return "**" in self.foreign_arguments

    def ignores(self, state: Mapping[str, Any]) -> bool:
        """Whether this keeps nothing of its own and the state is another program's."""
        keys = {key for keys in self.keys for key in keys.values()}
        return keys <= self.foreign_keys and not state.keys() <= keys | {"count"}

    @property
    def foreign_keys(self) -> set[str]:
        """The keys of the states of foreign transformations."""
        pairs = zip(self.ops, self.keys, strict=True)
        return {key for op, keys in pairs if op.bound is None for key in keys.values()}

    @property
    def needs(self) -> dict[str, str]:
        """The required extra arguments, each with the name of its operation."""
        return {need: op.name for op in self.ops for need in op.needs}


def recovered(program: Program) -> Iterator[tuple[int, str, str | None, Any]]:
    """Weights of averages: the operation, slot, key (if stored) and weight of each."""
    for k, (op, keys) in enumerate(zip(program.ops, program.keys, strict=True)):
        for slot, weight in op.node.recovered.items():
            yield k, slot, keys.get(slot), weight
