"""Exponential averages of a year of temperatures, with and without bias correction.

An average with decay b remembers about 1 / (1 - b) days: the larger b, the smoother
and the later. It starts at 0, so its first values are far too low; dividing by
1 - b**t mends that. Ten steps are not enough to warm up: an average with b = 0.9 has
then come 65% of the way. The average keeps one number, a window keeps all of its days.
On noise the average is as steady as a window of (1 + b) / (1 - b) days, nearly twice
its memory.
"""

from __future__ import annotations

import csv
import sys
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from gradtx import plot
from page import INDIGO, OLIVE, TEAL, WINE, Number, Page, main, new_figure

try:
    from vega_datasets import local_data
except ModuleNotFoundError as error:
    print(f"error: no {error.name}: install gradtx[examples]", file=sys.stderr)
    raise SystemExit(2) from None

DECAYS, COLOURS = (0.5, 0.9, 0.98), (OLIVE, WINE, INDIGO)


def temperatures(year: int = 2012) -> np.ndarray:
    """The highest temperature of each day in Seattle, in degrees Fahrenheit."""
    with open(local_data.seattle_weather.filepath, newline="") as file:
        rows = [
            row for row in csv.DictReader(file) if row["date"].startswith(f"{year}")
        ]
    return np.array([32 + 1.8 * float(row["temp_max"]) for row in rows], np.float32)


def averages(values: np.ndarray, b: float, corrected: bool) -> np.ndarray:
    """The exponential average at each day, of a transformation run along the year."""
    tx = gradtx.ema(b, debias=corrected)

    def step(state: Any, day: Any) -> tuple[Any, Any]:
        average, state = tx.update(day, state)
        return state, average

    days = jnp.asarray(values)
    return np.asarray(jax.lax.scan(step, tx.init(days[0]), days)[1])


def windows(values: np.ndarray, days: int) -> np.ndarray:
    """The mean of so many days, at each day that has as many before it."""
    return np.convolve(values, np.full(days, 1 / days), "valid")


def numbers_kept(b: float) -> int:
    """How many numbers the state of an average of one number holds, but for a count."""
    state = gradtx.ema(b, debias=False).init(jnp.zeros(()))
    kept = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    return sum(x.size for x in kept)


def draw_variances(ax: Any) -> list[Number]:
    """The variances of averages and windows of noise of variance 1."""
    noise = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    days = np.array([2, 5, 10, 19, 50, 99])
    window = {n: windows(noise, n).var() for n in days.tolist()}
    average = {b: averages(noise, b, True)[1000:].var() for b in (*DECAYS, 0.8)}
    ax.loglog(
        days, [*window.values()], "o-", color=TEAL, label="window of so many days"
    )
    memory = [1 / (1 - b) for b in average]
    label = "average, at 1 / (1 - b) days"
    ax.loglog(memory, [*average.values()], "s", color=WINE, label=label)
    ax.set(title="An average leaves half the noise of its window", xlabel="days")
    ax.set_ylabel("variance of noise that is left")
    ax.set_xticks(days, days)
    ax.minorticks_off()
    ax.legend(loc="lower left")
    course = "course, 04"
    return [
        Number("numbers kept by an average", numbers_kept(0.98), "one number", course),
        Number("numbers kept by its window", 50, "all the temperatures", course),
        Number("variance, average of b = 0.9", average[0.9]),
        Number("variance, window of 10", window[10], "a better estimate", course),
        Number("variance, window of 19", window[19]),
    ]


def errors_of_trend(days: np.ndarray) -> list[Number]:
    """How far averages and windows are from the trend: the mean of 31 days around."""
    trend, shown = windows(days, 31)[45:], slice(60, -15)
    found = {f"b = {b}": averages(days, b, True)[shown] for b in (0.0, *DECAYS)}
    for n in (10, 50):
        found[f"window of {n}"] = windows(days, n)[60 - (n - 1) : -15]
    better = "a better estimate", "course, 04"
    stated = {
        "b = 0.9": ("a value in between is best", "course, 03"),
        "window of 10": better,
        "window of 50": better,
    }
    return [
        Number(
            f"error of the trend, {name} (°F)",
            np.sqrt(np.mean((values - trend) ** 2)),
            *stated.get(name, ("", "")),
        )
        for name, values in found.items()
    ]


