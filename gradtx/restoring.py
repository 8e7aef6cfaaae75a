"""States that were saved by another version of a pipeline, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp

from gradtx.binding import Remembered
from gradtx.lowering import program_of
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
        raise TypeError(f"restore: saved must be a state of gradtx, got {saved!r}")
    shapes = jax.eval_shape(tx.init, params)
    renamed = _renamed(tx, shapes, saved)
    moved = {old: key for key, old in renamed.items()}
    found = _by_path({moved.get(key, key): part for key, part in saved.items()})
    wanted = _by_path(shapes)
    missing = [path for path in wanted if path not in found]
    left = [path for path in found if path not in wanted]
    refused = [
        f"{what} {some(paths)} (allow that with {name}=True)"
        for what, paths, name, is_fine in (
            ("not saved:", missing, "new", new),
            ("without a place:", left, "dropped", dropped),
        )
        if paths and not is_fine
    ]
    matched = {path: found[path] for path in wanted if path in found}
    refused += [
        f"{path!r} was saved as {_looks(x)} and must be {_looks(wanted[path])}"
        for path, x in matched.items()
        if _looks(x) != _looks(wanted[path])
    ]
    if refused:
        raise ValueError(f"restore: {tx.name}: {'; '.join(refused)}")
    first = _by_path(tx.init(params)) if missing else {}
    leaves = [jnp.asarray((first | matched)[path]) for path in wanted]
    state = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    return Restored(state, [*matched], renamed, missing, left)


def _by_path(state: Any) -> dict[str, Any]:
    pairs = jax.tree_util.tree_leaves_with_path(state)
    return {name_of(path): x for path, x in pairs}


def _looks(x: Any) -> str:
    return f"{jnp.result_type(x).name}{[*jnp.shape(x)]}"


def _renamed(tx: Any, wanted: Mapping[str, Any], saved: Any) -> dict[str, str]:
    """For keys that were not saved those of a group that was called otherwise then.

    Only where there is no choice: one key begins and ends alike, and fits no other.
    """
    program = program_of(tx.bound, jnp.zeros([], jnp.int32))
    free = [key for key in saved if key not in wanted]
    renamed: dict[str, str] = {}
    for op, keys in zip(program.ops, program.keys, strict=True):
        for key in (key for key in keys.values() if key not in saved):
            for label in (f".{program.masks[m].label}." for m in op.masks):
                start, _, end = key.partition(label)
                alike = [
                    old
                    for old in free
                    if old.startswith(f"{start}.") and old.endswith(f".{end}")
                ]
                if label in key and len(alike) == 1:
                    renamed[key] = alike[0]
    taken = [*renamed.values()]
    return {key: old for key, old in renamed.items() if taken.count(old) == 1}
