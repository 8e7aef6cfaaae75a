"""Plots of schedules, averages, losses, and the paths of optimizers.

Each function draws on the given Axes, or on those of a new figure, and returns them;
colours follow the Axes' cycle. Needs matplotlib: `gradtx[plot]`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from gradtx.core.errors import short_repr
from gradtx.rate_finder import RateCurve
from gradtx.trajectories import Trajectory

try:
    from matplotlib import pyplot
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image
except ModuleNotFoundError as error:
    message = f"gradtx.plot: no {error.name}: install gradtx[plot]"
    raise ModuleNotFoundError(message, name=error.name) from None

Range = tuple[float, float]


def _new_axes() -> Axes:
    return pyplot.subplots(layout="constrained")[1]


def _by_label(given: Any, owner: str) -> Any:
    """A mapping by label; raise for anything else."""
    if isinstance(given, Mapping) and given:
        return given
    raise TypeError(
        f"{owner}: expected a dict by label, of at least one, got {short_repr(given)}"
    )


def plot_schedule(
    schedule: Callable[[Any], Any] | float,
    steps: int,
    *,
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Plot the values of a schedule, or of a constant, at counts 0 to `steps - 1`.

    Args:
        schedule: A function of the count, ours, of optax or any that JAX can vmap.
        steps: Number of counts.
        ax: Axes to draw on.
        **line: Arguments of `Axes.plot` (`label`, `color`, ...).

    Examples:
        >>> ax = gradtx.plot.plot_schedule(gradtx.linear_schedule(1.0, 0.0, 10), 20)
        >>> [float(y) for y in ax.lines[0].get_ydata()[[0, 5, 10]]]
        [1.0, 0.5, 0.0]
    """
    ax = _new_axes() if ax is None else ax
    counts = np.arange(steps, dtype=np.int32)
    of = schedule if callable(schedule) else lambda count: schedule
    with jax.numpy_dtype_promotion("standard"):
        values = jax.vmap(lambda count: jnp.asarray(of(count)))(counts)
    ax.plot(counts, values, **line)
    ax.set(xlabel="count of updates", ylabel="value")
    return ax


