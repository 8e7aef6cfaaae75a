"""Learning-rate decay: large steps first, small ones later.

Noisy gradients keep a constant rate hopping around the minimum, the further the larger
it is; a rate that falls arrives. The way it falls matters less: as 1 / t, as
1 / sqrt(t), exponentially, in a staircase, down to a floor, or by hand in the middle of
a run, which is a changed number and compiles nothing. `reduce_on_plateau` does by rule
what a hand does: on a line through the weather of Seattle the loss stalls after one
epoch, the rate is halved again and again, and the line arrives.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from digits import batches
from gradtx import plot
from lesson_01_batches import squared_error, weather
from page import BLACK, STYLES, WINE, Number, Page, main, subplots

RATE, STEPS = 0.2, 1000
SCHEDULES = {
    "constant": gradtx.constant_schedule(RATE),
    "1 / t": gradtx.inverse_time_decay(RATE, 0.05),
    "1 / sqrt(t)": gradtx.inverse_sqrt_decay(RATE, timescale=10),
    "exponential": gradtx.exponential_decay(RATE, 10, 0.95),
    "halved every 150": gradtx.exponential_decay(RATE, 150, 0.5, staircase=True),
    "cosine to a floor": gradtx.cosine_decay_schedule(RATE, STEPS, alpha=0.02),
}


def descend(tx: Any, noise: Any) -> Any:
    """The distance from a bowl's minimum before each step, by noisy gradients."""

    def step(carry: Any, noise: Any) -> tuple[Any, Any]:
        at, state = carry
        updates, state = tx.update(at + noise, state, at)
        return (gradtx.apply_updates(at, updates), state), jnp.linalg.norm(at)

    start = jnp.full(noise.shape[1], 10, float)
    return jax.lax.scan(step, (start, tx.init(start)), noise)[1]


def by_hand(noise: Any, when: int) -> tuple[np.ndarray, int]:
    """A loop of jitted steps; its rate is divided by 20 once. Distances, and traces."""
    traces = []

    @jax.jit
    def step(tx: Any, at: Any, state: Any, noise: Any) -> Any:
        traces.append(1)  # which happens when it is traced, not when it runs
        updates, state = tx.update(at + noise, state, at)
        return gradtx.apply_updates(at, updates), state, jnp.linalg.norm(at)

    tx, at, distances = gradtx.sgd(RATE), jnp.full(noise.shape[1], 10, float), []
    state = tx.init(at)
    for i, each in enumerate(noise):
        if i == when:
            tx = tx.replace(learning_rate=RATE / 20)
        at, state, distance = step(tx, at, state, each)
        distances.append(distance)
    return np.array(jax.device_get(distances)), len(traces)


def watch(tx: Any, days: Any, rows: Any, epochs: int) -> tuple[Any, Any]:
    """Fit a line; its mean loss and its scale of the rate in each epoch."""

    def step(carry: Any, rows: Any) -> tuple[Any, Any]:
        line, state = carry
        value, grads = jax.value_and_grad(squared_error)(line, days.at(rows))
        updates, state = tx.update(grads, state, line, value=value)
        line = gradtx.apply_updates(line, updates)
        scale = state.get("scale", jnp.ones(()))
        return (line, state), (squared_error(line, days), scale)

    line = jnp.zeros(2)
    losses, scales = jax.lax.scan(step, (line, tx.init(line)), rows)[1]
    return losses.reshape(epochs, -1).mean(1), scales.reshape(epochs, -1)[:, -1]


def draw_plateau(ax: Any, seeds: int, epochs: int, rate: float = 0.1) -> Any:
    """A loss that stalls, with and without `reduce_on_plateau`; medians over seeds."""
    days, size = weather(), 8
    ones = np.stack([days.x, np.ones_like(days.x)], 1)
    least = squared_error(np.linalg.lstsq(ones, np.asarray(days.y))[0], days)
    rows = jnp.stack([batches(len(days.y), size, epochs, i) for i in range(seeds)])
    an_epoch, runs = len(days.y) // size, jax.vmap(watch, (None, None, 0, None))
    falls = gradtx.reduce_on_plateau(
        factor=0.5, patience=2, rtol=0.01, accumulation_size=an_epoch
    )
    numbers, lines = [], []
    for name, tx, style in (
        ("constant", gradtx.sgd(rate), "-"),
        ("reduced", gradtx.chain(gradtx.sgd(rate), falls), "--"),
    ):
        losses, scales = runs(tx, days, rows, epochs)
        above = np.median(losses - least, 0)
        (line,) = ax.semilogy(above, **STYLES["SGD"], ls=style, label=f"rate: {name}")
        lines.append(line)
        numbers.append(Number(f"weather, rate {name}: above the least", above[-1]))
    numbers.append(
        Number("weather: reductions in 10 epochs", -np.log2(np.median(scales[:, 9])))
    )
    right = ax.twinx()
    right.spines["right"].set_visible(True)
    label = "scale of the rate (right)"
    lines += right.semilogy(np.median(scales, 0), color=WINE, lw=1, label=label)
    right.set(ylabel="scale of the rate", ylim=(1e-6, 2))
    ax.set(title="reduce_on_plateau: halved whenever the loss stalls", xlabel="epoch")
    ax.set_ylabel("loss above the least (100 °C²)")
    ax.legend(handles=lines, loc="lower left")
    return numbers


