"""Masks and groups: the leaves of each operation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from gradtx.compiler.program import Mask, Program
from gradtx.compiler.stage import Active, Static
from gradtx.compiler.steps import is_exact, made_by
from gradtx.core.call import FactoryValue
from gradtx.core.numbers import is_concrete
from gradtx.core.paths import names_of
from gradtx.core.trees import is_none


def masks_of(program: Program, leaves_like: Any, treedef: Any) -> list[list[bool]]:
    """Each of the program's masks, leaf by leaf."""
    masks: list[list[bool]] = []
    told: dict[Any, list[Any]] = {}  # once per grouping
    for mask in program.masks:
        is_label = mask.label is not None
        around = [m for m in mask.within if is_label or program.masks[m].hides]
        key = id(mask.given), tuple(around)
        if key not in told:
            given = _within(leaves_like, treedef, [masks[m] for m in around])
            told[key] = _told_by(mask, given, treedef)
        found = told[key]
        masks.append(found if mask.label is None else [x == mask.label for x in found])
    return masks


def places_of(program: Program, leaves_like: Any, treedef: Any) -> dict[int, Any]:
    """Per random operation, each leaf's index among the leaves of the operation."""
    drawing = [k for k, op in enumerate(program.ops) if op.has_key]
    masks = masks_of(program, leaves_like, treedef) if drawing else []
    places = {}
    for k in drawing:
        hiding = [m for m in program.ops[k].masks if program.masks[m].hides]
        shown = np.ones(treedef.num_leaves, np.int32)
        for m in hiding:
            shown &= np.asarray(masks[m], np.int32)
        places[k] = [*(np.cumsum(shown, dtype=np.int32) - shown)]
    return places


def _within(tree: Any, treedef: Any, masks: Sequence[Sequence[Any]]) -> Any:
    """A tree with None where a mask is false."""
    if not masks:
        return tree
    pairs = zip(treedef.flatten_up_to(tree), zip(*masks, strict=True), strict=True)
    return treedef.unflatten([x if all(on) else None for x, on in pairs])


def _told_by(mask: Mask, leaves_like: Any, treedef: Any) -> list[Any]:
    """The value of a mask's tree for each leaf."""
    tree = mask_tree(mask.given, leaves_like)
    try:
        whole = jax.tree.broadcast(tree, leaves_like, is_leaf=is_none)
        flags = treedef.flatten_up_to(whole)
    except ValueError as error:
        bools, labels = "mask must be a tree of bools", "labels must be a tree"
        raise ValueError(
            f"{mask.owner}: the {bools if mask.label is None else labels} with the "
            f"structure of the parameters or a prefix of it: {error}"
        ) from None
    if mask.label is not None:
        return flags
    leaves = treedef.flatten_up_to(leaves_like)
    for i, (flag, leaf) in enumerate(zip(flags, leaves, strict=True)):
        if not _is_bool(flag) and leaf is not None:
            path = names_of(treedef.unflatten(range(len(leaves))))[i]
            raise TypeError(
                f"{mask.owner}: the mask must hold bools, got {flag!r} at {path!r}"
            )
    return [bool(flag) for flag in flags]


def mask_tree(mask: Any, params: Any) -> Any:
    """A mask, or the result of a mask function; callable modules are masks."""
    return mask(params) if is_function(mask) else mask


def is_function(given: Any) -> bool:
    """Whether this is a function, not a tree such as a callable module of equinox."""
    return callable(given) and jax.tree_util.all_leaves([given])


def active_of(program: Program, leaves_like: Any, treedef: Any) -> list[Active]:
    """The operations of each leaf; without leaves no mask is evaluated."""
    if not treedef.num_leaves:
        return []
    masks = masks_of(program, leaves_like, treedef)
    settings = {
        k: treedef.flatten_up_to(
            op.node.static(_within(leaves_like, treedef, [masks[m] for m in op.masks]))
        )
        for k, op in enumerate(program.ops)
        if op.node.static is not None
    }
    if not masks and not settings:
        check_averages(program, [program.everything])
        return [program.everything] * treedef.num_leaves

    def active(i: int, k: int) -> bool | Static | None:
        off = [m for m in program.ops[k].masks if not masks[m][i]]
        if off:
            is_of_others = any(program.masks[m].label is not None for m in off)
            return False if is_of_others or not program.freezing & {*off} else None
        return Static(settings[k][i]) if k in settings else True

    found = [
        tuple(active(i, k) for k in range(len(program.ops)))
        for i in range(treedef.num_leaves)
    ]
    check_averages(program, {*found})
    return found


def check_averages(program: Program, acting: Iterable[Active]) -> None:
    """Raise for an operation that changes updates after an average of parameters."""
    for active in acting if program.averages else ():
        pairs = zip(program.ops, active, strict=True)
        ops = [op for op, on in pairs if on and "flowing" not in dict(op.marks)]
        found = ((k, rule) for k, op in enumerate(ops) if (rule := op.average))
        first, average = next(found, (len(ops), None))
        for later in ops[first + 1 :]:
            node = later.node
            scales = node.is_step or node.factor is not None or later.average
            is_admitted = average and average.is_lenient and not scales
            if not (node.passes or is_admitted):
                raise ValueError(
                    f"{ops[first].name}: must be around the whole optimizer, "
                    f"but {later.name} comes after it and changes updates"
                )


def seen_by(k: int, tree: Any, treedef: Any, active: list[Active] | None) -> Any:
    """The part of a tree for an operation, None elsewhere; groups may share a slot."""
    if tree is None or active is None:
        return None
    pairs = zip(treedef.flatten_up_to(tree), active, strict=True)
    return treedef.unflatten([x if on[k] else None for x, on in pairs])


def members_of(
    program: Program, params: Any, treedef: Any, active: list[Active]
) -> Iterator[tuple[Any, Any]]:
    """The transformations inside tree rules, and the parameters of each."""
    for k, op in enumerate(program.ops):
        for slot, inner in op.node.inner.items():
            if slot not in op.node.slots:  # otherwise it has other parameters
                yield inner, seen_by(k, params, treedef, active)


def exact_leaves(
    program: Program, params: Any, treedef: Any, active: list[Active]
) -> list[bool]:
    """Per leaf, whether its update is an exact difference, see `is_exact`.

    Masks and groups inside the operation that made the update are considered too.
    """
    made = [made_by(program, on) for on in active]
    exact = [is_exact(program, on) for on in active]
    for k, op in enumerate(program.ops):
        if k not in made or op.node.is_exact:
            continue
        seen = seen_by(k, params, treedef, active)
        slots = [s for s, tx in op.node.inner.items() if isinstance(tx, FactoryValue)]
        inside = [False] * len(active)
        for slot, inner in zip(slots, op.inside, strict=True):
            if not inner.may_be_exact:
                continue
            if slot in op.node.slots:  # it has other parameters
                more = [is_exact(inner, inner.everything)] * len(active)
            else:
                acting = active_of(inner, seen, treedef)
                more = exact_leaves(inner, seen, treedef, acting)
            inside = [a or b for a, b in zip(inside, more, strict=True)]
        exact = [inside[i] if made[i] == k else exact[i] for i in range(len(active))]
    return exact


def _is_bool(x: Any) -> bool:
    """Whether this is True or False, a scalar of NumPy or jax included."""
    return isinstance(x, bool) or (
        is_concrete(x) and np.ndim(x) == 0 and np.asarray(x).dtype == bool
    )
