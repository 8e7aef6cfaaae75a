"""Whether and when a transformation runs: conditions, skipped and accumulated updates.

Through a condition go the inner state, which is not copied, and one tree: the
accumulator, or the updates that leave.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import lax
from jax import numpy as jnp

from gradtx.binding import Remembered
from gradtx.kernel import wide
from gradtx.program import next_count
from gradtx.roles import DType, EveryAtItsOwnCount, Member
from gradtx.rule import Tree, TreeRule, abs2
from gradtx.transform import transformation
from gradtx.trees import like, zeros_like


def _zero(params: Any) -> jax.Array:
    return jnp.zeros([], jnp.int32)


def _grown(count: Any, by: Any) -> Any:
    """A count, and one more where a bool is true."""
    return jnp.where(by, next_count(count), count)


def _first_info(skips: Callable[..., Any], params: Any) -> Any:
    return skips(zeros_like(params), _zero(params), params)[1]


def _where(is_chosen: Any, chosen: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(is_chosen, a, b), chosen, other)


def run(transform: Any, updates: Any, state: Any, tree: Tree) -> tuple[Any, Any]:
    """What a transformation inside a tree rule makes of updates.

    Ours gets all parameters, since it skips leaves without an update by itself.
    """
    is_ours = isinstance(transform, Remembered)
    params = tree.whole if is_ours else tree.params
    inner: Any = optax.with_extra_args_support(transform)  # pyright: ignore[reportArgumentType]
    return inner.update(updates, state, params, **tree.extra)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def run_if(
    is_due: Any,
    transform: Any,
    updates: Any,
    state: Any,
    tree: Tree,
    otherwise: Callable[[Any], Any] = lambda updates: updates,
) -> tuple[Any, Any]:
    """The same, or what is made of the updates otherwise, and the state as it is."""

    def step(carry: Any) -> Any:
        given, before = carry
        out, after = run(transform, given, before, tree)
        return like(out, given), after

    def keep(carry: Any) -> Any:
        given, before = carry
        return otherwise(given), before

    # In this order: with the branches exchanged XLA copies the state.
    return lax.cond(is_due, step, keep, (updates, state))


def _conditionally(
    inner: Any, should_transform_fn: Any, passes_extra: bool, *otherwise: Any
) -> TreeRule:
    """The rule of a transformation that a function of the count decides on."""

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        step, given = slots["step"], tree.extra if passes_extra else {}
        is_due = jnp.asarray(should_transform_fn(step, **given))
        before = slots["inner_state"]
        out, after = run_if(is_due, inner, updates, before, tree, *otherwise)
        return out, {"inner_state": after, "step": next_count(step)}

    slots = {"inner_state": inner.init, "step": _zero}
    return TreeRule(update, slots, takes=("**",))


@transformation
def conditionally_transform(
    inner: Member,
    should_transform_fn: Callable[..., Any],
    forward_extra_args: bool = False,
):
    """Apply a transformation where a condition holds; else updates pass. As optax.

    Args:
        inner: The transformation. Its own count counts the updates that it made.
        should_transform_fn: `(step) -> bool`, with the number of updates before.
        forward_extra_args: Whether it also gets the extra arguments by name.

    Keeps `inner_state` whole, and `step`.
    """
    return _conditionally(inner, should_transform_fn, forward_extra_args)


@transformation
def conditionally_mask(
    inner: Member,
    should_transform_fn: Callable[..., Any],
    forward_extra_args: bool = False,
):
    """Apply a transformation where a condition holds; else give zeros. As optax.

    Arguments as `conditionally_transform`. Keeps `inner_state` whole, and `step`.
    """
    return _conditionally(inner, should_transform_fn, forward_extra_args, _zeros)


def _accumulating(
    transform: Any, every: Any, mean: bool, dtype: Any, skips: Any, key: str
) -> TreeRule:
    """The rule of `accumulate`, its inner state under a key, and maybe with skips."""

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        n, steps, acc = slots["mini_step"], slots["gradient_step"], slots["acc_grads"]
        is_skipped, new = jnp.zeros([], bool), {}
        if skips is not None:
            is_skipped, info = skips(updates, steps, tree.params)
            new["skip_state"] = info
        is_due = ~is_skipped & (n + 1 >= (every(steps) if callable(every) else every))

        def add(a: Any, u: Any) -> Any:
            if a is None or u is None:
                return None
            a = a.astype(u.dtype)
            grown = a + ((u - a) / (n + 1).astype(u.real.dtype) if mean else u)
            return jnp.where(is_skipped, a, grown)

        total = jax.tree.map(add, acc, updates, is_leaf=lambda x: x is None)
        out, after = run_if(is_due, transform, total, slots[key], tree)
        zeros = _zeros(total)
        n = jnp.where(is_due, 0, _grown(n, ~is_skipped))
        new |= {"mini_step": n, "gradient_step": _grown(steps, is_due), key: after}
        new["acc_grads"] = like(_where(is_due, zeros, out), acc)
        return _where(is_due, out, zeros), new

    def first(params: Any) -> Any:
        zeros = zeros_like(params)
        return zeros if dtype is None else optax.tree.cast(zeros, dtype)

    slots = {"mini_step": _zero, "gradient_step": _zero, key: transform.init}
    slots["acc_grads"] = first
    if skips is not None:
        slots["skip_state"] = functools.partial(_first_info, skips)
    return TreeRule(update, slots, takes=("**",))


@transformation
def accumulate(
    transform: Member,
    every: EveryAtItsOwnCount,
    *,
    mean: bool = True,
    dtype: DType | None = None,
):
    """Run a transformation once every so many updates, on the mean of the gradients.

    The others give zeros and leave its state as it is, so that its schedules count the
    steps that it took.

    Args:
        transform: The transformation.
        every: How many gradients a step takes, whole and at least 1; or a schedule of
            it, which counts steps.
        mean: Whether it gets their mean, or their sum.
        dtype: What is accumulated in; at least float32 if None.

    Keeps `mini_step` (gradients since the last step), `gradient_step` (steps),
    `acc_grads`, and the state of the transformation whole as `inner`.
    """
    return _accumulating(transform, every, mean, dtype, None, "inner")


@transformation
def _multi_steps(
    opt: Member, every: EveryAtItsOwnCount, mean: bool, skips: Any, dtype: DType | None
):
    return _accumulating(opt, every, mean, dtype, skips, "inner_opt_state")


class MultiSteps:
    """As `optax.MultiSteps`: `accumulate`, with mini-steps that may be skipped.

    Args:
        opt: The transformation.
        every_k_schedule: As `every` of `accumulate`.
        use_grad_mean: As `mean` of `accumulate`.
        should_skip_update_fn: `(updates, gradient_step, params) -> (bool, info)`:
            whether a gradient is passed over, and arrays, kept as `skip_state`.
        accumulator_dtype: As `dtype` of `accumulate`.

    The state has the fields of optax's by name: `state["mini_step"]`, ...
    """

    def __init__(
        self,
        opt: optax.GradientTransformation,
        every_k_schedule: Any,
        use_grad_mean: bool = True,
        should_skip_update_fn: Any = None,
        accumulator_dtype: Any = jnp.float32,
    ):
        self._accumulated = _multi_steps(
            opt, every_k_schedule, use_grad_mean, should_skip_update_fn,
            accumulator_dtype,
        )  # fmt: skip

    @property
    def inner_opt(self) -> optax.GradientTransformation:
        """The transformation that runs once in a while."""
        return self._accumulated.arguments["opt"]

    def init(self, params: Any) -> dict[str, Any]:
        """The state for some parameters."""
        return self._accumulated.init(params)

    def update(
        self, updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Zeros, or once in a while a step."""
        return self._accumulated.update(updates, state, params, **extra)

    def has_updated(self, state: Any) -> jax.Array:
        """Whether the last update was a step."""
        return (state["mini_step"] == 0) & (state["gradient_step"] > 0)

    def gradient_transformation(self) -> Any:
        """The same as one transformation, which goes into chains."""
        return self._accumulated


