"""Leaves: the arguments of `update`, flattened in the same order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.core.errors import set_difference, short_repr
from gradtx.core.paths import name_of, names_of, widened
from gradtx.core.trees import is_none


def floats(tree: Any, owner: str) -> Any:
    """The tree with arrays as leaves; raises `TypeError` for a non-float leaf."""

    def one(path: Any, leaf: Any) -> jax.Array:
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        where, dtype = name_of(path), leaf.dtype.name
        raise TypeError(f"{owner}: {where} must be floats, got {dtype}")

    return jax.tree.map_with_path(one, tree)


class Leaves:
    """Updates and parameters, leaf by leaf.

    The structure is that of the parameters, or of the updates without parameters. If
    the trees differ, `None` is a leaf: a `None` for a leaf or a subtree means that it
    is skipped.

    Attributes:
        reference: The tree that gives the structure.
        treedef: The structure.
        updates: The leaves of the updates: arrays, or None.
        params: The leaves of the parameters; all None without parameters.
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
            with contextlib.suppress(ValueError):  # JAX's error names no paths
                updates, self._is_widened = widened(updates, params), True
            leaves = self.flatten(updates, "the updates")
            param_leaves = self.treedef.flatten_up_to(params)
        self.updates = [self._array(i, x) for i, x in enumerate(leaves)]
        self.params = [  # for None any leaf, as in modules of equinox
            p if u is None else self._array(i, p)
            for i, (u, p) in enumerate(zip(self.updates, param_leaves, strict=True))
        ]

    def admit_none(self, slots: Iterable[Any], others: Iterable[Any]) -> None:
        """Without parameters, skip leaves whose update is None but whose slot is not.

        Args:
            slots: Trees like the updates.
            others: Trees that may be like the updates.
        """
        is_wider = False
        for tree in (*slots, *others):
            with contextlib.suppress(ValueError):  # another structure
                self.reference = widened(self.reference, tree)
                is_wider |= not _fits(self.treedef, tree)
        if is_wider:
            self._is_widened = True
            self._admit_none()
            self.updates = self.treedef.flatten_up_to(self.reference)
            self.params = [None] * len(self.updates)

    def as_given(self, updates: Sequence[Any]) -> Any:
        """A tree of updates, with None for subtrees that were given as None."""
        tree = self.treedef.unflatten(updates)
        if not self._is_widened:
            return tree

        def narrow(given: Any, made: Any) -> Any:
            return None if given is None else made

        return jax.tree.map(narrow, self.given, tree, is_leaf=is_none)

    def flatten(self, tree: Any, what: str) -> list[Any]:
        """The leaves of a tree; raise for another structure, with the paths."""
        try:
            leaves = self.treedef.flatten_up_to(tree)
        except ValueError:
            leaves = None
        if leaves is None or not all(map(_is_leaf, leaves)):
            mine, its = (names_of(it, is_none) for it in (self.reference, tree))
            raise ValueError(
                f"{self.owner}: {what} must have the structure of "
                f"{'the parameters' if self.has_params else 'the updates'}; "
                f"{set_difference(its, mine) or 'their containers differ'}"
            )
        return leaves

    def split(self, tree: Any, active: Sequence[bool]) -> Any:
        """A tree like the parameters with None for inactive leaves; others as given."""
        if jax.tree.structure(tree) != jax.tree.structure(self.reference):
            return tree
        pairs = zip(self.treedef.flatten_up_to(tree), active, strict=True)
        return self.treedef.unflatten([x if is_on else None for x, is_on in pairs])

    def path(self, i: int) -> str:
        """The path of leaf i."""
        is_leaf = is_none if self._admits_none else None
        return names_of(self.reference, is_leaf)[i]

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
    """The error for a leaf that is not an array."""
    return TypeError(
        f"{owner}: the leaf at {path!r} must be an array, got {short_repr(x)}"
    )


def _fits(treedef: Any, tree: Any) -> bool:
    try:
        treedef.flatten_up_to(tree)
    except ValueError:
        return False
    return True


def _is_leaf(x: Any) -> bool:
    return x is None or jax.tree_util.all_leaves([x])


def is_float0(x: Any) -> bool:
    """Whether this is the gradient of a non-differentiable array."""
    return getattr(x, "dtype", None) == jax.dtypes.float0


def trees_in(state: Any) -> Iterator[Any]:
    """The values of a state, and of nested states."""
    for part in state.values() if is_state(state) else (state,):
        yield from trees_in(part) if is_state(part) else (part,)


def is_state(tree: Any) -> bool:
    """Whether this is a state of gradtx."""
    return isinstance(tree, Mapping) and "count" in tree
