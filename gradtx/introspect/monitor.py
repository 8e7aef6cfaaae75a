"""Measurements of the updates in a chain: `snapshot` and `monitor`.

Measured updates are written to memory, unless they are the gradients.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.nested import run
from gradtx.compiler.transformation import transformation
from gradtx.core.context import Tree
from gradtx.core.dtypes import wide
from gradtx.core.rule import Slot, TreeRule
from gradtx.core.trees import like
from gradtx.transforms.bias import ema


def _widened(tree: Any) -> Any:
    return jax.tree.map(lambda x: wide(jnp.asarray(x)), tree)


def _of_params(measure: Callable[[Any], Any], params: Any) -> Any:
    """A measurement of parameters, in the same precision as that of updates."""
    return _widened(measure(_widened(params)))


@transformation
def snapshot(measure_name: str, measure: Callable[[Any], Any]):
    """Keep a measurement of the updates in a chain, under a name.

    Same arguments, defaults and numbers as `optax.snapshot`.

    Args:
        measure_name: `state[measure_name]` is the last measurement, initially that of
            the parameters.
        measure: `(updates) -> pytree of arrays`.

    Examples:
        >>> tx = gradtx.chain(gradtx.snapshot("largest", jnp.max), gradtx.sgd(0.5))
        >>> _, state = tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))
        >>> print(state["largest"])
        4.0
    """

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        seen = measure(lax.optimization_barrier(updates))
        return updates, {measure_name: like(seen, slots[measure_name])}

    field = f"SnapshotState.measurement.{measure_name}"
    first = functools.partial(_of_params, measure)
    slots = {measure_name: Slot(first, in_optax=field)}
    return TreeRule(update, slots, passes=True)


@transformation
def monitor(measures: Mapping[str, Any]):
    """Keep several measurements of the updates in a chain, by name.

    Same arguments, defaults and numbers as `optax.monitor`.

    Args:
        measures: Per name a function `(updates) -> pytree of arrays`, or a
            transformation whose output is the measurement, such as
            `measure_with_ema(...)`: its whole state is kept as `<name>.state`.

    `state[name]` is the last measurement, initially zeros (in optax it is absent at
    first, so that the structure of the state changes).

    Examples:
        >>> tx = gradtx.chain(
        ...     gradtx.monitor({"largest": jnp.max, "mean": jnp.mean}), gradtx.sgd(0.5))
        >>> _, state = tx.update(jnp.array([1.0, 4.0]), tx.init(jnp.zeros(2)))
        >>> print(state["largest"], state["mean"])
        4.0 2.5
    """
    kept = {name: m for name, m in measures.items() if _is_transformation(m)}

    def measured(name: str, updates: Any, state: Any, tree: Tree) -> tuple[Any, Any]:
        if name in kept:
            return run(kept[name], updates, state, tree)
        return measures[name](updates), None

    def first(name: str, params: Any) -> Any:
        def measure() -> Any:
            widened = _widened(params)
            state = kept[name].init(params) if name in kept else None
            tree = Tree(params, params, params, widened, jnp.zeros([], jnp.int32), {})
            return measured(name, widened, state, tree)[0]

        shapes = jax.eval_shape(measure)
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        new, seen = {}, lax.optimization_barrier(updates)
        for name in measures:
            state = slots.get(f"{name}.state")
            out, after = measured(name, seen, state, tree)
            new[name] = like(out, slots[name])
            if name in kept:
                new[f"{name}.state"] = after
        return updates, new

    slots: dict[str, Any] = {
        name: Slot(
            functools.partial(first, name),
            in_optax=f"MonitorState.measurements.{name}",
        )
        for name in measures
    }
    slots |= {f"{name}.state": transform.init for name, transform in kept.items()}
    return TreeRule(update, slots, takes=("**",), passes=True)


def _is_transformation(measure: Any) -> bool:
    return isinstance(measure, optax.GradientTransformation)


def measure_with_ema(
    measure: Callable[[Any], Any],
    decay: Any,
    debias: bool = True,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Moving average of a measurement, for `monitor`.

    Same arguments, defaults and numbers as `optax.measure_with_ema`.

    Args:
        measure: `(updates) -> pytree of arrays`.
        decay: Decay of the average, in [0, 1).
        debias: Whether to divide by `1 - decay**t`.
        accumulator_dtype: Storage dtype; at least float32 if None.

    It returns the average as updates: use it in `monitor`, not in a chain.

    Examples:
        >>> smooth = gradtx.measure_with_ema(jnp.max, decay=0.5)
        >>> tx = gradtx.chain(gradtx.monitor({"largest": smooth}), gradtx.sgd(0.5))
        >>> state = tx.init(jnp.zeros(2))
        >>> for gradient in (1.0, 4.0):
        ...     _, state = tx.update(jnp.full(2, gradient), state)
        >>> print(f"{state['largest']:.2f}")
        3.00
    """
    average = ema(decay, debias, accumulator_dtype)

    def init(params: Any) -> Any:
        return average.init(_of_params(measure, params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        return average.update(_widened(measure(updates)), state)

    return optax.GradientTransformationExtraArgs(init, update)
