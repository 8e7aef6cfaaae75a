"""The ill-conditioned bowl: why descent zig-zags, and what optimizers do about it.

A bowl that curves 100 times more along b than along w holds descent back: a rate above
2 / 100 diverges along b, and any below is slow along w. Momentum lets what changes sign
cancel and what does not add up; the adaptive methods divide each coordinate by its own
size. Each runs at the fastest of 64 learning rates, tried at once by `vmap`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from gradtx import plot
from page import COLOURS, Number, Page, main, subplots

CURVATURES = np.array([1, 100], np.float32)
START = np.array([-8, 0.8], np.float32)
STEPS = 1000
OPTIMIZERS = {
    "SGD": gradtx.sgd,
    "momentum": lambda rate: gradtx.sgd(rate, momentum=0.9),
    "Nesterov": lambda rate: gradtx.sgd(rate, momentum=0.9, nesterov=True),
    "Adagrad": gradtx.adagrad,
    "RMSProp": gradtx.rmsprop,
    "Adadelta": gradtx.adadelta,
    "Rprop": gradtx.rprop,
    "Adam": gradtx.adam,
}


def bowl(at: Any) -> Any:
    """The height at (w, b)."""
    return jnp.sum(CURVATURES * at**2) / 2


def steps_to_goal(values: Any) -> Any:
    """After how many steps the height stays under a thousandth of that at the start.

    If it is ever above the start, or does not get there, as many as there are.
    """
    above = ~(values < values[0] / 1000)
    taken = values.size - jnp.argmax(above[::-1])
    return jnp.where((values <= values[0]).all(), taken, values.size)


def fastest(make: Any) -> tuple[float, int]:
    """The learning rate that reaches the goal first, of 64, and in how many steps."""

    def taken(rate: Any) -> Any:
        return steps_to_goal(gradtx.trajectory(make(rate), bowl, START, STEPS).values)

    rates = np.geomspace(1e-3, 1e3, 64, dtype=np.float32)
    steps = jax.vmap(taken)(rates)
    best = int(np.argmin(steps))
    return float(rates[best]), int(steps[best])


def lesson() -> Page:
    """Race eight optimizers down the bowl, and compare the two forms of momentum."""
    figure, axes = subplots(3, 3, 15, 8)
    numbers, racers, crossings = [], {}, 0
    colours = [*COLOURS, "0.4"]
    for ax, (name, make), colour in zip(
        axes.flat, OPTIMIZERS.items(), colours, strict=False
    ):
        rate, steps = fastest(make)
        path = gradtx.trajectory(make(rate), bowl, START, steps)
        ax.set_prop_cycle(color=[colour])
        plot.plot_paths(
            bowl, {name: path}, xlim=(-9, 5), ylim=(-1.2, 1.2), levels=12, ax=ax
        )
        ax.get_legend().remove()
        ax.set(title=f"{name}: {steps} steps, rate {rate:.2g}", xlabel="w", ylabel="b")
        numbers.append(Number(f"{name}: steps down", steps))
        if name in ("SGD", "momentum", "RMSProp", "Adam"):
            racers[name] = gradtx.trajectory(make(rate), bowl, START, 150)
        if name == "SGD":
            crossings = (np.diff(np.sign(path.positions[:, 1])) != 0).sum()

    def animate(file: Path) -> None:
        ax = subplots(1, 1, 7, 3)[1]
        ax.set(title="Down the bowl, each at its fastest rate", xlabel="w", ylabel="b")
        limits = {"xlim": (-9, 5), "ylim": (-1.2, 1.2)}
        plot.animate_paths(bowl, racers, file, every=2, ax=ax, **limits)

    rate = 0.005
    forms = {
        f"sum, rate {rate}": gradtx.sgd(rate, momentum=0.9),
        f"average, rate {rate} / (1 - b)": gradtx.momentum(rate / (1 - 0.9), 0.9),
        f"average, rate {rate}": gradtx.momentum(rate, 0.9),
    }
    paths = {
        name: gradtx.trajectory(tx, bowl, START, 100) for name, tx in forms.items()
    }
    ax = plot.plot_losses(paths, ax=axes[2, 2])
    ax.get_lines()[1].set(linestyle="--")
    ax.set(title="The two forms of momentum, b = 0.9", ylabel="height")
    by_sum, by_average, _ = (path.positions for path in paths.values())
    diverging = gradtx.trajectory(gradtx.sgd(0.0205), bowl, START, 60).values
    return Page(
        figure,
        [
            *numbers,
            Number("SGD: times it crosses the valley", crossings),
            Number(
                "SGD at rate 0.0205: growth in 60 steps",
                diverging[-1] / diverging[0],
            ),
            Number(
                "momentum: rate of average / of sum",
                1 / (1 - 0.9),
                "1 / (1 - b)",
                "course, 06",
            ),
            Number(
                "momentum: distance of the two paths then",
                abs(by_sum - by_average).max(),
            ),
        ],
        animate,
    )


if __name__ == "__main__":
    main(lesson, __file__, __doc__)
