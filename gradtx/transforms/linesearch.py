"""Line searches: scale the update so that the objective falls by enough.

They share a `Line`, the objective along the updates; the zoom line search is in
`zoom.py`. Line searches are while loops, without a derivative in reverse mode.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.leaves import is_state
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import NonNegative, Positive
from gradtx.core.arguments import NumberRole
from gradtx.core.context import Tree, no_params
from gradtx.core.errors import dtype_and_shape
from gradtx.core.rule import TreeRule
from gradtx.core.trees import is_none, like, wide_zeros

NEEDS = ("value", "grad", "value_fn")
Retries = Annotated[Any, NumberRole("at least 0", low=0, is_count=True)]


class Point(NamedTuple):
    """A step size, and the objective's value and slope there."""

    stepsize: Any
    value: Any
    slope: Any


class Line:
    """The objective along the updates, as a function of the step size.

    A leaf whose update is None does not move.

    Attributes:
        start: The point at step size 0.
        grad: The gradient there, as `jax.grad` returns it. The argument of `update`
            is its conjugate for complex parameters, as the updates are.
    """

    def __init__(self, owner: str, updates: Any, slots: Any, tree: Tree):
        if tree.params is None:
            raise no_params(owner)
        self.owner, self.updates, self.params = owner, updates, tree.whole
        self.dtype, self.kept = slots["value"].dtype, slots.get("grad")
        self.value_fn = tree.extra["value_fn"]
        self.given = {k: x for k, x in tree.extra.items() if k not in NEEDS}
        _check_arguments(owner, self.value_fn, self.given)
        self.grad = jax.tree.map(
            lambda u, g: None if u is None else jnp.conj(g),
            updates,
            tree.extra["grad"],
            is_leaf=is_none,
        )
        value = self.scalar("value", tree.extra["value"])
        self.start = Point(jnp.zeros_like(value), value, self.slope(self.grad))

    def numbers(self, *numbers: Any) -> list[Any]:
        """Numbers (None stays None) in the precision of the search."""
        return jax.tree.map(lambda x: jnp.asarray(x, self.dtype), list(numbers))

    def slope(self, grad: Any) -> Any:
        """The derivative along the updates, from the gradient."""
        parts = jax.tree.map(lambda u, g: jnp.sum(jnp.real(g * u)), self.updates, grad)
        return jnp.asarray(sum(jax.tree.leaves(parts)), self.dtype)

    def move(self, stepsize: Any) -> Any:
        """The moving parameters after a step, in their own dtypes."""
        return jax.tree.map(
            lambda u, p: None if u is None else (p + stepsize * u).astype(p.dtype),
            self.updates,
            self.params,
            is_leaf=is_none,
        )

    def value(self, moved: Any) -> Any:
        """The objective, from the moving parameters and the fixed ones."""
        params = jax.tree.map(
            lambda m, p: p if m is None else m, moved, self.params, is_leaf=is_none
        )
        return self.scalar("value_fn", self.value_fn(params, **self.given))

    def scalar(self, what: str, value: Any) -> Any:
        """A value of the objective, in the precision of the search."""
        if isinstance(value, tuple | list) or value is None:
            kind = type(value).__name__
            raise TypeError(
                f"{self.owner}: {what} must give a real scalar, got a {kind}"
            )
        value = jnp.asarray(value)
        if value.shape or jnp.iscomplexobj(value):
            raise TypeError(
                f"{self.owner}: {what} must give a real scalar, got "
                f"{dtype_and_shape(value)}"
            )
        return value.astype(self.dtype)

    def at(self, stepsize: Any) -> tuple[Point, Any]:
        """The point at a step size, and the gradient there in the form of the state."""
        value, grad = jax.value_and_grad(self.value)(self.move(stepsize))
        return Point(stepsize, value, self.slope(grad)), like(grad, self.kept)

    def step(self, stepsize: Any) -> Any:
        """The updates, scaled."""
        return jax.tree.map(lambda u: stepsize * u, self.updates)


def _check_arguments(owner: str, value_fn: Callable, given: Mapping[str, Any]) -> None:
    """Raise unless the objective takes every extra argument by name."""
    try:
        _, *parameters = inspect.signature(value_fn).parameters.values()
    except ValueError:  # no signature
        return
    by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    takes = {p.name for p in parameters if p.kind in by_name}
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return
    for name in sorted(given.keys() - takes):
        raise TypeError(
            f"{owner}: value_fn does not take the extra argument {name!r}; "
            f"it takes {sorted(takes)} beside the parameters"
        )


