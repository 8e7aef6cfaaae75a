"""Slot names: the key of the state that each operation keeps a slot under."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

Holder = tuple[int, str]
"""An operation, by index, and one of its slots."""


def settle_keys(
    ops: Sequence[Any], masks: Sequence[Any], root: str
) -> tuple[dict[str, str], ...]:
    """The state's key for each slot of each operation.

    A slot's own name, unless several hold it: then all are `qualified`. So an edit that
    makes or ends a clash is a missing key. Behind a pinned name they are qualified by
    what is inside of it; where several recipes or groupings pin one name, by what is
    around. Slots of different groups of leaves do not clash: they are one tree.
    """
    holders = [
        (i, name) for i, op in enumerate(ops) for name in (*op.slots, *op.shared)
    ]
    makers = {op.out: op for op in ops}
    keys: tuple[dict[str, str], ...] = tuple({} for _ in ops)

    def shared() -> dict[str, list[Holder]]:
        """The holders of each key."""
        by_key: dict[str, list[Holder]] = {}
        for i, name in holders:
            by_key.setdefault(keys[i][name], []).append((i, name))
        return by_key

    def are_apart(one: Holder, other: Holder) -> bool:
        """Whether no leaf has both."""
        if not all(ops[i].keeps_by_leaf(name) for i, name in (one, other)):
            return False
        mine, theirs = ([masks[m] for m in ops[i].masks] for i, _ in (one, other))
        return any(a.excludes(b) for a in mine for b in theirs)

    def clash(group: list[Holder]) -> bool:
        pairs = itertools.combinations(group, 2)
        return not all(itertools.starmap(are_apart, pairs))

    def title(i: int, name: str) -> str:
        """The name, behind that of the slot which it is about."""
        op = makers.get(ops[i].inputs[0]) if ops[i].node.is_of_input else None
        while op is not None and not op.slots:
            op = makers.get(op.inputs[0])
        return name if op is None else f"{next(iter(op.slots))}_{name}"

    by_name: dict[tuple[int | None, str], list[Holder]] = {}
    for i, name in holders:
        if name == "count":
            raise ValueError(f"{ops[i].name}: a slot cannot be named 'count'")
        pin = ops[i].pin
        by_name.setdefault((pin and pin.scope, title(i, name)), []).append((i, name))
    for (_, name), group in by_name.items():
        pin, told = ops[group[0][0]].pin, [name] * len(group)
        if clash(group):
            start = pin.start if pin else 0
            trails = [ops[i].trail for i, _ in group]
            told = qualified(name, [trail[start:] or trail[-1:] for trail in trails])
        for (i, own), key in zip(group, told, strict=True):
            keys[i][own] = key if pin is None else f"{pin.key}.{key}"
    for key, group in shared().items():
        # A user chose the pinned names that stand in the whole itself.
        others = [(i, n) for i, n in group if ops[i].pin and ops[i].pin.within]
        pins = {ops[i].pin for i, _ in others}
        if clash(group) and len({pin.within for pin in pins}) == len(pins):
            told = qualified(key, [ops[i].trail[: ops[i].pin.start] for i, _ in others])
            for (i, name), new in zip(others, told, strict=True):
                keys[i][name] = new
    for key, group in shared().items():
        if clash(group):
            raise ValueError(
                f"{root}: {len(group)} slots are kept under {key!r}; name them apart"
            )
    return keys


def qualified(name: str, trails: Sequence[tuple[str, ...]]) -> list[str]:
    """Distinct names for several things of one name, each in a trail of factories.

    Each gets the trail down to where theirs differ, and those that differ nowhere their
    place among their equals and how many these are.
    """
    names = [""] * len(trails)

    def settle(group: list[int], level: int) -> None:
        by_factory: dict[str | None, list[int]] = {}
        for i in group:
            place = trails[i][level] if level < len(trails[i]) else None
            by_factory.setdefault(place, []).append(i)
        for place, members in by_factory.items():
            if place is not None and len({trails[i] for i in members}) > 1:
                settle(members, level + 1)
                continue
            for n, i in enumerate(members, start=1):
                prefix = ".".join(trails[i][: level + 1])
                index = f".{n}of{len(members)}" if len(members) > 1 else ""
                names[i] = f"{prefix}.{name}{index}"

    settle([*range(len(trails))], 0)
    return names
