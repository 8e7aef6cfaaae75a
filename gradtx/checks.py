"""What the engine is given: leaves in one order, masks, errors that name the place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import optax
from jax import numpy as jnp

from gradtx.errors import differ, some, suggest, told
from gradtx.paths import is_none, name_of, names_of, widened
from gradtx.program import Op, Program
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
    leaf, or beside a tree of them, says that these are skipped.

    Attributes:
        reference: The tree that gives the structure.
        treedef: The structure.
        updates: The leaves of the updates: arrays, or None.
        params: As many leaves of the parameters; all None without parameters.
    """

    def __init__(self, owner: str, updates: Any, params: Any):
        self.owner, self.has_params = owner, params is not None
        self.given, self._is_widened = updates, False
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
            with contextlib.suppress(ValueError):  # whose error names no paths
                updates, self._is_widened = widened(updates, params), True
            leaves = self.flatten(updates, "the updates")
            param_leaves = self.treedef.flatten_up_to(params)
        self.updates = [self._array(i, x) for i, x in enumerate(leaves)]
        self.params = [  # beside None there may be anything, as in equinox's modules
            p if u is None else self._array(i, p)
            for i, (u, p) in enumerate(zip(self.updates, param_leaves, strict=True))
        ]

    def admit_none(self, slots: Iterable[Any], others: Iterable[Any]) -> None:
        """Without parameters: where the updates are None beside a slot, skip them.

        Args:
            slots: Trees like the updates.
            others: What may be one, and may be something else.
        """
        is_wider = False
        for tree in (*slots, *others):
            with contextlib.suppress(ValueError):  # it has another structure
                self.reference = widened(self.reference, tree)
                is_wider |= not _fits(self.treedef, tree)
        if is_wider:
            self._is_widened = True
            self._admit_none()
            self.updates = self.treedef.flatten_up_to(self.reference)
            self.params = [None] * len(self.updates)

    def as_given(self, updates: Sequence[Any]) -> Any:
        """A tree of updates, with None for a tree of them where that was given."""
        tree = self.treedef.unflatten(updates)
        if not self._is_widened:
            return tree

        def narrow(given: Any, made: Any) -> Any:
            return None if given is None else made

        return jax.tree.map(narrow, self.given, tree, is_leaf=is_none)

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


def _fits(treedef: Any, tree: Any) -> bool:
    try:
        treedef.flatten_up_to(tree)
    except ValueError:
        return False
    return True


def _is_leaf(x: Any) -> bool:
    return x is None or jax.tree_util.all_leaves([x])


def is_float0(x: Any) -> bool:
    """Whether this is the gradient of something that has none."""
    return getattr(x, "dtype", None) == jax.dtypes.float0


def trees_in(state: Any) -> Iterator[Any]:
    """What a state holds, and the states in it."""
    for part in state.values() if is_state(state) else (state,):
        yield from trees_in(part) if is_state(part) else (part,)


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
