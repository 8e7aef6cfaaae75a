"""Factories that remember their arguments.

`Bound` is a factory with its arguments, split in two: `children` (numbers, nested
transformations, schedules), which JAX may trace, stack and differentiate, and a `Spec`
(everything else), which is hashable. From these two come repr, equality, hashing,
pickling, `replace` and the pytree registration of every transformation and schedule.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import operator
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from gradtx.errors import suggest
from gradtx.identity import hash_of, same, with_dicts
from gradtx.numbers import DecayValue, ahead, scheduled
from gradtx.roles import PLAIN, MemberRole, NumberRole, Role, role_of
from gradtx.spec import CHILD, Spec
from gradtx.stable import stable

in_body: contextvars.ContextVar[bool] = contextvars.ContextVar("body", default=False)


class Factory:
    """A function that makes transformations or schedules, and what its signature says.

    Attributes:
        function: The body as it was written.
        cls: What it makes.
        public: The function that users call; pickles go by its qualified name.
    """

    def __init__(self, function: Callable, cls: Callable[[Bound], Any]):
        self.function, self.cls = function, cls
        self.name = function.__name__
        self.public: Any = None

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """The signature that a user sees."""
        return inspect.signature(self.function)

    @functools.cached_property
    def has_learning_rate(self) -> bool:
        """Whether what it makes is a step, and not a direction.

        Not if it only weighs with the learning rate of what it is around.
        """
        if self.name in ("schedule_free", "interpolate_iterates"):
            return False
        return any("learning_rate" in name for name in self.signature.parameters)

    @functools.cached_property
    def roles(self) -> tuple[Role, ...]:
        """A role for each parameter."""
        hints = typing.get_type_hints(self.function, include_extras=True)
        return tuple(role_of(hints.get(name)) for name in self.signature.parameters)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Check the arguments, and make what remembers them."""
        parameters = self.signature.parameters
        for name in kwargs:
            if name not in parameters:
                raise self.unknown(name)
        try:
            arguments = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        arguments.apply_defaults()
        return self.make(list(arguments.arguments.values()))

    def make(self, values: list[Any]) -> Any:
        """What the factory makes of one value for each parameter, all checked."""
        bound = self.bind(values)
        if not in_body.get() and not bound.is_scheduled:
            bound.call()  # so that what the body checks is checked here
        return self.cls(bound)

    def bind(self, values: list[Any]) -> Bound:
        """One value for each parameter, split into a spec and children."""
        statics, children, treedefs, roles, names = [], [], [], [], []
        parameters = self.signature.parameters
        for name, role, value in zip(parameters, self.roles, values, strict=True):
            if value is None:
                role.check_none(self.name, name)
            if isinstance(value, list | Iterator) and role is not PLAIN:
                value = tuple(value)
            if getattr(role, "is_container", False):
                value = with_dicts(value)
            is_leaf = functools.partial(_is_value, role) if value is not None else None
            is_variadic = parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
            if is_variadic and isinstance(role, MemberRole):
                is_leaf = functools.partial(operator.is_not, value)
            role.check_whole(value, self.name, name)
            try:
                leaves, treedef = jax.tree.flatten(value, is_leaf=is_leaf)
            except ValueError as error:  # keys that cannot be sorted
                keys = sorted(map(repr, value)) if isinstance(value, Mapping) else value
                message = f"{self.name}: {name} must be a tree, got {keys}: {error}"
                raise TypeError(message) from None
            treedefs.append(treedef)
            roles += [role] * len(leaves)
            names += [name] * len(leaves)
            for leaf in leaves:
                leaf = _frozen(role.bind(leaf, self.name, name))
                is_child = isinstance(leaf, Remembered) or role.is_child(leaf)
                statics.append(CHILD if is_child else leaf)
                children += [leaf] * is_child
        spec = Spec(self, tuple(treedefs), tuple(statics), tuple(roles), tuple(names))
        return Bound(spec, tuple(children))

    def unknown(self, name: str, near: Sequence[str] = (), more: str = "") -> TypeError:
        """The error for an argument that the factory does not have.

        Args:
            name: The argument.
            near: Other names that may have been meant.
            more: What else there is, beside arguments.
        """
        known = list(self.signature.parameters)
        hint = suggest(name, [*known, *near])
        hint = hint or f"; there are {', '.join(known) or 'none'}{more}"
        return TypeError(f"{self.name}: unknown argument {name!r}{hint}")

    def __reduce__(self):
        return factory_of, (self.public,)


@stable
def factory_of(public: Any) -> Factory:
    """What a function that users call is a factory by; pickles of factories call it."""
    return public.factory


@stable
def remade(public: Any, values: list[Any]) -> Any:
    """What a factory makes of one value for each parameter: pickles call it."""
    return public.factory.make(values)


def _is_value(role: Role, value: Any) -> bool:
    return isinstance(value, Remembered) or role.is_leaf(value)


