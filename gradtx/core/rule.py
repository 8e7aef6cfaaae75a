"""Rules: a primitive for one array, or for a whole tree.

A rule contains no tree map, no counter, no cast and no `None` check; the engine lifts
it.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any

from jax import numpy as jnp

from gradtx.core.arithmetic import abs2
from gradtx.core.context import Leaf, SettleContext, Tree
from gradtx.core.errors import short_repr
from gradtx.core.prng import key_of_leaf


class _Defaults:
    """What an operation has that does not say otherwise."""

    slots: Mapping[str, Callable[[Any], Any]] = types.MappingProxyType({})
    shared: Mapping[str, Callable[[Any], Any]] = types.MappingProxyType({})
    measure: Callable[..., Any] | None = None
    settle: Callable[[Any, Any, Any], Any] | None = None
    needs: tuple[str, ...] = ()
    key: Any = None
    static: Callable[[Any], Any] | None = None
    evaluate: Callable[..., Any] | None = None
    inner: Mapping[str, Any] = types.MappingProxyType({})
    in_optax: Mapping[str, str | None] = types.MappingProxyType({})
    clock: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node(_Defaults):
    """What a rule declares of itself, for others to know.

    Attributes:
        is_step: Whether an update leaves it, and no longer a direction. A tree rule is
            one, too, if what is inside makes a step.
        factor: The number that it multiplies by, if it does no more.
        passes: Whether updates leave as they came.
        is_lenient: Whether it averages parameters, and still others may change updates
            behind it, as in optax, if they do no more than that: no step, no factor.
        freezes: Whether its leaves get zeros, and nothing else acts on them.
        takes_batch: Whether it takes an axis of examples in front away.
        takes_integers: Whether leaves of integers go through it, in their dtype.
        period: The whole number that it takes the count modulo, if it does.
        sees_entry: Whether `leaf.recall("entered")` gives what entered `update`.
        recovered: The `Weight`s of averages that it looks at, by scalar, kept or not.
        is_of_input: Whether keys of scalars begin as the slot that flows in: `mu_...`.
        only_here: The slots that are kept to be read, and that optax does not have.
        is_cyclic_in_optax: Whether optax's count is one modulo its period.
    """

    is_step: bool = False
    factor: Any = None
    passes: bool = False
    is_lenient: bool = False
    freezes: bool = False
    takes_batch: bool = False
    takes_integers: bool = False
    period: Any = None
    sees_entry: bool = False
    recovered: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    is_of_input: bool = False
    only_here: Collection[str] = ()
    is_cyclic_in_optax: bool = False


@dataclasses.dataclass(frozen=True)
class Rule(Node):
    """A gradient transformation of one array; what else it declares, see `Node`.

    Attributes:
        update: `(u, slots, leaf) -> (u, slots)`, u in at least float32.
        slots: For each slot its first value, `(array as it arrives) -> array or None`.
        measure: `(u, slots, leaf) -> scalars`, summed over its leaves: `leaf.total`.
        shared: For each whole-tree scalar its first value, `(arrays) -> scalar`.
        settle: `(total, shared, step) -> shared`, once an update, after measuring.
        needs: Extra arguments of `update` that `leaf.extra` must hold.
        key: A seed or a PRNG key: `leaf.key` is `key_of(key of this update, index)`.
        key_of: As optax splits keys, if not given.
        out: What flows out, given what flows in, in shape and dtype.
        static: `(params) -> tree` of `leaf.static`, also given to `slots` and `out`.
        evaluate: `(param, slots, shared) -> param`, the average to evaluate with, if it
            averages the parameters: nothing may change updates behind it.
    """

    update: Callable[[Any, Any, Leaf], tuple[Any, Any]]
    slots: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)
    measure: Callable[[Any, Any, Leaf], Any] | None = None
    shared: Mapping[str, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)
    settle: Callable[[Any, Any, SettleContext], Any] | None = None
    needs: tuple[str, ...] = ()
    key: Any = None
    key_of: Callable[[Any, Any], Any] = key_of_leaf
    out: Callable[..., Any] = lambda array, static=None: array
    static: Callable[[Any], Any] | None = None
    evaluate: Callable[[Any, Any, Any], Any] | None = None


def memoryless(update: Callable[[Any, Leaf], Any], **more: Any) -> Rule:
    """A rule without slots, from `(u, leaf) -> u`."""
    return Rule(lambda u, slots, leaf: (update(u, leaf), slots), **more)


@dataclasses.dataclass(frozen=True)
class TreeRule(Node):
    """A gradient transformation that truly needs the tree; for the rest see `Node`.

    Attributes:
        update: `(updates, slots, tree) -> (updates, slots)`, where `tree` has `params`
            (or None), `grad`, `count` and the extra arguments as `extra`.
        slots: For each slot its first value, `(params) -> pytree`.
        needs: Extra arguments of `update` that must be given.
        takes: Extra arguments that it knows, given or not; "**" for any.
        evaluate: `(params, slots) -> params`, what to evaluate with in their place; if
            None, as the inner transformations say.
        inner: For each slot that is the whole state of a transformation, which one.
        waits: Whether it leaves its slots as they are where `tree.is_skipped` is true.
            Else it is run under a condition, which XLA may copy its slots for.
        in_optax: The fields of optax's state that slots are, where names differ; None
            for the one that is the whole of optax's state.
        clock: The slot with the count that schedules of its own arguments see.
    """

    update: Callable[[Any, Any, Tree], tuple[Any, Any]]
    slots: Mapping[str, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    evaluate: Callable[[Any, Any], Any] | None = None
    inner: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    waits: bool = False
    in_optax: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    clock: str | None = None


def both(given: Any, owner: str) -> Any:
    """What leaves a rule and what it keeps, or an error."""
    if type(given) is tuple and len(given) == 2 and isinstance(given[1], Mapping):
        return given
    raise TypeError(
        f"{owner}: update must give (update, slots), got {short_repr(given)}"
    )


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
