"""Other layouts of the parameters: one vector, or pairs of reals."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.evaluate import eval_params
from gradtx.compiler.nested import run
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Member
from gradtx.core.context import Tree
from gradtx.core.dtypes import wide
from gradtx.core.rule import TreeRule


@transformation
def flatten(inner: Member):
    """Apply a transformation to all parameters, concatenated into one vector.

    Same arguments, defaults and numbers as `optax.flatten`.

    Measurements per array, such as trust ratios, become measurements of all parameters.
    Speed is no reason to use it: arrays of the same shape share a kernel anyway.

    Args:
        inner: The transformation. Its slots are vectors in the dtype that all
            parameters promote to, at least float32; updates have the parameters'
            dtypes.

    Keeps the whole state of the transformation as `inner`. Where a gradient is None,
    the elements of its vectors do not change.

    Examples:
        >>> tx = gradtx.flatten(gradtx.trace(0.9))
        >>> tx.init({"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)})["inner"]["trace"].shape
        (9,)
    """

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        like = updates if tree.own is None else tree.own
        vector, is_given = _vector(updates, like), _is_given(updates, like)
        params = None if tree.own is None else _vector(tree.own, like)
        flat = dataclasses.replace(tree, params=params, own=params, whole=params)
        out, after = run(inner, vector, slots["inner"], flat)

        def kept(new: Any, old: Any) -> Any:
            is_vector = jnp.shape(new) == is_given.shape and not is_given.all()
            return jnp.where(is_given, new, old) if is_vector else new

        after = jax.tree.map(kept, after, slots["inner"])
        return _parts(out, updates, like), {"inner": after}

    def first(params: Any) -> Any:
        return inner.init(_vector(params, params))

    def evaluate(params: Any, slots: Any) -> Any:
        vector = eval_params(inner, slots["inner"], _vector(params, params))
        return _parts(vector, params, params)

    return TreeRule(
        update,
        {"inner": first},
        inner={"inner": inner},
        takes=("**",),
        evaluate=evaluate,
        in_optax={"inner": None},
    )


def _pairs(tree: Any, like: Any) -> list[tuple[Any, Any]]:
    """Pairs of the leaves, or None, of a tree and those of the complete tree."""
    leaves, treedef = jax.tree.flatten(like)
    return list(zip(leaves, treedef.flatten_up_to(tree), strict=True))


def _vector(tree: Any, like: Any) -> jax.Array:
    """All elements, in the dtype that all promote to; zeros for None."""
    parts = [
        jnp.zeros(jnp.size(whole), wide(jnp.asarray(whole)).dtype)
        if x is None
        else wide(jnp.asarray(x)).reshape(-1)
        for whole, x in _pairs(tree, like)
    ]
    return jnp.concatenate(parts) if parts else jnp.zeros(0)


def _is_given(tree: Any, like: Any) -> np.ndarray:
    """Per element, whether its leaf is not None."""
    parts = [np.full(jnp.size(w), x is not None) for w, x in _pairs(tree, like)]
    return np.concatenate(parts) if parts else np.zeros(0, bool)


def _parts(vector: Any, tree: Any, like: Any) -> Any:
    """The tree of a vector, in the dtypes of another tree."""
    ends = np.cumsum([math.prod(jnp.shape(w)) for w in jax.tree.leaves(like)])
    parts = jnp.split(vector, ends[:-1]) if ends.size else []

    def part(x: Any, values: Any) -> Any:
        if x is None:
            return None
        is_real = not jnp.iscomplexobj(x)
        values = values.real if is_real else values
        return values.reshape(jnp.shape(x)).astype(jnp.asarray(x).dtype)

    xs = [x for _, x in _pairs(tree, like)]
    return jax.tree.unflatten(jax.tree.structure(like), list(map(part, xs, parts)))


class RealAndImaginary(NamedTuple):
    """The parts of a complex array as two real arrays."""

    real: Any
    imaginary: Any


def _split(tree: Any, like: Any) -> Any:
    """A tree with pairs where another, complete tree is complex."""

    def split(whole: Any, x: Any) -> Any:
        if not jnp.iscomplexobj(whole):
            return x
        return RealAndImaginary(*([None] * 2 if x is None else [x.real, x.imag]))

    return jax.tree.map(split, like, tree)


def _join(tree: Any, like: Any) -> Any:
    """A tree with complex arrays instead of pairs where another tree is complex."""

    def join(whole: Any, x: Any) -> Any:
        if not jnp.iscomplexobj(whole):
            return x
        return None if x.real is None else lax.complex(x.real, x.imaginary)

    return jax.tree.map(join, like, tree)


@transformation
def split_real_and_imaginary(inner: Member):
    """Apply a transformation to complex parameters as pairs of real ones.

    Same arguments, defaults and numbers as `optax.contrib.split_real_and_imaginary`.

    Rules for real numbers only can then be applied to complex ones, with both parts
    treated as independent.

    Args:
        inner: The transformation.

    Keeps its whole state as `inner_state`, with a pair per complex parameter.

    Examples:
        >>> tx = gradtx.split_real_and_imaginary(gradtx.clip(1.0))
        >>> params = jnp.zeros(1, complex)
        >>> updates, _ = tx.update(jnp.array([3.0 + 0.5j]), tx.init(params))
        >>> print(updates)
        [1.+0.5j]
    """

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        like = updates if tree.own is None else tree.own
        own = None if tree.own is None else _split(tree.own, like)
        params = None if tree.own is None else _split(tree.params, like)
        pairs = dataclasses.replace(tree, params=params, own=own, whole=own)
        given = _split(updates, like)
        out, after = run(inner, given, slots["inner_state"], pairs)
        return _join(out, like), {"inner_state": after}

    def first(params: Any) -> Any:
        return inner.init(_split(params, params))

    def evaluate(params: Any, slots: Any) -> Any:
        pairs = _split(params, params)
        return _join(eval_params(inner, slots["inner_state"], pairs), params)

    slots, kept = {"inner_state": first}, {"inner_state": inner}
    return TreeRule(
        update, slots, inner=kept, takes=("**",), evaluate=evaluate, takes_integers=True
    )