def _frozen(leaf: Any) -> Any:
    """The leaf, or a copy of an array that its owner could change."""
    if isinstance(leaf, np.ndarray):
        leaf = leaf.copy()
        leaf.flags.writeable = False
    return leaf


class Bound:
    """A factory bound to its arguments: a spec and its children."""

    def __init__(self, spec: Spec, children: tuple[Any, ...]):
        self.spec, self.children = spec, children
        self.program: Any = None
        self.laid: dict[Any, Any] | None = {}

    @property
    def factory(self) -> Factory:
        """The factory that this was bound by."""
        return self.spec.factory

    def leaves(self) -> list[Any]:
        """The leaves of all arguments, children in their places."""
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
        finally:
            in_body.reset(token)

    def without_members(self) -> Bound:
        """The same with None in the place of each transformation in it."""
        kept = [None if isinstance(x, Remembered) else x for x in self.children]
        return Bound(self.spec, tuple(kept))

    @property
    def is_step(self) -> bool:
        """Whether what it makes, or a part of it, is a step and not a direction."""
        members = [x for x in self.children if isinstance(x, Remembered)]
        return self.factory.has_learning_rate or any(x.bound.is_step for x in members)

    @property
    def holds_foreign(self) -> bool:
        """Whether a foreign transformation is among the arguments, at any depth."""
        return any(
            x.bound.holds_foreign
            if isinstance(x, Remembered)
            else isinstance(x, optax.GradientTransformation)
            for x in self.leaves()
        )

    @property
    def is_scheduled(self) -> bool:
        """Whether a schedule stands in the place of a number."""
        return bool(self.schedules())

    def schedules(self) -> list[Any]:
        """The schedules in the places of numbers."""
        pairs = zip(self.spec.roles, self.leaves(), strict=True)
        return [leaf for role, leaf in pairs if role.is_schedule(leaf)]

    def at(self, count: Any) -> Bound:
        """The same with every number that a schedule gives evaluated at `count`."""

        def resolve(role: Role, leaf: Any, name: str) -> Any:
            if not (isinstance(role, NumberRole) and role.is_schedule(leaf)):
                return leaf
            value = scheduled(leaf, ahead(count, role.steps_ahead))
            return role.take(value, self.factory.name, name)

        return self.mapped(resolve)

    def mapped(self, function: Callable[[Role, Any, str], Any]) -> Bound:
        """The same with each leaf as `(role, leaf, argument)` gives it."""
        spec, statics, children = self.spec, [], []
        triples = zip(spec.roles, self.leaves(), spec.names, strict=True)
        for role, *leaf in triples:
            new = function(role, *leaf)
            is_child = isinstance(new, Remembered) or role.is_child(new)
            statics.append(CHILD if is_child else new)
            children += [new] * is_child
        made = Spec(spec.factory, spec.treedefs, tuple(statics), spec.roles, spec.names)
        return Bound(made, tuple(children))


class Remembered:
    """What a transformation and a schedule have because they remember their factory."""

    bound: Bound

    @property
    def name(self) -> str:
        """The factory's name."""
        return self.bound.factory.name

    @property
    def arguments(self) -> dict[str, Any]:
        """Each argument by name, as it was given; a decay as its number."""
        factory = self.bound.factory
        given = zip(factory.roles, self.bound.values(), strict=True)
        plain = (
            jax.tree.map(
                functools.partial(_plain, getattr(role, "is_count", False)),
                value,
                is_leaf=lambda x: isinstance(x, DecayValue | Remembered),
            )
            for role, value in given
        )
        return dict(zip(factory.signature.parameters, plain, strict=True))

    def replace(self, **changes: Any) -> typing.Self:
        """The same with some arguments changed, checked as if newly given."""
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
        if type(self) is not type(other) or not isinstance(other, Remembered):
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
    """A number as it was given: a decay without its complement, a count as an int."""
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


def remember(function: Callable, cls: Callable[[Bound], Any]) -> Any:
    """Turn a factory into one whose results are `cls` and remember their arguments."""
    factory = Factory(function, cls)

    @functools.wraps(function)
    def public(*args: Any, **kwargs: Any) -> Any:
        return factory(*args, **kwargs)

    factory.public = public
    public.factory = factory  # pyright: ignore[reportAttributeAccessIssue]
    return public


def register(cls: type[Remembered]) -> None:
    """Register a remembered class as a pytree, its leaves keyed by argument."""

    def flatten_with_keys(it: Any) -> tuple[list, Spec]:
        spec = it.bound.spec
        paths = zip(spec.names, spec.paths(), spec.statics, strict=True)
        keys = [
            jax.tree_util.GetAttrKey(f"{name}{jax.tree_util.keystr(path)}")
            for name, path, static in paths
            if static is CHILD
        ]
        return list(zip(keys, it.bound.children, strict=True)), spec

    jax.tree_util.register_pytree_with_keys(
        cls,
        flatten_with_keys,
        lambda spec, children: cls(Bound(spec, tuple(children))),  # pyright: ignore[reportCallIssue]
        flatten_func=lambda it: (it.bound.children, it.bound.spec),
    )
