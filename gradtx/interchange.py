"""States of optax as states of gradtx, and back: a half-finished run continues.

Slots have the names of the fields of optax's states, so that a value is found by its
name; of several with one name, the first in the chain belongs to the first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from gradtx.binding import Remembered
from gradtx.diagnostics import PREFIX
from gradtx.fields import COUNTS, Field, count_of, counted, rebuild, to_ours, to_theirs
from gradtx.hyperparameters import adopted, check_numbers
from gradtx.kernel import wide
from gradtx.lowering import ours, program_of
from gradtx.paths import is_none
from gradtx.program import Op
from gradtx.rule import Rule
from gradtx.state_dict import State
from gradtx.transform import GradientTransformation

OWN = ("step_size", "win_rate", "given", "clip_count")
"""Numbers that gradtx keeps to be read, beside metrics, and optax does not keep."""
NUMBERS, SCHEDULES = "hyperparams", "hyperparams_states"
"""Where optax keeps numbers, and the states of the schedules that give some."""


def from_optax(
    tx: GradientTransformation, optax_state: Any, params: Any = None
) -> State:
    """The state with which `tx` goes on where the same optimizer of optax is.

    Args:
        tx: A transformation of names that optax has, in optax's order; `groups` of the
            same labels for a `partition`, `accumulate` for `MultiSteps`, `editable` for
            `inject_hyperparams`, or nothing for it if the numbers are the same.
        optax_state: The state of the same transformation of optax.
        params: The parameters, or their shapes: needed where masks or labels are
            prefixes of their tree.

    Returns:
        A state of `tx` with the values of optax's, in buffers of its own. Where optax
        counts nothing, nothing depends on the count, and it is 0.

    Raises:
        ValueError: A slot has no counterpart in optax's state, or the reverse; labels
            differ; or parameters are needed.
    """
    tx = ours("from_optax", tx)
    slots = _slots(tx)
    found: list[Field] = []

    def note(*field: Any) -> None:
        found.append(Field(*field))

    rebuild("from_optax", optax_state, note, _wholes(slots))
    _check_labels(tx, slots, found)
    state = State(count=count_of(found))
    for op, name, key, labels, inner in slots:
        place = name, labels
        at = next((i for i, x in enumerate(found) if (x.name, x.labels) == place), None)
        if at is None and not _is_own(name):
            raise ValueError(f"from_optax: optax's state has no {name!r} for {key!r}")
        is_own = at is None
        field = Field(name, jnp.zeros(()), None, ()) if is_own else found.pop(at)
        if inner is not None:
            state[key] = _whole(inner, field.value, from_optax, params)
            continue
        value = _in_full(to_ours(name, field.value, field.owner), params)
        value = _stored(op, name, value)
        state[key] = _joined(state[key], value) if key in state else value
    found = _without_numbers(tx, slots, state, found)
    rest = sorted({x.name for x in found if jax.tree.leaves(x.value)} - {*COUNTS})
    if rest:
        raise ValueError(f"from_optax: {tx.name} keeps nothing like optax's {rest}")
    trees = [state[slot.key] for slot in slots if slot.op.keeps_by_leaf(slot.name)]
    if len({jax.tree.structure(tree, is_leaf=is_none) for tree in trees}) > 1:
        raise ValueError(NEEDS_PARAMS)
    return state


NEEDS_PARAMS = (
    "from_optax: masks or labels are prefixes of the tree of the parameters: "
    "give them, from_optax(tx, optax_state, params)"
)


class _Slot(NamedTuple):
    """A slot of a transformation.

    Attributes:
        op: The operation that keeps it.
        name: Its name in optax.
        key: Its key in the state.
        labels: The labels of the groups that it is in, outermost first.
        inner: The transformation whose whole state it is, or None.
    """

    op: Op
    name: str
    key: str
    labels: tuple[str, ...]
    inner: Any


def _slots(tx: Any) -> list[_Slot]:
    """The slots of a transformation, in its order."""
    program, found = program_of(tx.bound, jnp.zeros([], jnp.int32)), []
    for op, keys in zip(program.ops, program.keys, strict=True):
        given = [program.masks[m].label for m in op.masks]
        labels = tuple(str(label) for label in given if label is not None)
        for slot in (*op.shared, *op.slots):
            theirs = "rng_key" if op.has_key else "key"
            whole = "inner_state" if "given" in op.slots else "inner_opt_state"
            name = {"key": theirs, "inner": whole}.get(slot, slot)
            inner = op.node.inner.get(slot)
            found.append(_Slot(op, name, keys[slot], labels, inner))
    return found


def _check_labels(tx: Any, slots: list[_Slot], found: list[Field]) -> None:
    """What is in groups must be in the same ones here and there."""
    mine = {slot.labels for slot in slots if not _is_own(slot.name)} - {()}
    theirs = {
        field.labels
        for field in found
        if field.name not in COUNTS and jax.tree.leaves(field.value)
    } - {()}
    if mine != theirs:
        told = [sorted({*itertools.chain(*labels)}) for labels in (theirs, mine)]
        raise ValueError(
            f"from_optax: {tx.name} must have the labels of optax's state, "
            f"{told[0]}, got {told[1]}"
        )


def _without_numbers(
    tx: Any, slots: list[_Slot], state: State, found: list[Field]
) -> list[Field]:
    """What is left of the fields when the numbers of `inject_hyperparams` are placed.

    `editable` goes on with them. Nothing else keeps numbers: there they are the same.
    """
    states = [field.value for field in found if field.name == SCHEDULES]
    scheduled = {name for each in states for name in each}
    for op, _, key, *_ in (slot for slot in slots if slot.name == "given"):
        kept = next(it.key for it in slots if it.op is op and it.name == NUMBERS)
        state[kept], state[key] = adopted(
            "from_optax", op.slots[NUMBERS](None), state[kept], scheduled
        )
    for field in found:
        if field.name == NUMBERS:
            constants = {n: x for n, x in field.value.items() if n not in scheduled}
            check_numbers("from_optax", tx, state, constants)
    return [field for field in found if field.name not in (NUMBERS, SCHEDULES)]


def _in_full(value: Any, params: Any) -> Any:
    """A slot with None for each leaf that is masked, and not for a tree of them."""
    if params is None or not any(map(is_none, jax.tree.leaves(value, is_leaf=is_none))):
        return value

    def one(x: Any, param: Any) -> Any:
        return jax.tree.map(lambda _: None, param) if x is None else x

    return jax.tree.map(one, value, params, is_leaf=is_none)


def to_optax(tx: GradientTransformation, state: State, like: Any) -> Any:
    """The state with which the same optimizer of optax goes on where `tx` is.

    Args:
        tx: A transformation of names that optax has, in optax's order.
        state: Its state.
        like: Any state of the same transformation of optax: what its `init` gives.

    Raises:
        ValueError: A field of optax's state has no counterpart in the state, or the
            reverse; or labels differ.
    """
    tx = ours("to_optax", tx)
    slots = _slots(tx)
    wholes = _wholes(slots)
    ops = program_of(tx.bound, state["count"]).ops
    periods = [
        op.bound.values()[0] for op in ops if op.bound and op.name == "apply_every"
    ]

    def visit(name: str, old: Any, owner: Any, labels: tuple[str, ...]) -> Any:
        if name in COUNTS:
            period = periods.pop(0) if isinstance(owner, optax.ApplyEvery) else None
            return counted(name, state["count"], period).astype(old.dtype)
        place = name, labels
        at = next((i for i, x in enumerate(slots) if (x.name, x.labels) == place), None)
        if at is None and name == SCHEDULES:  # of `editable`
            return jax.tree.map(lambda x: state["count"].astype(x.dtype), old)
        if at is None and not jax.tree.leaves(old):
            return old
        if at is None:
            raise ValueError(f"to_optax: {tx.name} keeps no {name!r}")
        slot = slots.pop(at)
        if slot.inner is not None:
            return _whole(slot.inner, state[slot.key], to_optax, old)
        return to_theirs(name, state[slot.key], old, owner)

    rebuilt = rebuild("to_optax", like, visit, wholes)
    left = (slot.name for slot in slots if jax.tree.leaves(state[slot.key]))
    rest = sorted(name for name in {*left} if not _is_own(name))
    if rest:
        raise ValueError(f"to_optax: optax's state keeps nothing like {rest}")
    return rebuilt


def _is_own(name: str) -> bool:
    """Whether a slot is only there to be read, and has no counterpart."""
    return name in OWN or name.startswith(PREFIX)


def _whole(tx: Any, state: Any, turn: Callable[..., Any], *args: Any) -> Any:
    """The whole state of a transformation: what is foreign has one on both sides."""
    if isinstance(tx, Remembered):
        return turn(tx, state, *args)
    return jax.tree.map(jnp.array, state)


def _wholes(slots: list[_Slot]) -> set[str]:
    """The names in optax of slots that are whole states."""
    return {slot.name for slot in slots if slot.inner is not None}


def _joined(one: Any, other: Any) -> Any:
    """A slot of two groups: each has None where the other one has an array."""
    try:
        return jax.tree.map(
            lambda a, b: b if a is None else a, one, other, is_leaf=is_none
        )
    except ValueError:
        raise ValueError(NEEDS_PARAMS) from None


def _stored(op: Op, name: str, value: Any) -> Any:
    """A slot in the dtypes that `init` gives it, in buffers of its own."""

    def one(x: Any) -> jax.Array:
        x, like = jnp.asarray(x), None
        if name in op.shared:
            like = jax.eval_shape(op.shared[name], [])
        elif name in op.slots and isinstance(op.node, Rule) and not op.node.setting:
            like = jax.eval_shape(op.slots[name], wide(x))
        is_float = jnp.issubdtype(x.dtype, jnp.inexact)
        return jnp.array(
            x, (wide(x) if is_float else x).dtype if like is None else like.dtype
        )

    return jax.tree.map(one, value)