def lesson() -> Page:
    """Average the year with three decays."""
    days = temperatures()
    figure = new_figure(15, 8.4)
    axes = figure.subplot_mosaic(
        [["year", "year", "start"], ["weights", "warm", "noise"]]
    )
    left, middle, right = (axes[name] for name in ("year", "start", "weights"))
    left.plot(days, ".", color="0.75", zorder=0)
    lines, tail = {}, []
    for b, colour in zip(DECAYS, COLOURS, strict=True):
        label = f"b = {b}: about {1 / (1 - b):.0f} days"
        lines[b] = averages(days, b, corrected=True)
        left.plot(lines[b], color=colour, label=label)
        jump, course = abs(np.diff(lines[b])).mean(), "course, 03"
        words = {0.5: "more noisy", 0.98: "smoother, later"}.get(b, "")
        tail += [
            Number(f"mean jump from day to day, b = {b} (°F)", jump, words, course),
            Number(f"day of the warmest average, b = {b}", lines[b].argmax() + 1),
        ]
    left.set(title="A larger b is smoother, and later", xlabel="day of 2012")
    left.set_ylabel("highest temperature in Seattle (°F)")
    left.legend(loc="lower center")

    plain, corrected = (averages(days, 0.98, is_on) for is_on in (False, True))
    middle.plot(days[:150], ".", color="0.75", zorder=0)
    middle.plot(plain[:150], color=WINE, label="b = 0.98 as it is")
    middle.plot(corrected[:150], color=INDIGO, label="divided by $1 - b^t$")
    middle.set(title="The average starts too low", xlabel="day of 2012")
    middle.legend(loc="lower right")

    right.set_prop_cycle(color=COLOURS)
    plot.plot_ema_weights(DECAYS, steps=60, ax=right)
    right.set(
        title="The weights: after 1 / (1 - b) days, 1 / e is left", xlabel="days ago"
    )
    right.set(yscale="log", ylim=(1e-4, 1))

    ones, warm = np.ones(100, np.float32), axes["warm"]
    warmed = averages(ones, 0.9, corrected=False)
    warm.plot(np.arange(1, 61), warmed[:60], color=WINE)
    warm.plot([10], warmed[9:10], "o", color=WINE)
    warm.text(11.5, warmed[9] - 0.03, f"{warmed[9]:.2f} after ten steps", va="top")
    warm.set(title="The average of ones warms up slowly (b = 0.9)", ylim=(0, 1.03))
    warm.set(xlabel="step", ylabel="average, not corrected")
    noise = draw_variances(axes["noise"])
    warming = "warmed up after ten (a slip)", "course, 06"

    forty = np.full(2, 40, np.float32)
    course = "course, 05"
    return Page(
        figure,
        [
            Number("days averaged by b = 0.5", 1 / (1 - 0.5), "2", "course, 03"),
            Number("days averaged by b = 0.9", 1 / (1 - 0.9), "10", "course, 03"),
            Number("days averaged by b = 0.98", 1 / (1 - 0.98), "50", "course, 03"),
            Number("0.9**10", 0.9**10, "0.35, about 1 / e", "course, 04"),
            Number("0.98**50", 0.98**50, "1 / e", "course, 04"),
            Number(
                "v1 of 40 degrees, b = 0.98",
                averages(forty, 0.98, False)[0],
                "8 (a slip: b = 0.8)",
                course,
            ),
            Number("v1 of 40 degrees, b = 0.8", averages(forty, 0.8, False)[0], "8"),
            Number("v1 corrected", averages(forty, 0.98, True)[0], "40", course),
            Number("1 - 0.98**2", 1 - 0.98**2, "0.0396", course),
            Number("0.98 * 0.02", 0.98 * 0.02, "0.0196", course),
            Number("average of ones after 10 steps, b = 0.9", warmed[9], *warming),
            Number("steps to 0.95, b = 0.9", np.argmax(warmed > 0.95) + 1),
            Number(
                "weights of 100 days together",
                warmed[99],
                "very close to 1",
                "course, 04",
            ),
            *tail,
            *noise,
            *errors_of_trend(days),
        ],
    )


if __name__ == "__main__":
    main(lesson, __file__, __doc__)
