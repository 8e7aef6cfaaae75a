"""Metrics from inside a chain: scalars in the state.

Measuring reads the arrays once more. Metrics that the jitted step does not return cost
nothing: XLA drops unused computations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.checks import check_state
from gradtx.compiler.leaves import is_state
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Member
from gradtx.core.arithmetic import abs2, inner, safe_ratio, safe_sqrt
from gradtx.core.context import Leaf, Private, SettleContext, Tree
from gradtx.core.errors import dtype_and_shape, hint_for, short_repr
from gradtx.core.factory import part
from gradtx.core.paths import matched
from gradtx.core.rule import METRIC, Rule, Slot, TreeRule, zero
from gradtx.transforms.combine import chain, identity, let

READ = Slot(zero, is_only_here=True)
"""A whole-tree scalar that is kept for reading only."""


@transformation
def record(name: str, measure: Callable[[Any, Any], Any]):
    """Keep a scalar metric, a function of the updates here and the parameters.

    Args:
        name: `metrics(state)[name]` is the last value; initially 0.
        measure: `(updates, params) -> scalar`; params are None if `update` got none.

    Raises:
        ValueError: At `update`: the function does not return a scalar.

    Examples:
        >>> def largest(updates, params):
        ...     return jnp.max(jnp.abs(updates))
        >>> tx = gradtx.chain(gradtx.record("largest", largest), gradtx.sgd(0.5))
        >>> _, state = tx.update(jnp.array([3.0, -4.0]), tx.init(jnp.zeros(2)))
        >>> print(gradtx.metrics(state)["largest"])
        4.0
    """

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        value = jnp.asarray(measure(updates, tree.params))
        if value.shape:
            raise ValueError(
                f"record: {name!r} must be a scalar, got {dtype_and_shape(value)}"
            )
        return updates, {METRIC + name: value.astype(jnp.float32)}

    def first(params: Any) -> Any:
        return jnp.zeros([], jnp.float32)

    slots = {METRIC + name: Slot(first, is_only_here=True)}
    return TreeRule(update, slots, passes=True)


@transformation
def norms(*patterns: str):
    """Keep norms of gradients, updates and parameters, and their ratios.

    Put it last: `chain(clip_by_global_norm(1.0), adamw(1e-3), norms())`. Gradients are
    the argument of `update`; updates are the input of `norms`.

    Args:
        patterns: Patterns as in `groups`, for metrics `name/pattern` per group.

    `metrics(state)` has `grad_norm`, `update_norm`, `param_norm`, `update_ratio` (the
    norm of the updates over that of the parameters), and `cosine` (of the gradients and
    the updates, -1 for plain descent). Ratios with a norm of 0 are 0.

    Raises:
        TypeError: A pattern is not a string.
        ValueError: At `init`: patterns do not fit, see `groups`.

    Examples:
        >>> tx, params = gradtx.chain(gradtx.sgd(0.5), gradtx.norms()), jnp.array(8.0)
        >>> _, state = tx.update(jnp.array(4.0), tx.init(params), params)
        >>> found = gradtx.metrics(state)
        >>> print(found["grad_norm"], found["update_norm"], found["update_ratio"])
        4.0 2.0 0.25
    """
    for pattern in patterns:
        if not isinstance(pattern, str):
            given = f"{short_repr(pattern)}{hint_for(pattern)}"
            raise TypeError(f"norms: patterns must be strings, got {given}")

    def measure(u: Any, slots: Any, leaf: Leaf) -> Any:
        grad, param = leaf.recall("entered"), leaf.param
        squares = [jnp.sum(abs2(x)) for x in (grad, u, param)]
        mine = jnp.stack([*squares, inner(grad, u)])
        if not patterns:
            return mine
        return (
            jnp.zeros((len(patterns), len(mine)), mine.dtype).at[leaf.static].set(mine)
        )

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
        rows = [(f"/{p}", total[i]) for i, p in enumerate(patterns)] or [("", total)]
        return {
            f"{METRIC}{name}{suffix}": value
            for suffix, row in rows
            for name, value in _norms_of(row).items()
        }

    def static(params: Any) -> Any:
        treedef = jax.tree.structure(params)
        labels = matched("norms", patterns, treedef)
        return treedef.unflatten([patterns.index(label) for label in labels])

    suffixes = [f"/{p}" for p in patterns] or [""]
    names = [f"{METRIC}{name}{suffix}" for suffix in suffixes for name in NORMS]
    return Rule(
        lambda u, slots, leaf: (u, slots),
        measure=measure,
        shared=dict.fromkeys(names, READ),
        settle=settle,
        passes=True,
        static=static if patterns else None,
        sees_entry=True,
    )


NORMS = ("grad_norm", "update_norm", "param_norm", "update_ratio", "cosine")


def _norms_of(sums: Any) -> dict[str, Any]:
    grad, update, param = safe_sqrt(sums[:3])
    cosine = safe_ratio(sums[3], grad * update)
    values = grad, update, param, safe_ratio(update, param), cosine
    return dict(zip(NORMS, values, strict=True))


@transformation
def clipping(transform: Member):
    """Keep the fraction of updates that a clipping transformation changed.

    In `chain(clipping(clip_by_global_norm(1.0)), adamw(1e-3))` the fraction is
    `metrics(state)["clipped_share"]`.

    Args:
        transform: A clipping transformation, or any that changes only some updates.

    Examples:
        >>> tx = gradtx.chain(gradtx.clipping(gradtx.clip(1.0)), gradtx.sgd(0.5))
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (0.5, 3.0):
        ...     _, state = tx.update(jnp.array(gradient), state)
        >>> print(gradtx.metrics(state)["clipped_share"])
        0.5
    """
    return let(UNCLIPPED, identity(), chain(transform, _share()))


UNCLIPPED = Private("unclipped")


@part
@transformation
def _share():
    name = f"{METRIC}clipped_share"

    def measure(u: Any, slots: Any, leaf: Leaf) -> Any:
        return jnp.sum(u != leaf.recall(UNCLIPPED), dtype=jnp.float32)

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
        is_clipped, t = (total > 0).astype(jnp.float32), shared["clip_count"] + 1
        return {name: shared[name] + (is_clipped - shared[name]) / t, "clip_count": t}

    return Rule(
        lambda u, slots, leaf: (u, slots),
        measure=measure,
        shared={name: READ, "clip_count": READ},
        settle=settle,
        passes=True,
    )


def metrics(state: Any) -> dict[str, Any]:
    """The metrics of `record`, `norms` and `clipping` by name, from the whole state.

    If several metrics have the same name, the keys of the states around them qualify
    it, as in the keys of the state: `inner.grad_norm`.

    Args:
        state: A state of gradtx.

    Raises:
        TypeError: Not a state of gradtx.

    Examples:
        >>> measured = gradtx.chain(gradtx.sgd(0.5), gradtx.norms())
        >>> tx, params = gradtx.accumulate(measured, every=1), jnp.array(8.0)
        >>> _, state = tx.update(jnp.array(4.0), tx.init(params), params)
        >>> print(gradtx.metrics(state)["update_norm"])
        2.0
    """
    check_state("metrics", state)
    found = [*_metrics(state, ())]
    names = [name for _, name, _ in found]
    return {
        ".".join((*path, name)) if names.count(name) > 1 else name: value
        for path, name, value in found
    }


def _metrics(
    state: Any, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Per metric: the keys of the states around it, its name, and its value."""
    if not is_state(state):
        return  # a slot, not a state
    for key, value in state.items():
        before, is_metric, name = key.partition(METRIC)
        if is_metric:
            yield path, before + name, value
        yield from _metrics(value, (*path, key))
