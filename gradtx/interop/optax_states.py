"""`from_optax` and `to_optax`: convert states of unfinished runs, both ways.

Slots have the names of the fields of optax's states, and are matched by name; several
with the same name are matched in the order of the chain.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import numpy as jnp

from gradtx.compiler.foreign import ours
from gradtx.compiler.init import shapes_of
from gradtx.compiler.inventory import keeps_numbers
from gradtx.compiler.program import Op
from gradtx.compiler.transformation import GradientTransformation
from gradtx.core.call import FactoryValue
from gradtx.core.dtypes import wide
from gradtx.core.errors import dtype_and_shape, set_difference
from gradtx.core.paths import name_of
from gradtx.core.rule import Rule
from gradtx.core.state import State
from gradtx.core.trees import is_none
from gradtx.interop.counterparts import (
    NUMBERS,
    SCHEDULES,
    Counterpart,
    Path,
    foreign,
    layout,
    names,
    weights,
    wholes,
)
from gradtx.interop.optax_fields import (
    ARGUMENTS,
    COUNTS,
    Field,
    count_of,
    counted,
    real_part,
    rebuild,
    to_ours,
    to_theirs,
)
from gradtx.wrappers.hyperparameters import adopted, check_numbers, hyperparams


def from_optax(
    tx: GradientTransformation, optax_state: Any, params: Any = None
) -> State:
    """Convert the state of an optax optimizer to the state of the same one in gradtx.

    Args:
        tx: The transformation with optax's names, in the same order; `groups` with the
            same labels for `partition`, `accumulate` for `MultiSteps`, `editable` for
            `inject_hyperparams` (or nothing if the numbers are the same).
        optax_state: The state of the same transformation in optax.
        params: The parameters, or their shapes. Needed if masks or labels are prefixes
            of their tree, and for foreign members of a chain.

    Returns:
        A state of `tx` with copies of optax's values. If optax keeps no count, no part
        depends on it, and it is 0.

    Raises:
        ValueError: A slot has no counterpart in optax's state, or the reverse; labels
            differ; or `params` is needed.

    Examples:
        >>> import optax
        >>> theirs, params = optax.sgd(0.5, momentum=0.5), jnp.zeros(2)
        >>> _, state = theirs.update(jnp.array([1.0, 2.0]), theirs.init(params))
        >>> print(gradtx.from_optax(gradtx.sgd(0.5, momentum=0.5), state)["trace"])
        [1. 2.]
    """
    tx = ours("from_optax", tx)
    like = None if params is None else tx.init(shapes_of(params))
    return _taken(tx, optax_state, like)


def _taken(tx: Any, optax_state: Any, like: Any) -> State:
    """The state of a transformation, with the structure of `like` if given."""
    slots, homes = layout(tx, like)
    members = foreign("from_optax", slots, optax_state)
    found: list[Field] = []

    def note(*field: Any) -> None:
        found.append(Field(*field))

    rebuild("from_optax", optax_state, note, wholes(slots), members, (), names(slots))
    _check_labels(tx, slots, found)
    state = State()
    count = count_of(found)
    for home in homes:
        _put(state, (*home, "count"), jnp.array(count))
    parts: dict[Path, list[Any]] = {}
    for slot in slots:
        place, old = (slot.name, slot.labels), _at(like, slot.path)
        at = next((i for i, x in enumerate(found) if (x.name, x.labels) == place), None)
        if at is None and not slot.is_own:
            raise ValueError(
                f"from_optax: optax's state has no {slot.name!r} for {slot.key!r}"
            )
        if at is None:
            value = jax.tree.map(_zeros, jnp.zeros(()) if like is None else old)
        else:
            field = found.pop(at)
            if slot.inner is not None and not slot.is_foreign:
                value = _whole(slot.inner, field.value, _taken, old)
                _put(state, slot.path, value)
                continue
            value = to_ours(slot.name, field.value, field.owner)
            value = value if like is not None else _stored(slot, value)
        parts.setdefault(slot.path, []).append(value)
    for path, values in parts.items():
        _put(
            state,
            path,
            functools.reduce(_joined, values)
            if like is None
            else _fitted(path[-1], values, _at(like, path)),
        )
    for path, value in weights(tx, count):
        _put(state, path, value)
    found = _without_numbers(tx, slots, state, found)
    kept = {x.name for x in found if jax.tree.leaves(x.value)}
    rest = sorted(kept - {*COUNTS, *ARGUMENTS})
    if rest:
        raise ValueError(f"from_optax: {tx.name}: unexpected in optax's state: {rest}")
    by_leaf = [slot for slot in slots if slot.op.keeps_by_leaf(slot.slot)]
    for home in homes:
        trees = [_at(state, slot.path) for slot in by_leaf if slot.path[:-1] == home]
        if len({jax.tree.structure(tree, is_leaf=is_none) for tree in trees}) > 1:
            raise ValueError(NEEDS_PARAMS)
    return state


NEEDS_PARAMS = (
    "from_optax: masks or labels are prefixes of the tree of the parameters: "
    "give them, from_optax(tx, optax_state, params)"
)


def _at(tree: Any, path: Path) -> Any:
    """The part of a state at a path; None of None."""
    for key in path:
        tree = None if tree is None else tree[key]
    return tree


def _put(state: State, path: Path, value: Any) -> None:
    """Set a part of a state."""
    for key in path[:-1]:
        state = state.setdefault(key, State())
    state[path[-1]] = value


def _zeros(like: Any) -> jax.Array:
    return jnp.zeros(like.shape, like.dtype)


def _fitted(key: str, values: list[Any], like: Any) -> Any:
    """A slot of several groups, in the structure and dtypes of `like`, as copies."""
    kept = [x for it in values for x in jax.tree_util.tree_leaves_with_path(it)]
    wanted, treedef = jax.tree_util.tree_flatten_with_path(like)
    places = {jax.tree_util.keystr(path): x for path, x in kept}
    if places.keys() != {jax.tree_util.keystr(path) for path, _ in wanted}:
        there, here = ([name_of(path) for path, _ in it] for it in (kept, wanted))
        told = set_difference(there, here) or "another structure"
        raise ValueError(f"from_optax: optax's {key!r}: {told}; {SAME}")
    fit = []
    for path, x in wanted:
        value = jnp.asarray(places[jax.tree_util.keystr(path)])
        if value.shape != x.shape:
            raise ValueError(
                f"from_optax: optax's {key!r} at {name_of(path)!r} is "
                f"{dtype_and_shape(value)}, "
                f"expected {dtype_and_shape(x)}; {SAME}"
            )
        fit.append(_cast(key, value, x))
    return treedef.unflatten(fit)


SAME = "parameters, labels and masks must be the same"


def _cast(key: str, x: Any, like: Any) -> jax.Array:
    """A copy of a value, in the dtype of another."""
    if jnp.iscomplexobj(x) and not jnp.iscomplexobj(like):
        x = real_part("from_optax", key, x)
    return jnp.array(x, like.dtype)


def _keeps_numbers(op: Op) -> bool:
    return op.bound is not None and keeps_numbers(op.bound)


def _check_labels(tx: Any, slots: list[Counterpart], found: list[Field]) -> None:
    """Raise unless groups have the same labels here and in optax.

    A label without leaves has trees without leaves, in both.
    """
    mine = {slot.labels for slot in slots if not slot.is_own} - {()}
    fields = [x for x in found if x.name not in (*COUNTS, NUMBERS, SCHEDULES)]
    known = {field.labels for field in fields} - {()}
    theirs = {field.labels for field in fields if jax.tree.leaves(field.value)} - {()}
    if not theirs <= mine <= known:
        told = [sorted({*itertools.chain(*labels)}) for labels in (theirs, mine)]
        raise ValueError(
            f"from_optax: {tx.name} must have the labels of optax's state, "
            f"{told[0]}, got {told[1]}"
        )


def _without_numbers(
    tx: Any, slots: list[Counterpart], state: State, found: list[Field]
) -> list[Field]:
    """Place the numbers of `inject_hyperparams`, and return the other fields.

    `editable` takes them. Other transformations keep no numbers and must have the same.
    """
    states = [field.value for field in found if field.name == SCHEDULES]
    scheduled = {name for each in states for name in each}
    editable = [slot for slot in slots if slot.is_own and _keeps_numbers(slot.op)]
    for slot in editable:
        own = slot.op.slots[NUMBERS](None)
        kept = next(x.path for x in slots if x.op is slot.op and x.name == NUMBERS)
        both = adopted("from_optax", own, _at(state, kept), scheduled)
        for path, numbers in zip((kept, slot.path), both, strict=True):
            _put(state, path, numbers)
    for field in found:
        if field.name == NUMBERS:
            constants = {n: x for n, x in field.value.items() if n not in scheduled}
            check_numbers("from_optax", tx, state, constants)
    return [field for field in found if field.name not in (NUMBERS, SCHEDULES)]


def to_optax(tx: GradientTransformation, state: State, like: Any) -> Any:
    """Convert the state of a transformation to the state of the same one in optax.

    Args:
        tx: The transformation with optax's names, in the same order.
        state: Its state.
        like: Any state of the same transformation in optax, for example from its
            `init`.

    Raises:
        ValueError: A field of optax's state has no counterpart in the state, or the
            reverse; or labels differ.

    Examples:
        >>> import optax
        >>> ours, params = gradtx.sgd(0.5, momentum=0.5), jnp.zeros(2)
        >>> _, state = ours.update(jnp.array([1.0, 2.0]), ours.init(params))
        >>> like = optax.sgd(0.5, momentum=0.5).init(params)
        >>> print(gradtx.to_optax(ours, state, like)[0].trace)
        [1. 2.]
    """
    tx = ours("to_optax", tx)
    slots, _ = layout(tx, state)
    members = foreign("to_optax", slots, like)
    are_whole, known = wholes(slots), names(slots)
    periods = [
        (slot.op.node.period, slot.labels)
        for slot in slots
        if slot.op.node.is_cyclic_in_optax
    ]

    def visit(name: str, old: Any, owner: Any, labels: tuple[str, ...]) -> Any:
        if name in COUNTS:
            period = None
            if isinstance(owner, optax.ApplyEvery):
                at = next(i for i, (_, mine) in enumerate(periods) if mine == labels)
                period, _ = periods.pop(at)
            return counted(name, state["count"], period).astype(old.dtype)
        place = name, labels
        at = next((i for i, x in enumerate(slots) if (x.name, x.labels) == place), None)
        if at is None and name == NUMBERS:  # of `inject_hyperparams`: not kept here
            given = getattr(owner, SCHEDULES, {})
            constants = {n: x for n, x in old.items() if n not in given}
            check_numbers("to_optax", tx, state, constants)
            last = state | {"count": jnp.maximum(state["count"] - 1, 0)}
            return constants | _scheduled(tx, last, old, given)
        if at is None and name == SCHEDULES:  # of `editable`
            return jax.tree.map(lambda x: state["count"].astype(x.dtype), old)
        if at is None and (name in ARGUMENTS or not jax.tree.leaves(old)):
            return old
        if at is None:
            raise ValueError(f"to_optax: {tx.name}: missing in the state: {name!r}")
        slot = slots.pop(at)
        mine = _at(state, slot.path)
        if slot.inner is not None and not slot.is_foreign:
            return _whole(slot.inner, mine, to_optax, old)
        return to_theirs(name, mine, old, owner)

    rebuilt = rebuild("to_optax", like, visit, are_whole, members, (), known)
    left = (slot for slot in slots if jax.tree.leaves(_at(state, slot.path)))
    rest = sorted({slot.name for slot in left if not slot.is_own})
    if rest:
        raise ValueError(f"to_optax: {tx.name}: missing in optax's state: {rest}")
    return rebuilt


def _scheduled(tx: Any, last: State, old: Any, given: Any) -> dict[str, Any]:
    """The scheduled numbers of the last update; old values for unknown names."""
    now = hyperparams(tx, last)

    def one(name: str) -> Any:
        found = [x for n, x in now.items() if n.rpartition(".")[2] == name]
        return jnp.array(found[0], old[name].dtype) if len(found) == 1 else old[name]

    return {name: one(name) for name in given}


def _whole(tx: Any, state: Any, turn: Callable[..., Any], *args: Any) -> Any:
    """The whole state of a transformation, which for foreign members is optax's."""
    if isinstance(tx, FactoryValue):
        return turn(tx, state, *args)
    return jax.tree.map(jnp.array, state)


def _joined(one: Any, other: Any) -> Any:
    """Merge a slot of two groups: each has None where the other has an array."""
    try:
        return jax.tree.map(
            lambda a, b: b if a is None else a, one, other, is_leaf=is_none
        )
    except ValueError:
        raise ValueError(NEEDS_PARAMS) from None


def _stored(slot: Counterpart, value: Any) -> Any:
    """A copy of a slot, in the dtypes of `init`."""
    op, name = slot.op, slot.slot

    def one(x: Any) -> jax.Array:
        x = jnp.asarray(x)
        if name in op.shared:
            return jnp.array(x, jax.eval_shape(op.shared[name], []).dtype)
        if jnp.iscomplexobj(x) and slot.is_real and isinstance(op.node, Rule):
            x = real_part("from_optax", slot.key, x)
        like = None
        if name in op.slots and isinstance(op.node, Rule) and not op.node.static:
            like = jax.eval_shape(op.slots[name], wide(x))
        is_float = jnp.issubdtype(x.dtype, jnp.inexact)
        like = (wide(x) if is_float else x) if like is None else like
        return _cast(slot.key, x, like)

    return jax.tree.map(one, value)
