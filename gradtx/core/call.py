"""Calls of factories, which transformations remember.

A call has two parts: `children` (numbers, nested transformations, schedules), which JAX
may trace, stack and differentiate, and a hashable `CallSpec` of all else.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import typing
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax

from gradtx.core.arguments import NumberRole, Role
from gradtx.core.equality import hash_of, same
from gradtx.core.errors import first_few, short_repr
from gradtx.core.members import AbsentMember
from gradtx.core.numbers import DecayValue, ahead, scheduled
from gradtx.core.stable import stable

if TYPE_CHECKING:
    from gradtx.core.factory import Factory


CHILD = object()
"""Placeholder in a spec for a leaf that is a child."""
ONLY_ITSELF = (
    "functions and foreign transformations are equal only to themselves: "
    "make it once, for both"
)


class CallSpec:
    """The static part of a factory call; equal specs make the same program.

    Attributes:
        factory: The factory.
        treedefs: The structure of each argument.
        statics: The value of each leaf of the arguments, or `CHILD`.
        roles: The role of each leaf.
        names: The argument of each leaf.
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
        """The path of each leaf in its argument."""
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
        if not (isinstance(other, CallSpec) and self.factory is other.factory):
            return False
        is_same = (
            self._hash == other._hash
            and self.treedefs == other.treedefs
            and all(map(same, self.statics, other.statics))
        )
        if not is_same:  # JAX then prints both: each shows its differences
            self._unlike, other._unlike = weakref.ref(other), weakref.ref(self)
        return is_same

    def __repr__(self) -> str:
        """The arguments, and their differences from the last unequal spec."""
        arguments = ", ".join(f"{k}={_shown(x)}" for k, x in self._arguments().items())
        return f"{self.factory.name}({arguments}){self._difference()}"

    def _arguments(self) -> dict[str, Any]:
        """The static values, by argument and path; `...` for children."""
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
        return f" [differs in {first_few(differing) or 'structure'}{hint}]"


def _has_no_value(x: Any) -> bool:
    """Whether equal copies of this compare as unequal."""
    return inspect.isfunction(x) or isinstance(x, optax.GradientTransformation)


def _shown(value: Any) -> str:
    """A static argument as text; for a function its module too."""
    if value is ...:
        return "..."
    if inspect.isfunction(value):
        code = value.__code__
        file = code.co_filename.rpartition("/")[2]
        return f"{value.__name__} of {file}:{code.co_firstlineno}"
    return short_repr(value)


in_body: contextvars.ContextVar[bool] = contextvars.ContextVar("body", default=False)


