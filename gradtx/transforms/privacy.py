"""Differential privacy: clipping the gradient of each example, and noise."""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Key, NonNegative
from gradtx.core.arguments import NumberRole
from gradtx.core.arithmetic import abs2, safe_sqrt
from gradtx.core.context import Leaf
from gradtx.core.prng import one_key
from gradtx.core.rule import memoryless


def _check_examples(owner: str, grads: Any) -> None:
    shapes = [jnp.shape(g) for g in jax.tree.leaves(grads)]
    if any(shape[:1] != shapes[0][:1] or not shape for shape in shapes):
        raise ValueError(
            f"{owner}: every gradient must have the same number of examples as its "
            f"first axis, got shapes {shapes}"
        )


def per_example_global_norm_clip(
    grads: Any, l2_norm_clip: Any
) -> tuple[Any, jax.Array]:
    """The sum of per-example gradients, each scaled down to a global norm.

    Same arguments, defaults and numbers as `optax.per_example_global_norm_clip`.

    Abadi et al. 2016: https://arxiv.org/abs/1607.00133.

    Args:
        grads: A tree of gradients with a leading axis of examples.
        l2_norm_clip: Largest norm of one example's gradient. At least 0.

    Returns:
        The sum over the examples, and the number of examples scaled down.

    Raises:
        ValueError: A gradient has no axis of examples, or their numbers differ.

    Examples:
        >>> grads = {"w": jnp.array([[30.0, 40.0], [0.0, 1.0]])}
        >>> total, clipped = gradtx.per_example_global_norm_clip(grads, 5.0)
        >>> print(*(f"{g:.1f}" for g in total["w"]), clipped)
        3.0 5.0 1
    """
    _check_examples("per_example_global_norm_clip", grads)
    _check_bound("per_example_global_norm_clip", "l2_norm_clip", l2_norm_clip)
    with jax.numpy_dtype_promotion("standard"):
        squares = sum(map(squares_of_examples, jax.tree.leaves(grads)), jnp.zeros(()))
        shares = bounded_shares(squares, l2_norm_clip)

    def total(g: Any) -> Any:
        return jnp.tensordot(shares.astype(g.dtype), g, 1)

    return jax.tree.map(total, grads), jnp.sum(shares < 1)


def _check_bound(owner: str, argument: str, bound: Any) -> None:
    NumberRole("at least 0", low=0, takes_schedule=False).bind(bound, owner, argument)


def squares_of_examples(grad: Any) -> jax.Array:
    """The squared norm of each example's gradient, in at least float32."""
    wide = grad.astype(jnp.promote_types(grad.dtype, jnp.float32))
    return jnp.sum(abs2(wide), axis=tuple(range(1, grad.ndim)))


def bounded_shares(squares: jax.Array, most: Any) -> jax.Array:
    """The factor of each example's gradient that bounds its norm."""
    is_zero = squares == 0
    return jnp.where(
        is_zero, 1, jnp.minimum(most / safe_sqrt(jnp.where(is_zero, 1, squares)), 1)
    )


def per_example_layer_norm_clip(
    grads: Any, global_l2_norm_clip: Any, uniform: bool = True
) -> tuple[Any, Any]:
    """The sum of per-example gradients, each array's scaled down to a norm.

    Same arguments, defaults and numbers as `optax.per_example_layer_norm_clip`.

    McMahan et al. 2017: https://arxiv.org/abs/1710.06963.

    Args:
        grads: A tree of gradients with a leading axis of examples.
        global_l2_norm_clip: Largest global norm of one example's gradients.
        uniform: Whether the squared norm is split evenly between arrays, or by size.

    Returns:
        The sum over the examples, and per array the number of examples scaled down.

    Examples:
        >>> w, b = jnp.array([[30.0, 40.0], [0.0, 1.0]]), jnp.array([9.0, 1.0])
        >>> total, _ = gradtx.per_example_layer_norm_clip({"w": w, "b": b}, 50**0.5)
        >>> print(*(f"{g:.1f}" for g in total["w"]), f"{total['b']:.1f}")
        3.0 5.0 6.0
    """
    _check_examples("per_example_layer_norm_clip", grads)
    _check_bound(
        "per_example_layer_norm_clip", "global_l2_norm_clip", global_l2_norm_clip
    )
    leaves, treedef = jax.tree.flatten(grads)
    sizes = [1 if uniform else leaf[0].size for leaf in leaves]
    bounds = [global_l2_norm_clip * (size / sum(sizes)) ** 0.5 for size in sizes]
    pairs = map(per_example_global_norm_clip, leaves, bounds)
    totals, counts = zip(*pairs, strict=True) if leaves else ((), ())
    return treedef.unflatten(totals), treedef.unflatten(counts)


@transformation
def differentially_private_aggregate(
    l2_norm_clip: NonNegative,
    noise_multiplier: NonNegative,
    key: Key | None = None,
    *,
    seed: Key | None = None,
):
    """The mean of clipped per-example gradients, with Gaussian noise added.

    Abadi et al. 2016: https://arxiv.org/abs/1607.00133, Algorithm 1. Draws the same
    numbers as optax. Consumes a leading example axis of the updates.

    Args:
        l2_norm_clip: Largest global norm of one example's gradient. At least 0.
        noise_multiplier: Standard deviation of the sum's noise, over `l2_norm_clip`.
        key: A PRNG key or a seed; 0 if None.
        seed: The older name of `key`.

    Keeps `key`, as raw uint32.

    Examples:
        >>> tx = gradtx.differentially_private_aggregate(5.0, 0.0, key=0)
        >>> params, batch = jnp.zeros(2), jnp.array([[30.0, 40.0], [0.0, 1.0]])
        >>> grads = jax.vmap(jax.grad(jnp.dot), (None, 0))(params, batch)
        >>> print(*(f"{u:.2f}" for u in tx.update(grads, tx.init(params))[0]))
        1.50 2.50
    """

    def update(u: Any, leaf: Leaf) -> Any:
        shares = bounded_shares(leaf.total, l2_norm_clip)
        noise = jax.random.normal(leaf.key, u.shape[1:], u.dtype)
        total = jnp.tensordot(shares.astype(u.dtype), u, 1)
        return (total + l2_norm_clip * noise_multiplier * noise) / len(u)

    return memoryless(
        update,
        measure=lambda u, slots, leaf: squares_of_examples(u),
        key=one_key("differentially_private_aggregate", key, seed),
        key_of=lambda key, index: jax.random.fold_in(key, index + 1),
        takes_batch=True,
    )
