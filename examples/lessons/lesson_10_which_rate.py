"""Which learning rate? Try 64 at once, or descend on the rate itself.

Too small a rate is slow, too large a one diverges, and the best is often close to the
latter. An optimizer is a pytree: 64 of them, stacked, train at once under `vmap`, or
one after the other in a function that is traced once. The rate has a derivative too:
that of the loss after training leads from the usual default of 0.001, here far too
small, to about the best. Other batch sizes and widths change the best rate of SGD by a
factor of 1.4, that of Adam by 4; another optimizer changes it by up to 100. All losses
are medians over several starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from digits import Examples, batches, digits
from gradtx import plot
from page import INDIGO, OLIVE, STYLES, TEAL, WINE, Number, Page, main, subplots

OPTIMIZERS = {
    "SGD": gradtx.sgd,
    "momentum": lambda rate: gradtx.sgd(rate, momentum=0.9),
    "RMSProp": gradtx.rmsprop,
    "Adam": gradtx.adam,
}
DEFAULT = 1e-3
STATED = {
    "RMSProp": ("a good default", "slides, 33"),
    "Adam": ("no need to tune", "slides, 37"),
}


def network(seed: int = 0, hidden: int = 32) -> list[jax.Array]:
    """Weights of two layers, at random."""
    keys, widths = jax.random.split(jax.random.key(seed)), ((64, hidden), (hidden, 10))
    return [
        jax.random.normal(key, (n, m)) / np.float32(np.sqrt(n))
        for key, (n, m) in zip(keys, widths, strict=True)
    ]


def loss(weights: Any, images: Examples) -> Any:
    """The mean cross entropy."""
    first, second = weights
    logits = jnp.tanh(images.x @ first) @ second
    return gradtx.softmax_cross_entropy_with_integer_labels(logits, images.y).mean()


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and the seconds that it takes once it is compiled."""
    run()
    begin = time.perf_counter()
    return run(), time.perf_counter() - begin


def train(tx: Any, start: Any, rows: Any, data: Examples) -> tuple[Any, Any]:
    """The loss on all digits after training, and on each batch before its step."""

    def step(carry: Any, rows: Any) -> tuple[Any, Any]:
        weights, state = carry
        value, grads = jax.value_and_grad(loss)(weights, data.at(rows))
        updates, state = tx.update(grads, state, weights)
        return (gradtx.apply_updates(weights, updates), state), value

    (weights, _), values = jax.lax.scan(step, (start, tx.init(start)), rows)
    return loss(weights, data), values


