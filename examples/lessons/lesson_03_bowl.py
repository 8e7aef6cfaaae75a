"""The ill-conditioned bowl: gradient descent zig-zags, momentum damps the zig-zag.

The bowl curves 100 times more along b than along w. A rate above 2 / 100 diverges along
b, and every rate below it is slow along w. Momentum averages the gradients: those along
b change sign and cancel, those along w agree. At the same rate it crosses the valley 22
times instead of 150, and it bears rates up to 0.37. The adaptive methods divide each
coordinate by the size of its own gradients. For the race, each optimizer gets the
fastest of 64 learning rates, all tried at once by `vmap`. A cost of more parameters is
worse conditioned: its valley is longer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from digits import digits
from gradtx import plot
from page import (
    OLIVE,
    STYLES,
    Number,
    Page,
    main,
    new_figure,
    subplots,
    use_styles,
)

CURVATURES = np.array([1, 100], np.float32)
START = np.array([-8, 0.8], np.float32)
STEPS = 1000
SAME, LARGER = 0.0199, 0.05
OPTIMIZERS = {
    "gradient descent": gradtx.sgd,
    "momentum": lambda rate: gradtx.sgd(rate, momentum=0.9),
    "Nesterov": lambda rate: gradtx.sgd(rate, momentum=0.9, nesterov=True),
    "Adagrad": gradtx.adagrad,
    "RMSProp": gradtx.rmsprop,
    "Adadelta": gradtx.adadelta,
    "Rprop": gradtx.rprop,
    "Adam": gradtx.adam,
}
VIEW = {"xlim": (-9, 5), "ylim": (-1.2, 1.2), "levels": 12}


def bowl(at: Any) -> Any:
    """The height at (w, b)."""
    return jnp.sum(CURVATURES * at**2) / 2


def descend(tx: Any, steps: int = 150) -> Any:
    """The trajectory from the start."""
    return gradtx.trajectory(tx, bowl, START, steps)


def crossings(path: Any) -> int:
    """How often a path crosses the valley, which is along b = 0."""
    return int((np.diff(np.sign(path.positions[:, 1])) != 0).sum())


def way_along_b(path: Any) -> float:
    """The distance that a path covers along the narrow axis, forth and back."""
    return float(abs(np.diff(path.positions[:, 1])).sum())


def steps_to_goal(values: np.ndarray) -> int:
    """After how many steps the height stays under a thousandth of that at the start.

    If it is ever above the start, or does not get there, as many as there are.
    """
    above = ~(values < values[0] / 1000)
    taken = values.size - int(np.argmax(above[::-1]))
    return taken if (values <= values[0]).all() else values.size


def fastest(make: Any) -> tuple[float, Any]:
    """The learning rate that reaches the goal first, of 64, and its path there."""
    rates = np.geomspace(1e-3, 1e3, 64, dtype=np.float32)
    paths = jax.vmap(lambda rate: descend(make(rate), STEPS))(rates)
    paths = jax.tree.map(np.asarray, paths)
    steps = [steps_to_goal(values) for values in paths.values]
    best = int(np.argmin(steps))
    there = steps[best] + 1
    return float(rates[best]), jax.tree.map(lambda x: x[best, :there], paths)


def condition_numbers(pixels: int, draws: int = 100) -> np.ndarray:
    """Largest over least curvature of a linear model's squared error on random pixels.

    The curvatures are the eigenvalues of the mean of x x^T. Pixels that hardly vary are
    not drawn.
    """
    x = np.asarray(digits().x, np.float64)
    hessian, rng = x.T @ x / len(x), np.random.default_rng(0)
    varied = np.flatnonzero(x.var(0) > 1e-3)
    rows = [rng.choice(varied, pixels, replace=False) for _ in range(draws)]
    curvatures = np.array([np.linalg.eigvalsh(hessian[np.ix_(i, i)]) for i in rows])
    return curvatures[:, -1] / curvatures[:, 0]


def draw_heights(ax: Any) -> list[Number]:
    """The height over the steps at both rates, and in both forms of momentum."""
    paths = {
        "gradient descent": (descend(gradtx.sgd(LARGER)), descend(gradtx.sgd(SAME))),
        "momentum": (
            descend(gradtx.momentum(LARGER, 0.9)),
            descend(gradtx.momentum(SAME, 0.9)),
        ),
    }
    for name, (fast, slow) in paths.items():
        ax.semilogy(slow.values, **STYLES[name], label=f"{name}, rate {SAME}")
        label = f"{name}, rate {LARGER}"
        ax.semilogy(fast.values, **STYLES[name], ls="--", label=label)
    by_sum = descend(gradtx.sgd(SAME * (1 - 0.9), momentum=0.9))
    dots, label = np.arange(0, 151, 5), "momentum as a sum, rate / 10"
    ax.semilogy(dots, by_sum.values[dots], "k.", ms=4, label=label)
    ax.set(title="Momentum bears a larger rate", xlabel="step", ylabel="height")
    ax.set(ylim=(1e-6, 1e12), xlim=(0, 150))
    ax.legend(loc="upper right", fontsize=8)
    (lost, _), (fast, slow) = paths.values()
    limits = [
        descend(gradtx.momentum(rate, 0.9), STEPS).values[-1] for rate in (0.37, 0.39)
    ]
    forms = abs(by_sum.positions - slow.positions).max()
    overshoot = descend(gradtx.sgd(0.009, momentum=0.9)).positions[:, 0].max()
    return [
        Number(
            f"gradient descent, rate {LARGER}: height after 150",
            lost.values[-1],
            "diverging",
            "course, 06",
        ),
        Number(
            f"momentum, rate {LARGER}: height after 150",
            fast.values[-1],
            "a larger learning rate",
            "course, 06",
        ),
        Number("momentum, rate 0.37: height after 1000", limits[0]),
        Number("momentum, rate 0.39: height after 1000", limits[1]),
        Number(
            "momentum: rate of average / of sum",
            1 / (1 - 0.9),
            "1 / (1 - b)",
            "course, 06",
        ),
        Number("momentum: distance of the two paths then", forms),
        Number(
            "momentum, rate 0.009: farthest past the minimum",
            overshoot,
            "over-shoots",
            "CS231n notes, Momentum",
        ),
    ]


def draw_conditions(ax: Any) -> list[Number]:
    """The condition number over the number of parameters."""
    counts = np.array([2, 4, 8, 16, 32])
    conditions = np.array([np.median(condition_numbers(n)) for n in counts.tolist()])
    ax.loglog(counts, conditions, "o-", color=OLIVE)
    ax.set(title="Condition numbers grow", xlabel="parameters (pixels)")
    ax.set_ylabel("condition number (median)")
    ax.set_xticks(counts, counts)
    ax.minorticks_off()
    where = "CS231n notes, Bad Condition Number"
    return [
        Number(f"condition number, {n} parameters", condition, "larger", where)
        for n, condition in zip(counts, conditions, strict=True)
    ]


def lesson() -> Page:
    """Compare at one rate and at a larger one, then race eight optimizers."""
    figure = new_figure(15, 9)
    axes: Any = figure.subplot_mosaic(
        [["same", "same", "heights", "conditions"], [*"abcd"], [*"efgh"]],
        height_ratios=(1.5, 1, 1),
    )
    same = {
        "gradient descent": descend(gradtx.sgd(SAME)),
        "momentum": descend(gradtx.momentum(SAME, 0.9)),
    }
    ax = axes["same"]
    use_styles(ax, same)
    plot.plot_paths(bowl, same, **VIEW, ax=ax)
    ax.set(title=f"Equal rates of {SAME}, 150 steps: momentum damps the zig-zag")
    ax.set(xlabel="w", ylabel="b")
    ax.legend(loc="upper right")
    heights = draw_heights(axes["heights"])
    conditions = draw_conditions(axes["conditions"])

    course = "course, 06"
    stated = {
        "gradient descent": ("up and down oscillations", course),
        "momentum": ("damps out the oscillations", course),
    }
    numbers = []
    for name, path in same.items():
        ended = f"{name}, rate {SAME}"
        numbers += [
            Number(f"{ended}: crossings in 150", crossings(path), *stated[name]),
            Number(f"{ended}: way along b", way_along_b(path)),
            Number(f"{ended}: height after 150", path.values[-1]),
        ]
    numbers += [*heights, *conditions]
    for letter, (name, make) in zip("abcdefgh", OPTIMIZERS.items(), strict=True):
        (rate, path), ax = fastest(make), axes[letter]
        steps = len(path.values) - 1
        use_styles(ax, [name])
        plot.plot_paths(bowl, {name: path}, **VIEW, ax=ax)
        ax.get_legend().remove()
        ax.plot(*path.positions.T, ".", color=STYLES[name]["color"], ms=4)
        ax.set(title=f"{name}: {steps} steps", xlabel="w", ylabel="b")
        ax.set_xticks([-8, -4, 0, 4])
        ax.text(0.97, 0.05, f"rate {rate:.2g}", transform=ax.transAxes, ha="right")
        numbers += [
            Number(f"{name}: steps at its fastest rate", steps),
            Number(f"{name}: its fastest rate", rate),
        ]
        if name == "gradient descent":
            numbers.append(Number(f"{name}: crossings at it", crossings(path)))
    for name in ("gradient descent", "RMSProp"):
        first, second = np.asarray(descend(OPTIMIZERS[name](0.01)).positions)[:2]
        w, b = abs(second - first)
        numbers.append(Number(f"{name}: first step along b / along w", b / w))
    on_slope = gradtx.trajectory(OPTIMIZERS["momentum"](0.1), jnp.sum, np.zeros(1), 100)
    moved = np.diff(on_slope.positions[:, 0])
    faster = "faster and faster", "slides, 26"
    numbers.append(Number("momentum: step 100 / step 1", moved[-1] / moved[0], *faster))
    for b in (0.5, 0.99):
        _, path = fastest(lambda rate, b=b: gradtx.sgd(rate, momentum=b))
        label = f"momentum of {b}: steps at its fastest rate"
        numbers.append(Number(label, len(path.values) - 1, "0.9 is robust", course))
    diverging = descend(gradtx.sgd(0.0205)).values
    growth = diverging[60] / diverging[0]
    numbers.append(Number("rate 0.0205: growth in 60 steps", growth))

    def animate(file: Path, every: int = 3) -> None:
        ax = subplots(1, 1, 7, 3)[1]
        ax.set(title=f"Down the bowl, both at rate {SAME}", xlabel="w", ylabel="b")
        use_styles(ax, same)
        plot.animate_paths(bowl, same, file, every=every, ax=ax, **VIEW)

    return Page(figure, numbers, animate)


if __name__ == "__main__":
    main(lesson, __file__, __doc__)
