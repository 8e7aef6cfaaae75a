"""What a primitive is written as: a rule for one array, or one for a whole tree.

A rule contains no tree map, no counter, no cast and no `None` check; the engine lifts
it.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.arithmetic import abs2
from gradtx.errors import current_path, told
from gradtx.numbers import as_weak
from gradtx.stable import stable

Slots = Mapping[str, Any]


class Node:
    """What is written as an operation has, unless it says otherwise."""

    slots: Mapping[str, Callable[[Any], Any]] = types.MappingProxyType({})
    shared: Mapping[str, Callable[[Any], Any]] = types.MappingProxyType({})
    measure: Callable[..., Any] | None = None
    settle: Callable[[Any, Any, Any], Any] | None = None
    needs: tuple[str, ...] = ()
    key: Any = None
    takes_batch: bool = False
    setting: Callable[[Any], Any] | None = None
    evaluate: Callable[..., Any] | None = None
    freezes: bool = False
    sees_entry: bool = False
    takes_integers: bool = False
    period: Any = None
    inner: Mapping[str, Any] = types.MappingProxyType({})
    recovered: Mapping[str, Any] = types.MappingProxyType({})
    is_of_input: bool = False
    in_optax: Mapping[str, str | None] = types.MappingProxyType({})


def key_of_leaf(key: Any, index: Any) -> Any:
    """The key of one leaf at one update, as optax splits it.

    `split(key, n)[i]` is `fold_in(key, i)`: the state goes on with the key of 0, the
    leaves share that of 1.
    """
    return jax.random.fold_in(jax.random.fold_in(key, 1), index)


@dataclasses.dataclass(frozen=True)
class Rule(Node):
    """A gradient transformation of one array.

    Attributes:
        update: `(u, slots, leaf) -> (u, slots)`, u in at least float32.
        slots: For each slot its first value, `(array as it arrives) -> array or None`.
        measure: `(u, slots, leaf) -> scalars`, summed over its leaves: `leaf.total`.
        shared: For each whole-tree scalar its first value, `(arrays) -> scalar`.
        settle: `(total, shared, step) -> shared`, once an update, after measuring.
        needs: Extra arguments of `update` that `leaf.extra` must hold.
        key: A seed or a PRNG key: `leaf.key` is `key_of(key of this update, index)`.
        out: What flows out, given what flows in, in shape and dtype.
        takes_batch: Whether it takes an axis of examples in front away.
        setting: `(params) -> tree` of `leaf.setting`, also given to `slots` and `out`.
        evaluate: `(param, slots, shared) -> param`, what to evaluate with in its place.
        freezes: Whether its leaves get zeros, and nothing else acts on them.
        sees_entry: Whether `leaf.recall("entered")` gives what entered `update`.
        recovered: The `Weight`s of averages that it looks at, by scalar, kept or not.
        takes_integers: Whether leaves of integers go through it, in their dtype.
        period: The whole number that it takes the count modulo, if it does.
        is_of_input: Whether keys of scalars begin as the slot that flows in: `mu_...`.
    """

    update: Callable[[Any, Any, Leaf], tuple[Any, Any]]
    slots: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)
    measure: Callable[[Any, Any, Leaf], Any] | None = None
    shared: Mapping[str, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)
    settle: Callable[[Any, Any, Step], Any] | None = None
    needs: tuple[str, ...] = ()
    key: Any = None
    key_of: Callable[[Any, Any], Any] = key_of_leaf
    out: Callable[..., Any] = lambda array, setting=None: array
    takes_batch: bool = False
    setting: Callable[[Any], Any] | None = None
    evaluate: Callable[[Any, Any, Any], Any] | None = None
    freezes: bool = False
    sees_entry: bool = False
    recovered: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    takes_integers: bool = False
    period: Any = None
    is_of_input: bool = False


def memoryless(update: Callable[[Any, Leaf], Any], **more: Any) -> Rule:
    """A rule without slots, from `(u, leaf) -> u`."""
    return Rule(lambda u, slots, leaf: (update(u, leaf), slots), **more)


@dataclasses.dataclass(frozen=True)
class TreeRule(Node):
    """A gradient transformation that truly needs the tree.

    Attributes:
        update: `(updates, slots, tree) -> (updates, slots)`, where `tree` has `params`
            (or None), `grad`, `count` and the extra arguments as `extra`.
        slots: For each slot its first value, `(params) -> pytree`.
        needs: Extra arguments of `update` that must be given.
        takes: Extra arguments that it knows, given or not; "**" for any.
        evaluate: `(params, slots) -> params`, what to evaluate with in their place; if
            None, as the inner transformations say.
        is_step: Whether it takes a learning rate, which its arguments do not show.
        inner: For each slot that is the whole state of a transformation, which one.
        waits: Whether it leaves its slots as they are where `tree.is_skipped` is true.
            Else it is run under a condition, which XLA may copy its slots for.
        takes_batch: Whether it, or what is inside, takes an axis of examples away.
        in_optax: The fields of optax's state that slots are, where names differ; None
            for the one that is the whole of optax's state.
        takes_integers: Whether leaves of integers go into it: what is inside checks.
        period: As of a `Rule`.
    """

    update: Callable[[Any, Any, Tree], tuple[Any, Any]]
    slots: Mapping[str, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    evaluate: Callable[[Any, Any], Any] | None = None
    is_step: bool = False
    inner: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    waits: bool = False
    takes_batch: bool = False
    in_optax: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    takes_integers: bool = False
    period: Any = None


@dataclasses.dataclass(frozen=True)
class Tree:
    """What a tree rule may look at beside the updates.

    Attributes:
        params: The parameters that it updates, None elsewhere; None without any.
        own: Also those of its leaves that have no update.
        whole: All parameters, for what calls a function of them.
        grad: The update that entered the enclosing `moments`.
        count: How many updates there were before.
        extra: The extra arguments of `update`.
        is_skipped: A bool, whether this update is; always False for what does not wait.
    """

    params: Any
    own: Any
    whole: Any
    grad: Any
    count: jax.Array
    extra: Mapping[str, Any]
    is_skipped: Any = False

    def filled(self, params: Any) -> Any:
        """Parameters, with those that it does not update in the places of None."""

        def one(mine: Any, whole: Any) -> Any:
            return whole if mine is None else mine

        return jax.tree.map(one, params, self.whole, is_leaf=_is_none)

    def at(self, own: Any) -> Tree:
        """The same where its own parameters are others."""
        params = jax.tree.map(
            lambda p, o: None if p is None else o, self.params, own, is_leaf=_is_none
        )
        return dataclasses.replace(self, params=params, own=own, whole=self.filled(own))


def _is_none(x: Any) -> bool:
    return x is None


def both(given: Any, owner: str) -> Any:
    """What leaves a rule and what it keeps, or an error."""
    if type(given) is tuple and len(given) == 2 and isinstance(given[1], Mapping):
        return given
    raise TypeError(f"{owner}: update must give (update, slots), got {told(given)}")


class NoStateError(ValueError):
    """There is no state, where something is kept or counted."""


def no_state(owner: str, what: str) -> NoStateError:
    """The error for None as the state of what keeps or counts something."""
    return NoStateError(f"{owner}: {what}; give the state that init makes, not None")


@stable
@dataclasses.dataclass(frozen=True)
class Private:
    """A name that a recipe lets for itself: no string of a user's equals it."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class Step:
    """What `settle` may look at beside what was measured and kept.

    Attributes:
        count: The number of updates before this one, an int32.
        extra: The extra arguments that the rule needs.
    """

    count: Any
    extra: Slots

    @property
    def t(self) -> Any:
        """The number of this update, from 1, as a weakly typed float scalar."""
        return as_weak(self.count) + 1


