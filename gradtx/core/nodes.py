"""Connectives as nodes: chains, branches, masks, groups, named outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from gradtx.core.context import Leaf, Private, SettleContext
from gradtx.core.rule import First, Node


@dataclasses.dataclass(frozen=True)
class Chain:
    """Members in sequence; in a scope, `leaf.grad` is the update that entered it."""

    members: tuple[Any, ...]
    is_scope: bool = False


@dataclasses.dataclass(frozen=True)
class Fork(Node):
    """Branches with the same input, and a function that joins their outputs.

    Attributes:
        branches: Transformations of the update or, if `measures`, of `leaf.grad`.
        join: `(u, outputs, leaf) -> u`, for one array.
        measures: Whether the branches are estimators of the gradient.
        static: See `Rule`.
        shared: See `Rule`.
        settle: See `Rule`.
    """

    branches: tuple[Any, ...]
    join: Callable[[Any, tuple[Any, ...], Leaf], Any]
    measures: bool = False
    static: Callable[[Any], Any] | None = None
    shared: Mapping[str, First] = dataclasses.field(default_factory=dict)
    settle: Callable[[Any, Any, SettleContext], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Let:
    """A transformation in which the output of another one has a name."""

    name: str | Private
    value: Any
    body: Any


@dataclasses.dataclass(frozen=True)
class Recall(Node):
    """The output that an enclosing `Let` has named."""

    name: str | Private
    takes_integers: bool = dataclasses.field(default=True, kw_only=True)

    def update(self, u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        """Like a rule's, for leaves that a mask excludes."""
        return leaf.recall(self.name), slots


@dataclasses.dataclass(frozen=True)
class Masked:
    """A transformation of the leaves where the mask is true; others pass unchanged.

    Attributes:
        inner: The transformation.
        mask: A tree of bools, or a function from the parameters to one.
        splits_extra: Whether to mask extra arguments that are trees like the parameters
            too.
        freezes: Whether a leaf gets zeros if the mask excludes it from a step.
        hides: Whether the transformation gets only these leaves, as in optax.
    """

    inner: Any
    mask: Any
    splits_extra: bool = False
    freezes: bool = False
    hides: bool = False


@dataclasses.dataclass(frozen=True)
class Groups:
    """Transformations of disjoint groups of leaves.

    Since no leaf is in two groups, slots of the same name are one tree for all groups.

    Attributes:
        members: The transformation of each label.
        labels: `(params) -> tree` of labels, with the structure of the parameters or a
            prefix of it.
        splits_extra: See `Masked`.
        pins: Whether the label prefixes the names of a member's slots.
        hides: See `Masked`.
    """

    members: Mapping[Any, Any]
    labels: Callable[[Any], Any]
    splits_extra: bool = False
    pins: bool = False
    hides: bool = False


@dataclasses.dataclass(frozen=True)
class Named:
    """A transformation whose slots have a pinned prefix."""

    key: str
    inner: Any
