"""What the engine is given: leaves in one order, masks, errors that name the place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

from gradtx.errors import differ, some, suggest, told
from gradtx.numbers import is_concrete
from gradtx.paths import is_none, name_of, names_of
from gradtx.program import Active, Mask, Op, Program, Setting
from gradtx.rule import TreeRule, no_state

HOST_ARGUMENTS = (
    "params", "value", "grad", "value_fn", "grad_fn", "obj_fn", "loss", "loss_fn",
    "grad_norm",
)  # fmt: skip
"""Extra arguments that hosts and libraries pass to `update`."""


def floats(tree: Any, owner: str) -> Any:
    """The tree, its leaves as arrays; raises `TypeError` at one that is no float."""

    def one(path: Any, leaf: Any) -> jax.Array:
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        where, dtype = name_of(path), leaf.dtype.name
        raise TypeError(f"{owner}: {where} must be floats, got {dtype}")

    return jax.tree.map_with_path(one, tree)


class Leaves:
    """Updates and parameters, leaf by leaf.

    The structure is that of the parameters, or of the updates where there are none. It
    is taken with `None` as a leaf only where the trees differ: then a `None` beside a
    leaf says that the leaf is skipped.

    Attributes:
        reference: The tree that gives the structure.
        treedef: The structure.
        updates: The leaves of the updates: arrays, or None.
        params: As many leaves of the parameters; all None without parameters.
    """

    def __init__(self, owner: str, updates: Any, params: Any):
        self.owner, self.has_params = owner, params is not None
        self._admits_none = False
        self.reference = updates if params is None else params
        leaves, self.treedef = jax.tree.flatten(updates)
        if params is None:
            self.updates = [self._array(i, x) for i, x in enumerate(leaves)]
            self.params: list[Any] = [None] * len(leaves)
            return
        param_leaves, treedef = jax.tree.flatten(params)
        if treedef != self.treedef:
            self._admit_none()
            leaves = self.flatten(updates, "the updates")
            param_leaves = self.treedef.flatten_up_to(params)
        self.updates = [self._array(i, x) for i, x in enumerate(leaves)]
        self.params = [  # beside None there may be anything, as in equinox's modules
            p if u is None else self._array(i, p)
            for i, (u, p) in enumerate(zip(self.updates, param_leaves, strict=True))
        ]

    def admit_none(self, slots: Iterable[Any]) -> None:
        """Without parameters: where the updates are None beside a slot, skip them."""
        try:
            for slot in slots:
                self.treedef.flatten_up_to(slot)
        except ValueError:
            self._admit_none()
            self.updates = self.treedef.flatten_up_to(self.reference)
            self.params = [None] * len(self.updates)

    def flatten(self, tree: Any, what: str) -> list[Any]:
        """The leaves of a tree with the same structure, or an error with the paths."""
        try:
            leaves = self.treedef.flatten_up_to(tree)
        except ValueError:
            leaves = None
        if leaves is None or not all(map(_is_leaf, leaves)):
            mine, its = (names_of(it, is_none) for it in (self.reference, tree))
            raise ValueError(
                f"{self.owner}: {what} must have the structure of "
                f"{'the parameters' if self.has_params else 'the updates'}, but "
                f"{differ(its, mine) or 'its containers differ'}"
            )
        return leaves

    def split(self, tree: Any, active: Sequence[bool]) -> Any:
        """A tree like the parameters with None where a leaf is off; others whole."""
        if jax.tree.structure(tree) != jax.tree.structure(self.reference):
            return tree
        pairs = zip(self.treedef.flatten_up_to(tree), active, strict=True)
        return self.treedef.unflatten([x if is_on else None for x, is_on in pairs])

    def path(self, i: int) -> str:
        """Where leaf i is."""
        is_leaf = is_none if self._admits_none else None
        pairs = jax.tree_util.tree_leaves_with_path(self.reference, is_leaf=is_leaf)
        return name_of(pairs[i][0])

    def _admit_none(self) -> None:
        self._admits_none = True
        self.treedef = jax.tree.structure(self.reference, is_leaf=is_none)

    def _array(self, i: int, x: Any) -> Any:
        if x is None or isinstance(x, jax.Array) or is_float0(x):
            return x
        try:
            return jnp.asarray(x)
        except TypeError:
            raise no_array(self.owner, self.path(i), x) from None


def no_array(owner: str, path: str, x: Any) -> TypeError:
    """The error for a leaf that is no array."""
    return TypeError(f"{owner}: the leaf at {path!r} must be an array, got {told(x)}")


def _is_leaf(x: Any) -> bool:
    return x is None or jax.tree_util.all_leaves([x])


def is_float0(x: Any) -> bool:
    """Whether this is the gradient of something that has none."""
    return getattr(x, "dtype", None) == jax.dtypes.float0


def masks_of(program: Program, leaves_like: Any, treedef: Any) -> list[list[bool]]:
    """Each of the program's masks, leaf by leaf."""
    masks: list[list[bool]] = []
    told: dict[Any, list[Any]] = {}  # once for all groups of a grouping
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
    """For each operation that draws, each leaf's place among those that it is shown."""
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
    """A tree with None where a mask is off."""
    if not masks:
        return tree
    pairs = zip(treedef.flatten_up_to(tree), zip(*masks, strict=True), strict=True)
    return treedef.unflatten([x if all(on) else None for x, on in pairs])


