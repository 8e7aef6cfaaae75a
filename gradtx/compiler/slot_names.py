"""Slot names: the keys of the operations' slots in the state."""

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

    The key is the slot's own name, unless several slots have it: then all are
    `qualified`, so an edit that makes or ends a clash shows as a missing key. After a
    pinned prefix the factories inside the pin qualify them; if several recipes or
    groupings pin the same name, the factories around it. Slots of different groups of
    leaves are one tree and do not clash.
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
        """Whether no leaf has both slots."""
        if not all(ops[i].keeps_by_leaf(name) for i, name in (one, other)):
            return False
        mine, theirs = ([masks[m] for m in ops[i].masks] for i, _ in (one, other))
        return any(a.excludes(b) for a in mine for b in theirs)

    def clash(group: list[Holder]) -> bool:
        pairs = itertools.combinations(group, 2)
        return not all(itertools.starmap(are_apart, pairs))

    def title(i: int, name: str) -> str:
        """The name, prefixed by the slot that it belongs to."""
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
        # Pinned names in the top-level transformation are the user's.
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
    """Distinct names for several slots of one name, from their trails of factories.

    Each gets its trail down to the first difference. Equal trails get an index among
    them, and their number.
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
