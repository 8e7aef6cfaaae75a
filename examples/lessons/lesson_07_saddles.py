"""Saddle points and plateaus: where gradients vanish, and what gets away from them.

Near a saddle descent waits until a tiny slope has grown. Momentum waits less, with its
tenfold steps; what divides by the size of gradients hardly waits, if the saddle lies
along the axes. A plateau holds descent for longest. And in many dimensions nearly every
point without a gradient is a saddle: minima are even rarer than by tossing coins.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from gradtx import plot
from page import BLACK, BLUE, COLOURS, ORANGE, Number, Page, main, subplots

# At rate 0.1 the first step of each is about 0.1 where the gradient is 1, as it is at
# the start. Adadelta finds its own steps, at the rate of its paper.
OPTIMIZERS = {
    "SGD": gradtx.sgd(0.1),
    "momentum": gradtx.sgd(0.1, momentum=0.9),
    "Nesterov": gradtx.sgd(0.1, momentum=0.9, nesterov=True),
    "Adagrad": gradtx.adagrad(0.1),
    "RMSProp": gradtx.rmsprop(0.1),
    "Adadelta": gradtx.adadelta(1.0),
    "Rprop": gradtx.rprop(0.1),
    "Adam": gradtx.adam(0.1),
}
START = np.array([1, 1e-5], np.float32)


def saddle(at: Any) -> Any:
    """A saddle at (0, 0), from which the ground falls to -1 / 4 at (0, 1), (0, -1)."""
    x, y = at
    return x**2 / 2 - y**2 / 2 + y**4 / 4


def turned_saddle(at: Any) -> Any:
    """The same, turned by 45 degrees."""
    x, y = at
    return saddle(((x + y) / 2**0.5, (y - x) / 2**0.5))


def plateau(x: Any) -> Any:
    """Flat at 1 where x is far below 0, then a slope down to 0."""
    return jax.nn.sigmoid(-x)


def dip(x: Any) -> Any:
    """A wide bowl around 0 with a small hole in its side, at 2."""
    return x**2 / 20 - 0.15 * jnp.exp(-10 * (x - 2) ** 2)


def leave(tx: Any, f: Any, start: Any, below: float, steps: int) -> Any:
    """The trajectory until its value is below what is given."""
    path = gradtx.trajectory(tx, f, start, steps)
    left = int(np.argmax(path.values < below)) or steps
    return jax.tree.map(lambda array: array[: left + 1], path)


def shares(n: int, samples: int) -> np.ndarray:
    """Shares of critical points with 0 to n directions down, in a random field.

    At a critical point of an isotropic Gaussian field the Hessian is G + g I, with G
    from the Gaussian orthogonal ensemble and g normal; by Kac and Rice it counts as
    often as |det(G + g I)|. With this factor -g is to G as one more eigenvalue, so the
    shares are mean weights exp(-m**2 / 4) of the n + 1 eigenvalues m of a larger G.
    """
    normal = np.random.default_rng(n).normal(size=(samples, n + 1, n + 1))
    eigenvalues = np.linalg.eigvalsh((normal + normal.transpose(0, 2, 1)) / 2**0.5)
    weights = np.exp(-(eigenvalues**2) / 4).mean(0)
    return (weights + weights[::-1]) / (2 * weights.sum())


def lesson(samples: int = 100_000) -> Page:
    """Leave a saddle, a plateau and a hole; count saddles."""
    figure, ((along, turned, bars), (flat, hole, random)) = subplots(2, 3, 15, 8)
    colours, rows = [*COLOURS, "0.5"], np.arange(len(OPTIMIZERS))

    def race(f: Any, start: Any, below: float, steps: int = 400) -> Any:
        paths = {k: leave(tx, f, start, below, steps) for k, tx in OPTIMIZERS.items()}
        return paths, {name: len(path.values) - 1 for name, path in paths.items()}

    def draw_steps(ax: Any, steps: dict[str, int], shift: float, **style: Any) -> None:
        drawn = ax.barh(rows + shift, [*steps.values()], edgecolor=colours, **style)
        ax.bar_label(drawn, padding=3, fontsize=9)

    def draw_paths(ax: Any, f: Any, paths: Any, title: str) -> None:
        ax.set_prop_cycle(color=colours)
        plot.plot_paths(f, paths, xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), levels=10, ax=ax)
        ax.get_legend().remove()
        ax.set(title=title, xlabel="first parameter", ylabel="second parameter")

    x, y = START
    paths, off = race(saddle, START, -1 / 8)
    draw_paths(along, saddle, paths, "Off a saddle: descent goes in, and waits")
    draw_steps(bars, off, -0.2, height=0.36, color=colours)
    start = np.array([x - y, x + y]) / np.sqrt(2, dtype=np.float32)
    paths, off_turned = race(turned_saddle, start, -1 / 8)
    draw_paths(turned, turned_saddle, paths, "Turned by 45°, all go in")
    draw_steps(bars, off_turned, 0.2, height=0.36, color="white")
    bars.set(title="Off the saddle; outlined: off the turned one", xlim=(1, 1000))
    _, off_plateau = race(plateau, np.float32(-7), 0.5, 12_000)
    draw_steps(flat, off_plateau, 0, height=0.7, color=colours)
    flat.set(title="A plateau holds descent longest", xlim=(1, 1e5))
    for ax in (bars, flat):
        ax.set(xscale="log", xlabel="steps until half-way down")
        ax.set(yticks=rows, yticklabels=OPTIMIZERS)
        ax.invert_yaxis()
    small_steps = OPTIMIZERS["momentum"].replace(learning_rate=0.01)
    off_slowly = (
        leave(small_steps, plateau, np.float32(-7), 0.5, 12_000).values.size - 1
    )

    plain, heavy, average = (
        gradtx.trajectory(tx, dip, np.float32(4), 1000)
        for tx in (OPTIMIZERS["SGD"], OPTIMIZERS["momentum"], gradtx.momentum(0.1))
    )
    ground = np.linspace(-2.7, 4.3, 500, dtype=np.float32)
    hole.plot(ground, jax.vmap(dip)(ground), color="0.7", zorder=0)
    for path, colour, name, up in (
        (plain, BLUE, "SGD", 0.0),
        (heavy, ORANGE, "momentum, drawn higher", 0.06),
    ):
        hole.plot(path.positions, path.values + up, ".", color=colour)
        end = path.positions[-1], path.values[-1] + up
        hole.plot(*end, "o", ms=11, color=colour, label=f"{name}: ends at {end[0]:.2f}")
    hole.set(title="Momentum rolls through a hole, SGD stays", ylim=(-0.1, 1.25))
    hole.set(xlabel="parameter", ylabel="height")
    hole.legend(loc="upper left")

    directions = np.array([*range(1, 9), 16, 32])
    found = {n: shares(n, samples // n) for n in directions.tolist()}
    minima = [share[0] for share in found.values()]
    random.semilogy(directions, minima, "o", color=BLUE, label="in a random field")
    random.semilogy(directions, 0.5**directions, color=BLACK, lw=1, label="$2^{-n}$")
    random.set(title="Minima are rarer than by tossing coins")
    random.set(xlabel="directions n", ylabel="minima among critical points")
    random.legend(loc="upper right")

    course, helps = "course, 10", ("helps", "course, 10")
    adagrad = "CS231n notes, Adagrad"
    on_saddle = {
        "momentum": ("helps certainly", "CS231n notes"),
        "Adagrad": ("very bad (a slip: if turned)", adagrad),
    }
    on_turned = {"Adagrad": ("very bad for saddle points", adagrad)}
    on_plateau = {
        "SGD": ("a very long time", course),
        **dict.fromkeys(["momentum", "RMSProp", "Adam"], helps),
    }
    numbers = [
        Number(f"{name}: steps off the {what}", steps, *stated.get(name, ()))
        for what, taken, stated in (
            ("saddle", off, on_saddle),
            ("turned saddle", off_turned, on_turned),
            ("plateau", off_plateau, on_plateau),
        )
        for name, steps in taken.items()
    ]
    ends = plain.positions[-1], heavy.positions[-1], average.positions[-1]
    bits, coins = np.log2(found[32][0]) / 32, "-1: two to the minus 20,000"
    optima = "notebook, Local Optimums"
    numbers += [
        Number("momentum at rate 0.01: off the plateau", off_slowly),
        Number("SGD: where it ends", ends[0], "can get stuck", "slides, 7"),
        Number("momentum: where it ends", ends[1], "avoids local minima", "slides, 10"),
        Number("momentum as an average: where it ends", ends[2]),
        Number("share of minima, 2 directions", found[2][0], "2**-2", course),
        Number("share of minima, 3 directions", found[3][0], "2**-3", course),
        Number("share of minima, 8 directions", found[8][0], "2**-8 = 0.0039", course),
        Number("log2 of the share / directions, 32", bits, coins, course),
        Number("share of saddles, 2 directions", found[2][1]),
        Number("share of saddles, 8 directions", found[8][1:-1].sum(), "most", optima),
    ]
    return Page(figure, numbers)


if __name__ == "__main__":
    main(lesson, __file__, __doc__)
