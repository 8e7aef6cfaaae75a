"""States of optax as states of gradtx, and back: a half-finished run continues.

Slots have the names of the fields of optax's states, so that a value is found by its
name; of several with one name, the first in the chain belongs to the first.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

from gradtx.binding import Remembered
from gradtx.kernel import wide
from gradtx.lowering import ours, program_of
from gradtx.numbers import is_key, raw_key
from gradtx.paths import is_none
from gradtx.program import Op
from gradtx.rule import Rule
from gradtx.state import State
from gradtx.transform import GradientTransformation

INNER = ("inner_state", "base_optimizer_state", "info")
"""Fields of optax's states that hold states."""
COUNTS = ("count", "t", "count_m2", "step_count", "is_initial_step", "is_init_step")
OWN = ("step_size", "win_rate")
"""Numbers that gradtx keeps to be read, and optax does not keep."""


def from_optax(
    tx: GradientTransformation, optax_state: Any, params: Any = None
) -> State:
    """The state with which `tx` goes on where the same optimizer of optax is.

    Args:
        tx: A transformation of names that optax has, in optax's order; `groups` of the
            same labels for a `partition`, `accumulate` for `MultiSteps`.
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
    found: list[_Field] = []

    def note(*field: Any) -> None:
        found.append(_Field(*field))

    _rebuild("from_optax", optax_state, note, _wholes(slots))
    _check_labels(tx, slots, found)
    state: State = {"count": _count(found)}
    for op, name, key, labels, inner in slots:
        place = name, labels
        at = next((i for i, x in enumerate(found) if (x.name, x.labels) == place), None)
        if at is None and name not in OWN:
            raise ValueError(f"from_optax: optax's state has no {name!r} for {key!r}")
        is_own = at is None
        field = _Field(name, jnp.zeros(()), None, ()) if is_own else found.pop(at)
        if inner is not None:
            state[key] = _whole(inner, field.value, from_optax, params)
            continue
        value = _in_full(_to_ours(name, field.value, field.owner), params)
        value = _stored(op, name, value)
        state[key] = _joined(state[key], value) if key in state else value
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


class _Field(NamedTuple):
    """A field of a state of optax.

    Attributes:
        name: Its name.
        value: Its value.
        owner: The state that has it.
        labels: The labels of the groups that it is in, outermost first.
    """

    name: str
    value: Any
    owner: Any
    labels: tuple[str, ...]


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
            name = {"key": theirs, "inner": "inner_opt_state"}.get(slot, slot)
            inner = op.node.inner.get(slot)
            found.append(_Slot(op, name, keys[slot], labels, inner))
    return found


def _check_labels(tx: Any, slots: list[_Slot], found: list[_Field]) -> None:
    """What is in groups must be in the same ones here and there."""
    mine = {slot.labels for slot in slots if slot.name not in OWN} - {()}
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
            return _told(name, state["count"], period).astype(old.dtype)
        place = name, labels
        at = next((i for i, x in enumerate(slots) if (x.name, x.labels) == place), None)
        if at is None and not jax.tree.leaves(old):
            return old
        if at is None:
            raise ValueError(f"to_optax: {tx.name} keeps no {name!r}")
        slot = slots.pop(at)
        if slot.inner is not None:
            return _whole(slot.inner, state[slot.key], to_optax, old)
        return _to_theirs(name, state[slot.key], old, owner)

    rebuilt = _rebuild("to_optax", like, visit, wholes)
    left = (slot.name for slot in slots if jax.tree.leaves(state[slot.key]))
    rest = sorted({*left} - {*OWN})
    if rest:
        raise ValueError(f"to_optax: optax's state keeps nothing like {rest}")
    return rebuilt


def _whole(tx: Any, state: Any, turn: Callable[..., Any], *args: Any) -> Any:
    """The whole state of a transformation: what is foreign has one on both sides."""
    if isinstance(tx, Remembered):
        return turn(tx, state, *args)
    return jax.tree.map(jnp.array, state)


def _wholes(slots: list[_Slot]) -> set[str]:
    """The names in optax of slots that are whole states."""
    return {slot.name for slot in slots if slot.inner is not None}


def _rebuild(
    owner: str,
    state: Any,
    visit: Callable[[str, Any, Any, tuple[str, ...]], Any],
    wholes: set[str],
    labels: tuple[str, ...] = (),
) -> Any:
    """A state of optax with each field as `visit(name, value, state, labels)` gives it.

    Fields that hold states are gone into, but for those of wrappers.
    """
    if state is None or isinstance(state, optax.MaskedNode):
        return state

    def again(inner: Any, labels: tuple[str, ...] = labels) -> Any:
        return _rebuild(owner, inner, visit, wholes, labels)

    def field(name: str, value: Any) -> Any:
        if name == "inner_states":  # of groups, by label
            pairs = sorted(value.items(), key=lambda pair: str(pair[0]))
            return {label: again(it, (*labels, str(label))) for label, it in pairs}
        is_whole = name in wholes and not isinstance(state, optax.MaskedState)
        is_state = name in INNER and not is_whole
        return again(value) if is_state else visit(name, value, state, labels)

    if hasattr(state, "_fields"):
        return type(state)(*map(field, state._fields, state))
    if isinstance(state, tuple | list):
        return type(state)(map(again, state))
    if isinstance(state, OrderedDict):  # of a named chain
        return OrderedDict((name, again(inner)) for name, inner in state.items())
    kind = type(state).__name__
    raise TypeError(f"{owner}: takes a state that optax's init makes, found a {kind}")


def _count(found: list[_Field]) -> jax.Array:
    """The count of updates, from the field that tells it best."""

    def rank(field: _Field) -> int:
        is_of_gradients = isinstance(field.owner, optax.ApplyEvery)
        return COUNTS.index(field.name) + 10 * is_of_gradients

    told = sorted((field for field in found if field.name in COUNTS), key=rank)
    if not told:
        return jnp.zeros([], jnp.int32)
    name, value, *_ = told[0]
    value = jnp.asarray(value).astype(jnp.int32)
    if name == "step_count":
        return value - 1
    return 1 - value if name.startswith("is_") else value


def _told(name: str, count: Any, period: Any) -> jax.Array:
    """What a field of optax's that tells the count holds."""
    if name.startswith("is_"):
        return count == 0
    if name == "step_count":
        return count + 1
    return count if period is None else count % jnp.asarray(period).astype(jnp.int32)


