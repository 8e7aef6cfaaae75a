"""The fields of optax's states: where they are, and what they are as slots."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

from gradtx.numbers import is_key, raw_key

INNER = ("inner_state", "base_optimizer_state", "info")
"""Fields of optax's states that hold states."""
COUNTS = ("count", "t", "count_m2", "step_count", "is_initial_step", "is_init_step")


class Field(NamedTuple):
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


def rebuild(
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
        return rebuild(owner, inner, visit, wholes, labels)

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


def count_of(found: list[Field]) -> jax.Array:
    """The count of updates, from the field that tells it best."""

    def rank(field: Field) -> int:
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


def counted(name: str, count: Any, period: Any) -> jax.Array:
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


def to_ours(name: str, value: Any, owner: Any) -> Any:
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


def to_theirs(name: str, slot: Any, old: Any, owner: Any) -> Any:
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
