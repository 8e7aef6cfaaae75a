"""Rules: a primitive for one array, or for a whole tree.

A rule contains no tree map, no counter, no cast and no `None` check; the compiler adds
these.
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
    """A named tree that a rule keeps, and its declarations.

    A function among `slots` or `shared` is a slot without other declarations.

    Attributes:
        init: Function of the initial value: `(input array) -> array or None`; with
            `static`, `(array, static)`; for a tree rule `(params) -> pytree`; for a
            whole-tree scalar `(arrays) -> scalar`.
        dtype: Storage dtype (complex slots stay complex); that of `init` if None.
        is_elementwise: Whether it is None or an array like the rule's input, whose
            new elements depend only on elements at the same index and on whole-tree
        scalars: then elements may be stored in any encoding.
        is_param: Whether it is a point in parameter space, such as a copy or average.
        in_optax: Name of its field in optax's state, if different; also `State.field`,
            or `State.field.key` in a dict, for one type of state.
        is_only_here: Whether it is kept for reading only, without a field in optax.

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
        """The initial value, in the storage dtype."""
        first = self.init(*given)
        return first if self.dtype is None else jax.tree.map(self._stored, first)

    def _stored(self, array: Any) -> Any:
        dtype = holding(array, self.dtype)
        is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
        return jnp.asarray(array if is_complex else array.real).astype(dtype)


def slot_of(owner: str, name: str, given: Any) -> Slot:
    """Convert a slot of a rule of the transformation `owner` to a `Slot`.

    Raises:
        TypeError: Neither a `Slot` nor a function, or an unknown dtype.
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
    """As `slot_of`, for a whole-tree scalar, which is not like a parameter.

    Raises:
        TypeError: As `slot_of`.
        ValueError: As `slot_of`; or it is declared like a parameter.
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
"""A slot, or the function of its initial value."""


class _Defaults:
    """Defaults of the declarations of an operation."""

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
    """Declarations of a rule, for the compiler.

    Attributes:
        is_step: Whether its output is an update, not a direction. A tree rule is a step
            too if an inner transformation makes one.
        factor: The number that it multiplies by, if that is all it does.
        passes: Whether updates are returned unchanged.
        is_lenient: Whether, though it averages parameters, later rules may change
            updates as in optax, but not by a step or a factor.
        freezes: Whether its leaves get zeros, and no other rule acts on them.
        takes_batch: Whether it consumes a leading example axis.
        takes_integers: Whether it accepts integer leaves, in their dtype.
        period: The whole number modulo which it uses the count, if it does.
        sees_entry: Whether `leaf.recall("entered")` is the argument of `update`.
        recovered: The `Weight`s of averages that it reads, by scalar, stored or not.
        is_of_input: Whether the slot of its input prefixes keys of scalars: `mu_...`.
        is_cyclic_in_optax: Whether the count in optax is modulo its period.
        is_exact: Whether it returns an exact difference to add to the parameter. The
            update is then returned in the precision of rules, at least float32,
            unless a later rule changes it.

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
    """The output of a rule that changes neither shape nor dtype."""
    return array


@dataclasses.dataclass(frozen=True)
class Rule(Node):
    """A gradient transformation of one array; for more declarations see `Node`.

    Attributes:
        update: `(u, slots, leaf) -> (u, slots)`, u in at least float32.
        slots: Per name a `Slot`, or the function of its initial value.
        measure: `(u, slots, leaf) -> scalars`, summed over its leaves: `leaf.total`.
        shared: Per whole-tree scalar a `Slot` or function, `(arrays) -> scalar`.
        settle: `(total, shared, step) -> shared`, once per update, after `measure`.
        needs: Extra arguments of `update` that the rule needs in `leaf.extra`.
        key: A seed or a PRNG key: `leaf.key` is `key_of(key of this update, index)`.
        key_of: Function of the keys of leaves; optax's split by default.
        out: Shape and dtype of the output, from those of the input.
        static: `(params) -> tree` of `leaf.static`, also passed to `slots` and `out`.
        evaluate: `(param, slots, shared) -> param`, the average to evaluate with, for a
            rule that averages parameters: no later rule may change updates.

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
        more: Other declarations of `Rule`, by name.

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
    """A gradient transformation that needs the whole tree; see also `Node`.

    Attributes:
        update: `(updates, slots, tree) -> (updates, slots)`, where `tree` has `params`
            (or None), `grad`, `count` and the extra arguments as `extra`.
        slots: Per name a `Slot`, or the function of its initial value.
        needs: Required extra arguments of `update`.
        takes: Optional extra arguments; "**" for any.
        evaluate: `(params, slots) -> params`, the parameters to evaluate with; if None,
            those of the inner transformations.
        inner: The transformation per slot that is its whole state.
        waits: Whether it leaves its slots unchanged where `tree.is_skipped` is true.
            Otherwise it runs under a condition, for which XLA may copy its slots.
        in_optax: Field names in optax for the inner states, where they differ;
            None for an inner state that is optax's whole state.
        clock: The slot with the count for schedules of its arguments.

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
    """The update and the slots returned by a rule; raise for anything else."""
    if type(given) is tuple and len(given) == 2 and isinstance(given[1], Mapping):
        return given
    raise TypeError(
        f"{owner}: update must give (update, slots), got {short_repr(given)}"
    )


def squared_norm(u: Any, slots: Any, leaf: Leaf) -> Any:
    """Measure the squared norm of the update."""
    return jnp.sum(abs2(u))


def unchanged(array: Any) -> Any:
    """The initial value of a slot that keeps the initial parameters."""
    return array


def real_zeros(array: Any) -> Any:
    """Real zeros, the initial value of a slot of magnitudes."""
    return jnp.zeros_like(array.real)


def like_param(dtype: Any = None) -> Slot:
    """A slot with the parameter as initial value, a point in parameter space."""
    return Slot(unchanged, dtype=dtype, is_elementwise=True, is_param=True)


ZEROS = Slot(jnp.zeros_like, is_elementwise=True)
"""A slot like the input of the rule: a moment, a sum, a past gradient."""
REAL_ZEROS = Slot(real_zeros, is_elementwise=True)
"""A slot of magnitudes, real for complex inputs."""

METRIC = "metrics."
"""Prefix of the names of slots and scalars that `metrics` returns."""


def zero(arrays: Any) -> Any:
    """The initial value of a sum over the tree."""
    return jnp.zeros(())
