"""The context of a rule: the values that it may read, and errors for missing ones."""

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
    """A state of None for a transformation that keeps or counts something."""


def no_state(owner: str, what: str) -> NoStateError:
    """The error for a state of None where something is kept or counted."""
    return NoStateError(f"{owner}: {what}; give the state that init makes, not None")


def no_params(owner: str, *more: str) -> ValueError:
    """The error for missing parameters, with the call to write."""
    call = ", ".join(["updates, state, params", *more])
    return ValueError(f"{owner}: missing parameters; call update({call})")


@stable
@dataclasses.dataclass(frozen=True)
class Private:
    """A private name in a recipe's `let`, which no user's string equals."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class SettleContext:
    """The context of `settle`, besides its measurements and scalars.

    Attributes:
        count: The number of past updates, an int32.
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
    """The context of a rule, besides the update and its slots.

    Attributes:
        owner: The name of the transformation, for messages.
        grad: The update that entered the enclosing `moments`; without one, the input
            of the rule.
        flowing: In an estimator, the update to divide; elsewhere the same as `grad`.
        marks: The values named by enclosing `let`s.
        clock: The number of past updates, an int32; None without a state.
        total: The rule's measurements, summed over the tree.
        shared: The rule's whole-tree scalars, settled for this update.
        before: The scalars before this update.
        key: A PRNG key (raw uint32) for this leaf and update, if the rule has one.
        extra: The extra arguments that the rule needs.
        static: The static value of this leaf, if the rule has them.
        array: The parameter, or None; see `param`.

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
        """The number of past updates, an int32."""
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
        """The value that an enclosing `let` has named."""
        if name not in self.marks:
            raise ValueError(
                f"{self.owner}: expected a let of {str(name)!r} around it, got none"
            )
        return self.marks[name]

    @property
    def path(self) -> str:
        """The path of the leaf, for messages; leaves with one kernel share a path."""
        return current_path.get(lambda: "?")()


def refuse_complex(u: Any, leaf: Leaf) -> None:
    """Raise `TypeError` if the update is complex, for rules that compare numbers."""
    if jnp.iscomplexobj(u):
        raise TypeError(
            f"{leaf.owner}: complex numbers have no order, "
            f"but the update at {leaf.path!r} is {u.dtype}"
        )


@dataclasses.dataclass(frozen=True)
class Tree:
    """The context of a tree rule, besides the updates.

    Attributes:
        params: The parameters that it updates, None elsewhere; None without parameters.
        own: `params`, and parameters of its leaves without an update.
        whole: All parameters, for calls of a function of them.
        grad: The update that entered the enclosing `moments`.
        count: The number of past updates.
        extra: The extra arguments of `update`.
        is_skipped: Whether this update is skipped; False unless the rule `waits`.

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
        """Parameters, with None replaced by those that the rule does not update."""

        def one(mine: Any, whole: Any) -> Any:
            return whole if mine is None else mine

        return jax.tree.map(one, params, self.whole, is_leaf=is_none)

    def at(self, own: Any) -> Tree:
        """The context with other `own` parameters."""
        params = jax.tree.map(
            lambda p, o: None if p is None else o, self.params, own, is_leaf=is_none
        )
        return dataclasses.replace(self, params=params, own=own, whole=self.filled(own))
