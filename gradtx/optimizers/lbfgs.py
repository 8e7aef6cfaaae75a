"""L-BFGS: multiply by an inverse Hessian estimated from past steps."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Member, ScalarOrSchedule, Size
from gradtx.core.arithmetic import inner, safe_sqrt
from gradtx.core.context import Tree, no_params
from gradtx.core.dtypes import wide
from gradtx.core.rule import Slot, TreeRule
from gradtx.core.trees import is_none, wide_zeros
from gradtx.transforms.combine import chain, identity
from gradtx.transforms.scaling import scale, scale_by_learning_rate
from gradtx.transforms.zoom import scale_by_zoom_linesearch

Arrays = list[Any]


class History(NamedTuple):
    """State of L-BFGS: lists of arrays, and the weights of the steps.

    The memories have a leading axis of steps, used as a ring buffer: update t, counted
    from 0, writes the step before it at index `(t - 1) % memory_size`. A rejected step
    is written as zeros with weight 0.
    """

    params: Arrays
    updates: Arrays
    diff_params_memory: Arrays
    diff_updates_memory: Arrays
    weights_memory: Any


def product(a: Arrays, b: Arrays) -> Any:
    """The real inner product."""
    return sum(map(inner, a, b), 0.0)


def add(a: Arrays, scale: Any, b: Arrays) -> Arrays:
    """`a + scale b`, in the dtypes of a."""
    return [(x + scale * y).astype(x.dtype) for x, y in zip(a, b, strict=True)]


def inverse(x: Any) -> Any:
    """1 / x, or 0 where x is below the smallest normal number."""
    is_tiny = jnp.abs(x) < jnp.finfo(jnp.result_type(x)).tiny
    return jnp.where(is_tiny, 0, 1 / jnp.where(is_tiny, 1, x))


def last_kept(weights: Any, oldest: Any) -> Any:
    """Index of the last step with weight in the ring buffer; any index without one."""
    backwards = (oldest - 1 - jnp.arange(len(weights))) % len(weights)
    return backwards[jnp.argmax(weights[backwards] > 0)]


def multiply(gradients: Arrays, memory: History, scale: Any, oldest: Any) -> Arrays:
    """Multiply by the inverse Hessian: the two loops over past steps.

    Nocedal and Wright, Numerical Optimization, Algorithm 7.4. Before any step the
    inverse Hessian is `scale` times the identity.
    """
    _, _, steps, changes, weights = memory
    order = (oldest + jnp.arange(len(weights))) % len(weights)

    def backward(q: Arrays, i: Any) -> tuple[Arrays, Any]:
        alpha = weights[i] * product([s[i] for s in steps], q)
        return add(q, -alpha, [y[i] for y in changes]), alpha

    def forward(r: Arrays, i_alpha: Any) -> tuple[Arrays, None]:
        i, alpha = i_alpha
        beta = weights[i] * product([y[i] for y in changes], r)
        return add(r, alpha - beta, [s[i] for s in steps]), None

    q, alphas = jax.lax.scan(backward, gradients, order, reverse=True)
    q = [(scale * x).astype(x.dtype) for x in q]
    return jax.lax.scan(forward, q, (order, alphas))[0]


@functools.partial(jax.jit, static_argnames="scales")
def precondition(
    gradients: Arrays, params: Arrays, memory: History, count: Any, scales: bool
) -> tuple[Arrays, History]:
    """Store the last step, and multiply by the inverse Hessian.

    A step is rejected if the gradient does not grow along it, or if it is not finite:
    with it the matrix would not be positive definite, and updates might ascend. Nocedal
    and Wright, p. 537.
    """
    is_first, length = count == 0, len(memory.weights_memory)

    def since(new: Arrays, old: Arrays) -> Arrays:
        return [jnp.where(is_first, 0, x) for x in add(new, -1, old)]

    def write(slot: Any, new: Any) -> Any:
        new = jnp.where(is_kept, new.astype(slot.dtype), 0)
        return slot.at[(count - 1) % length].set(new)

    def copy(slot: Any, new: Any) -> Any:
        return jnp.array(new, slot.dtype)  # a copy: the caller may donate its buffer

    step, change = since(params, memory.params), since(gradients, memory.updates)
    curvature, size = product(step, change), product(change, change)
    weight = inverse(curvature)
    is_kept = (weight > 0) & jnp.isfinite(curvature) & jnp.isfinite(size)
    memory = History(
        list(map(copy, memory.params, params)),
        list(map(copy, memory.updates, gradients)),
        list(map(write, memory.diff_params_memory, step)),
        list(map(write, memory.diff_updates_memory, change)),
        # A state from optax may hold negative weights, which we reject.
        write(jnp.maximum(memory.weights_memory, 0), weight),
    )
    if not scales:
        return multiply(gradients, memory, 1.0, count % length), memory
    changes, weights = memory.diff_updates_memory, memory.weights_memory
    at = last_kept(weights, count % length)
    has_any = weights[at] > 0

    def of_last_kept() -> tuple[Any, Any]:
        there = [lax.dynamic_index_in_dim(y, at, keepdims=False) for y in changes]
        return 1 / jnp.where(has_any, weights[at], 1), product(there, there)

    # Under a condition, which is rarely taken: otherwise XLA copies the whole memory.
    curvature, size = lax.cond(is_kept, lambda: (curvature, size), of_last_kept)
    can_divide = size >= jnp.finfo(jnp.result_type(size)).tiny
    along_step = jnp.where(can_divide, curvature / jnp.where(can_divide, size, 1), 1)
    # The first step has norm 1 at most, which saves the line search some trials.
    at_most_one = 1 / jnp.maximum(1, safe_sqrt(product(gradients, gradients)))
    scale = jnp.where(has_any, along_step, at_most_one)
    return multiply(gradients, memory, scale, count % length), memory


@transformation
def scale_by_lbfgs(memory_size: Size = 10, scale_init_precond: bool = True):
    """Multiply by the L-BFGS inverse Hessian, estimated from the last steps.

    Liu and Nocedal 1989: https://doi.org/10.1007/BF01589116. As `optax.scale_by_lbfgs`.

    Args:
        memory_size: Number of steps in the memory. An int, at least 1.
        scale_init_precond: Whether the initial inverse Hessian is the identity times
            the inverse curvature along the last step; otherwise it is the identity.

    A step along which the gradient does not grow is rejected: with it the matrix would
    not be positive definite, and updates might ascend (as in optax).

    Keeps the last `params` and `updates`, the memories `diff_params_memory` and
    `diff_updates_memory` (with a leading axis of steps), and `weights_memory`, all in
    at least float32. Complex gradients must be conjugated.

    Raises:
        ValueError: At `update`: no parameters.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_lbfgs(memory_size=5), gradtx.sgd(1.0))
        >>> path = gradtx.trajectory(tx, lambda x: 3 * (x - 1) ** 2, jnp.array(5.0), 10)
        >>> print(f"{path.positions[-1]:.2f}")
        1.00
    """

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        if tree.params is None:
            raise no_params("scale_by_lbfgs")
        leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
        here = [i for i, u in enumerate(leaves) if u is not None]

        def only(tree: Any) -> Arrays:
            flat = treedef.flatten_up_to(tree)
            return [flat[i] for i in here]

        def put(new: Arrays, tree: Any) -> Any:
            flat = treedef.flatten_up_to(tree)
            for i, x in zip(here, new, strict=True):
                flat[i] = x
            return treedef.unflatten(flat)

        trees = {name: slots[name] for name in History._fields[:-1]}
        lists = {name: only(tree) for name, tree in trees.items()}
        memory = History(**lists, weights_memory=slots["weights_memory"])
        params = list(map(wide, only(tree.params)))
        outs, memory = precondition(
            only(updates), params, memory, tree.count, scale_init_precond
        )
        new = {name: put(getattr(memory, name), tree) for name, tree in trees.items()}
        return put(outs, updates), new | {"weights_memory": memory.weights_memory}

    def past(params: Any) -> Any:
        # Broadcast, so that on a mesh each entry of the ring is sharded as the leaf.
        return jax.tree.map(
            lambda z: jnp.broadcast_to(z, (memory_size, *z.shape)), wide_zeros(params)
        )

    slots = {
        "params": Slot(wide_zeros, is_elementwise=True, is_param=True),
        "updates": Slot(wide_zeros, is_elementwise=True),
        "diff_params_memory": past,
        "diff_updates_memory": past,
        "weights_memory": lambda params: jnp.zeros(memory_size),
    }
    return TreeRule(update, slots, period=memory_size)


ZOOM = scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")


@transformation
def lbfgs(
    learning_rate: ScalarOrSchedule | None = None,
    memory_size: Size = 10,
    scale_init_precond: bool = True,
    linesearch: Member | None = ZOOM,
):
    """L-BFGS with a line search.

    Liu and Nocedal 1989: https://doi.org/10.1007/BF01589116. Same arguments, defaults
    and numbers as `optax.lbfgs`.

    Args:
        learning_rate: A number or a schedule; the line search multiplies it. 1 if None.
        memory_size: Number of steps in the memory. An int, at least 1.
        scale_init_precond: Whether to scale the initial inverse Hessian.
        linesearch: A transformation that scales the step; no line search if None.

    The line search needs `value`, `grad` and `value_fn` in `update`; get the first two
    from `value_and_grad_from_state`, which reuses the line search's last evaluation.

    Examples:
        >>> def loss(x):
        ...     return jnp.sum(x**2)
        >>> tx, params = gradtx.lbfgs(), jnp.array([3.0, 4.0])
        >>> value, grad = jax.value_and_grad(loss)(params)
        >>> updates, state = tx.update(grad, tx.init(params), params,
        ...     value=value, grad=grad, value_fn=loss)
        >>> print(f"{value:.2f} {state['value']:.2f}")
        25.00 16.00
    """
    return chain(
        scale_by_lbfgs(memory_size, scale_init_precond),
        scale(-1.0) if learning_rate is None else scale_by_learning_rate(learning_rate),
        identity() if linesearch is None else linesearch,
    )
