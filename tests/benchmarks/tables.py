"""The tables of an accelerator's run, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "examples" / "guides" / "benchmarks.md"
NOTHING = "Nothing was measured on one yet."

Content = dict[str, Any]


def markdown(content: Content) -> str:
    """All tables, and what was not reached."""
    parts = [f"Trees: {content['about']['size']}. Ended: {content['ended']}."]
    for section, table in TABLES.items():
        if rows := [row for row in content["rows"] if row["section"] == section]:
            parts += ["", f"### {HEADINGS[section]}", "", *table(rows)]
    if missing := content.get("not reached"):
        names = ", ".join(f"{section}: {name}" for section, name in missing)
        parts += ["", f"Not reached: {names}."]
    return "\n".join(parts) + "\n"


def report(content: Content) -> None:
    """Write the tables into the page: a GPU's, or a TPU's compiler's."""
    text = PAGE.read_text()
    gpu = [row for row in content["rows"] if row["section"] != "tpu"]
    tpu = [row for row in content["rows"] if row["section"] == "tpu"]
    if gpu and content["about"]["size"] == "full":
        text = _between(text, "gpu", markdown({**content, "rows": gpu}))
    if tpu:
        text = _between(text, "tpu", "\n".join(_tpu(tpu)) + "\n")
    PAGE.write_text(text)


def _between(text: str, mark: str, new: str) -> str:
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, rest = text.split(begin)
    return before + begin + new + end + rest.split(end)[1]


def _grid(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    headings = list(headings)
    lines = [headings, ["---"] * len(headings), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _failed(row: Content) -> str | None:
    error = row["figures"].get("error")
    return None if error is None else "failed: " + error.replace("|", "/")[:160]


def _number(x: Any, digits: int = 2) -> str:
    if x is None or (isinstance(x, float) and math.isnan(x)):
        return ""
    return f"{x:.{digits}f}"


def _pair(figures: Content, name: str, digits: int = 1) -> str:
    pair = figures[name]
    texts = [_number(pair.get(lib), digits) for lib in ("gradtx", "optax")]
    return texts[0] if texts[0] == texts[1] or not texts[1] else ", ".join(texts)


def _device(rows: list[Content]) -> list[str]:
    lines = []
    for row in rows:
        figures = row["figures"]
        if text := _failed(row):
            shown = text
        elif row["name"] == "copy":
            shown = f"{figures['bytes a second'] / 1e9:.0f} GB/s, read and written"
        elif row["name"] == "product":
            shown = f"{figures['operations a second'] / 1e12:.2f} T operations/s"
            shown += f", bfloat16, {figures['rows']} rows"
        else:
            shown = ", ".join(f"{k} {v}" for k, v in figures.items() if v)
        lines.append([row["name"], shown])
    return _grid(["what", "found"], lines)


def _passed(rows: list[Content]) -> list[str]:
    def line(row: Content) -> list[str]:
        distance = row["figures"].get("distance")
        shown = "" if distance is None else f"{distance:.1e}"
        return [row["name"], _failed(row) or "passes", shown, f"{row['seconds']:.1f}"]

    headings = ["what", "result", "distance to optax", "seconds"]
    return _grid(headings, map(line, rows))


STEP_HEADINGS = (
    "tree", "pipeline", "gradtx ms", "optax ms", "ratio", "torch fused ms",
    "torch foreach ms", "ratio to fused", "share of bandwidth", "kernels",
    "moved B", "temporary B", "state B",
)  # fmt: skip


def _steps(rows: list[Content]) -> list[str]:
    def line(row: Content) -> list[str]:
        names = row["name"].split(" | ")
        if text := _failed(row):
            return [*names, text, *[""] * (len(STEP_HEADINGS) - 3)]
        figures = row["figures"]

        def ms(arm: str) -> str:
            seconds = figures["seconds"].get(arm)
            return "" if seconds is None else f"{1e3 * seconds:.3g}"

        share = _pair(figures, "share of bandwidth", 2)
        ratio = figures["ratio"]
        return [
            *names, ms("gradtx"), ms("optax"), _number(ratio.get("optax")),
            ms("torch fused"), ms("torch foreach"), _number(ratio.get("torch fused")),
            share, _pair(figures, "kernels", 0), _pair(figures, "moved"),
            _pair(figures, "temporary"), _pair(figures, "state"),
        ]  # fmt: skip

    return _grid(STEP_HEADINGS, map(line, rows))


def _compilations(rows: list[Content]) -> list[str]:
    stages = ("trace", "lower", "compile", "first step", "un-jitted update")

    def line(row: Content) -> list[str]:
        names = row["name"].split(" | ")
        if text := _failed(row):
            return [*names, text, *[""] * (len(stages) - 1)]
        pairs = [row["figures"][stage] for stage in stages]
        shown = [
            f"{1e3 * pair['gradtx']:.3g}, {pair['gradtx'] / pair['optax']:.2f}"
            for pair in pairs
        ]
        return [*names, *shown]

    return _grid(["tree", "pipeline", *stages], map(line, rows))


def _tpu(rows: list[Content]) -> list[str]:
    figures = ("fusions", "computed", "accessed", "temporary")

    def line(row: Content) -> list[str]:
        if text := _failed(row):
            return [row["name"], text, *[""] * (len(figures) - 1)]
        shown = [_pair(row["figures"], name, 0 if name == "fusions" else 1)
                 for name in figures]  # fmt: skip
        return [row["name"], *shown]

    return _grid(["optimizer", *figures], map(line, rows))


TABLES = {
    "device": _device,
    "works": _passed,
    "parity": _passed,
    "step": _steps,
    "compile": _compilations,
    "laws": _passed,
    "tpu": _tpu,
}
HEADINGS = {
    "device": "What is there",
    "works": "Does it work there",
    "parity": "Twenty steps beside optax",
    "step": "Steps: milliseconds, and bytes a parameter (gradtx, optax)",
    "compile": "Milliseconds of gradtx, and the ratio to optax",
    "laws": "Laws",
    "tpu": "What a TPU's compiler makes of a step (gradtx, optax)",
}
