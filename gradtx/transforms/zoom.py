"""The zoom line search: a step size that satisfies both of Wolfe's conditions.

Nocedal and Wright, Numerical Optimization, Algorithms 3.5 and 3.6: lengthen the step
until the bracket holds a good one, then narrow the bracket.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from jax import lax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import NonNegative, Positive, PositiveInt
from gradtx.core.context import Tree
from gradtx.core.rule import TreeRule
from gradtx.core.trees import like, where
from gradtx.transforms.linesearch import (
    NEEDS,
    Line,
    Point,
    excess,
    last_stepsize,
    report,
    slots_of_search,
)


class Bracket(NamedTuple):
    """An interval that holds a good step size.

    Attributes:
        low: The end with the lower value, left or right; the objective falls from it
            into the interval.
        high: The other end.
        reference: The end that was replaced last, for the cubic.
    """

    low: Point
    high: Point
    reference: Point

    @property
    def width(self) -> Any:
        """Length of the interval."""
        return jnp.abs(self.high.stepsize - self.low.stepsize)

    def guess(self) -> Any:
        """The minimum of a cubic or a parabola; the midpoint if that is near an end."""
        low, high = self.low, self.high
        left = jnp.minimum(low.stepsize, high.stepsize)
        right = jnp.maximum(low.stepsize, high.stepsize)

        def is_inside(x: Any, margin: float) -> Any:
            return (x > left + margin * self.width) & (x < right - margin * self.width)

        cubic = minimum_of_cubic(low, high, self.reference)
        parabola = minimum_of_parabola(low, high)
        middle = (low.stepsize + high.stepsize) / 2
        otherwise = jnp.where(is_inside(parabola, 0.1), parabola, middle)
        return jnp.where(is_inside(cubic, 0.2), cubic, otherwise)

    def narrow(self, new: Point, is_too_high: Any) -> Bracket:
        """Replace an end by a point inside: one iteration of Algorithm 3.6."""
        low, high = self.low, self.high
        is_high = is_too_high | (new.value >= low.value)
        is_past = ~is_high & (new.slope * (high.stepsize - low.stepsize) >= 0)
        return Bracket(
            low=where(is_high, low, new),
            high=where(is_high, new, where(is_past, low, high)),
            reference=where(is_high | is_past, high, low),
        )


def minimum_of_parabola(a: Point, b: Point) -> Any:
    """Stationary point of the parabola through a and b with a's slope at a."""
    step = b.stepsize - a.stepsize
    curvature = (b.value - a.value - a.slope * step) / step**2
    return a.stepsize - a.slope / (2 * curvature)


def minimum_of_cubic(a: Point, b: Point, c: Point) -> Any:
    """Minimum of the cubic through a, b and c with a's slope at a.

    NaN if there is no minimum, or if two points coincide.
    """
    db, dc = b.stepsize - a.stepsize, c.stepsize - a.stepsize
    rise_b = b.value - a.value - a.slope * db
    rise_c = c.value - a.value - a.slope * dc
    scale = (db * dc) ** 2 * (db - dc)
    third = (dc**2 * rise_b - db**2 * rise_c) / scale
    second = (db**3 * rise_c - dc**3 * rise_b) / scale
    root = jnp.sqrt(second**2 - 3 * third * a.slope)
    return a.stepsize + (root - second) / (3 * third)


class Wolfe(NamedTuple):
    """Wolfe's conditions, each as the violation at a point."""

    slope_rtol: Any
    curv_rtol: Any
    approx_dec_rtol: Any

    def decrease_error(self, start: Point, point: Point) -> Any:
        """Violation of sufficient decrease (Nocedal and Wright, 3.7a).

        Close to a minimum, where the difference of two values is rounding error, the
        slopes decide: Hager and Zhang 2006, (23) and (27),
        https://doi.org/10.1145/1132973.1132979.
        """
        rise = point.value - start.value
        armijo = rise - self.slope_rtol * point.stepsize * start.slope
        if self.approx_dec_rtol is not None:
            by_slopes = point.slope - (2 * self.slope_rtol - 1) * start.slope
            is_close = rise - self.approx_dec_rtol * jnp.abs(start.value)
            armijo = jnp.minimum(armijo, jnp.maximum(by_slopes, is_close))
        return excess(armijo)

    def curvature_error(self, start: Point, point: Point) -> Any:
        """Violation of small curvature (Nocedal and Wright, 3.7b)."""
        return excess(jnp.abs(point.slope) - self.curv_rtol * jnp.abs(start.slope))


