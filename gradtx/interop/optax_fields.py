"""Fields in optax states: their places, and conversion to and from slots."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp
from optax import contrib

from gradtx.core.numbers import is_concrete
from gradtx.core.prng import is_key, raw_key
from gradtx.wrappers.layouts import RealAndImaginary

INNER = ("inner_state", "base_optimizer_state", "info")
"""Fields in optax states that hold nested states."""
COUNTS = ("count", "t", "count_m2", "step_count", "is_initial_step", "is_init_step")
"""Fields that count updates, the most reliable first."""
ARGUMENTS = ("ns_coeffs",)
"""Fields that hold arguments of the transformation, which are not state here."""


class Field(NamedTuple):
    """A field of an optax state.

    Attributes:
        name: Name of the field.
        value: Value of the field.
        owner: The state with the field.
        labels: The labels of its groups, outermost first.
    """

    name: str
    value: Any
    owner: Any
    labels: tuple[str, ...]


def rebuild(
    owner: str,
    state: Any,
    visit: Callable[[str, Any, Any, tuple[str, ...]], Any],
    is_whole: Callable[[str, Any, tuple[str, ...]], bool],
    foreign: Collection[tuple[str, tuple[str, ...]]] = (),
    labels: tuple[str, ...] = (),
    names: Collection[str] = (),
) -> Any:
    """An optax state with each field replaced by `visit(name, value, state, labels)`.

    Fields with nested states are visited field by field, unless `is_whole(name, state,
    labels)`. A state with the structure and groups of a foreign member is visited
    whole. A field `State.field`, or an entry `State.field.key` of a dict, that is among
    `names` is visited under that name, see `Slot.in_optax`.
    """
    if state is None or isinstance(state, optax.MaskedNode):
        return state

    if foreign and (structure_of(state), labels) in foreign:
        return visit(structure_of(state), state, None, labels)

    def again(inner: Any, labels: tuple[str, ...] = labels) -> Any:
        return rebuild(owner, inner, visit, is_whole, foreign, labels, names)

    def field(name: str, value: Any) -> Any:
        if name == "inner_states":  # states of groups, by label
            pairs = sorted(value.items(), key=lambda pair: str(pair[0]))
            return {label: again(it, (*labels, str(label))) for label, it in pairs}
        kind = _kind(state, name)
        if any(known.startswith(f"{kind}.") for known in names):
            keys = sorted(value)
            return {k: visit(f"{kind}.{k}", value[k], state, labels) for k in keys}
        name = kind if kind in names else name
        is_state = name in INNER and not is_whole(name, state, labels)
        return again(value) if is_state else visit(name, value, state, labels)

    if hasattr(state, "_fields"):
        return type(state)(*map(field, state._fields, state))
    if isinstance(state, tuple | list):
        return type(state)(map(again, state))
    if isinstance(state, OrderedDict):  # the state of a named chain
        return OrderedDict((name, again(inner)) for name, inner in state.items())
    kind = type(state).__name__
    raise TypeError(f"{owner}: expected a state from optax's init, got a {kind}")


def structure_of(state: Any) -> str:
    """The structure of a state, ignoring masks around its leaves."""
    pairs = jax.tree_util.tree_leaves_with_path(_without_masked(state))
    paths = ", ".join(jax.tree_util.keystr(path) for path, _ in pairs)
    return f"{type(state).__name__}({paths})"


def count_of(found: list[Field]) -> jax.Array:
    """The count of updates, from the most reliable field."""

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
    """The value of an optax field that stores the count."""
    if name.startswith("is_"):
        return count == 0
    if name == "step_count":
        return count + 1
    return count if period is None else count % jnp.asarray(period).astype(jnp.int32)


def _kind(owner: Any, name: str) -> str:
    return f"{type(owner).__name__}.{name}"


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


@functools.cache
def _pair() -> Any:
    """The class of optax's pairs for complex arrays, which has no public name."""
    split = contrib.split_real_and_imaginary(optax.trace(0.9)).init
    state: Any = jax.eval_shape(split, jax.ShapeDtypeStruct((), jnp.complex64))
    return type(state.inner_state.trace)


def _without_masked(tree: Any) -> Any:
    """A tree with None for masked leaves, and our pairs for complex arrays."""

    def one(x: Any) -> Any:
        if isinstance(x, _pair()):
            return RealAndImaginary(*map(_without_masked, x))
        return None if _is_masked(x) else x

    return jax.tree.map(one, tree, is_leaf=lambda x: one(x) is not x)


def _with_pairs(tree: Any) -> Any:
    """A tree with the pairs of optax for complex arrays."""

    def is_pair(x: Any) -> bool:
        return isinstance(x, RealAndImaginary)

    return jax.tree.map(
        lambda x: _pair()(*x) if is_pair(x) else x,
        tree,
        is_leaf=is_pair,
    )


def _each(like: Any, function: Callable[..., Any], *trees: Any) -> Any:
    """Map a function over the leaves of a tree and the subtrees of others there.

    Masked leaves stay masked.
    """
    leaves, treedef = jax.tree.flatten(like, is_leaf=_is_masked)
    flat = zip(leaves, *(treedef.flatten_up_to(tree) for tree in trees), strict=True)
    return treedef.unflatten(
        [leaf if _is_masked(leaf) else function(*each) for leaf, *each in flat]
    )


def to_ours(name: str, value: Any, owner: Any) -> Any:
    """An optax field as a slot: None for absent leaves, one vector for a list."""
    match _kind(owner, name):
        case "ScaleBySM3State.mu":
            value = _each(
                owner.nu, lambda v: jnp.concatenate(v or [jnp.zeros(1)]), value
            )
        case "FactoredState.v_row" | "FactoredState.v_col":
            value = _each(owner.v_row, _unless_whole, owner.v, owner.v_row, value)
        case "FactoredState.v":
            value = _each(owner.v_row, _if_whole, owner.v, owner.v_row)
        case "ScaleByDistanceOverGradientsState.grad_sum_of_squares":
            value = jax.tree.map(lambda x: x.reshape(()), value)
        case "GaLoreState.projector":
            value = jax.tree.map(lambda x: x if x.size else None, value)
        case "SophiaState.hessian_fn_state":
            return {"count": jnp.zeros([], jnp.int32), "key": raw_key(value.key)}
    return raw_key(value) if is_key(value) else _without_masked(value)


def _if_whole(v: Any, v_row: Any) -> Any:
    """Adafactor's full second moment; None for a factored array (one zero in optax)."""
    return v if v.shape != (1,) or v_row.shape == (1,) else None


def _unless_whole(v: Any, v_row: Any, factor: Any) -> Any:
    return factor if _if_whole(v, v_row) is None else None


def real_part(owner: str, name: str, x: Any) -> jax.Array:
    """The real part of an array that is complex in optax and real here.

    Raises:
        ValueError: The imaginary part is not 0.
    """
    x = jnp.asarray(x)
    if is_concrete(x) and jnp.any(x.imag != 0):
        raise ValueError(
            f"{owner}: optax's {name!r} has an imaginary part, and here it is real"
        )
    return x.real


def to_theirs(name: str, slot: Any, old: Any, owner: Any) -> Any:
    """A slot as its optax field, with the structure of `old`."""
    slot = _with_pairs(slot)
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
