"""Connectives as nodes: chains, branches, masks, groups, named outcomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from gradtx.core.context import Leaf, Private, SettleContext
from gradtx.core.rule import First, Node


@dataclasses.dataclass(frozen=True)
class Chain:
    """Members one after the other; as a scope, all see what entered as `leaf.grad`."""

    members: tuple[Any, ...]
    is_scope: bool = False


@dataclasses.dataclass(frozen=True)
class Fork(Node):
    """Branches that get the same input, and what joins them.

    Attributes:
        branches: Transformations. Each gets the update, or, if `measures`, `leaf.grad`.
        join: `(u, outputs, leaf) -> u`, for one array.
        measures: Whether the branches are estimators of the gradient.
        static: As of a `Rule`.
        shared: As of a `Rule`.
        settle: As of a `Rule`.
    """

    branches: tuple[Any, ...]
    join: Callable[[Any, tuple[Any, ...], Leaf], Any]
    measures: bool = False
    static: Callable[[Any], Any] | None = None
    shared: Mapping[str, First] = dataclasses.field(default_factory=dict)
    settle: Callable[[Any, Any, SettleContext], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Let:
    """A transformation inside which the outcome of another one has a name."""

    name: str | Private
    value: Any
    body: Any


@dataclasses.dataclass(frozen=True)
class Recall(Node):
    """The outcome that an enclosing `Let` has under a name."""

    name: str | Private
    takes_integers: bool = dataclasses.field(default=True, kw_only=True)

    def update(self, u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        """As of a rule, for where a mask switches leaves off."""
        return leaf.recall(self.name), slots


@dataclasses.dataclass(frozen=True)
class Masked:
    """A transformation of the leaves where the mask is true; others pass unchanged.

    Attributes:
        inner: The transformation.
        mask: A tree of bools, or a function from the parameters to one.
        splits_extra: Whether trees like the parameters among the extra arguments are
            masked, too.
        freezes: Whether a leaf gets zeros, if the mask keeps from it what makes a step.
        hides: Whether the transformation sees these leaves only, as in optax.
    """

    inner: Any
    mask: Any
    splits_extra: bool = False
    freezes: bool = False
    hides: bool = False


@dataclasses.dataclass(frozen=True)
class Groups:
    """Transformations of disjoint groups of leaves.

    Since no leaf is in two of them, slots of one name are one tree for all.

    Attributes:
        members: For each label its transformation.
        labels: `(params) -> tree` of labels, with the structure of the parameters or a
            prefix of it.
        splits_extra: As of `Masked`.
        pins: Whether the slots of a member are named after its label.
        hides: As of `Masked`.
    """

    members: Mapping[Any, Any]
    labels: Callable[[Any], Any]
    splits_extra: bool = False
    pins: bool = False
    hides: bool = False


@dataclasses.dataclass(frozen=True)
class Named:
    """A transformation whose slots are kept under a pinned name."""

    key: str
    inner: Any
