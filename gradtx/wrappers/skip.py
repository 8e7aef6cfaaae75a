"""Skipping of gradients that are not finite, too large, or outliers."""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.counts import next_count
from gradtx.compiler.nested import run, run_unless, trained
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Decay, Member, NonNegative, PositiveInt
from gradtx.core.arithmetic import abs2, safe_sqrt
from gradtx.core.call import FactoryValue
from gradtx.core.context import Leaf, SettleContext, Tree
from gradtx.core.dtypes import wide
from gradtx.core.errors import short_repr
from gradtx.core.rule import Rule, TreeRule, memoryless, squared_norm, zero
from gradtx.core.trees import map_with_none, zero_count
from gradtx.wrappers.accumulate import decided, first_info


def _condition(measure: Any, settle: Any, **numbers: Any) -> Rule:
    """The rule of a condition: it leaves updates unchanged and keeps `should_skip`."""
    never = {"should_skip": lambda arrays: jnp.zeros([], bool)}
    return memoryless(
        lambda u, leaf: u, measure=measure, shared=never | numbers, settle=settle
    )


def _said(state: Any) -> list[Any]:
    """The values of `should_skip` of a condition, or of several in a chain."""
    return [value for key, value in state.items() if "should_skip" in key.split(".")]


def _nothing_if_finite(u: Any) -> Any:
    """0 if all elements are finite, else NaN; from a maximum, which XLA fuses."""
    return 0 * jnp.max(jnp.abs(u), initial=0)


def all_finite(tree: Any) -> jax.Array:
    """Whether all elements of a tree are finite, as a bool."""
    sizes = map(_nothing_if_finite, map(wide, jax.tree.leaves(tree)))
    return jnp.isfinite(sum(sizes, jnp.zeros([])))


@transformation
def not_finite():
    """A condition of `skip`: an element is infinite or NaN.

    Leaves updates unchanged. Keeps `should_skip`.

    Examples:
        >>> tx = gradtx.skip(gradtx.sgd(0.5), when=gradtx.not_finite())
        >>> updates, state = tx.update(jnp.array([1.0, jnp.nan]), tx.init(jnp.zeros(2)))
        >>> print(updates, state["total_skipped"])
        [0. 0.] 1
    """

    def measure(u: Any, slots: Any, leaf: Leaf) -> Any:
        return _nothing_if_finite(u)

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
        return {"should_skip": jnp.isnan(total)}

    return _condition(measure, settle)


@transformation
def norm_above(max_norm: NonNegative):
    """A condition of `skip`: the global norm is above a number, or NaN.

    Args:
        max_norm: The number. At least 0.

    Leaves updates unchanged. Keeps `should_skip`.

    Examples:
        >>> condition = gradtx.chain(gradtx.not_finite(), gradtx.norm_above(10.0))
        >>> tx = gradtx.skip(gradtx.sgd(0.5), when=condition)
        >>> updates, state = tx.update(jnp.array([30.0, 40.0]), tx.init(jnp.zeros(2)))
        >>> print(updates, state["total_skipped"])
        [0. 0.] 1
    """

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
        return {"should_skip": ~(safe_sqrt(total) <= max_norm)}

    return _condition(squared_norm, settle)


