"""Arithmetic of counts: in ints as far as possible, in floats only inside a part.

float32 is exact to 2**24 only, so a count stays an int until a curve is computed from
it. The body of a schedule gets a count of at least 0: a weakly typed int, or a float if
it is called with one (epochs) or a number of steps has a fraction. Concrete numbers of
steps are Python's, so whole ones enter as ints; traced ones are floats (float32 without
x64), split into an int and a remainder.
"""

from __future__ import annotations

import fractions
import math
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from gradtx.core.dtypes import default_float
from gradtx.core.internals import weak


def default_int() -> np.dtype:
    """The dtype of a Python int: int64 where x64 is enabled, else int32."""
    return jax.dtypes.canonicalize_dtype(int)


def _largest() -> int:
    return int(np.iinfo(default_int()).max)


def as_count(count: Any) -> Any:
    """The count of a call, in the form that the body of a schedule gets.

    Counts below 0 become 0, so that a schedule has its first value there.
    """
    is_host = isinstance(count, int | np.integer | np.ndarray)
    if is_host and np.size(count) and np.max(count) > _largest():
        count = np.asarray(count, float)
    count = jnp.asarray(count)
    if not jnp.issubdtype(count.dtype, jnp.floating):
        if jnp.issubdtype(count.dtype, jnp.unsignedinteger):
            count = jnp.minimum(count, np.array(_largest()).astype(count.dtype))
        count = weak(count, default_int())
    else:
        count = as_float(count)
    return jnp.maximum(count, 0)


def as_float(count: Any) -> Any:
    """The count in the default float dtype, weakly typed."""
    return weak(jnp.asarray(count), default_float())


def is_whole(count: Any) -> bool:
    """Whether the count is an int, by its dtype."""
    return jnp.issubdtype(jnp.result_type(count), jnp.integer)


def static(number: Any) -> int | float | None:
    """A concrete number as Python's, an int if it is whole; otherwise None."""
    if not isinstance(number, int | float | np.generic | np.ndarray) or np.ndim(number):
        return None
    number = number if isinstance(number, int) else float(number)
    return int(number) if math.isfinite(number) and number == int(number) else number


def _as_given(steps: Any) -> Any:
    """The steps for a float count: Python's ints may be too large for int32."""
    known = static(steps)
    return steps if known is None else float(known)


def chosen(condition: Any, one: Any, other: Any) -> Any:
    """`one` where the condition holds, else `other`; takes Python's bools too."""
    if isinstance(condition, bool | np.bool_):
        return one if condition else other
    return jnp.where(condition, one, other)


def least(one: Any, other: Any) -> Any:
    """The smaller of two numbers of steps."""
    known = static(one), static(other)
    if math.inf in known:
        return other if known[0] == math.inf else one
    if None in known:
        return jnp.minimum(one, other)
    return min(one, other)


def minus(count: Any, steps: Any) -> Any:
    """The count minus a number of steps: an int if both are whole."""
    known = static(steps)
    if not is_whole(count):
        return count if known == 0 else count - _as_given(steps)
    if known is None:
        if is_whole(steps):
            return count - jnp.asarray(steps).astype(count.dtype)
        whole = _floor(steps, count.dtype)
        return as_float(count - whole) - (steps - as_float(whole))
    largest = np.iinfo(count.dtype).max
    if isinstance(known, int) and -largest <= known <= largest:
        if known < 0:
            count = jnp.minimum(count, largest + known)  # else it would wrap
        return count - known if known else count
    whole = math.floor(min(max(known, 0), largest))
    return as_float(count - whole) - float(known - whole)


def _floor(steps: Any, dtype: Any) -> Any:
    """The floor of traced steps as an int, clamped to the range of the dtype."""
    steps = as_float(steps)
    bound = np.nextafter(steps.dtype.type(2.0 ** (8 * dtype.itemsize - 1)), 0)
    return jnp.clip(jnp.floor(steps), -bound, bound).astype(dtype)


def before(count: Any, boundary: Any) -> Any:
    """Whether the count is below the boundary; Python's bool if that holds for all."""
    known = static(boundary)
    if known is None:
        return minus(count, boundary) < 0
    if known <= 0:
        return False
    if known == math.inf:
        return True
    if not is_whole(count):
        return count < float(known)
    first = math.ceil(known)
    return True if first > np.iinfo(count.dtype).max else count < first


def since(count: Any, begin: Any) -> Any:
    """The count since a beginning; 0 before it."""
    known = static(begin)
    passed = minus(count, begin)
    return passed if known is not None and known <= 0 else jnp.maximum(passed, 0)


