"""Names of numbers: the shortest unique suffix of a path, and longer ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from gradtx.core.errors import did_you_mean, first_few


class Unit(NamedTuple):
    """One part of a name: a factory, a group, a name in a chain; last the argument.

    Attributes:
        text: The name.
        where: Its place in the transformation.
        is_in_keys: Whether it is part of the keys of `editable`.
    """

    text: str
    where: tuple[int, ...]
    is_in_keys: bool = True


Trail = tuple[Unit, ...]
"""The units around a number, outermost first, and its argument."""


def shortest(trails: Sequence[Trail]) -> list[str]:
    """The shortest unique suffix of each number's trail.

    Common outer parts of the trails are ignored, so that a wrapper around all numbers
    changes no name. Numbers with equal trails get an index among them, and their
    number.
    """
    parts = [_parts(trail) for trail in trails]
    names = [""] * len(trails)

    def end(i: int, length: int) -> str:
        return ".".join(text for text, _ in parts[i][-length:])

    def settle(group: list[int], length: int, first: int) -> None:
        """Name the numbers with a common suffix; a group since length `first`."""
        if len(group) == 1:
            names[group[0]] = end(group[0], first)
            return
        common = _common([parts[i] for i in group])
        if any(len(parts[i]) - common + 1 <= length for i in group):
            for n, i in enumerate(group, start=1):
                names[i] = f"{end(i, max(first, 2))}.{n}of{len(group)}"
            return
        by_part: dict[str, list[int]] = {}
        for i in group:
            by_part.setdefault(parts[i][-length - 1][0], []).append(i)
        for inside in by_part.values():
            is_same = len(inside) == len(group)
            settle(inside, length + 1, first if is_same else length + 1)

    by_argument: dict[str, list[int]] = {}
    for i, trail in enumerate(trails):
        by_argument.setdefault(trail[-1].text, []).append(i)
    for group in by_argument.values():
        settle(group, 1, 1)
    return names


def _parts(trail: Trail) -> list[tuple[str, Any]]:
    """The parts of a full name with their units; a group's name may have several."""
    *around, argument = trail
    pairs = [(text, unit.where) for unit in around for text in unit.text.split(".")]
    return [*pairs, (argument.text, argument.where)]


def _common(trails: Sequence[Any]) -> int:
    """The number of outer parts that all trails have in common."""
    first, last = min(trails), max(trails)
    pairs = enumerate(zip(first, last, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(first), len(last)))


class Names:
    """The names of numbers.

    Attributes:
        shortest: The shortest name of each number.
        full: The parts of each full name.
    """

    def __init__(self, trails: Sequence[Trail]):
        self.shortest = shortest(trails)
        self.full = tuple(tuple(text for text, _ in _parts(trail)) for trail in trails)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Names) and self.full == other.full

    def __hash__(self) -> int:
        return hash(self.full)

    def find(self, name: str) -> list[int]:
        """The numbers of a name: one, several, or none.

        A name is a shortest name, a suffix of a full name, or otherwise some parts of a
        full name in order, including the last.
        """
        if name in self.shortest:
            return [self.shortest.index(name)]
        places = [*range(len(self.shortest))]
        if ordinal := re.search(r"[.]\d+of\d+$", name):
            places = [i for i in places if self.shortest[i].endswith(ordinal[0])]
            name = name.removesuffix(ordinal[0])
        ends = [i for i in places if f".{'.'.join(self.full[i])}".endswith(f".{name}")]
        return ends or [i for i in places if _has_in_order(name, self.full[i])]

    def several(self, name: str, found: Iterable[int]) -> str:
        """The message for a name of several numbers."""
        names = [self.shortest[i] for i in found]
        return (
            f"{len(names)} numbers are called {name!r}; write one of {first_few(names)}"
        )

    def near(self) -> list[str]:
        """Names to suggest: the shortest ones, and those with a factory's name."""
        return [*self.shortest, *(".".join(parts[-2:]) for parts in self.full)]


def _has_in_order(name: str, full: tuple[str, ...]) -> bool:
    """Whether the parts of a name are in a full name, in order and to its end."""
    *around, argument = full
    if name != argument and not name.endswith(f".{argument}"):
        return False
    rest = iter(around)
    wanted = name.removesuffix(argument).split(".")[:-1]
    return all(part in rest for part in wanted)


class Numbers(dict[str, Any]):
    """Numbers by shortest name; longer names work too.

    Raises:
        KeyError: No number, or several, have the name.
    """

    __slots__ = ("names",)

    def __init__(self, values: Mapping[str, Any], names: Names):
        super().__init__(values)
        self.names = names

    def _found(self, name: Any) -> list[str]:
        found = self.names.find(name) if isinstance(name, str) else []
        return [self.names.shortest[i] for i in found]

    def __missing__(self, name: Any) -> Any:
        found = self._found(name)
        if len(found) == 1 and super().__contains__(found[0]):
            return self[found[0]]
        if len(found) > 1:
            raise KeyError(self.names.several(name, self.names.find(name)))
        near = did_you_mean(name, self.names.near()) if isinstance(name, str) else ""
        raise KeyError(
            f"no number is called {name!r}{near or f'; there are {first_few([*self])}'}"
        )

    def __contains__(self, name: Any) -> bool:
        found = [name] if super().__contains__(name) else self._found(name)
        return len(found) == 1 and super().__contains__(found[0])

    def get(self, name: Any, default: Any = None) -> Any:
        """The number of this name, or the default."""
        if name not in self:
            return default
        return self[name]

    def __reduce__(self):
        return Numbers, (dict(self), self.names)


def _flatten(numbers: Numbers) -> tuple[list[Any], tuple[Any, ...]]:
    keys = sorted(numbers)
    return [numbers[key] for key in keys], (tuple(keys), numbers.names)


def _flatten_with_keys(numbers: Numbers) -> tuple[list[Any], tuple[Any, ...]]:
    values, kept = _flatten(numbers)
    keys = map(jax.tree_util.DictKey, kept[0])
    return list(zip(keys, values, strict=True)), kept


def _unflatten(kept: tuple[Any, ...], values: Iterable[Any]) -> Numbers:
    keys, names = kept
    return Numbers(dict(zip(keys, values, strict=True)), names)


jax.tree_util.register_pytree_with_keys(
    Numbers, _flatten_with_keys, _unflatten, _flatten
)
