"""`restore`: load a state saved by another version of a transformation."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp

from gradtx.compiler.foreign import ours
from gradtx.compiler.init import shapes_of
from gradtx.compiler.lower import programs_in
from gradtx.compiler.transformation import GradientTransformation
from gradtx.core.errors import did_you_mean, first_few, set_difference, short_repr
from gradtx.core.state import State
from gradtx.interop.saved import ZERO, Paths, Weights, programs_by_path


class Restored(NamedTuple):
    """A restored state, and the origin of its parts, as paths such as `mu/head/kernel`.

    Attributes:
        state: The state.
        matched: Parts that were saved under the same path.
        renamed: Saved keys by key of the state, where they differ: a group was renamed,
            or a wrapper was added or removed.
        new: Parts that were not saved, with the values of `init`.
        dropped: Saved parts without a place in the state.
    """

    state: State
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
    renamed: Mapping[str, str] | None = None,
) -> Restored:
    """Restore the state of a transformation from one saved by another version of it.

    Slots are matched by name: stateless parts, schedules and groups may have changed,
    and wrappers such as `skip` may be new or gone. Unchanged numbers of `editable` get
    the values of `tx`. Weights of averages that were not saved (`mu_weight`, of decays
    that change) are computed from the current decay and the count.

    Args:
        tx: The current transformation.
        params: The current parameters.
        saved: A state, from `update` or from a serializer.
        new: Whether to allow parts that were not saved; they get their initial values.
        dropped: Whether to allow saved parts without a place; with `new`, also parts
            whose shape has changed.
        renamed: Saved keys, or paths, by the key or path in the new state.

    Raises:
        TypeError: `tx` is not a transformation of gradtx.
        ValueError: Parts are new, dropped, or of another dtype or shape; lists all.

    Examples:
        >>> params = jnp.zeros(2)
        >>> saved = gradtx.adam(0.1).init(params) | {"count": jnp.int32(500)}
        >>> tx = gradtx.skip(gradtx.chain(gradtx.clip(1.0), gradtx.adamw(0.01)))
        >>> restored = gradtx.restore(tx, params, saved, new=True)
        >>> print(restored.state["inner"]["count"], restored.renamed["inner/mu"])
        500 mu
    """
    tx = ours("restore", tx)
    shapes = tx.init(shapes_of(params))
    wanted, found = Paths(shapes), Paths(saved)
    if not (isinstance(saved, Mapping) and found.counts):
        raise TypeError(
            f"restore: saved must be a state of gradtx, which has a count, "
            f"got {short_repr(saved)}"
        )
    pairs = dict(_as_told(wanted, found, renamed or {}))
    renamed = dict(renamed or {}) | _moved(tx, wanted, found, pairs)
    renamed |= _renamed(tx, wanted, found, pairs)
    for both in wanted.numbers.items():
        if len(pairs.keys() & both) == 1:  # see `inject_hyperparams`
            pairs = {i: j for i, j in pairs.items() if i not in both}
    weights = Weights(tx, wanted, found, pairs)
    unlike = {i for i, j in pairs.items() if found.shape(j) != wanted.shape(i)}
    if new and dropped:
        pairs = {i: j for i, j in pairs.items() if i not in unlike}
    taken = {*pairs.values(), *found.counts.values(), *found.unedited()}
    taken |= {*weights.redundant(found, taken)}
    fresh = {*range(len(wanted.leaves))} - pairs.keys()
    numbers = {*wanted.numbers, *wanted.numbers.values()}  # have values from `tx`
    missing = [wanted.names[i] for i in sorted(fresh - numbers - weights.kept.keys())]
    left = [name for j, name in enumerate(found.names) if j not in taken]
    refused = [
        f"{what} {first_few(names)} (allow that with {argument}=True)"
        for what, names, argument, is_fine in (
            ("not saved:", missing, "new", new),
            ("without a place:", left, "dropped", dropped),
        )
        if names and not is_fine
    ]
    for i, j in sorted(pairs.items()):
        if found.dtype_and_shape(j) != wanted.dtype_and_shape(i):
            was = f"{wanted.names[i]!r} was saved as {found.dtype_and_shape(j)} "
            way = "new=True, dropped=True begins anew" if i in unlike else "cast it"
            refused.append(f"{was}and must be {wanted.dtype_and_shape(i)} ({way})")
    if refused:
        raise ValueError(f"restore: {tx.name}: {'; '.join(refused)}")
    first = jax.tree.leaves(tx.init(params)) if fresh else wanted.leaves
    if any(isinstance(first[i], jax.ShapeDtypeStruct) for i in fresh):
        raise TypeError("restore: params must be arrays, for what is new begins there")
    leaves, used = [], set()
    for i, x in enumerate(first):
        saved_as = pairs.get(i)  # several counts may have one source
        x = weights.kept.get(i, x)
        x = x if saved_as is None else found.leaves[saved_as]
        leaves.append(jnp.array(x) if saved_as in used else jnp.asarray(x))
        used.add(saved_as)
    state = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    matched = [wanted.names[i] for i in sorted(pairs)]
    return Restored(state, matched, renamed, missing, left)


def _as_told(
    wanted: Paths, found: Paths, renamed: Mapping[str, str]
) -> Iterator[tuple[int, int]]:
    """Pairs of leaves by the names in `renamed`."""
    for new, old in renamed.items():
        here, there = _under(new, wanted), _under(old, found)
        if not here:
            near = did_you_mean(new, [name.partition("/")[0] for name in wanted.names])
            raise ValueError(f"restore: renamed: the state has no {new!r}{near}")
        if not there:
            raise ValueError(f"restore: renamed: nothing was saved as {old!r}")
        if other := set_difference(there, here):
            raise ValueError(f"restore: renamed: {old!r} for {new!r}: {other}")
        yield from ((i, there[rest]) for rest, i in here.items())


def _under(at: str, paths: Paths) -> dict[str, int]:
    """The leaves under a path, by their relative names."""
    names = {name: i for i, name in enumerate(paths.names)}
    return {
        name.removeprefix(at): i
        for name, i in names.items()
        if name == at or name.startswith(f"{at}/")
    }


def _moved(
    tx: Any, wanted: Paths, found: Paths, pairs: dict[int, int]
) -> dict[str, str]:
    """Keys that were saved at another depth. Adds leaves to `pairs`.

    A wrapper keeps the whole state of the inner transformation. The pair of nested
    states that share the most leaves is matched first, then again among the remaining
    ones.
    """
    states = _states(tx)
    mine: dict[str, list[int]] = {at: [] for at in states}
    for i, (*_, name) in enumerate(wanted.spellings):
        home = max((at for at in states if name.startswith(at)), key=len)
        if name != f"{home}count":
            mine[home].append(i)
    moves = [*itertools.product(states, {"": 0, **found.counts})]
    moves.sort(key=lambda move: move[0] != move[1])  # on ties, prefer the same place
    came: dict[str, str] = {}
    renamed: dict[str, str] = {}
    while moves:
        fits = {
            (to, of): fit
            for to, of in moves
            if (fit := _same(wanted, found, pairs, mine[to], to, of))
        }
        moves = [*fits]  # a state without a fit will not get one
        if not fits:
            break
        to, of = max(fits, key=lambda move: len(fits[move]))
        best = fits[to, of]
        pairs |= best
        came.setdefault(to, of)
        renamed |= {to + key: of + key for key in _keys(wanted, best, to, states[to])}
    for at in states:
        of = _origin(at, states, came, found.counts)
        if of in found.counts and wanted.counts[at] not in pairs:
            pairs[wanted.counts[at]] = found.counts[of]
            renamed[f"{at}count"] = f"{of}count"
    return {key: old for key, old in renamed.items() if key != old}


def _states(tx: Any) -> dict[str, list[str]]:
    """The keys of each nested state, by the prefix of its paths."""
    return {
        at: [key for mine in program_at(ZERO).keys for key in mine.values()]
        for at, program_at in programs_by_path(tx)
    }


def _same(
    wanted: Paths,
    found: Paths,
    pairs: Mapping[int, int],
    mine: Sequence[int],
    to: str,
    of: str,
) -> dict[int, int]:
    """Unpaired leaves under `of` that match leaves under `to`.

    They match by the most exact spelling that is unique.
    """
    same: dict[int, int] = {}
    taken = {*pairs.values()}
    for spelling in range(3):
        for i in mine:
            name = wanted.spellings[i][spelling]
            if i in pairs or i in same or not name.startswith(to):
                continue
            equals = wanted.spelled[spelling][name]
            others = found.spelled[spelling].get(of + name.removeprefix(to), ())
            us = [k for k in equals if k not in pairs and k not in same]
            them = [j for j in others if j not in taken]
            if len(us) == len(them) == 1:
                same[i] = them[0]
                taken.add(them[0])
    return same


def _keys(
    paths: Paths, some: Iterable[int], at: str, keys: Sequence[str]
) -> Iterator[str]:
    """The keys of a state above some leaves."""
    names = [paths.spellings[i][2].removeprefix(at) + "/" for i in some]
    return (key for key in keys if any(it.startswith(f"{key}/") for it in names))


def _origin(
    at: str, states: Iterable[str], came: Mapping[str, str], counts: Mapping[str, int]
) -> str:
    """The saved state whose count the state at a place continues.

    Its own. If it keeps nothing else, the saved state at the same distance around its
    inner state. If it is new, that of its inner state, or else of the state around it.
    A state without slots and inner states continues the innermost saved one.
    """
    inside = [to for to in came if to.startswith(at)]
    if inside:
        to = min(inside, key=len)
        outer = came[to].removesuffix(to.removeprefix(at))
        is_as_far = outer + to.removeprefix(at) == came[to] and outer in counts
        return outer if is_as_far and outer not in came.values() else came[to]
    outer = (it for it in states if it != at and at.startswith(it))
    around = max(outer, key=len, default="")
    there = _origin(around, states, came, counts) if at else ""
    if there + at.removeprefix(around) in counts:
        there += at.removeprefix(around)
    if any(it != at and it.startswith(at) for it in states):
        return there
    within = sorted(it for it in counts if it.startswith(there))
    nested = all(b.startswith(a) for a, b in itertools.pairwise(within))
    return within[-1] if within and nested else there


def _renamed(
    tx: Any, wanted: Paths, found: Paths, pairs: dict[int, int]
) -> dict[str, str]:
    """The saved keys of groups that were renamed. Adds leaves to `pairs`.

    A group's old name is the one in its position in most paths. It is unknown if
    several names are, or if the name is in that position for another group too.
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
    """The name with the most votes; None on a tie."""
    most = max(map(len, votes.values()), default=0)
    best = [other for other, mine in votes.items() if len(mine) == most]
    return best[0] if len(best) == 1 else None
