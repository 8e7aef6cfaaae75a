"""Gradient accumulation: average several gradients into one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jax import numpy as jnp

from gradtx.compiler.counts import next_count
from gradtx.compiler.fusion import apart
from gradtx.compiler.nested import run_when, trained
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import DType, Member, PositiveIntAtItsOwnCount
from gradtx.core.context import Tree
from gradtx.core.rule import Slot, TreeRule
from gradtx.core.stable import stable
from gradtx.core.state import State
from gradtx.core.trees import like, map_with_none, where, wide_zeros, zero_count, zeros


def decided(owner: str, condition: Any, *given: Any) -> tuple[Any, Any]:
    """The result of a condition on gradients: whether to skip them, and its info."""
    said = condition(*given)
    is_pair = isinstance(said, tuple) and len(said) == 2
    is_skipped = jnp.asarray(said[0]) if is_pair and said[0] is not None else None
    if is_skipped is None or is_skipped.shape or is_skipped.dtype != bool:
        raise TypeError(f"{owner} must give a bool and a tree, got {said!r}")
    return is_skipped, said[1]


def first_info(owner: str, condition: Any, params: Any) -> Any:
    """The info of a condition on gradients for zeros, as the initial state."""
    return decided(owner, condition, wide_zeros(params), zero_count(params), params)[1]


SKIPS = "MultiSteps: should_skip_update_fn"


def accumulating(
    transform: Any,
    every: Any,
    mean: bool,
    dtype: Any,
    *,
    skips: Any = None,
    key: str = "inner",
    measured: Mapping[str, Slot] | None = None,
    measure: Callable[..., Mapping[str, Any]] | None = None,
) -> TreeRule:
    """The rule of `accumulate`.

    Args:
        transform: The transformation.
        every: Number of gradients per step, or a schedule.
        mean: Whether it gets the mean of the gradients or their sum.
        dtype: Dtype of the accumulated gradients; at least float32 if None.
        skips: See `should_skip_update_fn` of `MultiSteps`.
        key: The key of the inner state.
        measured: More slots by name, which do not change updates; or None.
        measure: Their next values, `(slots, gradient, mean, number, is_due) -> slots`;
            the mean is over `number` gradients, None for frozen leaves.
    """

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        n, steps, acc = slots["mini_step"], slots["gradient_step"], slots["acc_grads"]
        is_skipped, new = jnp.asarray(tree.is_skipped), {}
        if skips is not None:
            seen = trained(transform, updates, tree.own)
            is_refused, info = decided(SKIPS, skips, seen, steps, tree.params)
            new["skip_state"] = where(is_skipped, slots["skip_state"], info)
            is_skipped |= is_refused
        is_due = ~is_skipped & (n + 1 >= (every(steps) if callable(every) else every))

        def add(a: Any, u: Any) -> Any:
            if a is None:
                return None
            u = jnp.zeros_like(a) if u is None else u
            a, u, size = apart(a.astype(u.dtype), u, (n + 1).astype(u.real.dtype))
            grown = a + ((u - a) / size if mean else u)
            return jnp.where(is_skipped, a, grown)

        def per_gradient(total: Any) -> Any:
            return None if total is None else total / (n + 1).astype(total.real.dtype)

        def mean_or_frozen(total: Any, u: Any) -> Any:
            return u if u is None or total is None else total

        def rest(total: Any, out: Any) -> Any:
            # From the outputs of the condition, so that XLA allocates no second tree.
            if total is None:
                return None
            return jnp.where(is_due, 0, total if out is None else out)

        total = map_with_none(add, acc, updates)
        if measured and measure:
            of_all = total if mean else map_with_none(per_gradient, total)
            found = measure(slots, updates, of_all, n + 1, is_due)
            new |= where(is_skipped, {name: slots[name] for name in measured}, found)
        given = map_with_none(mean_or_frozen, total, updates)
        out, after = run_when(is_due, transform, given, slots[key], tree)
        n = jnp.where(is_due, 0, next_count(n, ~is_skipped))
        new |= {"mini_step": n, "gradient_step": next_count(steps, is_due), key: after}
        new["acc_grads"] = like(map_with_none(rest, total, out), acc)
        return where(is_due, out, zeros(out)), new

    def first(params: Any) -> Any:
        def cast(zero: Any) -> Any:
            is_complex = jnp.iscomplexobj(zero)
            wanted = jnp.promote_types(dtype, jnp.complex64) if is_complex else dtype
            return zero.astype(wanted)

        nothing = wide_zeros(trained(transform, params))
        return nothing if dtype is None else jax.tree.map(cast, nothing)

    slots: dict[str, Any] = dict.fromkeys(("mini_step", "gradient_step"), zero_count)
    slots["acc_grads"] = Slot(first, is_elementwise=True)
    slots |= measured or {}
    if skips is not None:
        slots["skip_state"] = lambda params: first_info(
            SKIPS, skips, trained(transform, params)
        )
    return TreeRule(
        update,
        slots,
        inner={key: transform},
        takes=("**",),
        waits=True,
        in_optax={key: "inner_opt_state"},
        clock="gradient_step",
    )


@transformation
def accumulate(
    transform: Member,
    every: PositiveIntAtItsOwnCount,
    *,
    mean: bool = True,
    dtype: DType | None = None,
):
    """Accumulate gradients: run a transformation on the mean of every few gradients.

    Updates in between are zeros and leave the state of the transformation unchanged, so
    its schedules count steps, not gradients.

    Args:
        transform: The transformation.
        every: Number of gradients per step, whole and at least 1; or a schedule, which
            counts steps.
        mean: Whether the transformation gets the mean of the gradients or their sum.
        dtype: Dtype of the accumulated gradients; at least float32 if None.

    A gradient of None counts as zeros; if it is the last of a step, its leaf gets no
    update. Parameters that the transformation freezes are not accumulated.

    Keeps `mini_step` (gradients since the last step), `gradient_step` (steps),
    `acc_grads`, and the whole state of the transformation as `inner`.

    Examples:
        >>> tx = gradtx.accumulate(gradtx.sgd(0.5), every=2)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, 3.0, 5.0):
        ...     updates, state = tx.update(jnp.array(gradient), state)
        ...     print(updates, state["gradient_step"])
        0.0 0
        -1.0 1
        0.0 1
    """
    return accumulating(transform, every, mean, dtype)


@stable
@transformation
def multi_steps(
    opt: Member,
    every: PositiveIntAtItsOwnCount,
    mean: bool,
    skips: Any,
    dtype: DType | None,
):
    """The transformation that `MultiSteps` makes."""
    return accumulating(opt, every, mean, dtype, skips=skips, key="inner_opt_state")


class MultiSteps:
    """Like `optax.MultiSteps`: `accumulate`, with mini-steps that may be skipped.

    Args:
        opt: The transformation.
        every_k_schedule: See `every` of `accumulate`.
        use_grad_mean: See `mean` of `accumulate`.
        should_skip_update_fn: `(updates, gradient_step, params) -> (bool, info)`:
            whether to skip a gradient, and a dict of arrays, kept as `skip_state`;
            `has_updated` reads `should_skip` from it.
        accumulator_dtype: See `dtype` of `accumulate`.

    The state has the fields of `optax.MultiStepsState`: `state.mini_step`, ...

    Examples:
        >>> tx = gradtx.MultiSteps(gradtx.sgd(0.5), every_k_schedule=2)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, 3.0):
        ...     updates, state = tx.update(jnp.array(gradient), state)
        ...     print(updates, tx.has_updated(state))
        0.0 False
        -1.0 True
    """

    def __init__(
        self,
        opt: optax.GradientTransformation,
        every_k_schedule: Any,
        use_grad_mean: bool = True,
        should_skip_update_fn: Any = None,
        accumulator_dtype: Any = jnp.float32,
    ):
        self._accumulated = multi_steps(
            opt, every_k_schedule, use_grad_mean, should_skip_update_fn,
            accumulator_dtype,
        )  # fmt: skip

    @property
    def inner_opt(self) -> optax.GradientTransformation:
        """The inner transformation."""
        return self._accumulated.arguments["opt"]

    def init(self, params: Any) -> State:
        """The initial state for parameters."""
        return self._accumulated.init(params)

    def update(
        self, updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        """Zeros, or the update of a complete step."""
        return self._accumulated.update(updates, state, params, **extra)

    def has_updated(self, state: Any) -> jax.Array:
        """Whether the last update was a step.

        False if its gradient was skipped. That is read from `should_skip` in the info
        of `should_skip_update_fn`, as in `skip_not_finite` and `skip_large_updates`.
        """
        has_stepped = (state["mini_step"] == 0) & (state["gradient_step"] > 0)
        info = state.get("skip_state")
        is_mapping = isinstance(info, Mapping)
        skipped = info.get("should_skip") if is_mapping else None
        skipped = getattr(info, "should_skip", skipped)
        return has_stepped if skipped is None else has_stepped & ~jnp.asarray(skipped)

    def gradient_transformation(self) -> Any:
        """The same as a transformation, for use in chains."""
        return self._accumulated
