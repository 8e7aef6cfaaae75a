"""A page of the lessons: a picture, and numbers beside what the documents say."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

try:
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure
    from rich import box
    from rich.console import Console
    from rich.table import Table
except ModuleNotFoundError as error:
    print(f"error: no {error.name}: install gradtx[examples]", file=sys.stderr)
    raise SystemExit(2) from None

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PINK, RED, SKY, BLACK = COLOURS = [
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#000000",
]
matplotlib.rcParams.update(
    {
        "axes.prop_cycle": cycler(color=COLOURS),
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
    """A number that a lesson found.

    Attributes:
        what: What it is of.
        here: What came out, a scalar.
        stated: What a document says, in its words.
        source: The document and its section or slide.
    """

    what: str
    here: Any
    stated: str = ""
    source: str = ""

    def __str__(self) -> str:
        """What came out: all digits of a whole number, four of another."""
        is_whole = float(self.here).is_integer() and abs(self.here) < 1e9
        return f"{self.here:,.0f}" if is_whole else f"{self.here:.4g}"


class Page(NamedTuple):
    """What a lesson gives.

    Attributes:
        figure: Its picture.
        numbers: What it found.
        animate: Writes its animation, if it has one, to a GIF.
    """

    figure: Figure
    numbers: list[Number]
    animate: Callable[[Path], None] | None = None

    def __getitem__(self, what: Any) -> Any:
        """A number by what it is of."""
        return {number.what: number.here for number in self.numbers}[what]


def subplots(rows: int, columns: int, width: float, height: float, **more: Any) -> Any:
    """A figure of so many inches, and its Axes."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    return figure, figure.subplots(rows, columns, **more)


def show(numbers: list[Number], title: str) -> None:
    """Print the numbers as a table."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1))
    table.add_column("number", no_wrap=True)
    table.add_column("here", justify="right")
    table.add_column("documents say")
    table.add_column("where")
    for number in numbers:
        table.add_row(number.what, str(number), number.stated, number.source)
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