def _told_by(mask: Mask, leaves_like: Any, treedef: Any) -> list[Any]:
    """What the tree of a mask has for each leaf."""
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
    """A mask, or what a function makes of the parameters; a module may be callable."""
    return mask(params) if is_function(mask) else mask


def is_function(given: Any) -> bool:
    """Whether this is a function and no tree: modules of equinox may be callable."""
    return callable(given) and jax.tree_util.all_leaves([given])


def active_of(program: Program, leaves_like: Any, treedef: Any) -> list[Active]:
    """What each leaf goes through; nothing is asked where there are none."""
    if not treedef.num_leaves:
        return []
    masks = masks_of(program, leaves_like, treedef)
    settings = {
        k: treedef.flatten_up_to(
            op.node.setting(_within(leaves_like, treedef, [masks[m] for m in op.masks]))
        )
        for k, op in enumerate(program.ops)
        if op.node.setting is not None
    }
    if not masks and not settings:
        return [(True,) * len(program.ops)] * treedef.num_leaves

    def active(i: int, k: int) -> bool | Setting | None:
        off = [m for m in program.ops[k].masks if not masks[m][i]]
        if off:
            is_of_others = any(program.masks[m].label is not None for m in off)
            return False if is_of_others or not program.freezing & {*off} else None
        return Setting(settings[k][i]) if k in settings else True

    return [
        tuple(active(i, k) for k in range(len(program.ops)))
        for i in range(treedef.num_leaves)
    ]


def seen_by(k: int, tree: Any, treedef: Any, active: list[Active] | None) -> Any:
    """What an operation sees of a tree, None elsewhere: groups may share a slot."""
    if tree is None or active is None:
        return None
    pairs = zip(treedef.flatten_up_to(tree), active, strict=True)
    return treedef.unflatten([x if on[k] else None for x, on in pairs])


def members_of(
    program: Program, params: Any, treedef: Any, active: list[Active]
) -> Iterator[tuple[Any, Any]]:
    """The transformations inside tree rules, and what each sees of the parameters."""
    for k, op in enumerate(program.ops):
        for slot, inner in op.node.inner.items():
            if slot not in op.node.slots:  # else a state of other parameters
                yield inner, seen_by(k, params, treedef, active)


def _is_bool(x: Any) -> bool:
    """Whether this is True or False, a scalar of NumPy or jax included."""
    return isinstance(x, bool) or (
        is_concrete(x) and np.ndim(x) == 0 and np.asarray(x).dtype == bool
    )


def is_state(tree: Any) -> bool:
    """Whether this is a state of gradtx."""
    return isinstance(tree, Mapping) and "count" in tree


def check_state(owner: str, state: Any) -> None:
    """A state is what `init` made: a mapping with a count; or there is none."""
    if state is None or isinstance(state, optax.EmptyState):
        return
    if not is_state(state):
        kind = type(state).__name__
        raise TypeError(
            f"{owner}: the state must be the dict that init makes, got a {kind}"
            + (
                f" with {some(sorted(state))}"
                if isinstance(state, dict) and state
                else ""
            )
        )