def _kind(owner: Any, name: str) -> str:
    return f"{type(owner).__name__}.{name}"


def _each(like: Any, function: Callable[..., Any], *trees: Any) -> Any:
    """A function of what several trees have in the place of each leaf of a tree."""
    treedef = jax.tree.structure(like)
    flat = zip(*(treedef.flatten_up_to(tree) for tree in trees), strict=True)
    return treedef.unflatten([function(*each) for each in flat])


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def _to_ours(name: str, value: Any, owner: Any) -> Any:
    """A field of optax's as a slot: absent leaves are None, lists of vectors one."""
    match _kind(owner, name):
        case "ScaleBySM3State.mu":
            return _each(
                owner.nu, lambda v: jnp.concatenate(v or [jnp.zeros(1)]), value
            )
        case "FactoredState.v_row" | "FactoredState.v_col":
            is_whole = _each(owner.v_row, _is_whole, owner.v, owner.v_row)
            return jax.tree.map(lambda x, whole: None if whole else x, value, is_whole)
        case "FactoredState.v":
            is_whole = _each(owner.v_row, _is_whole, owner.v, owner.v_row)
            return jax.tree.map(lambda x, whole: x if whole else None, value, is_whole)
        case "ScaleByDistanceOverGradientsState.grad_sum_of_squares":
            return jax.tree.map(lambda x: x.reshape(()), value)
        case "GaLoreState.projector":
            return jax.tree.map(lambda x: x if x.size else None, value)
        case "SophiaState.hessian_fn_state":
            return {"count": jnp.zeros([], jnp.int32), "key": raw_key(value.key)}
    if is_key(value):
        return raw_key(value)
    return jax.tree.map(
        lambda x: None if _is_masked(x) else x, value, is_leaf=_is_masked
    )


def _is_whole(v: Any, v_row: Any) -> bool:
    """Whether Adafactor keeps all of an array: what it does not keep has one zero."""
    return v.shape != (1,) or v_row.shape == (1,)


def _to_theirs(name: str, slot: Any, old: Any, owner: Any) -> Any:
    """A slot as the field of optax's that it is, like `old`."""
    if _kind(owner, name) == "ScaleBySM3State.mu":

        def split(vector: Any, old: Any) -> Any:
            ends = np.cumsum([part.size for part in old])[:-1]
            return jnp.split(vector, ends) if old else []

        slot = _each(owner.nu, split, slot, old)
    elif _kind(owner, name) == "SophiaState.hessian_fn_state":
        return type(old)(slot["key"])
    elif is_key(old):
        return jax.random.wrap_key_data(slot, impl=jax.random.key_impl(old))

    def one(old: Any, new: Any) -> Any:
        if new is None or _is_masked(old):
            return old
        return jnp.array(new, old.dtype).reshape(old.shape)

    leaves, treedef = jax.tree.flatten(old, is_leaf=_is_masked)
    flat = zip(leaves, treedef.flatten_up_to(slot), strict=True)
    return treedef.unflatten([one(*pair) for pair in flat])


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