class Search(NamedTuple):
    """State of a search.

    Attributes:
        count: Number of points tried.
        last: The last point, and the gradient there.
        safe: The best point with sufficient decrease, and the gradient there; or the
            start.
        decrease_error: Violation of sufficient decrease at the last point.
        curvature_error: Violation of small curvature at the last point.
        bracket: An interval that holds a good step size, once `is_bracketed`.
        has_ended: Whether the last point is the result: good, or the longest allowed.
        has_failed: Whether the points or the bracket are exhausted.
    """

    count: Any
    last: tuple[Point, Any]
    safe: tuple[Point, Any]
    decrease_error: Any
    curvature_error: Any
    bracket: Bracket
    is_bracketed: Any
    has_ended: Any
    has_failed: Any


class Zoom(NamedTuple):
    """Settings of a search, from the arguments of the transformation."""

    line: Line
    wolfe: Wolfe
    first: Any
    most: Any
    longest: Any
    grow: Any
    tolerance: Any
    precision: Any

    def run(self) -> Search:
        """Search until a step size is good or the search has failed."""
        start, no = self.line.start, jnp.asarray(False)
        here = start, like(self.line.grad, self.line.kept)
        unknown, bracket = jnp.full_like(start.value, jnp.inf), Bracket(*[start] * 3)
        return lax.while_loop(
            lambda search: ~(search.has_ended | search.has_failed),
            self.try_one,
            Search(
                count=jnp.int32(0),
                last=here,
                safe=here,
                decrease_error=unknown,
                curvature_error=unknown,
                bracket=bracket,
                is_bracketed=no,
                has_ended=no,
                has_failed=no,
            ),
        )

    def try_one(self, search: Search) -> Search:
        """Try one more point, longer than the last or in the bracket."""
        start, last, is_bracketed = self.line.start, search.last[0], search.is_bracketed
        is_first, count = search.count == 0, search.count + 1
        longer = jnp.where(is_first, self.first, self.grow * last.stepsize)
        is_longest = ~is_bracketed & (longer >= self.longest)
        longer = jnp.minimum(longer, self.longest)
        stepsize = jnp.where(is_bracketed, search.bracket.guess(), longer)

        new, grad = self.line.at(stepsize)
        decrease_error = self.wolfe.decrease_error(start, new)
        curvature_error = self.wolfe.curvature_error(start, new)
        is_safe = decrease_error <= self.tolerance
        is_good = is_safe & (curvature_error <= self.tolerance)
        is_better = ~is_bracketed | (new.value < search.safe[0].value)
        safe = where(is_safe & is_better, (new, grad), search.safe)

        is_high = decrease_error > 0
        found, is_found = bracket_between(
            last, new, is_high | (~is_first & (new.value >= last.value))
        )
        bracket = where(is_bracketed, search.bracket.narrow(new, is_high), found)
        is_narrow = is_bracketed & (search.bracket.width <= self.precision)
        has_ended = is_good | (is_longest & ~is_found)
        is_used_up = (count >= self.most) | (is_narrow & (safe[0].stepsize > 0))
        return Search(
            count=count,
            last=(new, grad),
            safe=safe,
            decrease_error=decrease_error,
            curvature_error=curvature_error,
            bracket=bracket,
            is_bracketed=is_bracketed | is_found,
            has_ended=has_ended,
            has_failed=is_used_up & ~has_ended,
        )


