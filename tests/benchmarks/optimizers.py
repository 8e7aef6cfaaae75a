"""The compiled step of every optimizer, gradtx against optax.

Run `python -m tests.benchmarks.optimizers`. Every one of `tests.settings.PLAIN` is
measured, or those that are named. The arms take turns in one process,
after both gave the same numbers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

import gradtx
from tests.benchmarks.versus_optax import machine, median_times, ratio, steps
from tests.equality import as_optax_needs
from tests.settings import OF_EXAMPLES, OPTAX, PLAIN

MOST = 1.10
"""What the ratio must not exceed; a miss is run twice again, the median counts."""


def measure(name: str, layers: int, rounds: int) -> dict[str, float]:
    """Median seconds of a step of both libraries."""
    make, examples = PLAIN[name], OF_EXAMPLES.get(name, ())
    with as_optax_needs():
        both = {"gradtx": make(gradtx), "optax": make(OPTAX)}
        arms = steps(both, layers, examples)
    runs = [median_times(arms, rounds)]
    if ratio(runs[0]) > MOST:
        runs += [median_times(arms, rounds) for _ in range(2)]
    return sorted(runs, key=ratio)[len(runs) // 2]


def report(names: Sequence[str], layers: int, rounds: int) -> dict[str, dict]:
    """Measure, print a row as soon as it is there, and the table."""
    title = f"ms a step, {layers} layers of 7 leaves, medians of {rounds}"
    table = Table(title=title, caption=machine())
    for heading in ("optimizer", "gradtx", "optax", "ratio"):
        table.add_column(heading, justify="left" if heading == "optimizer" else "right")
    results = {}
    for name in names:
        results[name] = times = measure(name, layers, rounds)
        row = [name, *(f"{1e3 * t:.2f}" for t in times.values()), f"{ratio(times):.2f}"]
        print("| " + " | ".join(row) + " |", flush=True)
        table.add_row(*row, style="red" if ratio(times) > MOST else None)
    Console(width=100).print(table)
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="optimizer")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="where to write the seconds")
    options = parser.parse_args(argv)
    results = report(options.names or [*PLAIN], options.layers, options.rounds)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
