"""Trajectories: the path of an optimizer on a function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from gradtx.compiler.foreign import pair_of
from gradtx.compiler.leaves import floats
from gradtx.core.apply import apply_updates
from gradtx.core.call import FactoryValue
from gradtx.transforms.combine import chain


class Trajectory(NamedTuple):
    """Positions of parameters and the values of a function there.

    Attributes:
        positions: A tree like the parameters, with a leading axis of `steps + 1`.
        values: The function's values, of shape [steps + 1], from the start on.
    """

    positions: Any
    values: jax.Array


def trajectory(
    tx: optax.GradientTransformation, f: Callable[[Any], Any], start: Any, steps: int
) -> Trajectory:
    """Minimize a function from a start, and return all positions and values.

    Runs one compiled scan. It compiles once per function, structure of `tx` and number
    of steps, for all numbers; `jax.vmap` over a stack of transformations works.
    `update` also gets `value`, `grad`, `value_fn` and `obj_fn`, so Polyak steps,
    L-BFGS, line searches and Sophia run too.

    Args:
        tx: The optimizer, ours or of optax.
        f: A differentiable, real scalar function of the parameters.
        start: The initial parameters, a tree of floats.
        steps: Number of updates, at least 0.

    Raises:
        TypeError: `tx` is not a transformation, or a leaf of `start` is not a float.
        ValueError: `steps` is negative.

    Examples:
        >>> def bowl(at):
        ...     return at[0] ** 2 / 2 + 10 * at[1] ** 2
        >>> path = gradtx.trajectory(gradtx.sgd(0.09), bowl, jnp.array([4.0, 1.0]), 50)
        >>> print(path.positions.shape, f"{path.values[0]:.0f} {path.values[-1]:.3f}")
        (51, 2) 18 0.001
    """
    if steps < 0:
        raise ValueError(f"trajectory: steps must be at least 0, got {steps}")
    tx = as_value(pair_of("trajectory", tx))
    return _trajectory(tx, f, as_start(start, "trajectory"), steps)


def as_value(tx: optax.GradientTransformation) -> Any:
    """A transformation as a pytree; a foreign one inside a chain."""
    return tx if isinstance(tx, FactoryValue) else chain(tx)


def as_start(params: Any, owner: str) -> Any:
    """Floats as strongly typed arrays: a step must return the dtypes it was given."""
    return jax.tree.map(lambda p: jnp.array(p, p.dtype), floats(params, owner))


@functools.partial(jax.jit, static_argnames=("f", "steps"))
def _trajectory(tx: Any, f: Callable, start: Any, steps: int) -> Trajectory:
    def step(carry: Any, _: None) -> tuple[Any, Any]:
        carry_after, value = descend(tx, f, *carry)
        return carry_after, (carry[0], value)

    (last, _), seen = jax.lax.scan(step, (start, tx.init(start)), None, steps)
    return Trajectory(
        *jax.tree.map(lambda xs, x: jnp.append(xs, x[None], 0), seen, (last, f(last)))
    )


def descend(tx: Any, f: Callable, params: Any, state: Any) -> tuple[tuple, jax.Array]:
    """One step on a function: `((params, state), value before it)`.

    `update` also gets the extra arguments of optimizers that need the function:
    `value`, `grad`, `value_fn`, `obj_fn`.
    """

    # Line searches reject an extra argument that their function does not name.
    def value_fn(params: Any, obj_fn: Any = None) -> Any:
        return f(params)

    value, grads = jax.value_and_grad(f)(params)
    # For complex numbers, jax.grad returns the conjugate of the ascent direction.
    grads = jax.tree.map(jnp.conj, grads)
    known = {"value": value, "grad": grads, "value_fn": value_fn, "obj_fn": f}
    updates, state = tx.update(grads, state, params, **known)
    return (apply_updates(params, updates), state), value