class FactoryCall:
    """A call of a factory: the factory and its arguments.

    Attributes:
        spec: The static part.
        children: The parts that JAX may trace: numbers, members, schedules.
        program: The program of the transformation, if no number is scheduled.
        first_program: The program before any update.
        layouts: Layouts of un-jitted updates, see `compiler/layout.py`; shared with
            calls that differ from this one in numbers only.
    """

    def __init__(self, spec: CallSpec, children: tuple[Any, ...]):
        self.spec, self.children = spec, children
        self.program: Any = None
        self.first_program: Any = None
        self.layouts: dict[Any, Any] = {}

    @property
    def factory(self) -> Factory:
        """The factory."""
        return self.spec.factory

    def leaves(self) -> list[Any]:
        """The leaves of all arguments, including children."""
        children = iter(self.children)
        return [next(children) if s is CHILD else s for s in self.spec.statics]

    def values(self) -> list[Any]:
        """One value for each parameter of the factory."""
        leaves = iter(self.leaves())
        return [
            jax.tree.unflatten(t, [next(leaves) for _ in range(t.num_leaves)])
            for t in self.spec.treedefs
        ]

    def call(self) -> Any:
        """Run the factory's body."""
        signature = self.factory.signature
        named = dict(zip(signature.parameters, self.values(), strict=True))
        arguments = inspect.BoundArguments(signature, named)  # pyright: ignore[reportArgumentType, reportCallIssue]
        token = in_body.set(True)
        try:
            return self.factory.function(*arguments.args, **arguments.kwargs)
        except jax.errors.TracerBoolConversionError as error:
            error.add_note(
                f"in the body of {self.factory.name}, whose numbers may be traced: it "
                f"may branch only on arguments that are no numbers"
            )
            raise
        finally:
            in_body.reset(token)

    def without_members(self) -> FactoryCall:
        """The call with a placeholder for each nested transformation."""
        absent = AbsentMember(self.factory.name)
        is_member = optax.GradientTransformation
        kept = [absent if isinstance(x, is_member) else x for x in self.children]
        return FactoryCall(self.spec, tuple(kept))

    @property
    def holds_foreign(self) -> bool:
        """Whether a foreign transformation is among the arguments, at any depth."""
        return any(
            x.bound.holds_foreign
            if isinstance(x, FactoryValue)
            else isinstance(x, optax.GradientTransformation)
            for x in self.leaves()
        )

    @property
    def is_scheduled(self) -> bool:
        """Whether a number is given by a schedule."""
        return bool(self.schedules())

    def schedules(self) -> list[Any]:
        """The schedules of numbers."""
        pairs = zip(self.spec.roles, self.leaves(), strict=True)
        return [leaf for role, leaf in pairs if role.is_schedule(leaf)]

    def at(self, count: Any) -> FactoryCall:
        """The call with every schedule of a number evaluated at `count`."""

        def resolve(role: Role, leaf: Any, name: str) -> Any:
            if not (isinstance(role, NumberRole) and role.is_schedule(leaf)):
                return leaf
            value = scheduled(leaf, ahead(count, role.steps_ahead))
            return role.take(value, self.factory.name, name)

        return self.mapped(resolve)

    def mapped(self, function: Callable[[Role, Any, str], Any]) -> FactoryCall:
        """The call with each leaf replaced by `function(role, leaf, argument)`."""
        spec, statics, children = self.spec, [], []
        triples = zip(spec.roles, self.leaves(), spec.names, strict=True)
        for role, *leaf in triples:
            new = function(role, *leaf)
            if isinstance(new, FactoryValue) or role.is_child(new):
                statics.append(CHILD)
                children.append(new)
            else:
                statics.append(new)
        made = CallSpec(
            spec.factory, spec.treedefs, tuple(statics), spec.roles, spec.names
        )
        call = FactoryCall(made, tuple(children))
        call.layouts = self.layouts
        return call


@stable
def remade(public: Any, values: list[Any]) -> Any:
    """Call a factory with one value for each parameter; used by pickles."""
    return public.factory.make(values)


class FactoryValue:
    """Base of transformations and schedules, which remember their factory."""

    bound: FactoryCall

    @property
    def name(self) -> str:
        """The factory's name."""
        return self.bound.factory.name

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name, as given; a decay as its number."""
        factory = self.bound.factory
        given = zip(factory.roles, self.bound.values(), strict=True)
        plain = (
            jax.tree.map(
                functools.partial(_plain, getattr(role, "is_count", False)),
                value,
                is_leaf=lambda x: isinstance(x, DecayValue | FactoryValue),
            )
            for role, value in given
        )
        return dict(zip(factory.signature.parameters, plain, strict=True))

    def replace(self, **changes: Any) -> typing.Self:
        """A copy with some arguments changed, checked as in a new call."""
        factory = self.bound.factory
        parameters = factory.signature.parameters
        values = dict(zip(parameters, self.bound.values(), strict=True))
        for name in changes:
            if name not in values:
                raise factory.unknown(name)
        return factory.make(list((values | changes).values()))

    def __repr__(self) -> str:
        factory, parts = self.bound.factory, []
        for name, value in self.arguments.items():
            if (
                factory.signature.parameters[name].kind
                is inspect.Parameter.VAR_POSITIONAL
            ):
                parts.extend(map(_show, value))
            else:
                parts.append(f"{name}={_show(value)}")
        return f"{self.name}({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, FactoryValue):
            return False
        mine, theirs = self.bound, other.bound
        return self is other or (
            mine.spec == theirs.spec and all(map(same, mine.children, theirs.children))
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.bound.spec, *map(hash_of, self.bound.children)))

    def __reduce__(self):
        return remade, (self.bound.factory.public, self.bound.values())


def _plain(is_count: bool, value: Any) -> Any:
    """A number as given: a decay without its complement, a count as an int."""
    if isinstance(value, DecayValue):
        return value.value
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_count and is_whole else value


def _show(value: Any) -> str:
    if isinstance(value, np.dtype):
        return repr(value.name)
    if isinstance(value, np.generic):
        return repr(value.item())
    if inspect.isfunction(value):
        return value.__name__
    return repr(value)
