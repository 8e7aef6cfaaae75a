"""Whole batch, mini-batches, single examples: the price and the worth of a step.

The whole batch gives the exact gradient, but one step an epoch. Single examples give
many steps, each noisy, and leave nothing to vectorize. The noise falls only with the
root of the batch size, while the time of a step soon grows with the size itself: a size
in between is fastest. A set of 1,797 digits still is fine as one batch: it takes 44
steps and 0.65 MB. At a constant rate noisy steps never settle; at a smaller rate
they stay closer, at a falling rate they arrive.
"""

from __future__ import annotations

import csv
import sys
import time
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from digits import Examples, batches, digits
from gradtx import plot
from page import BLACK, INDIGO, OLIVE, TEAL, WINE, Number, Page, main, subplots

try:
    from vega_datasets import local_data
except ModuleNotFoundError as error:
    print(f"error: no {error.name}: install gradtx[examples]", file=sys.stderr)
    raise SystemExit(2) from None

DECAY, GOAL = 1e-3, 0.3
STATED = {
    1: ("inefficient", "course, 02"),
    64: ("typical: 64 to 512", "course, 02"),
    1152: ("fine below 2,000", "course, 02"),
}


def weather() -> Examples:
    """The lowest and the highest temperature of 1,461 days in Seattle, in 10 °C."""
    with open(local_data.seattle_weather.filepath, newline="") as file:
        days = [(row["temp_min"], row["temp_max"]) for row in csv.DictReader(file)]
    return Examples(*jnp.asarray(np.array(days, np.float32).T / 10))


def squared_error(line: Any, days: Examples) -> Any:
    """The cost of a line's slope and height: half the mean of its squared errors."""
    return jnp.mean((line[0] * days.x + line[1] - days.y) ** 2) / 2


def cross_entropy(weights: Any, images: Examples) -> Any:
    """The mean loss of softmax regression."""
    logits = images.x @ weights
    return gradtx.softmax_cross_entropy_with_integer_labels(logits, images.y).mean()


def cost(weights: Any, images: Examples) -> Any:
    """The mean loss and the regularization term."""
    return cross_entropy(weights, images) + DECAY / 2 * jnp.sum(weights**2)


@jax.jit
def costs(path: Any, images: Examples) -> Any:
    """The cost at each of many weights."""
    return jax.lax.map(lambda weights: cost(weights, images), path)


@partial(jax.jit, static_argnames="f")
def descend(tx: Any, f: Any, start: Any, data: Examples, rows: Any) -> Any:
    """The parameters before each batch of rows, and the cost of that batch."""

    def step(carry: Any, rows: Any) -> tuple[Any, Any]:
        params, state = carry
        value, grads = jax.value_and_grad(f)(params, data.at(rows))
        updates, state = tx.update(grads, state, params)
        return (gradtx.apply_updates(params, updates), state), (params, value)

    return jax.lax.scan(step, (start, tx.init(start)), rows)[1]


def noise(weights: Any, data: Examples, sizes: Any, draws: int = 128) -> Any:
    """How far gradients of random batches are from the whole's, as shares of it.

    Also, the shares of those that point uphill: away from the whole's.
    """
    singles = data.at(np.arange(len(data.y))[:, None])
    each = jax.jit(jax.vmap(jax.grad(cost), (None, 0)))(weights, singles)
    each = np.asarray(each).reshape(len(data.y), -1)
    whole, rng = each.mean(0), np.random.default_rng(0)
    drawn = np.full(len(each), 1 / len(each))
    # A random batch is how often each example is in it: its gradient, a weighted mean.
    shares = (rng.multinomial(k, drawn, draws).astype(np.float32) / k for k in sizes)
    means = [share @ each for share in shares]
    squares = [((mean - whole) ** 2).sum(1).mean() for mean in means]
    uphill = [(mean @ whole < 0).mean() for mean in means]
    return np.sqrt(np.array(squares) / (whole**2).sum()), uphill