def bracket_between(last: Point, new: Point, is_high: Any) -> tuple[Bracket, Any]:
    """The bracket of two points, and whether it is valid: a round of Algorithm 3.5."""
    is_rising = ~is_high & (new.slope >= 0)
    low, high = where(is_rising, (new, last), (last, new))
    return Bracket(low, high, reference=low), is_high | is_rising


@transformation
def scale_by_zoom_linesearch(
    max_linesearch_steps: PositiveInt,
    max_learning_rate: Positive | None = None,
    tol: NonNegative = 0.0,
    increase_factor: Positive = 2.0,
    slope_rtol: NonNegative = 1e-4,
    curv_rtol: NonNegative = 0.9,
    approx_dec_rtol: NonNegative | None = 1e-6,
    stepsize_precision: NonNegative = 1e-5,
    initial_guess_strategy: Literal["one", "keep"] = "keep",
    verbose: bool = False,
):
    """Zoom line search: find a step size that satisfies both of Wolfe's conditions.

    `f(p + a u) <= f(p) + slope_rtol a s` and `|s'| <= curv_rtol |s|` for updates u,
    along which the slope is s at p and s' at p + a u. Same arguments, defaults and
    numbers as `optax.scale_by_zoom_linesearch`.

    Args:
        max_linesearch_steps: Largest number of step sizes to try. At least 1.
        max_learning_rate: Largest step size; no bound if None. Positive.
        tol: Tolerance of both conditions. At least 0.
        increase_factor: Factor that first lengthens the step. Positive; useful above 1.
        slope_rtol: Fraction of the decrease that the slope predicts. At least 0.
        curv_rtol: Largest fraction of the slope that may remain. At least 0.
        approx_dec_rtol: Relative difference of two values below which the slopes decide
            which is lower; never if None.
        stepsize_precision: Bracket length that accepts any decrease. At least 0.
        initial_guess_strategy: "one", or "keep" to start at the last step size.
        verbose: Whether to print a report of a failed search.

    Call `update` as for `scale_by_backtracking_linesearch`; keeps the same slots too.

    Examples:
        >>> search = gradtx.scale_by_zoom_linesearch(max_linesearch_steps=15)
        >>> tx, params = gradtx.chain(gradtx.sgd(1.0), search), jnp.array(3.0)
        >>> value, grad = jax.value_and_grad(jnp.square)(params)
        >>> updates, _ = tx.update(grad, tx.init(params), params,
        ...     value=value, grad=grad, value_fn=jnp.square)
        >>> print(f"{params + updates:.2f}")
        0.00
    """

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        line = Line("scale_by_zoom_linesearch", updates, slots, tree)
        longest = jnp.inf if max_learning_rate is None else max_learning_rate
        first = last_stepsize(slots) if initial_guess_strategy == "keep" else 1.0
        wolfe = Wolfe(*line.numbers(slope_rtol, curv_rtol, approx_dec_rtol))
        settings = line.numbers(
            first, max_linesearch_steps, longest, increase_factor, tol,
            stepsize_precision,
        )  # fmt: skip
        zoom = Zoom(line, wolfe, *settings)
        search = zoom.run()
        # The safe point, if any; the start if even the last point is out of the domain.
        is_safe = search.safe[0].stepsize > 0
        falls_back = search.has_failed & (is_safe | jnp.isinf(search.decrease_error))
        end, grad = where(falls_back, search.safe, search.last)
        errors = {
            "decrease_error": search.decrease_error,
            "curvature_error": search.curvature_error,
        }
        if verbose:
            has_failed = ~(jnp.maximum(*errors.values()) <= zoom.tolerance)
            report(line, has_failed, "both conditions", end, **errors)
        kept = {
            "learning_rate": end.stepsize,
            "value": end.value,
            "grad": grad,
            "num_linesearch_steps": search.count,
        }
        return line.step(end.stepsize), kept | errors

    slots = slots_of_search("decrease_error", "curvature_error", stores_grad=True)
    return TreeRule(update, slots, NEEDS, is_step=True)
