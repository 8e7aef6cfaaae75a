"""Arguments of factories: their kinds, from annotations, and their checks.

A factory annotates its numbers (`b1: Decay`, `eps: NonNegative`), also inside a tuple
or a dict (`weights: Sequence[Scalar]`), its member transformations and its dtypes.
Only declared numbers become traced leaves; nothing is guessed from the value.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import operator
import types
import typing
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

from gradtx.core.errors import short_repr
from gradtx.core.members import (
    AbsentMember,
    hint_for_member,
    is_member,
    member_of,
)
from gradtx.core.numbers import DecayValue, is_concrete, is_number
from gradtx.core.prng import is_key


@dataclasses.dataclass(frozen=True)
class Role:
    """A plain argument of any type, which is static.

    Attributes:
        is_optional: Whether None is allowed.
    """

    is_optional: bool = dataclasses.field(default=True, kw_only=True)

    def is_leaf(self, value: Any) -> bool:
        """Whether a part of the argument is one value, in addition to JAX's leaves."""
        return isinstance(value, optax.GradientTransformation)

    def is_child(self, value: Any) -> bool:
        """Whether JAX may trace, stack and differentiate the value."""
        return False

    def is_schedule(self, value: Any) -> bool:
        """Whether the value is a schedule instead of a number."""
        return False

    def bind(self, value: Any, owner: str, argument: str) -> Any:
        """Check a value, and convert it to the stored form."""
        return value

    def check_none(self, owner: str, argument: str) -> None:
        """Raise for a None that is not allowed."""
        if not self.is_optional:
            self.bind(None, owner, argument)

    def check_whole(self, value: Any, owner: str, argument: str) -> None:
        """Raise if a whole argument does not fit its annotation."""


@dataclasses.dataclass(frozen=True)
class DTypeRole(Role):
    """A dtype of floats: "bfloat16" and jnp.bfloat16 are equal."""

    def bind(self, value: Any, owner: str, argument: str) -> Any:
        """The dtype as NumPy's."""
        with contextlib.suppress(TypeError):
            if jnp.issubdtype(dtype := jnp.dtype(value), jnp.inexact):
                return dtype
        raise TypeError(f"{owner}: {argument} must be a dtype of floats, got {value!r}")


