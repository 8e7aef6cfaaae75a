"""One cell of the table: a pipeline on a tree, in a process of its own.

What an allocation costs depends on what the process did before (glibc raises its
threshold for giving memory back), and XLA reads its flags once.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import time
from typing import Any

import jax

from gradtx.compiler.fusion import FLAGS
from tests import compiled
from tests.benchmarks import arms, work
from tests.equality import as_optax_needs

SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "keeps memory": {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**40),
    },
    "cpu fusion": {"XLA_FLAGS": " ".join(FLAGS)},
}
"""Environments: glibc's allocator gives no memory back; one loop a leaf."""
MEASURES = ("trace", "step", "eager", "first trace", "first eager")


def machine() -> str:
    """The processor, the versions."""
    with open("/proc/cpuinfo") as info:
        models = [line.split(":")[1].strip() for line in info if "model name" in line]
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("jax", "optax", "torch")
        if importlib.util.find_spec(name) is not None
    ]
    processor = models[0] if models else platform.processor()
    python = platform.python_version()
    about = [f"{os.cpu_count()} cores of {processor}", f"Python {python}", *versions]
    return ", ".join(about)


def child(setting: str, **options: Any) -> Any:
    """What a process of its own measures under a setting."""
    command = [sys.executable, "-m", "tests.benchmarks.cell"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    env = {**os.environ, **SETTINGS[setting]}
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{options}: {run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def measure(
    tree: str, pipeline: str, what: str, rounds: int, library: str, torch: bool
) -> Any:
    """For each measure the value of each arm: seconds, bytes a parameter, counts."""
    shapes = work.TREES[tree]()
    match what:
        case "trace":
            return {what: arms.median_times(arms.trace_arms(shapes, pipeline), rounds)}
        case "eager":
            return {what: arms.median_times(arms.eager_arms(shapes, pipeline), rounds)}
        case "first trace" | "first eager":
            made = arms.trace_arms if what == "first trace" else arms.eager_arms
            arm = made(shapes, pipeline)[library]
            start = time.perf_counter()
            jax.block_until_ready(arm())
            return time.perf_counter() - start
    pairs = {lib: arms.compiled(shapes, pipeline, lib) for lib in work.LIBRARIES}
    programs = {lib: program for lib, (_, program) in pairs.items()}
    size = work.number_of_parameters(shapes)
    least = min(map(math.prod, shapes))
    steps, states = arms.step_arms(shapes, pipeline, programs, torch)
    bus = arms.bus_arms(size, torch)
    times = arms.median_times(steps, rounds) | arms.median_times(bus, rounds)

    def each(figure: Any) -> dict[str, float]:
        return {lib: figure(program) for lib, program in programs.items()}

    return {
        "compile": {lib: seconds for lib, (seconds, _) in pairs.items()},
        "step": {name: times[name] for name in steps},
        "bytes per second": {name: 8 * size / times[name] for name in bus},
        "moved": each(lambda program: compiled.bytes_moved(program) / size),
        "temporary": each(lambda program: compiled.temporary_bytes(program) / size),
        "fusions": each(lambda program: compiled.fusions(program, least)),
        "state": {lib: n / size for lib, n in states.items()},
    }


def main() -> None:
    """Read the options, measure, and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", required=True)
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--what", choices=MEASURES, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--library", default="", help="one only, for what comes first")
    parser.add_argument("--torch", type=int, default=0, help="1 for its arms, too")
    options = parser.parse_args()
    with as_optax_needs():
        print(json.dumps(measure(**vars(options))))


if __name__ == "__main__":
    main()
