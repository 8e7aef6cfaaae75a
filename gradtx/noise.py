"""Transformations that draw random numbers."""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp

from gradtx.clip import bounded_shares, squares_of_examples
from gradtx.numbers import raw_key
from gradtx.roles import Key, NonNegative, Scalar
from gradtx.rule import Leaf, TreeRule, key_of_leaf, memoryless
from gradtx.transform import transformation


def one_key(owner: str, key: Any, seed: Any) -> Any:
    """The key, or the seed in its place; 0 where there is neither."""
    if key is not None and seed is not None:
        raise ValueError(f"{owner}: takes a key or a seed, got both")
    return next((it for it in (key, seed) if it is not None), 0)


@transformation
def add_noise(
    eta: NonNegative,
    gamma: Scalar,
    key: Key | None = None,
    *,
    seed: Key | None = None,
):
    """Add Gaussian noise whose variance is `eta / t**gamma`.

    Neelakantan et al. 2015: https://arxiv.org/abs/1511.06807. As optax, whose numbers
    it draws for the same key and dtype (below float32 it draws in float32).

    Args:
        eta: Variance at the first update. At least 0.
        gamma: How fast the variance falls.
        key: A PRNG key or a seed; 0 if there is none.
        seed: The same, under its older name.

    Keeps `key`, as raw uint32.
    """

    def update(u: Any, leaf: Leaf) -> Any:
        deviation = jnp.sqrt(eta / leaf.t**gamma)
        return u + deviation * jax.random.normal(leaf.key, u.shape, u.dtype)

    return memoryless(update, key=one_key("add_noise", key, seed))


@transformation
def differentially_private_aggregate(
    l2_norm_clip: NonNegative,
    noise_multiplier: NonNegative,
    key: Key | None = None,
    *,
    seed: Key | None = None,
):
    """The mean of per-example gradients, each clipped, with Gaussian noise added.

    Abadi et al. 2016: https://arxiv.org/abs/1607.00133, Algorithm 1. As optax, whose
    numbers it draws. Updates have an axis of examples in front, which goes away.

    Args:
        l2_norm_clip: The largest global norm of one example's gradient. At least 0.
        noise_multiplier: The deviation of the noise in the sum, in units of that.
        key: A PRNG key or a seed; 0 if there is none.
        seed: The same, under its older name.

    Keeps `key`, as raw uint32.
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


@transformation
def hutchinson_estimator_diag_hessian(random_seed: Key | None = None):
    """Replace the update by an estimate of the diagonal of the Hessian.

    Hutchinson 1989, as in Sophia: https://arxiv.org/abs/2305.14342, Algorithm 1. As
    optax: call `update(updates, state, params, obj_fn=...)` with a function from the
    parameters to the loss.

    Args:
        random_seed: A PRNG key or a seed of the random signs; 0 if there is none.

    Keeps `key`, as raw uint32.
    """
    seed = 0 if random_seed is None else random_seed

    def update(updates: Any, slots: Any, tree: Any) -> tuple[Any, Any]:
        if tree.params is None:
            call = "call update(updates, state, params, obj_fn=...)"
            raise ValueError(
                f"hutchinson_estimator_diag_hessian: needs the parameters; {call}"
            )
        leaves, treedef = jax.tree.flatten(tree.params)
        # Of all leaves at once: to compile a loop for each key takes longer.
        keys = jax.vmap(key_of_leaf, (None, 0))(slots["key"], jnp.arange(len(leaves)))
        signs = [
            jax.random.rademacher(key, leaf.shape, leaf.real.dtype).astype(leaf.dtype)
            for key, leaf in zip(keys, leaves, strict=True)
        ]
        signs = treedef.unflatten(signs)
        slope = jax.grad(lambda params: tree.extra["obj_fn"](tree.filled(params)))
        _, product = jax.jvp(slope, (tree.params,), (signs,))
        diagonal = jax.tree.map(lambda h, sign: h * sign, product, signs)
        return diagonal, {"key": jax.random.fold_in(slots["key"], 0)}

    slots = {"key": lambda params: raw_key(seed)}
    return TreeRule(update, slots, needs=("obj_fn",))
