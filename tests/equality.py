"""Running a transformation of either library, and how far two runs are apart."""

import collections
import functools
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

Pair = collections.namedtuple("Pair", "first second")


def mixed_tree(dtype: Any, seed: int, *lead: int) -> Any:
    """Scalars, one element, vectors, matrices, 4-d, None, nested containers."""
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> Any:
        values = rng.normal(size=(*lead, *shape))
        values[np.abs(values) < 0.05] = 0  # some gradients vanish
        return jnp.asarray(values, dtype)

    return {
        "scalar": array(),
        "nested": [array(1), (array(7), None), Pair(array(3, 4), {"x": array(2, 3)})],
        "four": array(2, 1, 3, 2),
    }


def losses(dtype: Any, steps: int) -> Any:
    """Values of a loss, for the optimizers that look at it."""
    return jnp.asarray(np.random.default_rng(2).uniform(1, 3, steps), dtype)


def _step(tx: Any, carry: Any, seen: Any) -> Any:
    (params, state), (grads, value) = carry, seen
    update = optax.with_extra_args_support(tx).update
    updates, state = update(grads, state, params, value=value)
    return (optax.apply_updates(params, updates), state), updates


@functools.partial(jax.jit, static_argnums=0)
def run(tx: Any, params: Any, grads: Any, values: Any) -> Any:
    """The updates of all steps, and the last parameters."""
    step = functools.partial(_step, tx)
    carry, updates = jax.lax.scan(step, (params, tx.init(params)), (grads, values))
    return updates, carry[0]


def run_eagerly(tx: Any, params: Any, grads: Any, values: Any) -> Any:
    """The same without jit."""
    carry, seen = (params, tx.init(params)), []
    for i in range(len(values)):
        now = jax.tree.map(lambda g: g[i], grads)  # noqa: B023
        carry, updates = _step(tx, carry, (now, values[i]))
        seen.append(updates)
    return jax.tree.map(lambda *u: jnp.stack(u), *seen), carry[0]


def distance(ours: Any, theirs: Any, by_step: bool = True) -> float:
    """Normwise by leaf: the largest difference over the largest magnitude.

    Of each step, or of all steps together.
    """

    def one(a: Any, b: Any) -> Any:
        assert a.dtype == b.dtype and a.shape == b.shape
        rows = len(a) if by_step else 1
        a, b = (np.asarray(x, np.float64).reshape(rows, -1) for x in (a, b))
        size = np.maximum(np.abs(b).max(axis=1), 1e-30)
        return np.max(np.abs(a - b).max(axis=1) / size)

    return max(jax.tree.leaves(jax.tree.map(one, ours, theirs)))