@transformation
def norm_spikes(
    threshold: NonNegative = 6.0, decay: Decay = 0.99, warmup: PositiveInt = 64
):
    """A condition of `skip`: the global norm is an outlier among past norms, or NaN.

    An outlier exceeds their mean by more than `threshold` standard deviations, as in
    Kumar et al. 2025 (ZClip): https://arxiv.org/abs/2504.02507; the defaults are those
    of OLMo-core's `SkipStepOptimizer`. Mean and variance count an outlier as the bound,
    so they soon follow a lasting change. Norms of 0 are ignored.

    Args:
        threshold: Number of standard deviations, each at least a hundredth of the mean.
            At least 0.
        decay: Decay of mean and variance, in [0, 1).
        warmup: Number of finite norms before the first possible outlier, at least 1.

    Leaves updates unchanged. Keeps `should_skip`, `norm_mean`, `norm_variance`,
    `norm_count`.

    Examples:
        >>> tx = gradtx.skip(gradtx.sgd(0.5), when=gradtx.norm_spikes(6.0, warmup=3))
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, 1.1, 0.9, 50.0):
        ...     updates, state = tx.update(jnp.array(gradient), state)
        >>> print(updates, state["total_skipped"])
        0.0 1
    """

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
        norm, mean = safe_sqrt(total), shared["norm_mean"]
        deviation = jnp.maximum(safe_sqrt(shared["norm_variance"]), 0.01 * mean)
        is_warm = shared["norm_count"] >= warmup
        bound = jnp.where(is_warm, mean + threshold * deviation, jnp.inf)
        is_finite = jnp.isfinite(norm)
        counts = is_finite & (norm > 0)
        count = shared["norm_count"] + counts
        # The plain mean of all norms, until there are as many as the average spans.
        kept = jnp.minimum(decay, 1 - 1 / jnp.maximum(count, 1))
        way = jnp.where(counts, jnp.minimum(norm, bound) - mean, 0)
        variance = kept * (shared["norm_variance"] + (1 - kept) * way**2)
        return {
            "should_skip": ~(is_finite & (norm <= bound)),
            "norm_mean": mean + (1 - kept) * way,
            "norm_variance": jnp.where(counts, variance, shared["norm_variance"]),
            "norm_count": count,
        }

    return _condition(
        squared_norm, settle, norm_mean=zero, norm_variance=zero, norm_count=zero
    )


@transformation
def skip(transform: Member, when: Any = not_finite()):  # noqa: B008
    """Skip gradients that meet a condition: return zeros and leave all state untouched.

    A skipped gradient changes neither the slots nor the count of the transformation.

    Args:
        transform: The transformation.
        when: A condition: `not_finite()`, `norm_above(...)`, `norm_spikes()`, another
            transformation that keeps `should_skip`, or a chain of such; or a function
            `(updates, gradient_step, params) -> (bool, info)` like `skip_not_finite`.

    Keeps `gradient_step`, the number of steps, `total_skipped`, the state of the
    condition as `skip_state`, and the whole state of the transformation as `inner`.

    Examples:
        >>> tx = gradtx.skip(gradtx.adam(0.1))
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, jnp.inf, 1.0):
        ...     _, state = tx.update(jnp.array(gradient), state)
        >>> print(state["total_skipped"], state["inner"]["count"])
        1 2
    """
    is_ours, condition = isinstance(when, FactoryValue), when
    if not (is_ours or callable(when)) or hasattr(when, "factory"):
        hint = "; call it to make one" if callable(when) else ""
        raise TypeError(f"skip: when must be a condition, got {short_repr(when)}{hint}")

    def first(params: Any) -> Any:
        params = trained(transform, params)
        if not is_ours:
            return first_info("skip: when", when, params)
        state: Any = condition.init(params)
        if not _said(state):
            raise TypeError(
                f"skip: when must keep 'should_skip', got {short_repr(when)}"
            )
        return state

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        steps, seen = slots["gradient_step"], trained(transform, updates, tree.own)
        if is_ours:
            _, info = run(when, seen, slots["skip_state"], tree)
            is_skipped = functools.reduce(operator.or_, _said(info))
        else:
            is_skipped, info = decided(
                "skip: when", condition, seen, steps, tree.params
            )
        out, after = run_unless(is_skipped, transform, updates, slots["inner"], tree)
        return out, {
            "inner": after,
            "skip_state": info,
            "gradient_step": next_count(steps, ~is_skipped),
            "total_skipped": next_count(slots["total_skipped"], is_skipped),
        }

    counts = dict.fromkeys(("gradient_step", "total_skipped"), zero_count)
    kept = {"inner": transform} | ({"skip_state": when} if is_ours else {})
    slots = {"skip_state": first, **counts}
    return TreeRule(update, slots, takes=("**",), inner=kept)


