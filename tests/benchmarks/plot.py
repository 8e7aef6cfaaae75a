"""A picture of what `python -m tests.benchmarks table --json PATH` measured.

`python -m tests.benchmarks.plot PATH.json PICTURE.png`: for each tree the step of every
pipeline as a ratio to optax, and one leaf's step beside the time that its bytes take.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from tests.benchmarks.cell import SETTINGS
from tests.benchmarks.work import PIPELINES, TREES

MARKS = dict(
    zip(SETTINGS, (("#D55E00", "o"), ("#0072B2", "s"), ("#009E73", "D")), strict=True)
)
ONE = "one leaf of 100M"
BYTES = 28
"""What Adam moves at least, for each float32 parameter."""


def plot_ratios(ax: Axes, cells: dict[str, Any], tree: str) -> None:
    """The step of each pipeline on a tree, as a ratio to optax, under each setting."""
    names = [n for n in PIPELINES if f"{tree} | {n} | default | step" in cells]
    for setting, (color, marker) in MARKS.items():
        arms = [cells[f"{tree} | {n} | {setting} | step"]["step"] for n in names]
        ratios = [arm["gradtx"] / arm["optax"] for arm in arms]
        rows = range(len(names))
        ax.plot(ratios, rows, marker, color=color, label=setting, alpha=0.85)
    ax.axvline(1, color="0.5", linewidth=1)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.set_xticks([0.2, 0.5, 1, 1.5])
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(axis="x", color="0.9")
    ax.set(title=tree, xlabel="step of gradtx / step of optax")


def plot_bus(ax: Axes, cells: dict[str, Any]) -> None:
    """AdamW on one leaf: each arm, and the time that memory takes for its bytes."""
    bars: dict[str, float] = {}
    for setting in ("default", "cpu fusion"):
        arms = cells[f"{ONE} | adamw | {setting} | step"]["step"]
        for name, seconds in arms.items():
            if not name.startswith("torch"):
                bars[f"{name}, {setting}"] = seconds
            elif setting == "cpu fusion":
                bars[name] = seconds
    bus = max(cells[f"{ONE} | adamw | cpu fusion | step"]["bytes per second"].values())
    order = sorted(bars, key=lambda name: bars[name])
    colors = ["#009E73" if name.startswith("gradtx") else "0.65" for name in order]
    drawn = ax.barh(order, [1e3 * bars[name] for name in order], color=colors)
    ax.bar_label(drawn, fmt="%.0f", padding=3)
    floor = 1e3 * BYTES * 1e8 / bus
    label = f"{BYTES} bytes a parameter at {bus / 1e9:.0f} GB/s"
    ax.axvline(floor, color="#CC79A7", linestyle="--", label=label)
    ax.set_xlim(right=1.15e3 * max(bars.values()))
    ax.invert_yaxis()
    ax.legend(loc="upper right", fontsize="small")
    ax.set(title="AdamW on one leaf of 100M", xlabel="ms a step")


def draw(cells: dict[str, Any]) -> Figure:
    """A panel for each tree that was measured."""
    trees = [t for t in TREES if t != ONE and any(key.startswith(t) for key in cells)]
    rows = [trees[i : i + 2] for i in range(0, len(trees), 2)]
    mosaic: Any = [row if len(row) == 2 else row * 2 for row in [*rows, [ONE]]]
    figure = Figure(figsize=(10, 4 * len(mosaic)), layout="constrained")
    axes = figure.subplot_mosaic(mosaic)
    for tree in trees:
        plot_ratios(axes[tree], cells, tree)
    axes[trees[0]].legend(loc="best", fontsize="small")
    plot_bus(axes[ONE], cells)
    figure.suptitle(cells["machine"], fontsize="small")
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Read the figures, draw, and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args(argv)
    draw(json.loads(options.figures.read_text())).savefig(options.picture, dpi=110)


if __name__ == "__main__":
    main()