def check_keys(program: Program, state: Mapping[str, Any], optional: set[str]) -> None:
    """The state must hold every slot, and nothing else."""
    keys = {key for keys in program.keys for key in keys.values()}
    missing = sorted(keys - optional - state.keys())
    unknown = sorted(state.keys() - keys - {"count"})
    if missing:
        raise missing_slots(program, missing, state)
    if unknown:
        raise ValueError(
            f"{program.name}: the state holds {some(unknown)}, which nothing here keeps"
        )


def missing_slots(program: Program, missing: Sequence[str], state: Any) -> ValueError:
    """The error for slots that the state does not hold."""
    if not state:
        return no_state(program.name, f"keeps {some(missing)}")
    return ValueError(
        f"{program.name}: the state lacks {some(missing)}; "
        f"it holds {some(sorted(state))}"
    )


def check_extra(program: Program, extra: Iterable[str]) -> None:
    """Needed extra arguments are given; an unknown one is no misspelling of a known."""
    extra, needs = set(extra), program.needs
    known = {*needs, *HOST_ARGUMENTS, *program.foreign_arguments}
    plurals = {f"{name}{ending}" for name in known for ending in ("s", "es")}
    for name in sorted(extra - known - plurals):
        if not program.takes_anything and (near := suggest(name, known)):
            raise TypeError(f"{program.name}: unknown extra argument {name!r}{near}")
    missing = sorted(needs.keys() - extra)
    if missing:
        who = needs[missing[0]]
        mine = [need for need in missing if needs[need] == who]
        given = ", ".join(f"{need}=..." for need in mine)
        raise TypeError(
            f"{_who(program.name, who)} needs the extra argument"
            f"{'s' * (len(mine) > 1)} {some(mine)}; "
            f"call update(updates, state, params, {given})"
        )


def _who(owner: str, member: str) -> str:
    return owner if member == owner else f"{owner}: {member}"


def _is_batch(update: Any, param: Any) -> bool:
    """Whether an update has an axis of examples in front."""
    if update is None or update.ndim == 0:
        return False
    return param is None or update.shape[1:] == param.shape


def check_leaf(leaves: Leaves, i: int, ops: Sequence[Op]) -> None:
    """A leaf that operations compute on is a float, and its parameter fits it."""
    u, p = leaves.updates[i], leaves.params[i]
    refusing = [op.name for op in ops if not op.node.takes_integers]
    for x in (u, p) if refusing else ():
        if x is not None and not jnp.issubdtype(x.dtype, jnp.inexact):
            raise TypeError(
                f"{_who(leaves.owner, refusing[0])} computes on floats, "
                f"but the leaf at {leaves.path(i)!r} is {x.dtype}; "
                f"mask it, or give None as its gradient"
            )
    if p is None and leaves.has_params:
        raise ValueError(
            f"{leaves.owner}: there is an update at {leaves.path(i)!r}, "
            f"but the parameter there is None"
        )
    takers = [op for op in ops if op.node.takes_batch]
    if any(isinstance(op.node, TreeRule) for op in takers):
        return  # those inside check it
    batch = next((op.name for op in takers), None)
    if batch is not None and (
        u.ndim == 0 or (p is not None and u.shape[1:] != p.shape)
    ):
        of = "" if p is None else f" of shape {p.shape}"
        raise ValueError(
            f"{batch}: takes gradients of examples: an axis of them in front of the "
            f"parameter's{of}, but at {leaves.path(i)!r} the update has "
            f"shape {u.shape}"
        )
    if batch is not None:
        pairs = zip(leaves.updates, leaves.params, strict=True)
        sizes = {x.shape[0] for x, y in pairs if _is_batch(x, y)}
        if len(sizes) > 1:
            raise ValueError(
                f"{batch}: takes gradients of as many examples at every leaf, "
                f"got {sorted(sizes)}"
            )
    if batch is None and p is not None and p.shape != u.shape:
        raise ValueError(
            f"{leaves.owner}: at {leaves.path(i)!r} the update has shape {u.shape}, "
            f"but the parameter {p.shape}"
        )
