"""Exponential averages of a year of temperatures, with and without bias correction.

An average with decay b remembers about 1 / (1 - b) days: the larger b, the smoother
and the later. It starts at 0, so its first values are far too low; dividing by
1 - b**t mends that. It keeps one number, where a window of as many days keeps them all.
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
from page import GREEN, PINK, Number, Page, main, subplots

try:
    from vega_datasets import local_data
except ModuleNotFoundError as error:
    print(f"error: no {error.name}: install gradtx[examples]", file=sys.stderr)
    raise SystemExit(2) from None

DECAYS = (0.5, 0.9, 0.98)


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


def lesson() -> Page:
    """Average the year with three decays."""
    days = temperatures()
    figure, (left, middle, right) = subplots(1, 3, 15, 4.6, width_ratios=(5, 3, 3))
    left.plot(days, ".", color="0.75", zorder=0)
    for b in DECAYS:
        label = f"b = {b}: about {1 / (1 - b):.0f} days"
        left.plot(averages(days, b, corrected=True), label=label)
    left.set(title="Larger b: smoother, and later", xlabel="day of 2012")
    left.set_ylabel("highest temperature in Seattle (°F)")
    left.legend(loc="lower center")

    plain, corrected = (averages(days, 0.98, is_on) for is_on in (False, True))
    middle.plot(days[:150], ".", color="0.75", zorder=0)
    middle.plot(plain[:150], color=PINK, label="b = 0.98 as it is")
    middle.plot(corrected[:150], color=GREEN, label="divided by $1 - b^t$")
    middle.set(title="The average starts too low", xlabel="day of 2012")
    middle.legend(loc="lower right")

    plot.plot_ema_weights(DECAYS, steps=60, ax=right)
    right.set(title="After 1 / (1 - b) days, 1 / e is left", xlabel="days ago")
    right.set(yscale="log", ylim=(1e-4, 1))

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
        ],
    )


if __name__ == "__main__":
    main(lesson, __file__, __doc__)
