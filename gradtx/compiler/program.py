"""Programs: operations on registers, their stages and their slots.

Register 0 holds what enters `update`. Consecutive rules form a stage, which is one
kernel a leaf. `lower.py` makes programs.
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
    """A name in front of those of the slots of a transformation.

    Attributes:
        key: The name, behind those around it.
        scope: Which pin this is: two may have one name.
        start: How many factories are around it.
        within: The recipe, or the grouping, that it is part of, by that one's part; if
            None, it stands in the whole itself.
    """

    key: str
    scope: int
    start: int
    within: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Op:
    """One operation: what it does, what it reads, where it keeps what it keeps.

    Attributes:
        bound: The primitive, its numbers resolved; None if it is foreign.
        node: What the primitive is written as.
        inputs: Registers: the update, then the branches of a fork.
        marks: The registers that have a name: "grad", "flowing", and what is let.
        out: The register that this writes.
        masks: Masks (by index) that a leaf must satisfy.
        trail: Names of the factories around it, outermost first.
        pin: A pinned name for its slots, and who pinned it.
        inside: The programs of those transformations whose states it keeps whole.
        splits_extra: Whether a mask around it splits the extra arguments, too.
        part: The part of the transformation that it is, by index.
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
        """The registers that this reads."""
        return {*self.inputs, *(register for _, register in self.marks)}

    @functools.cached_property
    def slots(self) -> dict[str, Slot]:
        """The slots by name; those with the whole state of a transformation first."""
        inner = {name: Slot(tx.init) for name, tx in self.node.inner.items()}
        given = self.node.slots.items()
        return inner | {name: slot_of(self.name, name, it) for name, it in given}

    @functools.cached_property
    def shared(self) -> dict[str, Slot]:
        """The whole-tree scalars by name; the key is one."""
        given, key = self.node.shared.items(), self.node.key
        shared = {name: scalar_of(self.name, name, it) for name, it in given}
        if key is not None:
            shared["key"] = Slot(lambda arrays: raw_key(key), in_optax="rng_key")
        return shared

    def keeps_by_leaf(self, name: str) -> bool:
        """Whether a slot has a value for each leaf, and is not one for the tree."""
        return isinstance(self.node, Rule) and name in self.slots

    @property
    def holds_foreign(self) -> bool:
        """Whether this is a foreign transformation, or has one in it."""
        return self.bound is None or self.bound.holds_foreign

    @functools.cached_property
    def average(self) -> Rule | None:
        """The rule, itself or inside, that averages what its updates lead to."""
        if isinstance(self.node, Rule) and self.node.evaluate is not None:
            return self.node
        inner = (op.average for program in self.inside for op in program.ops)
        return next((rule for rule in inner if rule is not None), None)

    @property
    def has_key(self) -> bool:
        """Whether this draws random numbers."""
        return self.node.key is not None

    @property
    def measures(self) -> bool:
        """Whether this needs numbers over the whole tree."""
        return self.node.measure is not None

    @property
    def needs(self) -> tuple[str, ...]:
        """The extra arguments that this needs."""
        return self.node.needs


class Mask(NamedTuple):
    """Which leaves a transformation acts on.

    Attributes:
        owner: The name of the transformation, for messages.
        given: A tree of bools, or of labels; or a function from the parameters to one.
        label: What the tree has for these leaves; None if it holds bools.
        freezes: Whether it freezes the others, if what makes a step is kept from them.
        within: The masks, by index, around it.
        hides: Whether the transformation sees these leaves only, as in optax: functions
            that give masks get None elsewhere, and random draws number what is left.
    """

    owner: str
    given: Any
    label: Any = None
    freezes: bool = False
    within: tuple[int, ...] = ()
    hides: bool = False

    def excludes(self, other: Mask) -> bool:
        """Whether no leaf is in both: they are two groups of one grouping."""
        return self.given is other.given and self.label != other.label


class Origin(NamedTuple):
    """What a factory made, in a transformation.

    Attributes:
        bound: The factory and its arguments, as they were given; None if it is foreign.
        around: The part around it, by index; None for the whole.
        label: The group that it is, if it is one of `groups`.
    """

    bound: FactoryCall | None
    around: int | None
    label: str | None


@dataclasses.dataclass(frozen=True)
class Program:
    """What a transformation does, in order.

    Attributes:
        name: The transformation's name.
        ops: All operations.
        stages: How they run.
        keys: For each operation, the state's key for each of its slots.
        masks: The masks that operations refer to.
        parts: What factories made, each behind what is around it.
        out: The register that leaves.
        is_timed: Whether numbers depend on the count.
        is_pure: Whether they depend on nothing else: all its schedules remember what
            they are made of. A plain function may look at more.
        layout: The `Layout` that made it, if one did.
        frozen: Whether leaves that go through the same operations are frozen.
        made: Which operation made the updates of such leaves.
        exact: Whether these are exact differences.
        first_slots: Those of leaves of one shape that go through the same.
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
        """What a leaf goes through that goes through all operations."""
        return (True,) * len(self.ops)

    def around(self, op: Op) -> Iterator[Origin]:
        """The part that an operation is, and those around it, outwards."""
        at: int | None = op.part
        while at is not None:
            yield self.parts[at]
            at = self.parts[at].around

    @functools.cached_property
    def takes_batch(self) -> bool:
        """Whether something in it consumes a leading example axis."""
        return any(op.node.takes_batch for op in self.ops)

    @functools.cached_property
    def may_freeze(self) -> bool:
        """Whether there is a leaf that may get no step."""
        return bool(self.freezing) or any(op.node.freezes for op in self.ops)

    @functools.cached_property
    def may_be_exact(self) -> bool:
        """Whether something in it, also inside, gives exact differences."""
        inside = (program for op in self.ops for program in op.inside)
        return any(op.node.is_exact for op in self.ops) or any(
            program.may_be_exact for program in inside
        )

    @functools.cached_property
    def freezing(self) -> set[int]:
        """The masks, by index, that freeze what they leave without a step."""
        return {m for m, mask in enumerate(self.masks) if mask.freezes}

    @functools.cached_property
    def averages(self) -> bool:
        """Whether something in it averages what its updates lead to."""
        return any(op.average is not None for op in self.ops)

    @property
    def period(self) -> Any:
        """The common period of what happens every so many updates, None of nothing."""
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
        """Whether a state is not of this, which keeps nothing of its own."""
        keys = {key for keys in self.keys for key in keys.values()}
        return keys <= self.foreign_keys and not state.keys() <= keys | {"count"}

    @property
    def foreign_keys(self) -> set[str]:
        """The keys of the states of foreign transformations."""
        pairs = zip(self.ops, self.keys, strict=True)
        return {key for op, keys in pairs if op.bound is None for key in keys.values()}

    @property
    def needs(self) -> dict[str, str]:
        """The extra arguments that are needed, each with who needs it."""
        return {need: op.name for op in self.ops for need in op.needs}


def recovered(program: Program) -> Iterator[tuple[int, str, str | None, Any]]:
    """Weights of averages: the operation, the slot, the key if it is kept, which."""
    for k, (op, keys) in enumerate(zip(program.ops, program.keys, strict=True)):
        for slot, weight in op.node.recovered.items():
            yield k, slot, keys.get(slot), weight