def slots_of_search(*more: str, stores_grad: bool) -> dict[str, Callable[[Any], Any]]:
    """The slots of a line search: the common ones, and more scalars."""
    return {
        "learning_rate": _scalar(1.0),
        "value": _scalar(jnp.inf),
        **({"grad": wide_zeros} if stores_grad else {}),
        "num_linesearch_steps": lambda params: jnp.zeros((), jnp.int32),
        **{name: _scalar(jnp.inf) for name in more},
    }


def _scalar(value: float) -> Callable[[Any], Any]:
    """A scalar in float64 if any parameter is that precise, else in float32."""

    def first(params: Any) -> Any:
        dtypes = [jnp.result_type(p) for p in jax.tree.leaves(params)]
        floats = [d for d in dtypes if jnp.issubdtype(d, jnp.inexact)]
        is_double = any(jnp.finfo(d).bits == 64 for d in floats)
        return jnp.full((), value, jnp.float64 if is_double else jnp.float32)

    return first


def last_stepsize(slots: Any) -> Any:
    """The last search's step size; the initial one if that search failed.

    A failed search has step size 0, from which no search could recover.
    """
    last = slots["learning_rate"]
    return jnp.where(last > 0, last, 1)


def excess(error: Any) -> Any:
    """The violation of a condition `error <= 0`; infinity for NaN."""
    return jnp.where(jnp.isnan(error), jnp.inf, jnp.maximum(error, 0))


def report(
    line: Line, has_failed: Any, condition: str, end: Point, **more: Any
) -> None:
    """Print a report if the search failed."""
    text = (
        f"{line.owner}: no step size found with {condition}. "
        "At 0: value {value}, slope {slope} (negative along a descent direction). "
        "Tried last: step size {stepsize}, value {new_value}"
    )
    text += "".join(f", {name.replace('_', ' ')} {{{name}}}" for name in more)
    values = {"value": line.start.value, "slope": line.start.slope, **more}
    values |= {"stepsize": end.stepsize, "new_value": end.value}
    lax.cond(has_failed, lambda: jax.debug.print(text, **values), lambda: None)


class _Trial(NamedTuple):
    """A trial step size; with its gradient if it ended the search."""

    count: Any
    stepsize: Any
    value: Any
    error: Any
    grad: Any


@transformation
def scale_by_backtracking_linesearch(
    max_backtracking_steps: Retries,
    slope_rtol: NonNegative = 1e-4,
    decrease_factor: Positive = 0.8,
    increase_factor: Positive = 1.5,
    max_learning_rate: Positive = 1.0,
    atol: NonNegative = 0.0,
    rtol: NonNegative = 0.0,
    store_grad: bool = False,
    verbose: bool = False,
):
    """Backtracking line search: shorten the step until Armijo's condition holds.

    `f(p + a u) <= (1 + rtol) f(p) + slope_rtol a s + atol` for updates u along which
    the slope is s. Vaswani et al. 2019: https://arxiv.org/abs/1905.09997. Same
    arguments, defaults and numbers as `optax.scale_by_backtracking_linesearch`.

    Args:
        max_backtracking_steps: Largest number of shortenings. At least 0.
        slope_rtol: Fraction of the decrease that the slope predicts. At least 0.
        decrease_factor: Factor that shortens the step. Positive; useful below 1.
        increase_factor: Initial step size over the last one. Positive.
        max_learning_rate: Largest step size. Positive.
        atol: Absolute tolerance of the condition. At least 0.
        rtol: Tolerance relative to the objective. At least 0.
        store_grad: Whether to keep `grad`, for `value_and_grad_from_state`.
        verbose: Whether to print a report of a failed search.

    Call `update` with `value`, `grad` (conjugated if complex), `value_fn` and its other
    arguments by name. Keeps `learning_rate`, `value`, and the search's result. If no
    value is finite, the step is 0, and the next search starts anew. No reverse mode.

    Examples:
        >>> search = gradtx.scale_by_backtracking_linesearch(15)
        >>> tx, params = gradtx.chain(gradtx.sgd(1.0), search), jnp.array(3.0)
        >>> value, grad = jax.value_and_grad(jnp.square)(params)
        >>> _, state = tx.update(grad, tx.init(params), params,
        ...     value=value, grad=grad, value_fn=jnp.square)
        >>> print(f"{state['learning_rate']:.2f}")
        0.80
    """

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        line = Line("scale_by_backtracking_linesearch", updates, slots, tree)
        retries, armijo, shrink, grow, longest, absolute, relative = line.numbers(
            max_backtracking_steps, slope_rtol, decrease_factor, increase_factor,
            max_learning_rate, atol, rtol,
        )  # fmt: skip
        start = line.start

        def goes_on(count: Any, error: Any) -> Any:
            return ~(error <= absolute) & (count <= retries)

        def shorten(trial: _Trial) -> _Trial:
            shorter = shrink * trial.stepsize
            stepsize = jnp.where(trial.count > 0, shorter, trial.stepsize)
            count, moved, grad = trial.count + 1, line.move(stepsize), trial.grad
            if store_grad:
                value, pull_back = jax.vjp(line.value, moved)
            else:
                value, pull_back = line.value(moved), None
            bound = (1 + relative) * start.value
            error = excess(value - bound - stepsize * armijo * start.slope)
            if pull_back is not None:
                grad = lax.cond(
                    goes_on(count, error),
                    lambda: grad,
                    lambda: like(pull_back(jnp.ones_like(value))[0], grad),
                )
            return _Trial(count, stepsize, value, error, grad)

        # `fmin` ignores a NaN of the first: infinity times 0.
        first = jnp.fmin(grow * last_stepsize(slots), longest)
        unknown = jnp.full_like(first, jnp.inf)
        trial = _Trial(jnp.int32(0), first, unknown, unknown, slots.get("grad"))
        trial = lax.while_loop(lambda t: goes_on(t.count, t.error), shorten, trial)
        stepsize = jnp.where(jnp.isinf(trial.error), 0, trial.stepsize)
        if verbose:
            end = Point(trial.stepsize, trial.value, None)
            has_failed = ~(trial.error <= absolute)
            report(line, has_failed, "a decrease", end, decrease_error=trial.error)
        kept = {
            "learning_rate": stepsize,
            "value": trial.value,
            **({"grad": trial.grad} if store_grad else {}),
            "num_linesearch_steps": trial.count,
            "decrease_error": trial.error,
        }
        return line.step(stepsize), kept

    slots = slots_of_search("decrease_error", stores_grad=store_grad)
    return TreeRule(update, slots, NEEDS, is_step=True)