def skip_not_finite(
    updates: Any, gradient_step: Any, params: Any
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Whether any element is infinite or NaN, for `skip` and `MultiSteps`. As optax.

    Returns:
        The bool, and `should_skip` and `num_not_finite` by name.
    """
    counts = [jnp.sum(~jnp.isfinite(u)) for u in jax.tree.leaves(updates)]
    number = sum(counts, jnp.zeros([], jnp.int32)).astype(jnp.int32)
    return number > 0, {"should_skip": number > 0, "num_not_finite": number}


def skip_large_updates(
    updates: Any, gradient_step: Any, params: Any, max_squared_norm: Any
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Whether the squared global norm is not below a number, or NaN. As optax.

    Args:
        updates: The gradients.
        gradient_step: The number of steps before.
        params: The parameters, or None.
        max_squared_norm: The number; give it with `functools.partial`.

    Returns:
        The bool, and `should_skip` and `norm_squared` by name.
    """
    squares = [jnp.sum(abs2(wide(u))) for u in jax.tree.leaves(updates)]
    total = sum(squares, jnp.zeros([]))
    is_large = ~(total < max_squared_norm)
    return is_large, {"should_skip": is_large, "norm_squared": total}


@transformation
def skip(transform: Member, when: Callable[..., Any] = skip_not_finite):
    """Run a transformation, but not on some gradients: these give zeros.

    A skipped update leaves the state of the transformation as it is, every slot and
    its count.

    Args:
        transform: The transformation.
        when: `(updates, gradient_step, params) -> (bool, info)`: whether to skip, and
            arrays that are kept as `skip_state`; see `skip_not_finite` and
            `skip_large_updates`.

    Keeps `gradient_step`, the number of steps, `total_skipped`, `skip_state`, and the
    state of the transformation whole as `inner`.
    """

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        steps = slots["gradient_step"]
        is_skipped, info = when(updates, steps, tree.params)
        before = slots["inner"]
        out, after = run_if(~is_skipped, transform, updates, before, tree, _zeros)
        return out, {
            "inner": after,
            "skip_state": info,
            "gradient_step": _grown(steps, ~is_skipped),
            "total_skipped": _grown(slots["total_skipped"], is_skipped),
        }

    slots = {"inner": transform.init, "gradient_step": _zero, "total_skipped": _zero}
    slots["skip_state"] = functools.partial(_first_info, when)
    return TreeRule(update, slots, takes=("**",))
