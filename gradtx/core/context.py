"""The context of a rule: what it may look at, and errors where that is missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.core.errors import current_path
from gradtx.core.numbers import as_weak
from gradtx.core.stable import stable
from gradtx.core.trees import is_none

Slots = Mapping[str, Any]


class NoStateError(ValueError):
    """There is no state, where something is kept or counted."""


def no_state(owner: str, what: str) -> NoStateError:
    """The error for None as the state of what keeps or counts something."""
    return NoStateError(f"{owner}: {what}; give the state that init makes, not None")


def no_params(owner: str, *more: str) -> ValueError:
    """The error for no parameters, where they are needed, with the call to write."""
    call = ", ".join(["updates, state, params", *more])
    return ValueError(f"{owner}: missing parameters; call update({call})")


@stable
@dataclasses.dataclass(frozen=True)
class Private:
    """A name that a recipe lets for itself: no string of a user's equals it."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class SettleContext:
    """What `settle` may look at beside what was measured and kept.

    Attributes:
        count: The number of updates before this one, an int32.
        extra: The extra arguments that the rule needs.

    Examples:
        >>> def settle(total, shared, step):
        ...     return {"scale": shared["scale"] / step.t}
        >>> @gradtx.transformation
        ... def fade():
        ...     return gradtx.memoryless(lambda u, leaf: leaf.shared["scale"] * u,
        ...         shared={"scale": lambda arrays: jnp.ones(())}, settle=settle)
        >>> _, state = fade().update(jnp.array(4.0), fade().init(jnp.zeros(())))
        >>> print(fade().update(jnp.array(4.0), state)[0])
        2.0
    """

    count: Any
    extra: Slots

    @property
    def t(self) -> Any:
        """The number of this update, from 1, as a weakly typed float scalar."""
        return as_weak(self.count) + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
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
        static: The leaf's, if the rule has one for each.
        array: The parameter, or None: see `param`.

    Examples:
        >>> @gradtx.transformation
        ... def look():
        ...     return gradtx.memoryless(lambda u, leaf: leaf.t * u - leaf.param)
        >>> tx, params = look(), jnp.array(1.0)
        >>> updates, state = tx.update(jnp.array(3.0), tx.init(params), params)
        >>> print(updates, tx.update(jnp.array(3.0), state, params)[0])
        2.0 5.0
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
    static: Any
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
            raise no_params(self.owner)
        return self.array

    def recall(self, name: str | Private) -> Any:
        """What an enclosing `let` has under a name."""
        if name not in self.marks:
            raise ValueError(
                f"{self.owner}: expected a let of {str(name)!r} around it, got none"
            )
        return self.marks[name]

    @property
    def path(self) -> str:
        """Where the leaf is, for messages: leaves that share a kernel share a path."""
        return current_path.get(lambda: "?")()


def refuse_complex(u: Any, leaf: Leaf) -> None:
    """Raise `TypeError` if the update is complex, for rules that order numbers."""
    if jnp.iscomplexobj(u):
        raise TypeError(
            f"{leaf.owner}: complex numbers have no order, "
            f"but the update at {leaf.path!r} is {u.dtype}"
        )


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

    Examples:
        >>> def difference(updates, slots, tree):
        ...     return jax.tree.map(jnp.subtract, tree.extra["at"], tree.params), slots
        >>> @gradtx.transformation
        ... def towards():
        ...     return gradtx.TreeRule(difference, needs=("at",))
        >>> tx, params = towards(), jnp.array(1.0)
        >>> print(tx.update(params, tx.init(params), params, at=jnp.array(4.0))[0])
        3.0
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

        return jax.tree.map(one, params, self.whole, is_leaf=is_none)

    def at(self, own: Any) -> Tree:
        """The same where its own parameters are others."""
        params = jax.tree.map(
            lambda p, o: None if p is None else o, self.params, own, is_leaf=is_none
        )
        return dataclasses.replace(self, params=params, own=own, whole=self.filled(own))
