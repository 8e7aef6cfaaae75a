"""Rules: a primitive for one array, or for a whole tree.

A rule contains no tree map, no counter, no cast and no `None` check; the engine lifts
it.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from gradtx.core.arithmetic import abs2
from gradtx.core.context import Leaf, SettleContext, Tree
from gradtx.core.dtypes import holding
from gradtx.core.errors import short_repr
from gradtx.core.prng import key_of_leaf


@dataclasses.dataclass(frozen=True)
class Slot:
    """A tree that a rule keeps, and what others must know of it.

    A bare function among `slots` or `shared` is a slot that declares nothing else.

    Attributes:
        init: Its first value, `(array as it arrives) -> array or None`; with `static`,
            `(array, static)`; of a tree rule `(params) -> pytree`; of a whole-tree
            scalar `(arrays) -> scalar`.
        dtype: The dtype that it is stored in (a complex one stays complex); None: the
            one that `init` gives.
        is_elementwise: Whether it is an array like the one that reaches the rule, or
            None, and each new element depends on those in its place and on whole-tree
            numbers only: then elements may be stored in any encoding.
        is_param: Whether it is a point among the parameters: a copy, an average.
        in_optax: The field of optax's state that it is, if that has another name; also
            `State.field`, or `State.field.key` in a dict, of one type of state.
        is_only_here: Whether it is kept to be read, and optax has no such field.

    Examples:
        >>> @gradtx.transformation
        ... def delayed():
        ...     slot = gradtx.Slot(jnp.zeros_like, dtype="bfloat16")
        ...     return gradtx.Rule(lambda u, old, at: (old["g"], {"g": u}), {"g": slot})
        >>> delayed().init(jnp.zeros(2))["g"].dtype.name
        'bfloat16'
    """

    init: Callable[..., Any]
    _: dataclasses.KW_ONLY
    dtype: Any = None
    is_elementwise: bool = False
    is_param: bool = False
    in_optax: str | None = None
    is_only_here: bool = False

    def __call__(self, *given: Any) -> Any:
        """Its first value, in the dtype that it is stored in."""
        first = self.init(*given)
        return first if self.dtype is None else jax.tree.map(self._stored, first)

    def _stored(self, array: Any) -> Any:
        dtype = holding(array, self.dtype)
        is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
        return jnp.asarray(array if is_complex else array.real).astype(dtype)


def slot_of(owner: str, name: str, given: Any) -> Slot:
    """A slot of the transformation `owner`, as a rule gives it, as a `Slot`.

    Raises:
        TypeError: This is neither a `Slot` nor a function, or its dtype is unknown.
        ValueError: Its declarations contradict one another.
    """
    slot = given if isinstance(given, Slot) else Slot(given)
    if not callable(slot.init) or isinstance(slot.init, type | Slot):
        raise TypeError(
            f"{owner}: slot {name!r} must be a Slot, or a function that makes its "
            f"first value, got {short_repr(slot.init)}"
        )
    if slot.dtype is not None:
        try:
            np.dtype(slot.dtype)
        except TypeError:
            raise TypeError(
                f"{owner}: slot {name!r} must have a dtype or None as its dtype, got "
                f"{short_repr(slot.dtype)}"
            ) from None
    if slot.is_only_here and slot.in_optax is not None:
        raise ValueError(
            f"{owner}: slot {name!r} cannot be both is_only_here=True and "
            f"in_optax={slot.in_optax!r}"
        )
    return slot


def scalar_of(owner: str, name: str, given: Any) -> Slot:
    """The same for a whole-tree scalar, which is no array like a parameter.

    Raises:
        TypeError: As `slot_of`.
        ValueError: As `slot_of`; or it declares to be like a parameter.
    """
    slot = slot_of(owner, name, given)
    if slot.is_elementwise or slot.is_param:
        declared = "is_elementwise" if slot.is_elementwise else "is_param"
        raise ValueError(
            f"{owner}: {name!r} is one scalar of the whole tree, but declares "
            f"{declared}=True"
        )
    return slot


First = Slot | Callable[..., Any]
"""A slot, or only the function that makes its first value."""


class _Defaults:
    """What an operation has that does not say otherwise."""

    slots: Mapping[str, First] = types.MappingProxyType({})
    shared: Mapping[str, First] = types.MappingProxyType({})
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
        takes_batch: Whether it consumes a leading example axis.
        takes_integers: Whether leaves of integers go through it, in their dtype.
        period: The whole number that it takes the count modulo, if it does.
        sees_entry: Whether `leaf.recall("entered")` gives what entered `update`.
        recovered: The `Weight`s of averages that it looks at, by scalar, kept or not.
        is_of_input: Whether keys of scalars begin as the slot that flows in: `mu_...`.
        is_cyclic_in_optax: Whether optax's count is one modulo its period.
        is_exact: Whether it gives the difference to add to the parameter, which must
            not be rounded: it leaves in the precision of rules, at least float32,
            unless a rule behind it changes it.

    Examples:
        >>> @gradtx.transformation
        ... def descend(rate: gradtx.Positive):
        ...     return gradtx.memoryless(lambda u, leaf: -rate * u, is_step=True)
        >>> tx = gradtx.masked(descend(0.5), {"w": True, "b": False})
        >>> grads = {"w": jnp.array(1.0), "b": jnp.array(1.0)}
        >>> jax.tree.map(float, tx.update(grads, tx.init(grads))[0])
        {'b': 0.0, 'w': -0.5}
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
    is_cyclic_in_optax: bool = False
    is_exact: bool = False


def as_it_comes(array: Any, static: Any = None) -> Any:
    """The shape and dtype that flow out of a rule which changes neither."""
    return array


@dataclasses.dataclass(frozen=True)
class Rule(Node):
    """A gradient transformation of one array; what else it declares, see `Node`.

    Attributes:
        update: `(u, slots, leaf) -> (u, slots)`, u in at least float32.
        slots: For each name a `Slot`, or the function that makes its first value.
        measure: `(u, slots, leaf) -> scalars`, summed over its leaves: `leaf.total`.
        shared: For each whole-tree scalar the same, `(arrays) -> scalar`.
        settle: `(total, shared, step) -> shared`, once an update, after measuring.
        needs: Extra arguments of `update` that `leaf.extra` must hold.
        key: A seed or a PRNG key: `leaf.key` is `key_of(key of this update, index)`.
        key_of: As optax splits keys, if not given.
        out: What flows out, given what flows in, in shape and dtype.
        static: `(params) -> tree` of `leaf.static`, also given to `slots` and `out`.
        evaluate: `(param, slots, shared) -> param`, the average to evaluate with, if it
            averages the parameters: nothing may change updates behind it.

    Examples:
        >>> @gradtx.transformation
        ... def average(decay: gradtx.Decay):
        ...     def update(u, slots, leaf):
        ...         mu = decay * slots["mu"] + decay.complement * u
        ...         return mu, {"mu": mu}
        ...     return gradtx.Rule(update, slots={"mu": jnp.zeros_like})
        >>> tx = average(0.5)
        >>> print(tx.update(jnp.array(4.0), tx.init(jnp.zeros(())))[0])
        2.0
    """

    update: Callable[[Any, Any, Leaf], tuple[Any, Any]]
    slots: Mapping[str, First] = dataclasses.field(default_factory=dict)
    measure: Callable[[Any, Any, Leaf], Any] | None = None
    shared: Mapping[str, First] = dataclasses.field(default_factory=dict)
    settle: Callable[[Any, Any, SettleContext], Any] | None = None
    needs: tuple[str, ...] = ()
    key: Any = None
    key_of: Callable[[Any, Any], Any] = key_of_leaf
    out: Callable[..., Any] = as_it_comes
    static: Callable[[Any], Any] | None = None
    evaluate: Callable[[Any, Any, Any], Any] | None = None


def memoryless(update: Callable[[Any, Leaf], Any], **more: Any) -> Rule:
    """A rule without slots, from `(u, leaf) -> u`.

    Args:
        update: The rule, for one array.
        more: What `Rule` declares else, by name.

    Examples:
        >>> @gradtx.transformation
        ... def add_params(factor: gradtx.Scalar):
        ...     return gradtx.memoryless(lambda u, leaf: u + factor * leaf.param)
        >>> tx, params = add_params(0.5), jnp.array([2.0, 4.0])
        >>> print(tx.update(jnp.ones(2), tx.init(params), params)[0])
        [2. 3.]
    """
    return Rule(lambda u, slots, leaf: (update(u, leaf), slots), **more)


@dataclasses.dataclass(frozen=True)
class TreeRule(Node):
    """A gradient transformation that truly needs the tree; for the rest see `Node`.

    Attributes:
        update: `(updates, slots, tree) -> (updates, slots)`, where `tree` has `params`
            (or None), `grad`, `count` and the extra arguments as `extra`.
        slots: For each name a `Slot`, or the function that makes its first value.
        needs: Extra arguments of `update` that must be given.
        takes: Extra arguments that it knows, given or not; "**" for any.
        evaluate: `(params, slots) -> params`, what to evaluate with in their place; if
            None, as the inner transformations say.
        inner: For each slot that is the whole state of a transformation, which one.
        waits: Whether it leaves its slots as they are where `tree.is_skipped` is true.
            Else it is run under a condition, which XLA may copy its slots for.
        in_optax: The fields of optax's state that states inside are, where names
            differ; None for the one that is the whole of optax's state.
        clock: The slot with the count that schedules of its own arguments see.

    Examples:
        >>> def swap(updates, slots, tree):
        ...     return {"a": updates["b"], "b": updates["a"]}, slots
        >>> @gradtx.transformation
        ... def swapped():
        ...     return gradtx.TreeRule(swap)
        >>> grads = {"a": jnp.array(1.0), "b": jnp.array(2.0)}
        >>> jax.tree.map(float, swapped().update(grads, swapped().init(grads))[0])
        {'a': 2.0, 'b': 1.0}
    """

    update: Callable[[Any, Any, Tree], tuple[Any, Any]]
    slots: Mapping[str, First] = dataclasses.field(default_factory=dict)
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


def like_param(dtype: Any = None) -> Slot:
    """A slot that starts as the parameter, and stays a point among the parameters."""
    return Slot(unchanged, dtype=dtype, is_elementwise=True, is_param=True)


ZEROS = Slot(jnp.zeros_like, is_elementwise=True)
"""A slot like the array that reaches the rule: a moment, a sum, a past gradient."""
REAL_ZEROS = Slot(real_zeros, is_elementwise=True)
"""The same for sizes of elements, which are real where those are complex."""

METRIC = "metrics."
"""The start of the name of a slot or scalar that `metrics` gives."""


def zero(arrays: Any) -> Any:
    """The first value of a sum over the tree."""
    return jnp.zeros(())