def value_and_grad_from_state(value_fn: Callable) -> Callable:
    """Like `jax.value_and_grad`, but reuse the last line search's evaluation.

    Args:
        value_fn: The objective: a scalar function, of the parameters first.

    Returns:
        `(params, *args, state, **kwargs) -> (value, grad)`, from the state: call it on
        the parameters that the last search ended at. If the stored value is not finite
        (at first, or after a failure), `value_fn` is evaluated; under `vmap` always.

    Raises:
        ValueError: At the call: the state has no value or gradient, or several.

    Examples:
        >>> search = gradtx.scale_by_backtracking_linesearch(15, store_grad=True)
        >>> tx, params = gradtx.chain(gradtx.sgd(0.25), search), jnp.array(3.0)
        >>> value, grad = jax.value_and_grad(jnp.square)(params)
        >>> updates, state = tx.update(grad, tx.init(params), params,
        ...     value=value, grad=grad, value_fn=jnp.square)
        >>> again = gradtx.value_and_grad_from_state(jnp.square)
        >>> print(*again(params + updates, state=state))
        2.25 3.0
    """

    def value_and_grad(params: Any, *args: Any, state: Any, **kwargs: Any) -> Any:
        kept = _kept(state, "value"), _kept(state, "grad")
        compute = jax.jit(jax.value_and_grad(value_fn))  # traced once for both uses

        def call(params: Any, args: Any, kwargs: Any) -> Any:
            return compute(params, *args, **kwargs)

        given = params, args, kwargs
        kept = like(kept, jax.eval_shape(call, *given))
        return lax.cond(jnp.isfinite(kept[0]), lambda *_: kept, call, *given)

    return value_and_grad


def _kept(state: Any, name: str) -> Any:
    """The one slot of that name in a state, ours or of optax, at any depth."""

    def slots(node: Any) -> dict[str, Any]:
        if is_state(node):
            pattern = rf"(.*\.)?{name}(\.\d+of\d+)?"
            return {k: x for k, x in node.items() if re.fullmatch(pattern, k)}
        is_optax = hasattr(node, "learning_rate") and hasattr(node, name)
        return {name: getattr(node, name)} if is_optax else {}

    nodes = jax.tree.leaves(state, is_leaf=lambda node: bool(slots(node)))
    found = [slot for node in nodes for slot in slots(node).items()]
    found = [(key, slot) for key, slot in found if slot is not None]
    if len(found) != 1:
        keys = f"several: {[key for key, _ in found]}" if found else "none"
        raise ValueError(
            f"value_and_grad_from_state: the state must keep one {name!r}, as a line "
            f"search does (backtracking: with store_grad=True); it keeps {keys}"
        )
    return found[0][1]
