"""One run that says where gradtx stands on an accelerator.

`python -m tests.benchmarks.accelerator [--minutes 6] [--out FOLDER]` needs jax, optax
and numpy, and torch for its arms. Every row is written to `accelerator.json` and
`accelerator.md` when it is done, the most important first: a run that is cut off loses
only rows that it did not reach. Without an accelerator the plan runs on small trees.
`--tpu` compiles for a TPU instead, which needs libtpu and no TPU.
`--report FILE` writes the tables of a JSON file into `examples/guides/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs some

import jax

from tests.benchmarks import correctness, steps, tables, tpu, work
from tests.equality import as_optax_needs

RESULTS, TABLES = "accelerator.json", "accelerator.md"


class Row(NamedTuple):
    """One measurement: its section, its name, and what returns its figures."""

    section: str
    name: str
    measure: Callable[[], dict[str, Any]]


class Size(NamedTuple):
    """The sizes of all that is measured.

    Attributes:
        trees: Parameters, by name.
        copied: Elements of the float32 array that is copied.
        matrix: Rows and columns of the matrices that are multiplied.
        seconds: How long the arms of a row are timed, about.
    """

    trees: dict[str, work.Shapes]
    copied: int
    matrix: int
    seconds: float


ONE, GPT, MANY = "one leaf of 250M", "GPT-2", "1000 leaves of 1024"
FULL = Size(
    {
        ONE: [(250_000_000,)],
        GPT: work.gpt(),
        MANY: [(1024,)] * 1000,
        "96 layers": work.layers(96),
        "ResNet-50": work.resnet50(),
    },
    copied=2**29,
    matrix=8192,
    seconds=2.0,
)
SMALL = Size(
    {
        ONE: [(250_000,)],
        GPT: work.gpt(layers=1, width=24, words=500)[:5],
        MANY: [(1024,)] * 4,
        "96 layers": work.layers(1)[-3:],
        "ResNet-50": work.resnet50()[:4],
    },
    copied=2**22,
    matrix=512,
    seconds=0.02,
)
"""The same plan cut down, for a machine without an accelerator."""


def there(size: Size) -> Iterable[Row]:
    """The device and its ceilings."""
    yield Row("device", "versions", versions)
    yield Row("device", "copy", lambda: steps.copy(size.copied, size.seconds))
    yield Row("device", "product", lambda: steps.product(size.matrix, size.seconds))


def plan(size: Size) -> list[Row]:
    """All rows, the most important first."""

    def step(tree: str, pipeline: str) -> Row:
        shapes = size.trees[tree]
        run = lambda: steps.measure(shapes, pipeline, size.seconds)  # noqa: E731
        return Row("step", f"{tree} | {pipeline}", run)

    def compilation(tree: str, pipeline: str) -> Row:
        shapes = size.trees[tree]
        run = lambda: steps.compilation(shapes, pipeline)  # noqa: E731
        return Row("compile", f"{tree} | {pipeline}", run)

    first = ["adamw", "clip + adamw", work.BF16, "adamw, bf16 moment"]
    others = [*work.PIPELINES, *work.ON_ACCELERATORS]
    works = {
        section: [Row(section, *row) for row in rows.items()]
        for section, rows in correctness.ROWS.items()
    }
    return [
        *there(size),
        *works["works"],
        *(step(tree, pipeline) for pipeline in first[:2] for tree in size.trees),
        *(compilation(tree, "adamw") for tree in (GPT, MANY)),
        *works["parity"],
        *(step(tree, pipeline) for pipeline in first[2:] for tree in (ONE, GPT)),
        *works["laws"],
        *(
            step(tree, pipeline)
            for tree in (ONE, GPT, MANY, "96 layers", "ResNet-50")
            for pipeline in others
            if pipeline not in first[: 4 if tree in (ONE, GPT) else 2]
        ),
        *(compilation(tree, "clip + adamw") for tree in (GPT, MANY)),
    ]


def versions() -> dict[str, Any]:
    """The device, its driver, and the versions of what runs."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        asked = subprocess.run(query, capture_output=True, text=True, timeout=20)
        driver = asked.stdout
    except (OSError, subprocess.TimeoutExpired):
        driver = ""
    found = {}
    for name in ("jax", "jaxlib", "optax", "torch", "numpy", "gradtx"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "driver": driver.strip(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        **found,
    }


class Record:
    """The rows that are done, in files that are whole at any time."""

    def __init__(self, folder: Path, rows: Sequence[Row], about: dict[str, Any]):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.missing = [[row.section, row.name] for row in rows]
        self.content: dict[str, Any] = {"about": about, "ended": "running", "rows": []}
        path = folder / RESULTS
        if path.exists():  # of an earlier run that measured other sections
            mine = {row.section for row in rows}
            earlier = json.loads(path.read_text())["rows"]
            kept = [row for row in earlier if row["section"] not in mine]
            self.content["rows"] = kept

    def add(self, row: Row, figures: dict[str, Any], seconds: float) -> None:
        """Write one more row."""
        self.missing.remove([row.section, row.name])
        self.content["rows"].append(
            {
                "section": row.section,
                "name": row.name,
                "seconds": round(seconds, 2),
                "figures": figures,
            }
        )
        self.write()

    def write(self, ended: str = "running") -> None:
        """Write both files; each takes the place of the one before in one step."""
        self.content |= {"ended": ended, "not reached": self.missing}
        texts = {
            RESULTS: json.dumps(self.content, indent=1) + "\n",
            TABLES: tables.markdown(self.content),
        }
        for name, text in texts.items():
            temporary = self.folder / f".{name}"
            temporary.write_text(text)
            temporary.replace(self.folder / name)


def run(rows: Sequence[Row], record: Record, minutes: float) -> None:
    """Measure row after row until all are done or the time is over."""
    start = time.monotonic()
    record.write()
    for row in rows:
        if time.monotonic() - start > 60 * minutes:
            return record.write("the time was over")
        begin = time.monotonic()
        try:
            with as_optax_needs():
                figures = row.measure()
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            figures = {"error": text[:500]}
        record.add(row, figures, time.monotonic() - begin)
        print(f"{record.content['rows'][-1]}"[:300], flush=True)
    return record.write("all rows are done")


def _stop(number: int, _: Any) -> None:
    raise SystemExit(128 + number)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--tpu", action="store_true", help="compile for a TPU")
    parser.add_argument("--report", type=Path, help="a JSON file of this script")
    options = parser.parse_args(argv)
    if options.report:
        return tables.report(json.loads(options.report.read_text()))
    if options.tpu:
        jax.config.update("jax_platforms", "cpu")
        rows = [Row("tpu", name, measure) for name, measure in tpu.rows().items()]
        about = {"size": "full", "minutes": options.minutes}
    else:
        has_any = jax.default_backend() != "cpu"
        rows = plan(FULL if has_any else SMALL)
        about = {"size": "full" if has_any else "small", "minutes": options.minutes}
    signal.signal(signal.SIGTERM, _stop)
    record = Record(options.out, rows, about)
    try:
        run(rows, record, options.minutes)
    except (KeyboardInterrupt, SystemExit) as stop:
        record.write(f"stopped by {type(stop).__name__}")
        raise
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
