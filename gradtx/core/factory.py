"""Factories that remember their arguments.

The factory and its arguments give every transformation and schedule its repr, equality,
hash, pickles, `replace` and pytree registration.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from gradtx.core.arguments import PLAIN, MemberRole, Role, role_of
from gradtx.core.call import CHILD, CallSpec, FactoryCall, FactoryValue, in_body
from gradtx.core.equality import with_dicts
from gradtx.core.errors import did_you_mean
from gradtx.core.stable import stable

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Facts:
    """Declarations of a factory, for tools that show or name transformations.

    Attributes:
        is_part: Whether it is internal to a recipe, whose name errors then use.
        is_sequence: Whether it only chains members, so that names omit it.
        pins: The argument that names its contents, or None.
        lists_numbers: Function that lists its numbers, if the state keeps them.
    """

    is_part: bool = False
    is_sequence: bool = False
    pins: str | None = None
    lists_numbers: Callable[..., Any] | None = None


class Factory:
    """A function that makes transformations or schedules, and its signature.

    Attributes:
        function: The undecorated function.
        cls: The class of its results.
        public: The function that users call; pickles refer to its qualified name.
        facts: Its declarations.
    """

    def __init__(self, function: Callable, cls: Callable[[FactoryCall], Any]):
        self.function, self.cls = function, cls
        self.name = function.__name__
        self.public: Any = None
        self.facts = Facts()

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """The signature for users."""
        return inspect.signature(self.function)

    @functools.cached_property
    def roles(self) -> tuple[Role, ...]:
        """The role of each parameter."""
        hints = typing.get_type_hints(self.function, include_extras=True)
        return tuple(role_of(hints.get(name)) for name in self.signature.parameters)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Check the arguments, and make the result."""
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
        """Make the result from one value for each parameter, all checked."""
        bound = self.bind(values)
        if not in_body.get() and not bound.is_scheduled:
            bound.call()  # for the checks in the body
        return self.cls(bound)

    def bind(self, values: list[Any]) -> FactoryCall:
        """Split one value for each parameter into a spec and children."""
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
            except ValueError as error:  # unsortable keys
                keys = sorted(map(repr, value)) if isinstance(value, Mapping) else value
                message = f"{self.name}: {name} must be a tree, got {keys}: {error}"
                raise TypeError(message) from None
            treedefs.append(treedef)
            roles += [role] * len(leaves)
            names += [name] * len(leaves)
            for leaf in leaves:
                leaf = _frozen(role.bind(leaf, self.name, name))
                if isinstance(leaf, FactoryValue) or role.is_child(leaf):
                    statics.append(CHILD)
                    children.append(leaf)
                else:
                    statics.append(leaf)
        spec = CallSpec(
            self, tuple(treedefs), tuple(statics), tuple(roles), tuple(names)
        )
        return FactoryCall(spec, tuple(children))

    def unknown(self, name: str, near: Sequence[str] = (), more: str = "") -> TypeError:
        """The error for an unknown argument.

        Args:
            name: The argument.
            near: Other names to suggest.
            more: Text about other possible names.
        """
        known = list(self.signature.parameters)
        hint = did_you_mean(name, [*known, *near])
        hint = hint or f"; expected {', '.join(known) or 'none'}{more}"
        return TypeError(f"{self.name}: unexpected argument {name!r}{hint}")

    def __reduce__(self):
        return factory_of, (self.public,)


@stable
def factory_of(public: Any) -> Factory:
    """The factory of a public function; used by pickles of factories."""
    return public.factory


def _is_value(role: Role, value: Any) -> bool:
    return isinstance(value, FactoryValue) or role.is_leaf(value)


def _frozen(leaf: Any) -> Any:
    """The leaf, copied if it is a mutable array."""
    if isinstance(leaf, np.ndarray):
        leaf = leaf.copy()
        leaf.flags.writeable = False
    return leaf


def remember(function: Callable, cls: Callable[[FactoryCall], Any]) -> Any:
    """Turn a function into a factory of `cls`, which remembers its arguments."""
    factory = Factory(function, cls)

    @functools.wraps(function)
    def public(*args: Any, **kwargs: Any) -> Any:
        return factory(*args, **kwargs)

    factory.public = public
    public.factory = factory  # pyright: ignore[reportAttributeAccessIssue]
    return public


def declare(**facts: Any) -> Callable[[T], T]:
    """Decorator, above that of a factory: its declarations, see `Facts`."""

    def declared(public: T) -> T:
        factory: Factory = public.factory  # pyright: ignore[reportAttributeAccessIssue]
        factory.facts = dataclasses.replace(factory.facts, **facts)
        return public

    return declared


def part(public: T) -> T:
    """Decorator, above that of a factory: internal to recipes of gradtx."""
    return stable(declare(is_part=True)(public))


def register_pytree(cls: type[FactoryValue]) -> None:
    """Register a class of results as a pytree, with leaves keyed by argument."""

    def flatten_with_keys(it: Any) -> tuple[list, CallSpec]:
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
        lambda spec, children: cls(FactoryCall(spec, tuple(children))),  # pyright: ignore[reportCallIssue]
        flatten_func=lambda it: (it.bound.children, it.bound.spec),
    )
