"""Configs: transformations and schedules as plain dicts, and back."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from gradtx.core.arguments import PLAIN
from gradtx.core.call import FactoryValue
from gradtx.core.context import Private
from gradtx.core.errors import did_you_mean, short_repr
from gradtx.core.factory import Factory
from gradtx.core.numbers import is_concrete
from gradtx.core.stable import DEFINED, is_public

T = TypeVar("T", bound=Callable[..., Any])

REGISTERED: dict[str, Any] = {}
"""Functions registered by users, by name."""
TAGS = ("type", "tuple", "array", "pairs", "function", "partial", "private")
"""First keys of dicts that encode other objects."""


def register(function: T) -> T:
    """Register your own factory, or a function such as a mask, for use in configs.

    A decorator, to put above `@gradtx.transformation` or `@gradtx.schedule`. Defining
    the same function again, as in a notebook, replaces it.

    Args:
        function: A factory, or a function to name in configs.

    Raises:
        TypeError: It is not a function, or it is a lambda.
        ValueError: The name belongs to gradtx or to another function.

    Examples:
        >>> @gradtx.register
        ... def matrices(params):
        ...     return jax.tree.map(lambda p: p.ndim == 2, params)
        >>> tx = gradtx.adamw(0.1, mask=matrices)
        >>> gradtx.from_config(gradtx.to_config(tx)) == tx
        True
    """
    name = _name_of(function)
    if not inspect.isfunction(function) or name == "<lambda>":
        raise TypeError(
            f"register: expected a function that has a name, got {short_repr(function)}"
        )
    before = REGISTERED.get(name, function)
    is_again = _origin(before) == _origin(function) and "<" not in _origin(function)[1]
    if is_public(name) or not (before is function or is_again):
        raise ValueError(f"register: the name {name!r} is taken")
    REGISTERED[name] = function
    return function  # pyright: ignore[reportReturnType]


def _origin(function: Any) -> tuple[str, str]:
    """Where a function is defined. With a `<` in it, the place may not be unique."""
    return (
        getattr(function, "__module__", ""),
        getattr(function, "__qualname__", "<unknown>"),
    )


def to_config(made: Any) -> dict[str, Any]:
    """Convert a transformation or a schedule to a plain dict: its name and arguments.

    `{"type": "adamw", "learning_rate": {"type": "constant_schedule", "value": 0.1},
    "b1": 0.9, ...}`. Contains only dicts, lists, strings, numbers, bools and None.

    Args:
        made: A transformation, or a schedule.

    Raises:
        TypeError: An argument cannot be converted: it is foreign, a function that is
            not registered, or a traced array.

    Examples:
        >>> tx = gradtx.chain(gradtx.clip(1.0), gradtx.scale(-0.5))
        >>> gradtx.to_config(tx)["transforms"][0]
        {'type': 'clip', 'max_delta': 1.0}
    """
    if not isinstance(made, FactoryValue):
        raise TypeError(
            f"to_config: expected a value of gradtx's factories, got {short_repr(made)}"
        )
    factory = made.bound.factory
    if _known().get(factory.name) is not factory.public:
        raise TypeError(
            f"to_config: {factory.name} is not known by its name; decorate it with "
            f"@gradtx.register"
        )
    config: dict[str, Any] = {"type": factory.name}
    given = zip(made.arguments.items(), factory.roles, strict=True)
    for (name, value), role in given:
        is_tuple = type(value) is tuple and role is not PLAIN  # numbers or members
        whole = list(value) if is_tuple else value
        config[name] = _plain(whole, f"{factory.name}: {name}")
    return config


def _plain(value: Any, place: str) -> Any:
    if isinstance(value, FactoryValue):
        return to_config(value)
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, Private):
        return {"private": value.name}
    if hasattr(value, "dtype") and is_concrete(value):
        array = np.asarray(value)
        return {"array": array.tolist(), "dtype": array.dtype.name}
    if type(value) in (tuple, list):
        items = [_plain(x, f"{place}[{i}]") for i, x in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if type(value) is dict:
        plain = {key: _plain(x, f"{place}[{key!r}]") for key, x in value.items()}
        is_plain = all(isinstance(key, str) and key not in TAGS for key in plain)
        return plain if is_plain else {"pairs": [list(it) for it in plain.items()]}
    if isinstance(value, functools.partial):
        parts = {"args": [*value.args], "kwargs": value.keywords}
        plain = {key: _plain(it, f"{place}.{key}") for key, it in parts.items()}
        return {"partial": _plain(value.func, place), **plain}
    if _known().get(_name_of(value)) is value:
        return {"function": _name_of(value)}
    hint = "; decorate it with @gradtx.register" if inspect.isfunction(value) else ""
    raise TypeError(
        f"to_config: {place} is {short_repr(value)}, which no config holds{hint}"
    )


def from_config(config: Mapping[str, Any]) -> Any:
    """Make a transformation or schedule from a config, the inverse of `to_config`.

    A config may be written by hand. Missing arguments have their defaults.

    Args:
        config: A dict: `type`, and arguments by name.

    Raises:
        ValueError: An unknown name; the error suggests a similar one.
        TypeError: An argument is unknown, missing, or of a wrong type.

    Examples:
        >>> rate = {"type": "linear_schedule", "init_value": 0.5, "end_value": 0.0,
        ...     "transition_steps": 100}
        >>> tx = gradtx.from_config({"type": "sgd", "learning_rate": rate})
        >>> tx == gradtx.sgd(gradtx.linear_schedule(0.5, 0.0, 100))
        True
    """
    return _built(config, "")


def _built(config: Any, place: str) -> Any:
    """The object of a config; errors name its place in the whole config."""
    given = dict(config) if isinstance(config, Mapping) else {}
    name, args = given.pop("type", None), []
    kwargs = {key: _made(value, f"{place}/{key}") for key, value in given.items()}
    try:
        if not isinstance(name, str):
            raise TypeError(
                "from_config: expected a dict with the name of a factory as its "
                f"'type', got {short_repr(config)}"
            )
        factory = _find(name)
        if not isinstance(getattr(factory, "factory", None), Factory):
            raise ValueError(f"from_config: {name!r} is no factory")
        for key, parameter in inspect.signature(factory).parameters.items():
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL and key in kwargs:
                args = kwargs.pop(key)
                if not isinstance(args, list | tuple):
                    raise TypeError(
                        f"from_config: {key} of {name!r} must be a list, "
                        f"got {short_repr(args)}"
                    )
        return factory(*args, **kwargs)
    except (TypeError, ValueError) as error:
        error.add_note(f"in the config, at {place.lstrip('/') or '<root>'!r}")
        raise


def _made(value: Any, place: str) -> Any:
    """The object of a part of a config."""
    if isinstance(value, list):
        return [_made(x, f"{place}/{i}") for i, x in enumerate(value)]
    match value:
        case {"type": str()}:
            return _built(value, place)
        case {"tuple": list(items), **rest} if not rest:
            return tuple(_made(items, place))
        case {"pairs": list(items), **rest} if not rest:
            return {key: _made(x, f"{place}/{key}") for key, x in items}
        case {"array": items, "dtype": str(name), **rest} if not rest:
            return np.asarray(items, name)[()]
        case {"function": str(name), **rest} if not rest:
            return _find(name)
        case {"private": str(name), **rest} if not rest:
            return Private(name)
        case {"partial": function, "args": list(args), "kwargs": Mapping() as kwargs}:
            made = (_made(x, place) for x in (function, args, kwargs))
            return functools.partial(next(made), *next(made), **next(made))
        case Mapping():
            return {key: _made(x, f"{place}/{key}") for key, x in value.items()}
    return value


def _find(name: str) -> Any:
    known = _known()
    if name not in known:
        near = did_you_mean(name, known)
        raise ValueError(f"from_config: unknown name {name!r}{near}")
    return known[name]


def _known() -> dict[str, Any]:
    return {**DEFINED, **REGISTERED}


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", repr(function))
