"""Estimates of the Hessian's diagonal."""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Key
from gradtx.core.context import no_params
from gradtx.core.prng import key_of_leaf, raw_key
from gradtx.core.rule import TreeRule


@transformation
def hutchinson_estimator_diag_hessian(random_seed: Key | None = None):
    """Replace the update by Hutchinson's estimate of the diagonal of the Hessian.

    Hutchinson 1989, as in Sophia: https://arxiv.org/abs/2305.14342, Algorithm 1. As in
    optax, call `update(updates, state, params, obj_fn=...)` with a function from the
    parameters to the loss.

    Args:
        random_seed: PRNG key or seed of the random signs; 0 if None.

    Keeps `key`, as raw uint32.

    Examples:
        >>> def loss(x):
        ...     return jnp.sum(jnp.array([1.0, 5.0]) * x**2)
        >>> tx, params = gradtx.hutchinson_estimator_diag_hessian(0), jnp.ones(2)
        >>> print(tx.update(params, tx.init(params), params, obj_fn=loss)[0])
        [ 2. 10.]
    """
    seed = 0 if random_seed is None else random_seed

    def update(updates: Any, slots: Any, tree: Any) -> tuple[Any, Any]:
        if tree.params is None:
            raise no_params("hutchinson_estimator_diag_hessian", "obj_fn=...")
        leaves, treedef = jax.tree.flatten(tree.params)
        # All leaves in one draw: a loop per key would take longer to compile.
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