def lesson(seeds: int = 64, epochs: int = 40) -> Page:
    """Draw the schedules, and see how close each of them comes."""
    figure, ((left, middle), (right, plateau)) = subplots(2, 2, 15, 9)
    plot.plot_schedules(SCHEDULES, STEPS, ax=left)
    left.set(title="Schedules: ways to fall", ylabel="learning rate", ylim=(0, 0.215))
    left.legend(loc="upper right", bbox_to_anchor=(1, 0.93))

    noise = 10 * jax.random.normal(jax.random.key(0), (seeds, STEPS, 10))
    ends, run = {}, jax.jit(jax.vmap(descend, (None, 0)))
    for name, schedule in SCHEDULES.items():
        distances = np.median(run(gradtx.sgd(schedule), noise), axis=0)
        middle.plot(distances, label=name)
        ends[name] = distances[-100:].mean()
    middle.set(title="A constant rate hovers, decay arrives", xlabel="step")
    middle.set(ylabel="distance from the minimum (median)", yscale="log")

    changed = STEPS // 2
    distances, traces = by_hand(noise[0], changed)
    right.plot(distances, **STYLES["SGD"])
    right.axvline(changed, color=BLACK, lw=1, ls="--")
    right.text(changed + 15, 20, f"rate {RATE} → {RATE / 20}\nnothing compiles")
    right.set(
        title="A rate changed by hand, in the middle of one run",
        xlabel="step",
        yscale="log",
    )
    right.set_ylabel("distance from the minimum")
    for ax in (middle, right):
        ax.set_yticks([1, 2, 5, 10, 20], [1, 2, 5, 10, 20])
        ax.minorticks_off()
    middle.legend(loc="lower left", ncols=2)
    plateaus = draw_plateau(plateau, min(seeds, 16), epochs)

    def at(schedule: Any, *counts: int) -> list[float]:
        return [float(schedule(count)) for count in counts]

    slip, course, notebook = "(a slip)", "course, 09", "notebook, Scheduling"
    inverse = at(gradtx.inverse_time_decay(0.2, 1.0), 1, 2, 3, 4)
    wrong = ("0.1", f"0.67 {slip}", f"0.5 {slip}", f"0.4 {slip}")
    (by_95,) = at(gradtx.exponential_decay(1.0, 1, 0.95), 10)
    (by_98,) = at(gradtx.exponential_decay(1.0, 1, 0.98), 10)
    tenth = at(gradtx.exponential_decay(1.0, 100, 0.1, staircase=True), 99, 100)
    (floor,) = at(gradtx.exponential_decay(0.2, 1, 0.95, end_value=0.01), 1000)
    stairs = at(gradtx.inverse_time_decay(0.2, 1.0, interval=1000), 999, 1000)
    (root,) = at(gradtx.inverse_sqrt_decay(1.0), 3)  # the count is 0 at t = 1

    def left_after(schedule: Any) -> float:
        """The share of the way that is left without noise."""
        path = descend(gradtx.sgd(schedule), jnp.zeros((STEPS, 10)))
        return path[-1] / path[0]

    def hovers(rate: float) -> float:
        return run(gradtx.sgd(rate), noise)[:, -100:].mean()

    numbers = [
        *(
            Number(f"rate 0.2, decay 1, epoch {i}", rate, stated, course)
            for i, rate, stated in zip(range(1, 5), inverse, wrong, strict=True)
        ),
        Number(
            "1 / (1 - 1 * epoch), epoch 2", 1 / (1 - 2), f"a rate {slip}", "slides, 38"
        ),
        Number("0.95**epoch, epoch 10", by_95, f"0.95 times epoch {slip}", course),
        Number("0.98**epoch, epoch 10", by_98, "0.98**epoch", "slides, 38"),
        Number("k / sqrt(t), k = 1, t = 4", root, "k / sqrt(t)", "slides, 51"),
        Number("by 0.1 after 100: at 99", tenth[0]),
        Number("by 0.1 after 100: at 100", tenth[1], "reduced by 0.1", "slides, 38"),
        Number("a floor of 0.01, epoch 1000", floor, "a minimum", "slides, 38"),
        Number("intervals of 1000: epoch 999", stairs[0]),
        Number(
            "intervals of 1000: epoch 1000", stairs[1], "floor(epoch / 1000)", notebook
        ),
        Number(
            "way left, decay 1 at every step",
            left_after(gradtx.inverse_time_decay(RATE, 1.0)),
            "to 0 too quickly",
            notebook,
        ),
        Number(
            "way left, decay 1 every 100 steps",
            left_after(gradtx.inverse_time_decay(RATE, 1.0, interval=100)),
            "can be fixed",
            notebook,
        ),
        Number(
            "0.2**(1 * epoch), epoch 2",
            0.2 ** (1 * 2),
            f"the same as 0.067 {slip}",
            "notebook, Weight Decay",
        ),
        *(
            Number(f"constant rate {rate} hovers at", hovers(rate))
            for rate in (0.05, 0.4)
        ),
        *(Number(f"distance at the end, {name}", end) for name, end in ends.items()),
        Number(
            "by hand: distance before / after",
            distances[changed - 200 : changed].mean() / distances[-200:].mean(),
        ),
        Number("by hand: traces", traces),
        *plateaus,
    ]
    return Page(figure, numbers)


if __name__ == "__main__":
    main(lesson, __file__, __doc__)