def plot_schedules(
    schedules: Mapping[str, Callable[[Any], Any] | float],
    steps: int,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Plot several schedules, by label; see `plot_schedule`.

    Examples:
        >>> ax = gradtx.plot.plot_schedules({"constant": 1.0,
        ...     "cosine": gradtx.cosine_decay_schedule(1.0, 100)}, steps=100)
        >>> [line.get_label() for line in ax.lines]
        ['constant', 'cosine']
    """
    ax = _new_axes() if ax is None else ax
    for label, schedule in _by_label(schedules, "plot_schedules").items():
        plot_schedule(schedule, steps, ax=ax, label=label)
    ax.legend(frameon=False)
    return ax


def plot_ema_weights(
    decays: Sequence[float] | float, steps: int | None = None, *, ax: Axes | None = None
) -> Axes:
    """Plot the weights of an exponential average, from now to `steps` steps ago.

    The value of k steps ago has weight (1 - b) b**k. A dot marks k = 1 / (1 - b),
    where the weight is about 1 / e of the first.

    Args:
        decays: The decay b of each average, one or several, each in [0, 1).
        steps: Number of steps back; 3 / (1 - b) for the largest b if None.
        ax: Axes to draw on.

    Examples:
        >>> ax = gradtx.plot.plot_ema_weights([0.5, 0.75], steps=10)
        >>> ax.lines[0].get_ydata()[:3].tolist()
        [0.5, 0.25, 0.125]
    """
    several: list[float] = np.atleast_1d(decays).tolist()
    if not all(0 <= b < 1 for b in several):
        raise ValueError(f"plot_ema_weights: decays must be in [0, 1), got {several}")
    ax = _new_axes() if ax is None else ax
    ago = np.arange((steps or int(np.ceil(3 / (1 - max(several))))) + 1)
    for b in several:
        (line,) = ax.plot(ago, (1 - b) * b**ago, label=f"b = {b:g}")
        memory = 1 / (1 - b)
        ax.plot(memory, (1 - b) * b**memory, "o", color=line.get_color())
    ax.set(xlabel="steps ago", ylabel="weight")
    ax.legend(frameon=False)
    return ax


def plot_losses(
    losses: Mapping[str, Any], *, smooth: int = 1, ax: Axes | None = None
) -> Axes:
    """Plot losses over steps, by label, on a logarithmic axis.

    Args:
        losses: Trajectories, or values of shape [steps] or [runs, steps]. For several
            runs the line is the median, with a band from the minimum to the maximum.
        smooth: Number of steps of a running mean, at least 1. The line starts at the
            first complete mean.
        ax: Axes to draw on.

    Examples:
        >>> path = gradtx.trajectory(gradtx.sgd(0.25), jnp.square, jnp.array(3.0), 20)
        >>> ax = gradtx.plot.plot_losses({"sgd": path, "three runs": jnp.ones((3, 21))})
        >>> ax.get_yscale(), len(ax.lines)
        ('log', 2)
    """
    ax = _new_axes() if ax is None else ax
    for label, given in _by_label(losses, "plot_losses").items():
        values = given.values if isinstance(given, Trajectory) else given
        runs = np.atleast_2d(np.asarray(values, np.float64))
        if not 1 <= smooth <= runs.shape[1]:
            raise ValueError(
                f"plot_losses: {label}: smooth must be from 1 to {runs.shape[1]}, "
                f"got {smooth}"
            )
        kernel = np.full(smooth, 1 / smooth)
        runs = np.array([np.convolve(run, kernel, "valid") for run in runs])
        steps = np.arange(smooth - 1, smooth - 1 + runs.shape[1])
        (line,) = ax.plot(steps, np.median(runs, 0), label=label)
        if len(runs) > 1:
            band = runs.min(0), runs.max(0)
            ax.fill_between(steps, *band, color=line.get_color(), alpha=0.2, lw=0)
    ax.set(xlabel="step", ylabel="loss", yscale="log")
    ax.legend(frameon=False)
    return ax


def plot_rates(curve: RateCurve, *, ax: Axes | None = None) -> Axes:
    """Plot the losses of `find_learning_rate` by learning rate.

    Losses above twice the initial loss, or not finite, are drawn at the upper edge.

    Args:
        curve: The result of `find_learning_rate`.
        ax: Axes to draw on.

    Examples:
        >>> found = gradtx.find_learning_rate(gradtx.sgd, lambda w, x: (w - x) ** 2,
        ...     jnp.zeros(()), jnp.arange(8.0), rates=7)
        >>> gradtx.plot.plot_rates(found).get_xscale()
        'log'
    """
    ax = _new_axes() if ax is None else ax
    start, losses = float(np.median(curve.at_start)), np.asarray(curve.losses)
    lowest, margin = min(losses.min(), start), abs(start) or 1.0
    top = start + min(margin, start - lowest or margin)
    shown = np.minimum(losses, top)
    if len(shown) > 1:
        ax.plot(curve.rates, shown.T, color="0.75", linewidth=1)
        ax.get_lines()[0].set_label("each seed")
    (line,) = ax.plot(curve.rates, np.median(shown, 0), marker="o", ms=3)
    line.set_label("median")
    ax.axhline(start, color="0.4", linestyle=":", linewidth=1, label="at the start")
    if np.isfinite(curve.suggestion):
        label = f"suggested: {curve.suggestion:.2g}"
        ax.axvline(curve.suggestion, color="0.2", linestyle="--", lw=1, label=label)
    ax.set(xlabel="learning rate", ylabel="loss", xscale="log")
    ax.legend(frameon=False)
    return ax


def plot_paths(
    f: Callable[[Any], Any],
    paths: Mapping[str, Any],
    *,
    xlim: Range | None = None,
    ylim: Range | None = None,
    levels: int = 20,
    ax: Axes | None = None,
) -> Axes:
    """Plot paths over the contours of a function of two parameters.

    Args:
        f: A real scalar function of the parameters.
        paths: Per label a `Trajectory`, or positions: an array of shape [steps, 2], or
            a tree of two arrays of shape [steps].
        xlim: Range of the first parameter; the range of all paths if None.
        ylim: Range of the second parameter, likewise.
        levels: Number of contours, denser near the lowest value in the plot.
        ax: Axes to draw on.

    Returns:
        The Axes. A ring marks the start of a path, a dot its end.

    Examples:
        >>> def bowl(at):
        ...     return at[0] ** 2 / 2 + 10 * at[1] ** 2
        >>> path = gradtx.trajectory(gradtx.sgd(0.09), bowl, jnp.array([-4.0, 1.0]), 20)
        >>> ax = gradtx.plot.plot_paths(bowl, {"sgd": path})
        >>> ax.lines[0].get_label()
        'sgd'
    """
    ax = _new_axes() if ax is None else ax
    for label, points in _draw_contours(f, paths, xlim, ylim, levels, ax).items():
        style = {"markevery": [-1], "marker": "o", "linewidth": 1.5, "markersize": 5}
        (line,) = ax.plot(*points.T, label=label, **style)
        ax.plot(*points[0], "o", color=line.get_color(), mfc="white", zorder=3)
    ax.legend()
    return ax


def animate_paths(
    f: Callable[[Any], Any],
    paths: Mapping[str, Any],
    file: str | os.PathLike[str],
    *,
    xlim: Range | None = None,
    ylim: Range | None = None,
    levels: int = 20,
    every: int = 1,
    fps: int = 15,
    ax: Axes | None = None,
) -> Axes:
    """Write a GIF with growing paths, as in `plot_paths`.

    Args:
        f: A real scalar function of the parameters.
        paths: As for `plot_paths`.
        file: The GIF to write.
        xlim: Range of the first parameter; the range of all paths if None.
        ylim: Range of the second parameter, likewise.
        levels: Number of contours.
        every: Number of steps per frame.
        fps: Frames per second.
        ax: Axes to draw on.

    Returns:
        The Axes, as in the last frame.
    """
    ax = _new_axes() if ax is None else ax
    points = _draw_contours(f, paths, xlim, ylim, levels, ax)
    style = {"markevery": [-1], "marker": "o", "linewidth": 1.5, "markersize": 6}
    lines = {label: ax.plot([], [], label=label, **style)[0] for label in points}
    ax.legend(loc="upper right")

    figure: Any = ax.get_figure(root=True)
    canvas, frames = FigureCanvasAgg(figure), []
    last = max(map(len, points.values())) - 1
    for step in [*range(0, last, every), last]:
        for label, line in lines.items():
            line.set_data(*points[label][: step + 1].T)
        canvas.draw()
        frame = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        # One palette for all frames, so that a frame stores only differences.
        palette = frames[0] if frames else None
        frames.append(frame.quantize(palette=palette, dither=Image.Dither.NONE))
    durations = [1000 // fps] * (len(frames) - 1) + [1500]
    kwargs = {"save_all": True, "append_images": frames[1:], "loop": 0}
    frames[0].save(file, duration=durations, **kwargs)
    return ax


def _draw_contours(
    f: Callable[[Any], Any],
    paths: Mapping[str, Any],
    xlim: Range | None,
    ylim: Range | None,
    levels: int,
    ax: Axes,
) -> dict[str, np.ndarray]:
    """Draw the contours; return the points of each path, of shape [steps, 2]."""
    points = {}
    treedef = jax.tree.structure(0)
    for label, path in _by_label(paths, "plot_paths").items():
        positions = path.positions if isinstance(path, Trajectory) else path
        leaves, treedef = jax.tree.flatten(positions)
        leaves = [np.asarray(leaf, np.float32) for leaf in leaves]
        points[label] = (
            np.stack(leaves, -1) if len(leaves) == 2 else np.asarray(leaves[0])
        )
        if points[label].ndim != 2 or points[label].shape[1] != 2:
            shapes = jax.tree.map(np.shape, positions)
            raise ValueError(f"plot_paths: {label}: two parameters, got {shapes}")
    every = np.concatenate(list(points.values()))
    x, y = (
        np.linspace(*(_around(coordinates) if limits is None else limits), 200)
        for coordinates, limits in zip(every.T, (xlim, ylim), strict=True)
    )
    grid = np.stack(np.meshgrid(x, y), -1).astype(every.dtype)
    leaves = [grid[..., 0], grid[..., 1]] if treedef.num_leaves == 2 else [grid]
    heights = np.asarray(jax.vmap(jax.vmap(f))(jax.tree.unflatten(treedef, leaves)))
    low, high = np.nanmin(heights), np.nanmax(heights)
    # Levels grow from the lowest value as squares of evenly spaced numbers, so that the
    # contours of a quadratic are evenly spaced.
    at = low + (high - low) * np.linspace(0, 1, levels + 1)[1:] ** 2
    style = {"colors": "0.8", "linestyles": "solid", "linewidths": 0.8, "zorder": 0}
    ax.contour(x, y, heights, at, **style)
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    return points


def _around(coordinates: np.ndarray) -> Range:
    """A range around all finite coordinates."""
    finite = coordinates[np.isfinite(coordinates)]
    margin = 0.1 * np.ptp(finite) or 1.0
    return finite.min() - margin, finite.max() + margin