def race(start: Any, data: Examples, size: int) -> tuple[int, float]:
    """Steps to the goal at the best of eight rates, and the seconds a step takes."""
    rows = batches(len(data.y), size, epochs=2 + size // 24)
    looks = np.linspace(0, len(rows) - 1, 128).astype(int)
    steps, seconds = len(rows), float("inf")
    for rate in np.geomspace(0.1, 4, 8):  # of which the first compiles
        begin = time.perf_counter()
        path = np.asarray(descend(gradtx.sgd(rate), cost, start, data, rows)[0])
        seconds = min(seconds, (time.perf_counter() - begin) / len(rows))
        there = looks[np.asarray(costs(path[looks], data)) < GOAL]
        steps = min([steps, *there.tolist()])
    return steps, seconds


def seconds_per_example(start: Any, data: Examples, size: int) -> float:
    """The least time of 9 runs of 20 steps, divided by the examples of a step."""
    rows, times = batches(len(data.y), size, epochs=1 + 20 * size // 1024)[:20], []
    for _ in range(9):  # of which the first compiles
        begin = time.perf_counter()
        jax.block_until_ready(descend(gradtx.sgd(0.5), cost, start, data, rows))
        times.append(time.perf_counter() - begin)
    return min(times) / (len(rows) * size)


def megabytes(start: Any, examples: int) -> float:
    """The memory of one gradient of a batch: its images and all that is in between."""
    x: Any = jax.ShapeDtypeStruct((examples, 64), jnp.float32)
    y: Any = jax.ShapeDtypeStruct((examples,), jnp.int32)
    images = Examples(x, y)
    used: Any = jax.jit(jax.grad(cost)).lower(start, images).compile().memory_analysis()
    return (used.argument_size_in_bytes + used.temp_size_in_bytes) / 1e6


def draw_paths(ax: Any, days: Examples) -> None:
    """Fit the line from three starts, with three batch sizes."""
    paths = {}
    for name, size, start in (
        ("whole batch", len(days.y), (0.2, 1.7)),
        ("batches of 16", 16, (1.9, -0.1)),
        ("single days", 1, (0.3, 0.3)),
    ):
        rows = batches(len(days.y), size, epochs=120)[:120]
        paths[name], _ = descend(
            gradtx.sgd(0.2), squared_error, jnp.array(start), days, rows
        )
    ax.set_prop_cycle(color=[INDIGO, TEAL, WINE])
    fit = partial(squared_error, days=days)
    plot.plot_paths(fit, paths, xlim=(0, 2.2), ylim=(-0.3, 2.3), levels=12, ax=ax)
    ax.set(title="120 steps at one rate: straight, wavy, lost", xlabel="slope")
    ax.set_ylabel("height of the line (10 °C)")


def draw_hovering(ax: Any, days: Examples, epochs: int, seeds: int) -> dict[str, Any]:
    """Fit the line with single days; the median cost above the least in the end."""
    m = len(days.y)
    lines = np.stack([days.x, np.ones_like(days.x)], 1)
    least = jnp.asarray(np.linalg.lstsq(lines, np.asarray(days.y))[0])
    # The cost is a bowl: that above the least is the cost of the way there.
    flat = Examples(days.x, jnp.zeros_like(days.y))
    above = jax.jit(jax.vmap(jax.vmap(lambda at: squared_error(at - least, flat))))
    train, above_least = jax.vmap(descend, (None, None, None, None, 0)), {}
    rows = jnp.stack([batches(m, 1, epochs, seed) for seed in range(seeds)])
    for name, rate in (
        ("rate 0.1", 0.1),
        ("rate 0.01", 0.01),
        ("from 0.1, falling", gradtx.inverse_time_decay(0.1, 0.01)),
    ):
        path, _ = train(gradtx.sgd(rate), squared_error, jnp.zeros(2), days, rows)
        above_least[name] = above(path[:, ::m])
    ax.set_prop_cycle(color=[WINE, OLIVE, BLACK])
    plot.plot_losses(above_least, ax=ax)
    ax.set(title="Single days hover; smaller steps stay closer", xlabel="epoch")
    ax.set_ylabel("cost above the least (100 °C²)")
    return {name: np.median(values[:, -1]) for name, values in above_least.items()}


def lesson(
    sizes: tuple[int, ...] = (1, 8, 64, 128, 256, 512, 1152),
    epochs: int = 30,
    seeds: int = 16,
    pairs: tuple[tuple[int, int], ...] = (
        (64, 60),
        (128, 120),
        (256, 250),
        (1024, 1000),
    ),
) -> Page:
    """Fit a line to temperatures and name digits, with batches of many sizes."""
    figure, axes = subplots(2, 3, 15, 7.4)
    days, images = weather(), digits()
    m, start = len(images.y), jnp.zeros((64, 10))
    draw_paths(axes[0, 0], days)
    ends = draw_hovering(axes[1, 0], days, epochs, seeds)

    ax, few, every = axes[0, 1], batches(m, 64, epochs=12)[:200], batches(m, m, 200)
    (_, small), (path, whole), (_, wild) = (
        descend(gradtx.sgd(rate), cost, start, images, rows)
        for rate, rows in ((0.5, few), (0.5, every), (20.0, every))
    )
    ax.plot(small, color=TEAL, label="batches of 64")
    ax.plot(whole, color=INDIGO, label="whole batch")
    ax.set(title="The whole batch's cost falls at every step", xlabel="step")
    ax.set(ylabel="cost of the step's batch of digits", ylim=(0, None))
    ax.legend()

    ax, (shares, _) = axes[0, 2], noise(start, images, sizes)
    roots = shares[0] / np.sqrt(np.divide(sizes, sizes[0]))
    ax.loglog(sizes, roots, color=BLACK, lw=1, label="1 / root of the batch size")
    ax.loglog(sizes, shares, "o", color=TEAL, label="measured on digits")
    ax.set(title="Four times the batch, half the noise", xlabel="batch size")
    ax.set_ylabel("noise of the gradient / its length")
    ax.set_yticks([0.25, 0.5, 1, 2, 4, 8], ["1/4", "1/2", 1, 2, 4, 8])

    steps, seconds = np.array([race(start, images, size) for size in sizes]).T
    passes, waits = steps * sizes / m, seconds * steps
    for ax in axes[1, 1:]:
        ax.axvspan(64, 512, color="0.93", zorder=0, label="typical sizes")
        ax.set(xscale="log", yscale="log", xlabel="batch size")
    ax = axes[1, 1]
    ax.plot(sizes, 1e3 * seconds, "o-", color=OLIVE, label="a step")
    ax.plot(sizes, 1e3 * seconds * m / sizes, "o-", color=INDIGO, label="an epoch")
    ax.set(title="Small batches lose vectorization", ylabel="time (ms)")
    ax = axes[1, 2]
    ax.plot(sizes, passes, "o--", color=BLACK, label="epochs")
    ax.plot(sizes, 1e3 * waits, "o-", color=WINE, label="time (ms)")
    ax.set(title="A batch size in between is fastest", ylabel=f"to a cost of {GOAL}")
    ax.set_yticks([0.5, 1, 2, 4, 8, 16, 32], [0.5, 1, 2, 4, 8, 16, 32])
    for ax in (axes[0, 2], *axes[1, 1:]):
        ax.set_xticks(sizes, sizes)
        ax.minorticks_off()
        ax.legend()

    by_chain = gradtx.chain(gradtx.add_decayed_weights(DECAY), gradtx.sgd(0.5))
    by_term, _ = descend(gradtx.sgd(0.5), cost, start, images, few)
    decayed, _ = descend(by_chain, cross_entropy, start, images, few)
    nines = batches(1152, 128, epochs=1)
    _, uphill = noise(path[-1], images, (1, 64))
    slope = np.polyfit(np.log(sizes), np.log(shares), 1)[0]
    one, two, slide = "course, 01", "course, 02", "slides, 18"
    numbers = [
        Number(
            "1,000 each of 5 million", len(batches(5_000_000, 1000, 1)), "5,000", one
        ),
        Number("128 each of 1,152 rows", len(nines), "rows 0 to 1152 (a slip)", slide),
        Number("end of the second 128", 2 * nines.shape[1] - 1, "256 (a slip)", slide),
        Number("steps an epoch, all", len(batches(m, m, 1)), "1", one),
        Number("steps an epoch, 64 each", len(batches(m, 64, 1)), "more", one),
        Number("steps an epoch, 1 each", len(batches(m, 1, 1)), "m", two),
        Number("steps up of 199, all", (np.diff(whole) > 0).sum(), "0", two),
        Number(
            "steps up, all, rate 20", (np.diff(wild) > 0).sum(), "rate too big", two
        ),
        Number("steps up, 64 each", (np.diff(small) > 0).sum(), "some", two),
        Number("noise: power of the size", slope),
        Number("single gradients that point uphill (%)", 100 * uphill[0], "some", two),
        Number("gradients of 64 that point uphill (%)", 100 * uphill[1]),
        Number("decay: by term - by chain", abs(by_term - decayed).max()),
        *(Number(f"cost above least, {name}", end) for name, end in ends.items()),
    ]
    for size, epochs_taken, wait in zip(sizes, passes, waits, strict=True):
        numbers += [
            Number(f"epochs to the goal, {size} each", epochs_taken),
            Number(
                f"seconds: to the goal, {size} each",
                wait,
                *STATED.get(size, ("", "")),
                is_timed=True,
            ),
        ]
    epochs_at = dict(zip(sizes, seconds * m / np.array(sizes), strict=True))
    vectorized = epochs_at[1] / epochs_at[64]
    label = "seconds: an epoch, 1 each / 64 each"
    numbers.append(Number(label, vectorized, "inefficient", two, is_timed=True))
    every_digit, fine = digits(1797), "fine below 2,000"
    steps_of_all, wait = race(start, every_digit, 1797)
    numbers += [
        Number("steps to the goal, 1797 as one batch", steps_of_all, fine, two),
        Number("seconds: a step, 1797 as one batch", wait, fine, two, is_timed=True),
    ]
    for size in (64, 1797, 65_536):
        used = megabytes(start, size)
        numbers.append(Number(f"MB of memory, {size} each", used, "must fit", two))
    for power, other in pairs:
        each = [seconds_per_example(start, images, size) for size in (other, power)]
        label = f"seconds per example: {other} each / {power} each"
        faster = "powers of 2 sometimes faster", two
        numbers.append(Number(label, each[0] / each[1], *faster, is_timed=True))
    return Page(figure, numbers)


if __name__ == "__main__":
    main(lesson, __file__, __doc__)