def stacked(trees: Any) -> Any:
    """One tree with a leading axis: of optimizers, or of weights."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def best_rates(make: Any, data: Examples, settings: Any, seeds: int) -> list[float]:
    """The best rate for each batch size and width, by medians over starts."""
    found, grid = [], np.geomspace(3e-3, 10, 25, dtype=np.float32)
    over_seeds = jax.vmap(train, (None, 0, 0, None))
    over_rates = jax.jit(jax.vmap(over_seeds, (0, None, None, None)))
    for size, width in settings:
        rows = jnp.stack([batches(len(data.y), size, 6, i) for i in range(seeds)])
        starts = stacked(network(i, width) for i in range(seeds))
        ends, _ = over_rates(stacked(map(make, grid)), starts, rows, data)
        found.append(grid[np.nanargmin(np.median(ends, 1))])
    return found


def draw_independence(ax: Any, data: Examples, settings: Any, seeds: int) -> Any:
    """The best rate over batch sizes and widths."""
    numbers = []
    x = np.arange(len(settings))
    for name in ("SGD", "Adam"):
        found = best_rates(OPTIMIZERS[name], data, settings, seeds)
        ax.semilogy(x, found, "o", **STYLES[name], label=name)
        for (size, width), rate in zip(settings, found, strict=True):
            label = f"{name}: best rate, batches of {size}, width {width}"
            numbers.append(Number(label, rate))
        spread = max(found) / min(found)
        notes = "usually independent", "CS231n notes, learning rate"
        numbers.append(Number(f"{name}: largest / least of these", spread, *notes))
    labels = [f"batches {size}\nwidth {width}" for size, width in settings]
    ax.set_xticks(x, labels, fontsize=9)
    ax.set(title="Best rates for other batch sizes and widths", ylim=(3e-3, 10))
    ax.set(ylabel="best learning rate", xlim=(-0.5, len(settings) - 0.5))
    ax.legend(loc="center right")
    return numbers


def lesson(
    rates: int = 64,
    steps: int = 200,
    hypersteps: int = 40,
    seeds: int = 5,
    more_seeds: int = 9,
    settings: tuple[tuple[int, int], ...] = (
        (64, 32),
        (16, 32),
        (256, 32),
        (64, 8),
        (64, 128),
    ),
) -> Page:
    """Train a small network at many rates, and find the rate by its gradient."""
    data, traces, an_epoch = digits(), [], len(digits().y) // 64
    starts = stacked(network(seed) for seed in range(seeds))
    rows = [batches(len(data.y), 64, 1 + steps // an_epoch, i) for i in range(seeds)]
    rows = jnp.stack(rows)[:, :steps]

    def runs(tx: Any) -> tuple[Any, Any]:
        """The median loss after training, and the losses of each start's batches."""
        traces.append(tx.name)  # which happens when it is traced, not when it runs
        ends, losses = jax.vmap(train, (None, 0, 0, None))(tx, starts, rows, data)
        return jnp.median(ends), losses

    def log_loss(log_rate: Any, make: Any) -> Any:
        """The curve of the picture, whose axes are logarithmic too."""
        return jnp.log(runs(make(jnp.exp(log_rate)))[0])

    grid = np.geomspace(1e-4, 1e2, rates, dtype=np.float32)
    descent = gradtx.adam(gradtx.cosine_decay_schedule(0.4, hypersteps))
    at_once, one = jax.jit(jax.vmap(runs)), jax.jit(runs)
    figure, ((left, middle), (right, free)) = subplots(2, 2, 15, 10)
    for ax in left, right:
        ax.set(xscale="log", yscale="log", xlabel="learning rate")
        ax.set_ylabel(f"loss of all digits after {steps} steps")
    stack, best, losses, numbers = None, {}, {}, []
    roof = begins = float(jnp.median(jax.vmap(loss, (0, None))(starts, data)))
    for name, make in OPTIMIZERS.items():
        stack, style = stacked(map(make, grid)), STYLES[name]
        ends, losses[name] = map(np.asarray, at_once(stack))
        at, works, roof = int(np.nanargmin(ends)), ends < begins, 1.5 * roof
        lowest, best[name] = ends[at], grid[at]
        left.plot(grid[works], ends[works], ".-", label=name, **style)
        left.plot(best[name], lowest, "o", ms=10, **style)
        left.plot(grid[~works], np.full((~works).sum(), roof), "x", **style)

        of = partial(log_loss, make=make)
        path = gradtx.trajectory(descent, of, np.log(np.float32(DEFAULT)), hypersteps)
        seen, values = np.exp(path.positions), np.exp(path.values)
        at = int(np.nanargmin(values))
        right.plot(grid[works], ends[works], alpha=0.35, **style)
        right.plot(seen[: at + 1], values[: at + 1], ".-", lw=1, label=name, **style)
        right.plot(seen[at], values[at], "*", ms=15, **style)
        numbers += [
            Number(
                f"{name}: loss at {DEFAULT}", values[0], *STATED.get(name, ("", ""))
            ),
            Number(f"{name}: lowest loss", lowest),
            Number(f"{name}: loss found by gradient", values[at]),
            Number(f"{name}: best rate", best[name]),
            Number(f"{name}: rate found by gradient", seen[at]),
        ]
    left.text(grid[-1], 1.3 * roof, "diverged", ha="right", va="bottom")
    left.set(title=f"{rates} rates at once: slow, good, diverged")
    left.set_ylim(None, 3 * roof)
    right.set_title(f"The gradient of the rate leads down from {DEFAULT}")
    left.legend(loc="lower left")
    right.legend(loc="lower left")

    shown, after = {}, {}
    for times, word in ((0.01, "slow"), (1, "best"), (1.25, "hops"), (20, "diverges")):
        at = int(np.argmin(abs(np.log(grid / (times * best["SGD"])))))
        shown[f"{grid[at]:.2g}: {word}"] = losses["SGD"][at]
        after[times] = np.median(losses["SGD"][at, :, -an_epoch:].mean(1))
    middle.set_prop_cycle(color=[OLIVE, TEAL, WINE, INDIGO])
    plot.plot_losses(shown, ax=middle)
    middle.set(title="SGD's rates: too small, best, too large", ylim=(None, 3e4))
    middle.set_ylabel("loss of the step's batch")
    middle.legend(loc="upper right", ncols=2)
    freedom = draw_independence(free, data, settings, more_seeds)

    before = len(traces)
    by_turns, in_a_row = timed(
        lambda: np.array([one(gradtx.adam(rate))[0].item() for rate in grid])
    )
    together, at_a_time = timed(lambda: jax.block_until_ready(at_once(stack))[0])
    traced, ratio = len(traces) - before, best["SGD"] / best["momentum"]
    at = int(np.nanargmin(by_turns))
    difference, slide = abs(by_turns[at] / float(together[at]) - 1), "slides, 21"
    notes = "CS231n notes, learning rate"
    numbers += [
        Number("SGD: last epoch, best / 100", after[0.01], "painfully slow", slide),
        Number("SGD: last epoch, 20 * best", after[20], "diverges", slide),
        Number("best rates: SGD's / momentum's", ratio, "usually independent", notes),
        *freedom,
        Number(f"traces for {rates} in a row", traced),
        Number("loss, in a row / at once - 1", difference),
        Number(
            "seconds: one training",
            in_a_row / rates / seeds,
            "6 hours to a day",
            notes,
            is_timed=True,
        ),
        Number(f"seconds: {rates} in a row", in_a_row, is_timed=True),
        Number(f"seconds: {rates} at once", at_a_time, is_timed=True),
    ]
    return Page(figure, numbers)


if __name__ == "__main__":
    main(lesson, __file__, __doc__)
