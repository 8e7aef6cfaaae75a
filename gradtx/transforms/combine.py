"""Connectives: chains, scopes, sums, pinned names, masks."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import optax

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Member, Scalar
from gradtx.core.context import Leaf, Private
from gradtx.core.factory import declare
from gradtx.core.nodes import Chain, Fork, Let, Masked, Named, Recall


@declare(is_sequence=True)
@transformation
def chain(*transforms: Member):
    """Apply transformations in sequence, each to the output of the one before.

    Same numbers as `optax.chain`, for our own and foreign transformations. Chains
    flatten: nested or not, they compute the same and keep the same state, a flat dict
    with one `count`. A foreign member keeps its whole state under its name.

    Args:
        transforms: Transformations, ours or foreign, in order.

    Raises:
        TypeError: A member is not a gradient transformation.
        ValueError: At `init`: two pinned names clash.

    Examples:
        >>> tx = gradtx.chain(gradtx.clip(1.0), gradtx.trace(0.5), gradtx.scale(-0.5))
        >>> updates, state = tx.update(jnp.array([3.0, -0.5]), tx.init(jnp.zeros(2)))
        >>> print(updates, state["trace"])
        [-0.5   0.25] [ 1.  -0.5]
    """
    return Chain(transforms)


@transformation
def moments(*transforms: Member):
    """Chain whose members can all read the gradient that enters it, as `leaf.grad`.

    Members transform the output of the one before; estimators such as a second moment
    measure `leaf.grad`. In `moments`, momentum chained with RMSProp is therefore Adam.
    A nested `moments` has its own `leaf.grad`.

    Args:
        transforms: Transformations, in order.

    Examples:
        >>> momentum, square = gradtx.scale_by_ema(0.5, "mu"), gradtx.second_moment(0.5)
        >>> tx = gradtx.moments(momentum, gradtx.divide_by_root(square))
        >>> _, state = tx.update(jnp.array(4.0), tx.init(jnp.zeros(())))
        >>> print(state["mu"], state["nu"])  # in a chain, nu would be of mu: 2
        2.0 8.0
    """
    return Chain(transforms, is_scope=True)


@transformation
def identity():
    """The empty chain: return the update unchanged, keep nothing.

    Examples:
        >>> max_delta = None
        >>> clip = gradtx.identity() if max_delta is None else gradtx.clip(max_delta)
        >>> tx = gradtx.chain(clip, gradtx.sgd(0.5))
        >>> print(tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))[0])
        [-1.5 -2. ]
    """
    return Chain(())


@transformation
def add(*branches: Member, weights: Sequence[Scalar] | None = None):
    """Weighted sum of the outputs of several transformations of the same update.

    Args:
        branches: One or more transformations.
        weights: One number per branch, of any sign; all 1 if None.

    Raises:
        ValueError: No branches, or another number of weights than of branches.

    Examples:
        >>> tx = gradtx.add(gradtx.scale_by_sign(), gradtx.scale(0.5), weights=(3, 2))
        >>> updates, _ = tx.update(jnp.array([4.0, -1.0]), tx.init(jnp.zeros(2)))
        >>> print(updates)
        [ 7. -4.]
    """
    if not branches or (weights is not None and len(weights) != len(branches)):
        given = "no" if weights is None else len(weights)
        raise ValueError(
            f"add: expected at least one branch and one weight per branch, "
            f"got {len(branches)} branches and {given} weights"
        )

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        if weights is not None:
            outputs = tuple(map(operator.mul, weights, outputs))
        return functools.reduce(operator.add, outputs)

    return Fork(branches, join)


@declare(pins="key")
@transformation
def named(key: str, transform: Member):
    """Prefix the names of a transformation's slots: `mu` is kept as `<key>.mu`.

    Two transformations of one kind then keep their own state, however you edit the
    chain around them.

    Args:
        key: The prefix, without dots.
        transform: A transformation.

    Examples:
        >>> fast = gradtx.named("fast", gradtx.trace(0.9))
        >>> slow = gradtx.named("slow", gradtx.trace(0.99))
        >>> sorted(gradtx.add(fast, slow).init(jnp.zeros(2)))
        ['count', 'fast.trace', 'slow.trace']
    """
    return Named(key, transform)


@transformation
def let(name: str | Private, value: Member, body: Member):
    """Name the output of a transformation; in the body, `recall` returns it.

    `let("mu", scale_by_ema(0.9), body)` keeps one average, however often the body
    recalls it. The body gets the same update as `value`, not the output of `value`.

    Args:
        name: The name to pass to `recall`.
        value: A transformation; its output gets the name.
        body: A transformation that may contain `recall(name)`.

    Raises:
        ValueError: The name is "grad" or "flowing", which are reserved.

    Examples:
        >>> average = gradtx.scale_by_ema(0.5, slot="mu")
        >>> ahead = gradtx.add(gradtx.identity(), gradtx.recall("average"))
        >>> tx = gradtx.let("average", average, ahead)
        >>> updates, state = tx.update(jnp.array(2.0), tx.init(jnp.zeros(())))
        >>> print(updates, state["mu"])
        3.0 1.0
    """
    if name in ("grad", "flowing"):
        raise ValueError(
            f"let: name must be neither 'grad' nor 'flowing', got {name!r}"
        )
    return Let(name, value, body)


@transformation
def recall(name: str | Private):
    """Replace the update by the value that the enclosing `let` has named.

    Args:
        name: The name in that `let`.

    Raises:
        ValueError: At `init` and `update`: no enclosing `let` has the name.

    Examples:
        >>> both = gradtx.add(gradtx.recall("sign"), gradtx.identity())
        >>> tx = gradtx.let("sign", gradtx.scale_by_sign(), both)
        >>> updates, _ = tx.update(jnp.array([2.0, -4.0]), tx.init(jnp.zeros(2)))
        >>> print(updates)
        [ 3. -5.]
    """
    return Recall(name)


@transformation
def only(transform: Member, mask: Any):
    """Apply a transformation where a mask is true; other leaves pass and keep no state.

    Args:
        transform: The transformation.
        mask: A tree of bools with the structure of the parameters or a prefix of it, or
            a function from the parameters to one.

    Raises:
        ValueError, TypeError: At `init`: the mask does not fit, or is not of bools.

    Examples:
        >>> tx = gradtx.only(gradtx.trace(0.9), {"w": True, "b": False})
        >>> state = tx.init({"w": jnp.zeros(2), "b": jnp.zeros(2)})
        >>> print(state["trace"]["w"], state["trace"]["b"])
        [0. 0.] None
    """
    return Masked(transform, mask)


@transformation
def stateless(f: Callable[[Any, Any], Any]):
    """A transformation of whole trees from `f(updates, params) -> updates`.

    As `optax.stateless`, for functions written for it; `memoryless` makes a rule.

    Args:
        f: A function of two trees; the parameters are None if `update` got none.

    Examples:
        >>> def signs(updates, params):
        ...     return jax.tree.map(jnp.sign, updates)
        >>> tx = gradtx.chain(gradtx.stateless(signs), gradtx.scale(-0.5))
        >>> updates, _ = tx.update(jnp.array([3.0, -4.0]), tx.init(jnp.zeros(2)))
        >>> print(updates)
        [-0.5  0.5]
    """
    return optax.stateless(f)


@transformation
def stateless_with_tree_map(f: Callable[[Any, Any], Any]):
    """A transformation of each array from `f(update, param) -> update`.

    Same arguments, defaults and numbers as `optax.stateless_with_tree_map`.

    Args:
        f: A function of two arrays.

    Examples:
        >>> tx = gradtx.stateless_with_tree_map(lambda update, param: update + param)
        >>> params = {"w": jnp.array([2.0, 4.0])}
        >>> updates, _ = tx.update({"w": jnp.ones(2)}, tx.init(params), params)
        >>> print(updates["w"])
        [3. 5.]
    """
    return optax.stateless_with_tree_map(f)
