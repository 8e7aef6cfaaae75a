"""Saddle points, plateaus and holes: where gradients vanish, and how optimizers leave.

Near a saddle gradient descent waits until a tiny slope has grown. Momentum waits less,
with its tenfold steps; methods that divide by the size of gradients hardly wait, if the
saddle lies along the axes. A plateau holds gradient descent for longest. Noise helps to
leave: with noisy gradients 9 of 10 runs get out of a hole in which gradient descent
stays for ever, and half of them leave the plateau in less than a tenth of its time. In
many dimensions nearly every point without a gradient is a saddle: minima are even rarer
than by tossing coins.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from gradtx import plot
from page import (
    BLACK,
    BLUE,
    INDIGO,
    STYLES,
    Number,
    Page,
    main,
    new_figure,
    use_styles,
)

# At rate 0.1 the first step of each is about 0.1 where the gradient is 1, as it is at
# the start. Adadelta finds its own steps, at the rate of its paper.
OPTIMIZERS = {
    "gradient descent": gradtx.sgd(0.1),
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
    path = jax.tree.map(np.asarray, path)
    left = int(np.argmax(path.values < below)) or steps
    return jax.tree.map(lambda array: array[: left + 1], path)


def wander(f: Any, start: float, noise: float, steps: int, runs: int) -> np.ndarray:
    """Positions of SGD: gradient descent by gradients with so much noise."""

    def walk(key: Any) -> Any:
        noisy = gradtx.chain(gradtx.add_noise(noise**2, 0.0, key), gradtx.sgd(0.1))
        return gradtx.trajectory(noisy, f, np.float32(start), steps).positions

    keys = jax.random.split(jax.random.key(0), runs)
    return np.asarray(jax.vmap(walk)(jax.random.key_data(keys)))


def first_off(walks: np.ndarray) -> np.ndarray:
    """After how many steps each walk is half-way down the plateau; inf if never."""
    is_off = walks > 0
    return np.where(is_off.any(1), is_off.argmax(1), np.inf)


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


def draw_surface(ax: Any, paths: Any) -> None:
    """The saddle as a surface, with two of the paths."""
    x, y = np.meshgrid(*2 * [np.linspace(-1.2, 1.2, 49, dtype=np.float32)])
    style = {"color": "0.9", "alpha": 0.6, "edgecolor": "0.75", "linewidth": 0.3}
    ax.plot_surface(x, y, np.asarray(saddle((x, y))), rstride=3, cstride=3, **style)
    for name in ("gradient descent", "momentum", "RMSProp"):
        at = paths[name].positions
        ax.plot(*at.T, paths[name].values + 0.02, **STYLES[name], lw=2.5, zorder=9)
    x, y = START
    ax.plot([x], [y], [saddle(START) + 0.02], "ko", mfc="white", ms=7, zorder=10)
    ax.set(title="A saddle: up along one axis, down along the other")
    ax.set(xlabel="first parameter", ylabel="second parameter", zlabel="height")
    ax.view_init(elev=38, azim=35)
    ax.set_box_aspect(None, zoom=1.05)


def draw_plateau(ax: Any, paths: Any, noisy: np.ndarray) -> None:
    """The plateau, and where optimizers are on it after 50 steps."""
    ground = np.linspace(-8, 6, 300, dtype=np.float32)
    ax.plot(ground, plateau(ground), color="0.7", zorder=0)
    up = 0.0
    for name in ("gradient descent", "momentum", "RMSProp", "Adam"):
        x = paths[name].positions[:51]
        up += 0.06
        ax.plot(x, plateau(x) + up, ".-", ms=4, lw=0.8, **STYLES[name], label=name)
    path = noisy[np.argsort(first_off(noisy))[len(noisy) // 4]]
    x = path[: int(first_off(path[None])[0]) + 1 : 5]
    style = {"color": BLUE, "ls": "--", "lw": 0.5}
    ax.plot(x, plateau(x) - 0.08, ".", ms=3, **style, label="SGD, noise 3, every 5th")
    ax.set(title="The plateau: gradient descent stays for 50 steps")
    ax.set(xlabel="parameter", ylabel="height", ylim=(-0.2, 1.45))
    ax.legend(loc="lower left")


def draw_hole(ax: Any) -> list[Number]:
    """Momentum and gradient descent at the hole."""
    plain, heavy, average = (
        gradtx.trajectory(tx, dip, np.float32(4), 1000)
        for tx in (
            OPTIMIZERS["gradient descent"],
            OPTIMIZERS["momentum"],
            gradtx.momentum(0.1),
        )
    )
    ground = np.linspace(-2.7, 4.3, 500, dtype=np.float32)
    ax.plot(ground, jax.vmap(dip)(ground), color="0.7", zorder=0)
    for path, name, words, up in (
        (plain, "gradient descent", "gradient descent", 0.0),
        (heavy, "momentum", "momentum, drawn higher", 0.06),
    ):
        style = STYLES[name]
        ax.plot(path.positions, path.values + up, ".", **style)
        end = path.positions[-1], path.values[-1] + up
        ax.plot(*end, "o", ms=11, **style, label=f"{words}: ends at {end[0]:.2f}")
    ax.set(title="Momentum rolls through a hole", ylim=(-0.1, 1.25))
    ax.set(xlabel="parameter", ylabel="height")
    ax.legend(loc="upper left")
    ends = plain.positions[-1], heavy.positions[-1], average.positions[-1]
    return [
        Number(
            "gradient descent: where it ends", ends[0], "can get stuck", "slides, 7"
        ),
        Number("momentum: where it ends", ends[1], "avoids local minima", "slides, 10"),
        Number("momentum as an average: where it ends", ends[2]),
    ]


def draw_noise(ax: Any, runs: int) -> list[Number]:
    """The share of noisy runs that are out of the hole."""
    numbers = []
    for noise, style in ((0.0, "-"), (0.5, ":"), (1.0, "--")):
        out = 100 * (wander(dip, 4.0, noise, 1000, runs) < 1.5).mean(0)
        label = f"SGD, noise {noise:g}" if noise else "gradient descent"
        ax.plot(out, color=BLUE, ls=style, label=label)
        stated = ("jumps over local minima", "slides, 14") if noise else ("", "")
        name = f"noise {noise:g}: % out of the hole at the end"
        numbers.append(Number(name, out[-1], *stated))
    ax.set(title="Noise leaves the hole", xlabel="step", ylim=(-3, 103))
    ax.set_ylabel("runs out of the hole (%)")
    ax.legend(loc="center right")
    return numbers


def lesson(samples: int = 100_000, runs: int = 256) -> Page:
    """Leave a saddle, a plateau and a hole; count saddles."""
    figure, rows = new_figure(16, 12.4), np.arange(len(OPTIMIZERS))
    axes: Any = figure.subplot_mosaic(
        [
            ["surface", "along", "turned"],
            ["bars", "plateau", "flat"],
            ["hole", "noise", "random"],
        ],
        per_subplot_kw={"surface": {"projection": "3d"}},
    )
    bars, flat, random = axes["bars"], axes["flat"], axes["random"]
    colours = [STYLES[name]["color"] for name in OPTIMIZERS]

    def race(f: Any, start: Any, below: float, steps: int = 400) -> Any:
        paths = {k: leave(tx, f, start, below, steps) for k, tx in OPTIMIZERS.items()}
        return paths, {name: len(path.values) - 1 for name, path in paths.items()}

    def draw_steps(ax: Any, steps: dict[str, int], shift: float, **style: Any) -> None:
        drawn = ax.barh(rows + shift, [*steps.values()], edgecolor=colours, **style)
        ax.bar_label(drawn, padding=3, fontsize=9)

    def draw_paths(ax: Any, f: Any, paths: Any, title: str) -> None:
        use_styles(ax, paths)
        plot.plot_paths(f, paths, xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), levels=10, ax=ax)
        ax.legend(loc="lower left", fontsize=8)
        ax.set(title=title, xlabel="first parameter", ylabel="second parameter")

    x, y = START
    paths, off = race(saddle, START, -1 / 8)
    draw_surface(axes["surface"], paths)
    draw_paths(axes["along"], saddle, paths, "Gradient descent goes into the saddle")
    draw_steps(bars, off, -0.2, height=0.36, color=colours)
    start = np.array([x - y, x + y]) / np.sqrt(2, dtype=np.float32)
    paths, off_turned = race(turned_saddle, start, -1 / 8)
    draw_paths(
        axes["turned"], turned_saddle, paths, "All go into a saddle turned by 45°"
    )
    draw_steps(bars, off_turned, 0.2, height=0.36, color="white")
    bars.set(title="Steps off the saddle (outlined: the turned one)", xlim=(1, 1000))
    flat_paths, off_plateau = race(plateau, np.float32(-7), 0.5, 12_000)
    draw_steps(flat, off_plateau, 0, height=0.7, color=colours)
    flat.set(title="Steps off the plateau", xlim=(1, 1e5))
    for ax in (bars, flat):
        ax.set(xscale="log", xlabel="steps until half-way down")
        ax.set(yticks=rows, yticklabels=OPTIMIZERS)
        ax.invert_yaxis()
    small_steps = OPTIMIZERS["momentum"].replace(learning_rate=0.01)
    slowly = leave(small_steps, plateau, np.float32(-7), 0.5, 12_000)

    noisy = wander(plateau, -7.0, 3.0, 3000, runs)
    draw_plateau(axes["plateau"], flat_paths, noisy)
    holes = [*draw_hole(axes["hole"]), *draw_noise(axes["noise"], runs)]
    ridge = START * np.array([1, 0], np.float32)  # exactly: the slope aside is 0
    still = gradtx.trajectory(OPTIMIZERS["gradient descent"], saddle, ridge, 1000)

    directions = np.array([*range(1, 9), 16, 32])
    found = {n: shares(n, samples // n) for n in directions.tolist()}
    minima = [share[0] for share in found.values()]
    random.semilogy(directions, minima, "o", color=INDIGO, label="in a random field")
    random.semilogy(directions, 0.5**directions, color=BLACK, lw=1, label="$2^{-n}$")
    random.set(title="Minima are rarer than n heads in n tosses")
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
        "gradient descent": ("a very long time", course),
        **dict.fromkeys(["momentum", "RMSProp", "Adam"], helps),
    }
    numbers = [
        Number(f"{name}: steps off the {what}", steps, *stated.get(name, ("", "")))
        for what, taken, stated in (
            ("saddle", off, on_saddle),
            ("turned saddle", off_turned, on_turned),
            ("plateau", off_plateau, on_plateau),
        )
        for name, steps in taken.items()
    ]
    bits, coins = np.log2(found[32][0]) / 32, "-1: two to the minus 20,000"
    optima, pushed = "notebook, Local Optimums", np.median(first_off(noisy))
    numbers += [
        *holes,
        Number("no push: way aside after 1000", abs(still.positions[-1, 1]), "stuck"),
        Number(
            "noise 3: steps off the plateau", pushed, "a random perturbation", course
        ),
        Number("momentum at rate 0.01: off the plateau", len(slowly.values) - 1),
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
