"""Names of leaves, and patterns over them.

A leaf is named by its path: `encoder/layers/0/kernel`. The name is the same in a dict,
a list, or a module of flax, haiku or equinox.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax

from gradtx.core.errors import MOST, first_few
from gradtx.core.hosts import is_variable
from gradtx.core.trees import is_none

REGEX = "re:"
"""Prefix of a pattern that is a regular expression, not a glob."""
Rank = tuple[float, ...]
"""How specific a pattern is; larger ranks win."""


def widened(tree: Any, whole: Any) -> Any:
    """A tree in which None for a subtree becomes None for each of its leaves.

    Raises:
        ValueError: It is not a prefix of the other one.
    """

    def one(x: Any, part: Any) -> Any:
        return jax.tree.map(lambda _: None, part, is_leaf=is_none) if x is None else x

    return jax.tree.map(one, tree, whole, is_leaf=is_none)


def name_of(path: Any) -> str:
    """The name of the leaf at a path of JAX.

    Haiku joins the modules of a path, with `~` for modules made by a method.
    """
    joined = jax.tree_util.keystr(path, simple=True, separator="/")
    parts = [part for part in joined.split("/") if part not in ("", "~")]
    return "/".join(parts) or "<root>"


def names_of(tree: Any, is_leaf: Any = None) -> list[str]:
    """The names of all leaves; the value of a flax variable has the variable's name."""
    pairs = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
    whole = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_variable)
    variables = {path for path, x in whole if is_variable(x)}
    return [name_of(path[:-1] if path[:-1] in variables else path) for path, _ in pairs]


class Pattern:
    """Globs over names, separated by `|`, or `re:` and a regular expression.

    In a glob `*` and `?` match any characters in one part of a name, `[ab]` one of
    several, and `**` any number of parts, including 0. A pattern matches whole names.

    Raises:
        ValueError: An empty glob, or an invalid regular expression.
    """

    def __init__(self, text: str):
        self.regex: re.Pattern | None = None
        self.globs: list[list[str]] = []
        if text.startswith(REGEX):
            try:
                self.regex = re.compile(text.removeprefix(REGEX))
            except re.error as error:
                raise ValueError(
                    f"the pattern {text!r} is not a regular expression: {error}"
                ) from None
            return
        self.globs = [glob.strip().strip("/").split("/") for glob in text.split("|")]
        if [""] in self.globs:
            raise ValueError(f"the pattern {text!r} has an empty glob")

    def rank(self, name: str) -> Rank | None:
        """The highest rank of the globs that match a name; None if none matches.

        Parts without wildcards count most, then parts with some, then `*`; a regular
        expression outranks every glob.
        """
        if self.regex is not None:
            return (math.inf,) if self.regex.fullmatch(name) else None
        parts = name.split("/")
        return max(
            (_rank(glob) for glob in self.globs if _matches(glob, parts)), default=None
        )


def _matches(glob: list[str], name: list[str]) -> bool:
    if not glob:
        return not name
    first, rest = glob[0], glob[1:]
    if first == "**":
        return any(_matches(rest, name[i:]) for i in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], first) and _matches(rest, name[1:])


def _rank(glob: list[str]) -> Rank:
    kinds = [_kind(part) for part in glob]
    return tuple(float(kinds.count(kind)) for kind in ("literal", "partly", "*"))


def _kind(part: str) -> str:
    if part in ("*", "**"):
        return part
    return "partly" if set(part) & set("*?[") else "literal"


def labels_by(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The pattern of the highest rank that matches each name.

    Raises:
        ValueError: A name matches no pattern, or two of equal rank; a pattern matches
            no name.
    """
    compiled = {text: Pattern(text) for text in patterns}
    ranks = {
        text: [pattern.rank(name) for name in names]
        for text, pattern in compiled.items()
    }
    for text, mine in ranks.items():
        if names and not any(rank is not None for rank in mine):
            raise ValueError(f"the pattern {text!r} matches none of {first_few(names)}")
    labels, unmatched, torn = [], [], []
    for i, name in enumerate(names):
        found = {text: rank for text, mine in ranks.items() if (rank := mine[i])}
        highest = max(found.values(), default=None)
        best = [text for text, rank in found.items() if rank == highest]
        if not best:
            unmatched.append(name)
        if len(best) > 1:
            torn.append(f"{name!r} by {' and '.join(map(repr, best))}")
        labels.append(best[0] if best else "")
    if unmatched:
        raise ValueError(
            f"no pattern matches {first_few(unmatched)}; '**' matches the rest"
        )
    if torn:
        raise ValueError(f"patterns of one rank match {'; '.join(torn[:MOST])}")
    return labels


@functools.lru_cache(maxsize=256)
def matched(owner: str, patterns: tuple[str, ...], treedef: Any) -> list[str]:
    """The pattern of each leaf of a tree; errors start with the owner."""
    names = names_of(treedef.unflatten(range(treedef.num_leaves)))
    try:
        return labels_by(patterns, names)
    except ValueError as error:
        raise ValueError(f"{owner}: {error}") from None