@dataclasses.dataclass(frozen=True)
class WordRole(Role):
    """One of a few words, declared by `Literal`."""

    choices: tuple[Any, ...]
    is_optional: bool = dataclasses.field(default=False, kw_only=True)

    def bind(self, value: Any, owner: str, argument: str) -> Any:
        """The word; raise for others, with a list of the words."""
        if value in self.choices:
            return value
        words = " or ".join(map(repr, self.choices))
        raise ValueError(f"{owner}: {argument} must be {words}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class BoolRole(Role):
    """True or False."""

    def is_leaf(self, value: Any) -> bool:
        """Always true: any argument is one value."""
        return True

    def bind(self, value: Any, owner: str, argument: str) -> Any:
        """The bool; raise for other types."""
        is_scalar = is_concrete(value) and np.ndim(value) == 0
        if is_scalar and not isinstance(value, str) and value in (0, 1):
            return bool(value)
        raise TypeError(f"{owner}: {argument} must be True or False, got {value!r}")


@dataclasses.dataclass(frozen=True)
class KeyRole(Role):
    """A seed, or a PRNG key, typed or raw."""

    def is_child(self, value: Any) -> bool:
        """True for a key, which is data; a seed is a constant of the program."""
        return hasattr(value, "dtype")

    def bind(self, value: Any, owner: str, argument: str) -> Any:
        """The seed unchanged, a key as a raw key."""
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        key: Any = jax.random.key_data(value) if is_key(value) else value
        looks: tuple[Any, Any] = getattr(key, "ndim", None), getattr(key, "dtype", None)
        if looks[0] == 0 and jnp.issubdtype(looks[1], jnp.integer):
            return int(key) if is_concrete(key) else key
        if looks != (1, np.uint32):
            must = "a seed or a PRNG key"
            raise TypeError(
                f"{owner}: {argument} must be {must}, got {short_repr(value)}"
            )
        return np.asarray(key) if is_concrete(key) else key


@dataclasses.dataclass(frozen=True)
class SizeRole(Role):
    """A positive int that fixes shapes."""

    is_optional: bool = dataclasses.field(default=False, kw_only=True)

    def is_leaf(self, value: Any) -> bool:
        """Always true: any argument is one value."""
        return True

    def bind(self, value: Any, owner: str, argument: str) -> Any:
        """The size as an int."""
        if callable(value):
            raise TypeError(
                f"{owner}: {argument} must be an int, not a schedule, got {value!r}"
            )
        with contextlib.suppress(TypeError):
            if (size := operator.index(value)) >= 1:
                return size
            raise ValueError(f"{owner}: {argument} must be at least 1, got {size}")
        raise TypeError(f"{owner}: {argument} must be an int, got {value!r}")


@dataclasses.dataclass(frozen=True)
class MemberRole(Role):
    """A gradient transformation, ours or foreign."""

    is_optional: bool = dataclasses.field(default=False, kw_only=True)

    def is_leaf(self, value: Any) -> bool:
        """True for None too, which `bind` then rejects."""
        return value is None or isinstance(value, AbsentMember) or is_member(value)

    def bind(self, value: Any, owner: str, argument: str) -> Any:
        """The transformation; raise for other types."""
        if isinstance(value, AbsentMember):
            return value
        if is_member(value):
            return member_of(value)
        raise TypeError(
            f"{owner}: {argument} must be gradient transformations, "
            f"got {short_repr(value)}{hint_for_member(value)}"
        )


@dataclasses.dataclass(frozen=True)
class NumberRole(Role):
    """A number, or a schedule of it.

    Attributes:
        words: The range in words.
        low: The smallest number, excluded if `is_open`.
        high: The largest number, excluded if the number is a decay.
        is_open: Whether `low` is excluded.
        is_decay: Whether rules need the complement.
        takes_schedule: Whether a schedule is allowed.
        is_count: Whether it is a number of steps, shown without a decimal point.
        is_whole: Whether it has no fraction.
        is_container: Whether the argument is a container of such numbers.
        keeps_schedule: Whether the rule gets a schedule itself, to evaluate it.
        steps_ahead: The count of its schedule minus the count of other schedules.
        choices: Words that are allowed besides or instead of numbers.
        kinds: The kinds of a container's parts, if their number is fixed.
    """

    words: str = "a number"
    low: float = -math.inf
    high: float = math.inf
    is_open: bool = False
    is_decay: bool = False
    takes_schedule: bool = True
    is_count: bool = False
    is_whole: bool = False
    is_optional: bool = dataclasses.field(default=False, kw_only=True)
    is_container: bool = False
    keeps_schedule: bool = False
    steps_ahead: int = 0
    choices: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def is_child(self, value: Any) -> bool:
        """True for numbers."""
        return is_number(value)

    def is_schedule(self, value: Any) -> bool:
        """True for all but numbers and the words."""
        is_number_or_word = is_number(value) or value in self.choices
        return not (self.keeps_schedule or is_number_or_word)

    def is_leaf(self, value: Any) -> bool:
        """False for containers of numbers, if the annotation is a container."""
        return not (self.is_container and isinstance(value, tuple | list | dict))

    def check_whole(self, value: Any, owner: str, argument: str) -> None:
        """Raise unless a container has the annotated type and length."""
        is_one = is_number(value) and np.ndim(value) == 0
        if self.is_container and not self.kinds and is_one:
            raise TypeError(
                f"{owner}: {argument} must be a sequence of numbers, got {value!r}"
            )
        if self.kinds and value is not None:
            parts = value if isinstance(value, tuple | list) else ()
            given = tuple("word" if isinstance(x, str) else "number" for x in parts)
            if given != self.kinds:
                kinds = " and a ".join(self.kinds)
                raise TypeError(f"{owner}: {argument} must be a {kinds}, got {value!r}")

    def bind(self, value: Any, owner: str, argument: str) -> Any:
        """The number in its stored form; a schedule unchanged.

        Concrete scalars of jax become NumPy's (for hosts that forbid arrays in a
        transformation), ints become floats (`sgd(1)` equals `sgd(1.0)`).
        """
        if isinstance(value, DecayValue):
            return value if self.is_decay else value.value
        if self.choices and isinstance(value, str):
            if value not in self.choices and not self.is_container:
                words = " or ".join([self.words, *map(repr, self.choices)])
                raise ValueError(f"{owner}: {argument} must be {words}, got {value!r}")
            return WordRole(self.choices).bind(value, owner, argument)
        if not is_number(value):
            self._check_schedule(value, owner, argument)
            return value
        if is_concrete(value):
            if isinstance(value, jax.Array) and value.ndim == 0:
                value = np.asarray(value)[()]
            if not self._admits(np.asarray(value)):
                message = f"{owner}: {argument} must be {self.words}, got {value}"
                raise ValueError(message)
            if isinstance(value, int | np.integer if self.is_count else int):
                value = float(value)
        return self._with_complement(value)

    def take(self, value: Any, owner: str, argument: str) -> Any:
        """The value of a schedule; arrays are not fetched for the check."""
        if not is_number(value):
            raise TypeError(
                f"{owner}: {argument} must be {self.words}, "
                f"but its schedule gave {value!r}"
            )
        if not isinstance(value, jax.Array):
            value = self.bind(value, owner, argument)
        if not self.is_decay:
            return value
        plain = value.value if isinstance(value, DecayValue) else value
        return DecayValue.of(plain, changes=True)

    def _with_complement(self, value: Any) -> Any:
        return DecayValue.of(value) if self.is_decay else value

    def _admits(self, value: np.ndarray) -> bool:
        """Whether every element is in the range; false for NaN."""
        above = value > self.low if self.is_open else value >= self.low
        below = value < self.high if self.is_decay else value <= self.high
        is_whole = value == np.round(value) if self.is_whole else True
        return bool(np.all(above & below & is_whole))

    def _check_schedule(self, value: Any, owner: str, argument: str) -> None:
        if not callable(value):
            kinds = "a number or a schedule" if self.takes_schedule else "a number"
            raise TypeError(
                f"{owner}: {argument} must be {kinds}, got {short_repr(value)}"
            )
        if not self.takes_schedule:
            raise TypeError(
                f"{owner}: {argument} must be a number, not a schedule, got {value!r}"
            )


@dataclasses.dataclass(frozen=True)
class ScheduleRole(Role):
    """A schedule as part of another schedule, not evaluated."""

    def is_leaf(self, value: Any) -> bool:
        """False for containers of schedules, true for all else."""
        return not isinstance(value, tuple | list)

    def bind(self, value: Any, owner: str, argument: str) -> Any:
        """The schedule; raise for other types."""
        if callable(value):
            return value
        raise TypeError(f"{owner}: {argument} must be a schedule, got {value!r}")


PLAIN = Role()
FIXED = object()
"""Marks an annotation of a number that takes no schedule."""


def role_of(annotation: Any) -> Role:
    """The role declared by an annotation, at any depth."""
    for item in getattr(annotation, "__metadata__", ()):
        if isinstance(item, NumberRole) and FIXED in annotation.__metadata__:
            return dataclasses.replace(item, takes_schedule=False)
        if isinstance(item, Role):
            return item
    if annotation is bool:
        return BoolRole()
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return WordRole(parts)
    roles = {type(role): role for role in map(role_of, parts)}
    for role in roles.values():
        if isinstance(role, MemberRole | SizeRole) and type(None) in parts:
            return dataclasses.replace(role, is_optional=True)
    if WordRole in roles and type(None) in parts:
        return WordRole((*getattr(roles[WordRole], "choices", ()), None))
    if NumberRole not in roles:
        return next((role for role in roles.values() if role is not PLAIN), PLAIN)
    words = getattr(roles.get(WordRole), "choices", ())
    if origin in (typing.Union, types.UnionType):
        is_optional = type(None) in parts
        return dataclasses.replace(
            roles[NumberRole], is_optional=is_optional, choices=words
        )
    number = dataclasses.replace(roles[NumberRole], is_container=True, choices=words)
    if origin is not tuple or Ellipsis in parts:
        return number
    are_words = [isinstance(role_of(part), WordRole) for part in parts]
    kinds = tuple(("number", "word")[is_word] for is_word in are_words)
    return dataclasses.replace(number, kinds=kinds)