@dataclasses.dataclass(frozen=True)
class Leaf:
    """What a rule may look at beside the update and its slots.

    Attributes:
        owner: The name of the transformation, for messages.
        grad: The update that entered the enclosing `moments`; outside one, the update
            that reaches the rule.
        flowing: In an estimator, the update that flows past it; elsewhere as `grad`.
        marks: What the enclosing `let`s gave names to.
        clock: The number of updates before this one, an int32; None without a state.
        total: What the rule measured, summed over the tree.
        shared: The rule's whole-tree scalars, settled for this update.
        before: The same as they were before this update.
        key: A PRNG key (raw uint32) for this leaf and update, if the rule has one.
        extra: The extra arguments that the rule needs.
        setting: The leaf's, if the rule has one for each.
    """

    owner: str
    grad: Any
    flowing: Any
    marks: Mapping[Any, Any]
    clock: Any
    total: Any
    shared: Slots
    before: Slots
    key: Any
    extra: Slots
    setting: Any
    array: Any

    @property
    def count(self) -> Any:
        """The number of updates before this one, an int32."""
        if self.clock is None:
            raise no_state(self.owner, "counts updates")
        return self.clock

    @property
    def t(self) -> Any:
        """The number of this update, from 1, as a weakly typed float scalar."""
        return as_weak(self.count) + 1

    @property
    def param(self) -> Any:
        """The parameter, in the precision of the update."""
        if self.array is None:
            call = "call update(updates, state, params)"
            raise ValueError(f"{self.owner}: needs the parameters; {call}")
        return self.array

    def recall(self, name: str | Private) -> Any:
        """What an enclosing `let` has under a name."""
        if name not in self.marks:
            raise ValueError(f"{self.owner}: nothing around it lets {str(name)!r}")
        return self.marks[name]

    @property
    def path(self) -> str:
        """Where the leaf is, for messages: leaves that share a kernel share a path."""
        return current_path.get(lambda: "?")()


def squared_norm(u: Any, slots: Any, leaf: Leaf) -> Any:
    """Measures the squared norm of the update."""
    return jnp.sum(abs2(u))


def unchanged(array: Any) -> Any:
    """The first value of a slot that keeps the first parameters."""
    return array


def real_zeros(array: Any) -> Any:
    """The first value of a slot for sizes of a complex array's elements, too."""
    return jnp.zeros_like(array.real)


def zero(arrays: Any) -> Any:
    """The first value of a sum over the tree."""
    return jnp.zeros(())


def refuse_complex(u: Any, leaf: Leaf) -> None:
    """Raise `TypeError` if the update is complex, for rules that order numbers."""
    if jnp.iscomplexobj(u):
        raise TypeError(
            f"{leaf.owner}: complex numbers have no order, "
            f"but the update at {leaf.path!r} is {u.dtype}"
        )
