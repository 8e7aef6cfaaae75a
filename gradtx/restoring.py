"""States that were saved by another version of a pipeline, part by part."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sized
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp

from gradtx.binding import Remembered
from gradtx.lowering import programs_in
from gradtx.paths import name_of, some
from gradtx.transform import GradientTransformation


class Restored(NamedTuple):
    """A state, and where its parts are from: paths such as `mu/head/kernel`.

    Attributes:
        state: The state.
        matched: What was saved under the same path.
        renamed: For keys of the state those that were saved: a group was renamed.
        new: What was not saved, and is as `init` makes it.
        dropped: What was saved, and has no place.
    """

    state: dict[str, Any]
    matched: list[str]
    renamed: dict[str, str]
    new: list[str]
    dropped: list[str]


def restore(
    tx: GradientTransformation,
    params: Any,
    saved: Any,
    *,
    new: bool = False,
    dropped: bool = False,
) -> Restored:
    """The state with which a transformation goes on from what another one saved.

    Steps that keep nothing, schedules and groups may have changed: slots go by name.

    Args:
        tx: The transformation as it is now.
        params: The parameters as they are now.
        saved: A state, as `update` gave it or as a serializer gave it back.
        new: Whether parts that were not saved may begin anew.
        dropped: Whether what has no place may be left out.

    Raises:
        TypeError: `tx` is no transformation of gradtx.
        ValueError: Parts are new or dropped, and may not; or a saved part has another
            shape or dtype. All are listed.
    """
    if not isinstance(tx, Remembered):
        raise TypeError(f"restore: takes a transformation of gradtx, got {tx!r}")
    if not isinstance(saved, Mapping):
        kind = type(saved).__name__
        raise TypeError(f"restore: saved must be a state of gradtx, got a {kind}")
    shapes = jax.eval_shape(tx.init, params)
    wanted, found = _Paths(shapes), _Paths(saved)
    pairs = _same(wanted, found)
    renamed = _renamed(tx, wanted, found, pairs)
    missing = [i for i in range(len(wanted.leaves)) if i not in pairs]
    taken = {*pairs.values()}
    left = [name for j, name in enumerate(found.names) if j not in taken]
    refused = [
        f"{what} {some(paths)} (allow that with {name}=True)"
        for what, paths, name, is_fine in (
            ("not saved:", [wanted.names[i] for i in missing], "new", new),
            ("without a place:", left, "dropped", dropped),
        )
        if paths and not is_fine
    ]
    refused += [
        f"{wanted.names[i]!r} was saved as {_looks(found.leaves[j])} "
        f"and must be {_looks(wanted.leaves[i])}"
        for i, j in sorted(pairs.items())
        if _looks(found.leaves[j]) != _looks(wanted.leaves[i])
    ]
    if refused:
        raise ValueError(f"restore: {tx.name}: {'; '.join(refused)}")
    first = jax.tree.leaves(tx.init(params)) if missing else wanted.leaves
    if any(isinstance(first[i], jax.ShapeDtypeStruct) for i in missing):
        raise TypeError("restore: params must be arrays, for what is new begins there")
    leaves = [
        jnp.asarray(found.leaves[pairs[i]] if i in pairs else x)
        for i, x in enumerate(first)
    ]
    state = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    matched = [wanted.names[i] for i in sorted(pairs)]
    return Restored(state, matched, renamed, [wanted.names[i] for i in missing], left)


class _Paths:
    """The leaves of a state, and what they are called.

    Attributes:
        leaves: The leaves.
        spellings: For each leaf its path as it is, then joined by slashes, then its
            name: what one serializer keeps apart, another one joins.
        names: The names; where two leaves have one, their paths.
    """

    def __init__(self, state: Any):
        pairs = jax.tree_util.tree_leaves_with_path(state)
        self.leaves = [x for _, x in pairs]
        self.spellings = [_spellings(path) for path, _ in pairs]
        numbers = Counter(name for *_, name in self.spellings)
        self.names = [
            name if numbers[name] == 1 else path for path, _, name in self.spellings
        ]


def _spellings(path: Any) -> tuple[str, str, str]:
    joined = jax.tree_util.keystr(path, simple=True, separator="/")
    name = name_of(path).removesuffix("/value")  # what flax's variables hold
    return jax.tree_util.keystr(path), joined, name


def _same(wanted: _Paths, found: _Paths) -> dict[int, int]:
    """Where leaves were saved: by the closest spelling that is theirs alone."""
    pairs: dict[int, int] = {}
    for spelling in range(3):
        mine = _alone(wanted, spelling, {*pairs})
        theirs = _alone(found, spelling, {*pairs.values()})
        pairs |= {mine[name]: theirs[name] for name in mine if name in theirs}
    return pairs


def _alone(paths: _Paths, spelling: int, without: set[int]) -> dict[str, int]:
    """The leaves that alone have their name in a spelling, by that."""
    by_name: dict[str, list[int]] = {}
    for i, spellings in enumerate(paths.spellings):
        if i not in without:
            by_name.setdefault(spellings[spelling], []).append(i)
    return {name: mine[0] for name, mine in by_name.items() if len(mine) == 1}


def _looks(x: Any) -> str:
    return f"{jnp.result_type(x).name}{[*jnp.shape(x)]}"


def _renamed(
    tx: Any, wanted: _Paths, found: _Paths, pairs: dict[int, int]
) -> dict[str, str]:
    """For keys that were not saved those of a group that was called otherwise then.

    A group's old name is what stands in the place of its name in most paths; if several
    names do, or stand for another group too, it is not known. Adds to `pairs`.
    """
    missing = {wanted.names[i]: i for i in range(len(wanted.names)) if i not in pairs}
    taken = {*pairs.values()}
    left = {name: j for j, name in enumerate(found.names) if j not in taken}
    told: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    masks = [mask for program in programs_in(tx) for mask in program.masks]
    labels = dict.fromkeys(str(m.label) for m in masks if m.label is not None)
    for name, label in itertools.product(missing, labels):
        for at in re.finditer(rf"(?:^|(?<=[./])){re.escape(label)}(?=\.)", name):
            before, after = name[: at.start()], name[at.end() :]
            votes = told.setdefault((before, label), {})
            for old in left:
                if old.startswith(before) and old.endswith(after):
                    other = old[len(before) : len(old) - len(after)]
                    votes.setdefault(other, {})[name] = old
    best = {place: _most(votes) for place, votes in told.items()}
    places = [(before, other) for (before, _), other in best.items()]
    renamed: dict[str, str] = {}
    for (before, label), other in best.items():
        if other is None or places.count((before, other)) > 1:
            continue
        for name, old in told[before, label][other].items():
            pairs[missing[name]] = left[old]
            slot = name.removeprefix(before + label).partition("/")[0]
            renamed[before + label + slot] = before + other + slot
    return renamed


def _most(votes: Mapping[str, Sized]) -> str | None:
    """What has most votes, if that is one."""
    most = max(map(len, votes.values()), default=0)
    best = [other for other, mine in votes.items() if len(mine) == most]
    return best[0] if len(best) == 1 else None
