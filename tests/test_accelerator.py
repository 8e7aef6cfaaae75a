"""The run on an accelerator: its plan, its files, and what cutting it off costs."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import gradtx
from tests.benchmarks import accelerator, steps, tables, tpu, work
from tests.benchmarks.accelerator import FULL, SMALL, Record, Row, plan

ROOT = pathlib.Path(__file__).parent.parent


def check_schema(content):
    """What every file of the script keeps, whenever it was cut off."""
    assert content.keys() == {"about", "ended", "rows", "not reached"}
    assert content["about"].keys() == {"size", "minutes"}
    for row in content["rows"]:
        assert row.keys() == {"section", "name", "seconds", "figures"}
        assert row["section"] in tables.TABLES and row["seconds"] >= 0
        figures = row["figures"]
        if "error" in figures:
            continue
        match row["section"]:
            case "works" | "parity" | "laws":
                assert figures["passes"] is True
            case "step":
                assert figures["ratio"]["optax"] > 0
                for name in ("seconds", "kernels", "moved", "temporary", "state"):
                    assert {"gradtx", "optax"} <= figures[name].keys()
            case "compile" | "tpu":
                for pair in figures.values():
                    assert pair.keys() == {"gradtx", "optax"}
    assert all(len(pair) == 2 for pair in content["not reached"])


def names(rows):
    return [(row.section, row.name) for row in rows]


def test_the_plan_is_the_same_on_small_trees_and_has_every_pipeline_on_every_tree():
    rows = names(plan(FULL))
    assert rows == names(plan(SMALL)) and len(rows) == len({*rows})
    for tree in FULL.trees:
        for pipeline in [*work.PIPELINES, work.BF16]:
            assert ("step", f"{tree} | {pipeline}") in rows
    assert [section for section, _ in rows[:3]] == ["device"] * 3


def test_trees_have_the_sizes_that_they_are_named_after():
    sizes = {k: work.number_of_parameters(v) for k, v in FULL.trees.items()}
    assert sizes[accelerator.ONE] == 250_000_000
    assert sizes[accelerator.GPT] == 124_439_808 and len(FULL.trees["GPT-2"]) == 148


def test_a_run_writes_a_row_of_each_section_as_the_schema_says(tmp_path):
    rows = list({row.section: row for row in reversed(plan(SMALL))}.values())
    record = Record(tmp_path, rows, {"size": "small", "minutes": 1})
    accelerator.run(rows, record, minutes=5)
    content = json.loads((tmp_path / accelerator.RESULTS).read_text())
    check_schema(content)
    assert content["ended"] == "all rows are done" and not content["not reached"]
    assert not [row for row in content["rows"] if "error" in row["figures"]]
    text = (tmp_path / accelerator.TABLES).read_text()
    assert all(heading in text for k, heading in tables.HEADINGS.items() if k != "tpu")


def test_a_row_that_fails_says_why_and_the_rest_goes_on(tmp_path):
    def fail():
        raise ValueError("no | such\nthing")

    rows = [Row("laws", "adamw", fail), Row("laws", "lion", lambda: {"passes": True})]
    record = Record(tmp_path, rows, {"size": "small", "minutes": 1})
    accelerator.run(rows, record, minutes=5)
    check_schema(record.content)
    text = (tmp_path / accelerator.TABLES).read_text()
    assert "| adamw | failed: ValueError: no / such thing |" in text
    assert "| lion | passes |" in text


def test_rows_that_the_time_did_not_reach_are_named(tmp_path):
    rows = [Row("laws", "adamw", dict), Row("laws", "lion", dict)]
    record = Record(tmp_path, rows, {"size": "small", "minutes": 0})
    accelerator.run(rows, record, minutes=0)
    assert record.content["not reached"] == [["laws", "adamw"], ["laws", "lion"]]
    text = (tmp_path / accelerator.TABLES).read_text()
    assert "Not reached: laws: adamw, laws: lion." in text


def test_rows_of_other_sections_are_kept(tmp_path):
    about = {"size": "small", "minutes": 1}
    for section in ("tpu", "laws", "laws"):
        row = Row(section, "adamw", dict)
        record = Record(tmp_path, [row], about)
        record.add(row, {"error": "none"}, 0.0)
    assert [row["section"] for row in record.content["rows"]] == ["tpu", "laws"]


# A shell has what it runs in the background ignore an interrupt, and that is inherited.
IN_FRONT = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("tests.benchmarks.accelerator", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_has_the_rows_that_are_done(tmp_path, number):
    command = [sys.executable, "-c", IN_FRONT, "--minutes", "2", "--out", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    path, end = tmp_path / accelerator.RESULTS, time.monotonic() + 120

    def rows():
        return json.loads(path.read_text())["rows"] if path.exists() else []

    while len(rows()) < 4 and time.monotonic() < end:
        time.sleep(0.2)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    content = json.loads(path.read_text())
    check_schema(content)
    assert len(content["rows"]) >= 4 and content["not reached"]
    assert content["ended"].startswith("stopped by")
    assert "### What is there" in (tmp_path / accelerator.TABLES).read_text()


def test_a_report_takes_the_place_of_the_table_before(tmp_path, monkeypatch):
    page = tmp_path / "benchmarks.md"
    page.write_text("a\n<!-- gpu -->\nold\n<!-- end of gpu -->\nb\n")
    monkeypatch.setattr(tables, "PAGE", page)
    row = {"section": "laws", "name": "adamw", "seconds": 1.0}
    content = {
        "about": {"size": "full", "minutes": 6},
        "ended": "all rows are done",
        "rows": [{**row, "figures": {"passes": True}}],
        "not reached": [],
    }
    tables.report(content)
    text = page.read_text()
    assert text.startswith("a\n") and text.endswith("b\n") and "old" not in text
    assert "| adamw | passes |" in text
    small = {**content, "about": {"size": "small", "minutes": 6}, "rows": []}
    tables.report(small)
    assert page.read_text() == text


def test_the_page_says_what_was_measured_on_a_gpu():
    text = tables.PAGE.read_text()
    for mark in ("gpu", "tpu"):
        assert f"<!-- {mark} -->" in text and f"<!-- end of {mark} -->" in text
    assert tables.NOTHING in text or "### What is there" in text


def test_a_pipeline_of_a_later_name_appears_when_gradtx_has_it():
    for pipeline, (name, _) in work.LATER.items():
        assert (pipeline in work.ON_ACCELERATORS) == (name in vars(gradtx))


def test_bytes_that_a_step_must_move_are_counted_by_hand():
    """Of float32: p, g, m, v are read, p, m, v written; a clip reads g once more."""
    assert steps.least_bytes("adamw", 4, 8) == 28
    assert steps.least_bytes("clip + adamw", 4, 8) == 32
    assert steps.least_bytes("lion", 4, 4) == 20
    # Three times g and the mean in, the mean out; then all, the mean among the state.
    assert steps.least_bytes("accumulate", 4, 12) == 3 * 12 + 36


needs_libtpu = pytest.mark.skipif(not tpu.is_there(), reason="libtpu is not installed")


@needs_libtpu
@pytest.mark.xdist_group("tpu")
@pytest.mark.parametrize("name", tpu.rows())
def test_a_tpu_gets_no_more_than_from_optax(name):
    from tests.equality import as_optax_needs

    with as_optax_needs():
        figures = tpu.measure(name)
    for figure, reasons in tpu.MORE.items():
        ours, theirs = (figures[figure][library] for library in work.LIBRARIES)
        slack = 1.001 * theirs + 0.06
        assert (ours > slack) == (name in reasons), f"{figure}: {ours}, {theirs}"
