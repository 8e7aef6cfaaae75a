"""Learning-rate finder: the loss by learning rate, and a suggestion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.foreign import pair_of
from gradtx.core.errors import short_repr
from gradtx.core.prng import is_key
from gradtx.trajectories import as_start, as_value, descend


class RateCurve(NamedTuple):
    """Losses by learning rate.

    Attributes:
        rates: The learning rates, ascending, of shape [rates].
        losses: Mean losses of the last quarter of steps, of shape [seeds, rates]; `inf`
            where the loss was not finite.
        at_start: Losses of the initial parameters on the same batches, of shape
            [seeds].
        suggestion: The middle of the rates that lower the loss for every seed, and the
            median loss by at least nine tenths of the best decrease. (The best rate is
            often the last before the loss explodes.) NaN if no rate lowers the loss.
        reason: The suggestion in a sentence, with the numbers.
    """

    rates: np.ndarray
    losses: np.ndarray
    at_start: np.ndarray
    suggestion: float
    reason: str


def find_learning_rate(
    make: Callable[[Any], Any],
    loss: Callable[[Any, Any], Any],
    params: Any,
    batches: Iterable[Any],
    low: float = 1e-5,
    high: float = 1.0,
    *,
    rates: int = 31,
    seeds: int = 3,
    steps: int | None = None,
    at_once: int | None = None,
    key: Any = 0,
) -> RateCurve:
    """Train briefly with many learning rates at once, and suggest one.

    A grid search in one compiled program: all rates share initial parameters and
    batches. Returns a `RateCurve`, which `gradtx.plot.plot_rates` draws.

    Args:
        make: Function from a traced rate to an optimizer, such as `gradtx.adamw`.
        loss: `loss(params, batch)`, a real scalar.
        params: A tree of floats, or a function from a PRNG key to one.
        batches: An iterable of trees of arrays of equal shapes: a list, `zip(xs, ys)`.
        low, high: The range of rates, above 0.
        rates: Number of rates, at equal ratios, at least 2.
        seeds: Number of batch orders (and starts), at least 1; the median decides.
        steps: Updates per run; the number of batches if None. More steps reuse batches.
        at_once: Number of the `rates * seeds` runs in memory at once; all if None.
        key: Seed or PRNG key of batch orders and starts.

    Raises:
        TypeError, ValueError: An argument is not as described.

    Examples:
        >>> batches = [jnp.array([1.0, 2.0]), jnp.array([3.0, 2.0])] * 10
        >>> found = gradtx.find_learning_rate(
        ...     gradtx.sgd, lambda w, x: jnp.mean((w - x) ** 2), jnp.zeros(()), batches
        ... )
        >>> 0.01 < found.suggestion < 1
        True
    """
    if not callable(make):
        raise TypeError(
            "find_learning_rate: make must be a function from a learning rate to an "
            f"optimizer, as gradtx.adamw is, got {short_repr(make)}"
        )
    if not 0 < low < high < np.inf:
        given = f"low={low}, high={high}"
        raise ValueError(f"find_learning_rate: expected 0 < low < high, got {given}")
    stacked, count = _stacked(batches)
    steps = count if steps is None else steps
    for name, value, least in (
        ("rates", rates, 2),
        ("seeds", seeds, 1),
        ("steps", steps, 1),
        ("at_once", at_once, 1),
    ):
        if value is not None and value < least:
            raise ValueError(
                f"find_learning_rate: {name} must be at least {least}, got {value}"
            )
    if not is_key(key) and jnp.ndim(key) == 0:
        key = jax.random.key(key)
    keys = jax.random.split(key, seeds)
    if _is_init(params):
        starts = jax.vmap(params)(keys)
    else:
        starts = jax.tree.map(lambda p: jnp.stack([jnp.asarray(p)] * seeds), params)
    starts = as_start(starts, "find_learning_rate")
    grid = np.geomspace(low, high, rates, dtype=np.float32)

    @jax.jit
    def all_losses(batches: Any, starts: Any, keys: Any) -> tuple[Any, Any]:
        runs = _Runs(make, loss, batches, count, steps)
        return runs.all(grid, starts, keys, at_once)

    losses, at_start = all_losses(stacked, starts, keys)
    losses, at_start = np.asarray(losses, np.float64), np.asarray(at_start, np.float64)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    return RateCurve(grid, losses, at_start, *_suggest(grid, losses, at_start, steps))


def _is_init(params: Any) -> bool:
    """Whether this is a function that makes parameters, not a callable module."""
    return callable(params) and jax.tree_util.all_leaves([params])


def _stacked(batches: Iterable[Any]) -> tuple[Any, int]:
    """Batches stacked on a leading axis, and their number."""
    owner = "find_learning_rate: batches"
    if isinstance(batches, dict) or not isinstance(batches, Iterable):
        raise TypeError(
            f"{owner} must be an iterable of them, got {short_repr(batches)}"
        )
    seen = [jax.tree.map(jnp.asarray, batch) for batch in batches]
    if not seen:
        raise ValueError(f"{owner}: expected at least one, got none")
    shapes = [jax.tree.map(jnp.shape, batch) for batch in seen]
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"{owner}: expected batch {i} of shapes {shapes[0]}, as the first, "
                f"got {shape}; leave out a smaller last batch, zip stacked arrays"
            )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen), len(seen)


@dataclasses.dataclass
class _Runs:
    """Training runs and their losses, for the arguments of `find_learning_rate`.

    Attributes:
        make: Function from a rate to a transformation.
        loss: Function of parameters and a batch.
        batches: Stacked batches.
        count: Number of batches.
        steps: Number of updates.
    """

    make: Callable[[Any], Any]
    loss: Callable[[Any, Any], Any]
    batches: Any
    count: int
    steps: int

    def all(
        self, rates: Any, starts: Any, keys: Any, at_once: int | None
    ) -> tuple[Any, Any]:
        """Final losses, of shape [seeds, rates], and initial ones, of shape [seeds]."""
        seeds = len(keys)

        def one(pair: Any) -> Any:
            seed, rate = pair
            return self.after(rate, self.start(starts, seed), self.order(keys[seed]))

        pairs = jnp.repeat(jnp.arange(seeds), len(rates)), jnp.tile(rates, seeds)
        losses = lax.map(one, pairs, batch_size=at_once or len(pairs[0]))
        at_start = lax.map(
            lambda seed: self.before(self.start(starts, seed), self.order(keys[seed])),
            jnp.arange(seeds),
        )
        return losses.reshape(seeds, -1), at_start

    def start(self, starts: Any, seed: Any) -> Any:
        """The initial parameters of a seed."""
        return jax.tree.map(lambda stack: stack[seed], starts)

    def order(self, key: Any) -> Any:
        """The batch index of each step."""
        shuffled = jax.random.permutation(jax.random.fold_in(key, 1), self.count)
        return shuffled[jnp.arange(self.steps) % self.count]

    def on_batch(self, index: Any) -> Callable[[Any], Any]:
        """The loss on one batch, as a function of parameters."""
        batch = jax.tree.map(lambda stack: stack[index], self.batches)
        return lambda params: self.loss(params, batch)

    def last_quarter(self, of_steps: Any) -> Any:
        """The last quarter of steps, which decides between rates."""
        return of_steps[-max(1, self.steps // 4) :]

    def before(self, start: Any, order: Any) -> Any:
        """The mean loss of the initial parameters on the last quarter of batches."""
        losses = lax.map(lambda i: self.on_batch(i)(start), self.last_quarter(order))
        return losses.mean()

    def after(self, rate: Any, start: Any, order: Any) -> Any:
        """The mean loss of the last quarter of steps, each before its update."""
        tx = as_value(pair_of("find_learning_rate", self.make(rate)))

        def step(carry: Any, index: Any) -> tuple[Any, Any]:
            return descend(tx, self.on_batch(index), *carry)

        _, losses = lax.scan(step, (start, tx.init(start)), order)
        return self.last_quarter(losses).mean()


def _suggest(
    rates: np.ndarray, losses: np.ndarray, at_start: np.ndarray, steps: int
) -> tuple[float, str]:
    """The suggested rate, and the reason."""
    median, start = np.median(losses, axis=0), float(np.median(at_start))
    falls = (losses < at_start[:, None]).all(axis=0)
    if not falls.any():
        return np.nan, f"no rate lowers the loss of {start:.3g} for every seed"
    best = int(np.argmin(np.where(falls, median, np.inf)))
    near = falls & (median <= median[best] + (start - median[best]) / 10)
    first, last = best, best
    while first > 0 and near[first - 1]:
        first -= 1
    while last + 1 < len(rates) and near[last + 1]:
        last += 1
    middle = (first + last) // 2
    near_by = f"{rates[first]:.2g} to {rates[last]:.2g}"
    reason = (
        f"{rates[middle]:.2g} is the middle of {near_by}, "
        f"which come within a tenth of the largest fall of the median loss in {steps} "
        f"steps: {start:.3g} to {median[best]:.3g} at {rates[best]:.2g}"
    )
    above = np.flatnonzero(~falls & (rates > rates[best]))
    if len(above):
        reason += f"; at {rates[above[0]]:.2g} a seed does not end below its start"
    if best in (0, len(rates) - 1):
        end = "low" if best == 0 else "high"
        reason += f"; the best is the last rate tried: move `{end}`"
    return float(rates[middle]), reason
