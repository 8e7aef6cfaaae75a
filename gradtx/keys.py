"""The state's keys: under which name each operation keeps each of its slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any


def settle_keys(ops: Sequence[Any], root: str) -> tuple[dict[str, str], ...]:
    """The state's key for each slot of each operation.

    A slot's own name, unless several hold it: then all get the path of factories down
    to where theirs differ, and those that differ nowhere their place among their equals
    and how many these are. So an edit that makes or ends a clash is a missing key.
    """
    holders = [
        (i, name) for i, op in enumerate(ops) for name in (*op.slots, *op.shared)
    ]
    keys: tuple[dict[str, str], ...] = tuple({} for _ in ops)

    def settle(group: list[tuple[int, str]], level: int) -> None:
        if len(group) == 1 and level == 0:
            keys[group[0][0]][group[0][1]] = group[0][1]
            return
        by_factory: dict[str | None, list[tuple[int, str]]] = {}
        for i, name in group:
            trail = ops[i].trail
            place = trail[level] if level < len(trail) else None
            by_factory.setdefault(place, []).append((i, name))
        for place, members in by_factory.items():
            if place is not None and len({ops[i].trail for i, _ in members}) > 1:
                settle(members, level + 1)
                continue
            for n, (i, name) in enumerate(members, start=1):
                prefix = ".".join(ops[i].trail[: level + 1])
                index = f".{n}of{len(members)}" if len(members) > 1 else ""
                keys[i][name] = f"{prefix}.{name}{index}"

    by_name: dict[str, list[tuple[int, str]]] = {}
    for i, name in holders:
        if name == "count":
            raise ValueError(f"{ops[i].name}: a slot cannot be named 'count'")
        if ops[i].pin is not None:
            keys[i][name] = f"{ops[i].pin}.{name}"
        else:
            by_name.setdefault(name, []).append((i, name))
    for group in by_name.values():
        settle(group, 0)
    counts = Counter(key for op_keys in keys for key in op_keys.values())
    for key, n in counts.items():
        if n > 1:
            raise ValueError(
                f"{root}: {n} slots are kept under {key!r}; name them apart"
            )
    return keys
