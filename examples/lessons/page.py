"""A page of the lessons: a picture, and numbers beside what the documents say."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

try:
    import matplotlib
    from cycler import cycler
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich import box
    from rich.console import Console
    from rich.table import Table
except ModuleNotFoundError as error:
    print(f"error: no {error.name}: install gradtx[examples]", file=sys.stderr)
    raise SystemExit(2) from None

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
RED, SKY, BLACK, GREY = "#D55E00", "#56B4E9", "#000000", "0.55"
PURPLE = "#6A3D9A"

# An optimizer has one colour in all pictures; its variants have other lines.
STYLES: dict[str, dict[str, str]] = {
    "gradient descent": {"color": BLUE},
    "SGD": {"color": BLUE},
    "momentum": {"color": ORANGE},
    "Nesterov": {"color": SKY},
    "Adagrad": {"color": PINK},
    "Adagrad without the root": {"color": PINK, "linestyle": ":"},
    "RMSProp": {"color": GREEN},
    "RMSProp by a tally": {"color": GREEN, "linestyle": "--"},
    "Adadelta": {"color": BLACK},
    "Rprop": {"color": GREY},
    "Adam": {"color": RED},
    "Adam, not corrected": {"color": RED, "linestyle": "--"},
    "Adam with L2": {"color": RED, "linestyle": "--"},
    "AdamW": {"color": PURPLE},
}
# Everything else (schedules, averages, batch sizes) has colours of Paul Tol's.
INDIGO, OLIVE, WINE, TEAL, SAND, BROWN = OTHERS = [
    "#332288",
    "#999933",
    "#882255",
    "#44AA99",
    "#DDCC77",
    "#8C510A",
]
matplotlib.rcParams.update(
    {
        "axes.prop_cycle": cycler(color=OTHERS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.titlesize": 11,
        "legend.framealpha": 0.85,
        "legend.edgecolor": "none",
        "lines.linewidth": 1.8,
    }
)


class Number(NamedTuple):
    """A number that a lesson measured.

    Attributes:
        label: Its name in the table.
        here: The measured value, a scalar.
        stated: The value or the words of a document.
        source: The document and its section or slide.
        is_timed: Whether a clock measured it: then it differs from run to run, and the
            gallery leaves it out.
    """

    label: str
    here: Any
    stated: str = ""
    source: str = ""
    is_timed: bool = False

    def __str__(self) -> str:
        """The value: all digits of a whole number, four of another."""
        if math.isnan(self.here):
            return "NaN"
        is_whole = float(self.here).is_integer() and abs(self.here) < 1e9
        return f"{self.here:,.0f}" if is_whole else f"{self.here:.4g}"


class Page(NamedTuple):
    """The result of a lesson.

    Attributes:
        figure: Its picture.
        numbers: Its measurements.
        animate: A function that writes its animation, if it has one, to a GIF.
    """

    figure: Figure
    numbers: list[Number]
    animate: Callable[..., None] | None = None

    def __getitem__(self, label: Any) -> Any:
        """A value by its label."""
        return {number.label: number.here for number in self.numbers}[label]


def subplots(rows: int, columns: int, width: float, height: float, **more: Any) -> Any:
    """A figure of so many inches, and its Axes."""
    figure = new_figure(width, height)
    return figure, figure.subplots(rows, columns, **more)


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches, without Axes."""
    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def use_styles(ax: Axes, names: Iterable[str]) -> None:
    """Draw the next lines of the Axes in the styles of these optimizers."""
    styles = [STYLES[name] for name in names]
    lines = [style.get("linestyle", "-") for style in styles]
    ax.set_prop_cycle(color=[style["color"] for style in styles], linestyle=lines)


def show(numbers: list[Number], title: str) -> None:
    """Print the numbers as a table."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1))
    table.add_column("number", no_wrap=True)
    table.add_column("here", justify="right", no_wrap=True)
    table.add_column("documents say")
    table.add_column("where")
    for number in numbers:
        table.add_row(number.label, str(number), number.stated, number.source)
    Console().print(table)


def save(page: Page, out: Path) -> list[Path]:
    """Write the picture, and beside it the animation; the files that were written."""
    page.figure.savefig(out)
    if page.animate is None:
        return [out]
    page.animate(out.with_suffix(".gif"))
    return [out, out.with_suffix(".gif")]


def main(lesson: Callable[[], Page], file: str, summary: str | None) -> None:
    """Run a lesson as a script: print its numbers, write its picture."""
    name = Path(file).stem
    title = (summary or name).splitlines()[0]
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=title)
    parser.add_argument("--out", type=Path, default=Path(f"{name}.png"))
    out = parser.parse_args().out
    page = lesson()
    show(page.numbers, title)
    print("Pictures:", *save(page, out))