@transformation
def apply_if_finite(inner: Member, max_consecutive_errors: NonNegative):
    """Skip gradients with NaN or infinities, up to a number of times in a row.

    Same arguments, defaults and numbers as `optax.apply_if_finite`.

    In optax the gradient accepted after that puts NaN into the transformation's state
    for good. Here the transformation gets zeros for elements that are not finite, and
    only their updates are NaN.

    Args:
        inner: The transformation.
        max_consecutive_errors: Number of gradients to skip in a row before one is
            accepted.

    Keeps `notfinite_count` (in a row), `last_finite`, `total_notfinite`, and the whole
    state of the transformation as `inner_state`.

    Examples:
        >>> tx = gradtx.apply_if_finite(gradtx.sgd(0.5), max_consecutive_errors=2)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (jnp.nan, jnp.nan, jnp.nan):
        ...     updates, state = tx.update(jnp.array(gradient), state)
        ...     print(updates, state["notfinite_count"])
        0.0 1
        0.0 2
        nan 3
    """

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        seen = trained(inner, updates, tree.own)
        is_finite = all_finite(seen)
        errors = jnp.where(is_finite, 0, next_count(slots["notfinite_count"]))
        is_due = is_finite | (errors > max_consecutive_errors)
        clean = jax.tree.map(_finite, updates)
        out, after = run_unless(~is_due, inner, clean, slots["inner_state"], tree)

        def visible(u: Any, given: Any) -> Any:
            if u is None or given is None or not jnp.issubdtype(u.dtype, jnp.inexact):
                return u
            return jnp.where(is_due & ~jnp.isfinite(given), jnp.nan, u)

        return map_with_none(visible, out, seen), {
            "notfinite_count": errors,
            "last_finite": is_finite,
            "total_notfinite": next_count(slots["total_notfinite"], ~is_finite),
            "inner_state": after,
        }

    counts = dict.fromkeys(("notfinite_count", "total_notfinite"), zero_count)
    always = {"last_finite": lambda params: jnp.ones([], bool)}
    kept = {"inner_state": inner}
    slots = {**counts, **always}
    return TreeRule(update, slots, takes=("**",), inner=kept, takes_integers=True)


def _finite(u: Any) -> Any:
    """An array with zeros for elements that are not finite."""
    return jnp.where(jnp.isfinite(u), u, jnp.zeros((), u.dtype))


def skip_not_finite(
    updates: Any, gradient_step: Any, params: Any
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Whether any element is infinite or NaN, for `skip` and `MultiSteps`.

    Same arguments, defaults and numbers as `optax.skip_not_finite`.

    Args:
        updates: The gradients.
        gradient_step: The number of past steps.
        params: The parameters, or None.

    Returns:
        The bool, and a dict with `should_skip` and `num_not_finite`.

    Examples:
        >>> tx = gradtx.MultiSteps(
        ...     gradtx.sgd(0.5), 2, should_skip_update_fn=gradtx.skip_not_finite)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, jnp.nan, 3.0):
        ...     updates, state = tx.update(jnp.array(gradient), state)
        >>> print(updates)
        -1.0
    """
    counts = [jnp.sum(~jnp.isfinite(u)) for u in jax.tree.leaves(updates)]
    number = sum(counts, jnp.zeros([], jnp.int32)).astype(jnp.int32)
    return number > 0, {"should_skip": number > 0, "num_not_finite": number}


def skip_large_updates(
    updates: Any, gradient_step: Any, params: Any, max_squared_norm: Any
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Whether the squared global norm is at least a number, or NaN.

    Same arguments, defaults and numbers as `optax.skip_large_updates`.

    Args:
        updates: The gradients.
        gradient_step: The number of past steps.
        params: The parameters, or None.
        max_squared_norm: The number; bind it with `functools.partial`.

    Returns:
        The bool, and a dict with `should_skip` and `norm_squared`.

    Examples:
        >>> def is_large(*given):
        ...     return gradtx.skip_large_updates(*given, max_squared_norm=100.0)
        >>> tx = gradtx.skip(gradtx.sgd(0.5), when=is_large)
        >>> updates, state = tx.update(jnp.array([30.0, 40.0]), tx.init(jnp.zeros(2)))
        >>> print(updates, state["total_skipped"])
        [0. 0.] 1
    """
    squares = [jnp.sum(abs2(wide(u))) for u in jax.tree.leaves(updates)]
    total = sum(squares, jnp.zeros([]))
    is_large = ~(total < max_squared_norm)
    return is_large, {"should_skip": is_large, "norm_squared": total}
