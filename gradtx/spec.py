"""The static part of what was made by a factory: its metadata as a pytree."""

from __future__ import annotations

import inspect
import weakref
from typing import TYPE_CHECKING, Any

import jax
import optax

from gradtx.errors import some, told
from gradtx.identity import hash_of, same

if TYPE_CHECKING:
    from gradtx.binding import Factory

CHILD = object()
"""Marks, in a spec, the place of a leaf that is a child."""
ONLY_ITSELF = (
    "functions and foreign transformations are equal only to themselves: "
    "make it once, for both"
)


class Spec:
    """The static part of a bound factory; equal specs build the same program.

    Attributes:
        factory: The factory.
        treedefs: The structure of each argument.
        statics: For each leaf of the arguments its value, or `CHILD`.
        roles: For each leaf its role.
        names: For each leaf the argument that it belongs to.
    """

    __slots__ = (
        "__weakref__",
        "_hash",
        "_unlike",
        "factory",
        "names",
        "roles",
        "statics",
        "treedefs",
    )

    def __init__(
        self,
        factory: Factory,
        treedefs: tuple,
        statics: tuple,
        roles: tuple,
        names: tuple,
    ):
        self.factory, self.treedefs = factory, treedefs
        self.statics, self.roles, self.names = statics, roles, names
        self._unlike: Any = lambda: None
        self._hash = hash((factory, treedefs, *map(hash_of, statics)))

    def paths(self) -> list[Any]:
        """For each leaf its path in its argument."""
        trees = [jax.tree.unflatten(t, range(t.num_leaves)) for t in self.treedefs]
        pairs = [
            pair for tree in trees for pair in jax.tree_util.tree_leaves_with_path(tree)
        ]
        return [path for path, _ in pairs]

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not (isinstance(other, Spec) and self.factory is other.factory):
            return False
        is_same = (
            self._hash == other._hash
            and self.treedefs == other.treedefs
            and all(map(same, self.statics, other.statics))
        )
        if not is_same:  # JAX then shows both: each says where it differs
            self._unlike, other._unlike = weakref.ref(other), weakref.ref(self)
        return is_same

    def __repr__(self) -> str:
        """The arguments, and where they differ from those it was last unequal to."""
        arguments = ", ".join(f"{k}={_shown(x)}" for k, x in self._arguments().items())
        return f"{self.factory.name}({arguments}){self._difference()}"

    def _arguments(self) -> dict[str, Any]:
        """What is static, by argument and path; `...` for what JAX sees as a child."""
        found: dict[str, dict[str, Any]] = {
            n: {} for n in self.factory.signature.parameters
        }
        leaves = zip(self.names, self.paths(), self.statics, strict=True)
        for name, path, value in leaves:
            key = f"{name}{jax.tree_util.keystr(path)}"
            found[name][key] = ... if value is CHILD else value
        return {
            k: x
            for name, them in found.items()
            for k, x in (them or {name: None}).items()
        }

    def _difference(self) -> str:
        other = self._unlike()
        if other is None:
            return ""
        mine, theirs = self._arguments(), other._arguments()
        differing = [
            name
            for name in {**mine, **theirs}
            if not (name in mine and name in theirs and same(mine[name], theirs[name]))
        ]
        values = [it.get(name) for name in differing for it in (mine, theirs)]
        hint = f"; {ONLY_ITSELF}" if any(map(_has_no_value, values)) else ""
        return f" [differs in {some(differing) or 'structure'}{hint}]"


def _has_no_value(x: Any) -> bool:
    """Whether two of these, made alike, are not equal."""
    return inspect.isfunction(x) or isinstance(x, optax.GradientTransformation)


def _shown(value: Any) -> str:
    """A static argument; of a function where it is from."""
    if value is ...:
        return "..."
    if inspect.isfunction(value):
        code = value.__code__
        file = code.co_filename.rpartition("/")[2]
        return f"{value.__name__} of {file}:{code.co_firstlineno}"
    return told(value)