def held(count: Any, steps: Any) -> Any:
    """The count, clamped to the last one within `steps` steps."""
    known = static(steps)
    if known == math.inf:
        return count
    if not is_whole(count):
        return jnp.minimum(count, _as_given(steps))
    if known is None:
        last = _floor(jnp.ceil(steps) - 1, count.dtype)
        return jnp.minimum(count, jnp.maximum(last, 0))
    last = max(math.ceil(known) - 1, 0)
    return count if last >= np.iinfo(count.dtype).max else jnp.minimum(count, last)


def shares(count: Any, steps: Any) -> tuple[Any, Any]:
    """The fractions of the steps that are left and done, in [0, 1], each accurate.

    Neither is computed as 1 minus the other, which cancels where it is small. A
    fraction of 0 is exact; `x / x` need not be 1, because XLA multiplies by the
    reciprocal of a constant.
    """
    has_end = (
        steps > 0 if static(steps) is not None else (steps > 0) & (steps < jnp.inf)
    )
    safe = chosen(has_end, _as_given(steps), 1)
    rest = jnp.maximum(-minus(count, steps), 0)
    left, done = (jnp.minimum(as_float(n) / safe, 1) for n in (rest, count))
    return chosen(has_end, left, 1), chosen(has_end, done, 0)


def turns(count: Any, steps: Any) -> tuple[Any, Any]:
    """The number of complete cycles of `steps` steps, and the count in this one."""
    if not is_whole(count):
        return jnp.divmod(count, _as_given(steps))
    known = static(steps)
    if known is None:
        return _traced_turns(count, steps)
    if isinstance(known, int):
        return _divmod(count, known) if known <= _largest() else (count * 0, count)
    # An interval such as 2.5 or 10 / 3 is a quotient p / q; all ints stay below p * q.
    ratio = fractions.Fraction(known).limit_denominator(10_000)
    p, q = ratio.numerator, ratio.denominator
    if p / q != known or not 0 < p * q <= _largest():
        return jnp.divmod(as_float(count), known)
    rounds, rest = _divmod(count, p)
    over, rest = _divmod(rest * q, p)
    return as_float(rounds) * q + as_float(over), as_float(rest) / q


def stairs(count: Any, begin: Any, steps: Any) -> Any:
    """The number of complete intervals of `steps` steps since the beginning."""
    if not is_whole(count) or isinstance(static(begin), int):
        return turns(since(count, begin), steps)[0]
    # With a whole interval, a fraction of the beginning only rounds up its count.
    first = jnp.ceil(begin) if static(begin) is None else math.ceil(begin)
    whole = _floor(first, count.dtype)
    over = turns(jnp.maximum(count - whole, 0), steps)[0]
    inexact = jnp.floor_divide(as_float(since(count, begin)), steps)
    known = static(steps)
    are_whole = steps == jnp.round(steps) if known is None else isinstance(known, int)
    return chosen(are_whole, over, inexact)


def _divmod(count: Any, steps: Any) -> tuple[Any, Any]:
    """Quotient and remainder of ints of at least 0, without handling of signs."""
    steps = jnp.broadcast_to(jnp.asarray(steps, count.dtype), count.shape)
    return lax.div(count, steps), lax.rem(count, steps)


def _traced_turns(count: Any, steps: Any) -> tuple[Any, Any]:
    """`turns` for traced steps: in ints if they are whole; differentiable by them."""
    if is_whole(steps):
        return _divmod(count, steps)
    whole = jnp.maximum(_floor(steps, count.dtype), 1)
    over, rest = jnp.divmod(count, whole)
    are_whole = as_float(whole) == steps
    inexact = jnp.divmod(as_float(count), steps)
    over = jnp.where(are_whole, as_float(over), inexact[0])
    exact = as_float(rest) + over * (lax.stop_gradient(steps) - steps)
    return over, jnp.where(are_whole, exact, inexact[1])


def raised(rate: Any, times: Any) -> Any:
    """`rate**times`, with the full precision of a concrete rate.

    In float32 1 - 1e-6 is 1 - 1.013e-6, and its millionth power is wrong by 1.3%. So
    the rounding error, and the logarithm of a rate very near 1, are computed on the
    host.
    """
    times, known = as_float(times), static(rate)
    if known is None:
        return rate**times
    near = float(default_float().type(known))
    if not 0 < near < math.inf or near == known:
        return near**times
    if abs(math.log(known)) < 2**-20:
        return jnp.exp(math.log(known) * times)
    # Where the power is 0 or infinite, the correction must not make it NaN.
    rest = math.log1p((known - near) / near) * times
    rest = jnp.minimum(rest, 4.0) if known > near else jnp.maximum(rest, -4.0)
    return near**times * jnp.exp(rest)
