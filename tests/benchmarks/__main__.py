"""gradtx against optax and torch: `python -m tests.benchmarks`.

`claims` measures what must hold, `table` every pipeline on some trees, `optimizers` the
step of every optimizer that both libraries have. Arms take turns in one process, A B A
B, and only ratios of medians mean anything: machines are shared. Each cell has a
process of its own. Numbers must agree before anything is timed. What misses its bound
is measured twice again, and the median of the three counts.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from tests.benchmarks import work
from tests.benchmarks.cell import SETTINGS, child, machine
from tests.settings import OF_EXAMPLES, PLAIN

LAYERS, SMALL, ONE = "24 layers", "1000 leaves of 1024", "one leaf of 100M"


class Claim(NamedTuple):
    """That a ratio does not exceed a bound; None is for a ratio to be reported."""

    tree: str
    pipeline: str
    setting: str
    what: str
    figure: str
    bound: float | None
    against: str = "optax"

    def is_missed(self, pair: tuple[float, float]) -> bool:
        """Whether ours over theirs exceeds the bound."""
        return self.bound is not None and not ratio(pair) <= self.bound


def _claims() -> Iterable[Claim]:
    def step(tree: str, pipeline: str, *bounds: float) -> Iterable[Claim]:
        for setting, bound in zip(("default", "keeps memory"), bounds, strict=False):
            yield Claim(tree, pipeline, setting, "step", "step", bound)

    yield from step(LAYERS, "adamw", 1.10)
    yield from step(LAYERS, "clip + adamw", 0.6, 0.9)
    for pipeline in ("accumulate", "skip", "partition"):
        yield from step(LAYERS, pipeline, 0.75, 0.95)
    yield Claim(LAYERS, "adamw", "default", "eager", "eager", 0.1)
    yield Claim(LAYERS, "adamw", "default", "first eager", "first eager", 1.0)
    for pipeline in ("adamw", "clip + adamw"):
        yield Claim(SMALL, pipeline, "default", "trace", "trace", 0.3)
        yield Claim(SMALL, pipeline, "default", "first trace", "first trace", 0.5)
        yield Claim(SMALL, pipeline, "default", "step", "compile", None)
        yield Claim(SMALL, pipeline, "default", "step", "step", 1.10)
    yield Claim(SMALL, "adamw", "default", "eager", "eager", 0.1)
    yield from step(ONE, "adamw", 1.10)
    fused = "cpu fusion"
    yield Claim(ONE, "adamw", fused, "step", "step", 1.1, "torch fused")
    yield Claim(ONE, "adamw", fused, "step", "step", 0.85)
    yield Claim(ONE, "adamw, bf16 moment", fused, "step", "step", None, "torch fused")


Cell = tuple[str, str, str, str]
"""A tree, a pipeline, a setting, and what is measured."""


def measured(cell: Cell, rounds: int) -> dict[str, dict[str, float]]:
    """The figures of a cell by arm, each from a process of its own."""
    tree, pipeline, setting, what = cell
    options = {"tree": tree, "pipeline": pipeline, "what": what, "rounds": rounds}
    options["torch"] = int(setting == "cpu fusion")
    if what not in ("first trace", "first eager"):
        return child(setting, **options)
    return {
        what: {lib: child(setting, library=lib, **options) for lib in work.LIBRARIES}
    }


def settle(claim: Claim, cells: dict[Cell, Any], rounds: int) -> tuple[float, float]:
    """Ours and theirs, of the first run, or of the median of three where it misses."""
    cell = claim[:4]
    if cell not in cells:
        cells[cell] = measured(cell, rounds)

    def pair(figures: Any) -> tuple[float, float]:
        arms = figures[claim.figure]
        return arms["gradtx"], arms.get(claim.against, float("nan"))

    runs = [pair(cells[cell])]
    is_absent = math.isnan(ratio(runs[0]))  # torch, where it is not installed
    if claim.is_missed(runs[0]) and not is_absent:
        runs += [pair(measured(cell, rounds)) for _ in range(2)]
    return sorted(runs, key=ratio)[len(runs) // 2]


def ratio(pair: tuple[float, float]) -> float:
    """Ours over theirs."""
    return pair[0] / pair[1]


def show(table: Table) -> None:
    """Print a table."""
    Console(width=110).print(table)


def claims(options: argparse.Namespace, cells: dict[Cell, Any]) -> None:
    """Measure all that must hold."""
    table = Table(title="What must hold", caption=machine())
    for i, heading in enumerate(
        ("tree", "pipeline", "setting", "measure", "gradtx ms", "against ms", "ratio",
         "at most")
    ):  # fmt: skip
        table.add_column(heading, justify="left" if i < 4 else "right")
    for claim in _claims():
        ours, theirs = settle(claim, cells, options.rounds)
        bound = "" if claim.bound is None else f"{claim.bound:.2f}"
        row = [
            claim.tree, claim.pipeline, claim.setting, claim.figure,
            f"{1e3 * ours:.1f}", f"{claim.against} {1e3 * theirs:.1f}",
            f"{ratio((ours, theirs)):.2f}", bound,
        ]  # fmt: skip
        print("| " + " | ".join(row) + " |", flush=True)
        missed = claim.is_missed((ours, theirs))
        table.add_row(*row, style="red" if missed else None)
    show(table)


def every_pipeline(options: argparse.Namespace, cells: dict[Cell, Any]) -> None:
    """Measure every pipeline on some trees, under every setting."""
    for tree in options.trees:
        table = Table(title=tree, caption="gradtx, and its ratio to optax")
        headings = ["pipeline", *SETTINGS, "trace", "compile", "eager"]
        headings += ["bytes", "temporary", "fusions", "state"]
        for i, heading in enumerate(headings):
            table.add_column(heading, justify="right" if i else "left")
        for pipeline in options.pipelines:
            for setting in SETTINGS:
                cell = tree, pipeline, setting, "step"
                cells[cell] = measured(cell, options.rounds)
            for what in ("trace", "eager"):
                cell = tree, pipeline, "default", what
                cells[cell] = measured(cell, options.rounds)
            row = [pipeline, *_row(cells, tree, pipeline)]
            print("| " + " | ".join(row) + " |", flush=True)
            table.add_row(*row)
        show(table)


def _row(cells: dict[Cell, Any], tree: str, pipeline: str) -> Iterable[str]:
    def timed(setting: str, what: str, figure: str) -> str:
        arms = cells[tree, pipeline, setting, what][figure]
        pair = arms["gradtx"], arms["optax"]
        return f"{1e3 * pair[0]:.1f} ms, {ratio(pair):.2f}"

    for setting in SETTINGS:
        yield timed(setting, "step", "step")
    yield timed("default", "trace", "trace")
    yield timed("default", "step", "compile")
    yield timed("default", "eager", "eager")
    for figure in ("moved", "temporary", "fusions", "state"):
        arms = cells[tree, pipeline, "default", "step"][figure]
        digits = 0 if figure == "fusions" else 1
        yield f"{arms['gradtx']:.{digits}f}, {arms['optax']:.{digits}f}"


def optimizers(options: argparse.Namespace, cells: dict[Cell, Any]) -> None:
    """Measure the step of every optimizer that both libraries have."""
    table = Table(title=f"ms a step, {LAYERS}", caption=machine())
    for i, heading in enumerate(("optimizer", "gradtx", "optax", "ratio")):
        table.add_column(heading, justify="right" if i else "left")
    for name in options.names or [name for name in PLAIN if name not in OF_EXAMPLES]:
        claim = Claim(LAYERS, name, "default", "step", "step", 1.10)
        ours, theirs = settle(claim, cells, options.rounds)
        times = f"{1e3 * ours:.1f}", f"{1e3 * theirs:.1f}"
        row = [name, *times, f"{ratio((ours, theirs)):.2f}"]
        print("| " + " | ".join(row) + " |", flush=True)
        table.add_row(*row, style="red" if claim.is_missed((ours, theirs)) else None)
    show(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    runs = {"claims": claims, "table": every_pipeline, "optimizers": optimizers}
    parser.add_argument("run", choices=runs, nargs="?", default="claims")
    parser.add_argument("--trees", nargs="+", choices=work.TREES, default=[LAYERS])
    pipelines = [*work.PIPELINES]
    parser.add_argument(
        "--pipelines", nargs="+", choices=pipelines, default=pipelines, metavar="NAME"
    )
    parser.add_argument("--names", nargs="+", help="which optimizers")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="where to add the figures")
    options = parser.parse_args(argv)
    cells: dict[Cell, Any] = {}
    runs[options.run](options, cells)
    if options.json is not None:
        written = json.loads(options.json.read_text()) if options.json.exists() else {}
        written["machine"] = machine()
        written |= {" | ".join(cell): figures for cell, figures in cells.items()}
        options.json.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
