"""gradtx against optax: tracing, the compiled step, the update without jit.

Run `python -m tests.benchmarks.versus_optax`. The arms take turns in one process, A B
A B, and only ratios of medians mean anything: these machines are shared. What depends
on the allocator or on a fresh process runs in child processes. Numbers must agree
before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp
from rich.console import Console
from rich.table import Table

import gradtx
from tests.registry import loss

LIBRARIES = {"gradtx": gradtx, "optax": optax}
KEEPS_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""Settings of glibc's allocator with which freed memory is not given back."""

BOUNDS = {
    "adamw: trace, warm": 0.3,
    "adamw: trace, first in a process": 0.5,
    "adamw: step": 1.10,
    "adamw: update without jit": 0.15,
    "clip + adamw: trace, warm": None,
    "clip + adamw: step": 0.65,
    "clip + adamw: step, allocator keeps memory": 0.95,
    "accumulate: step": 0.8,
    "skip: step": 0.8,
}
"""Each measure, with what the ratio must not exceed."""


def parameters(layers: int) -> list[dict[str, jax.Array]]:
    """Layers of 7 leaves, 590,080 float32 parameters each."""
    shapes = {
        "query": (256, 256), "key": (256, 256), "value": (256, 256), "out": (256, 256),
        "up": (256, 640), "down": (640, 256), "scale": (256,),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    return [
        {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
        for _ in range(layers)
    ]


EVERY = 4
"""How many gradients are accumulated."""


def optimizer(library: Any, pipeline: str) -> Any:
    """AdamW, alone or behind or inside of something."""
    adamw, is_ours = library.adamw(1e-3), library is gradtx
    match pipeline:
        case "clip + adamw":
            return library.chain(library.clip_by_global_norm(1.0), adamw)
        case "accumulate":
            ours, theirs = gradtx.accumulate, optax.MultiSteps
            return ours(adamw, EVERY) if is_ours else theirs(adamw, EVERY)
        case "skip":
            return gradtx.skip(adamw) if is_ours else optax.apply_if_finite(adamw, 4)
    return adamw


def median_times(arms: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of each arm, the arms taking turns; one round first is not counted."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for i in range(rounds + 1):
        for name, arm in arms.items():
            start = time.perf_counter()
            jax.block_until_ready(arm())
            if i:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def trace(pipeline: str, layers: int, libraries: Sequence[str]) -> dict[str, Callable]:
    """Arms that trace the update of a new optimizer."""
    params = parameters(layers)

    def arm(library: Any) -> Callable[[], None]:
        state = optimizer(library, pipeline).init(params)

        def run() -> None:
            jax.jit(optimizer(library, pipeline).update).trace(params, state, params)

        return run

    return {name: arm(LIBRARIES[name]) for name in libraries}


def steps(
    optimizers: dict[str, Any],
    layers: int,
    examples: tuple[int, ...] = (),
    repeats: int = 1,
) -> dict[str, Callable]:
    """Arms that run the compiled, donated step, after all gave the same numbers.

    An arm runs it several times if asked to.
    """
    grads = jax.tree.map(
        lambda p: jnp.broadcast_to(0.01 * p, (*examples, *p.shape)), parameters(layers)
    )

    def arm(tx: Any) -> Callable[[], Any]:
        if isinstance(tx, optax.MultiSteps):
            tx = tx.gradient_transformation()
        tx = optax.with_extra_args_support(tx)

        def update(params: Any, state: Any, grads: Any) -> Any:
            about = {"value": 1.0, "grad": grads, "value_fn": loss, "obj_fn": loss}
            updates, state = tx.update(grads, state, params, **about)
            return optax.apply_updates(params, updates), state

        params = parameters(layers)
        # Copied: some states of optax share a buffer with the parameters.
        carry = jax.tree.map(jnp.copy, (params, tx.init(params)))
        compiled = jax.jit(update, donate_argnums=(0, 1)).lower(*carry, grads).compile()

        def run() -> Any:
            nonlocal carry
            for _ in range(repeats):
                carry = compiled(*carry, grads)
            return carry

        return run

    arms = {name: arm(tx) for name, tx in optimizers.items()}
    first, *others = (run()[0] for run in arms.values())
    for other in others:
        assert_equal(first, other)
    return arms


def step(pipeline: str, layers: int) -> dict[str, Callable]:
    """Arms that run the step of a pipeline."""
    return steps(
        {name: optimizer(library, pipeline) for name, library in LIBRARIES.items()},
        layers,
        repeats=EVERY if pipeline == "accumulate" else 1,
    )


def unjitted(pipeline: str, layers: int) -> dict[str, Callable]:
    """Arms that run the update without jit, after both gave the same numbers."""
    params = parameters(layers)
    grads = jax.tree.map(lambda p: 0.01 * p, params)

    def arm(library: Any) -> Callable[[], Any]:
        tx = optimizer(library, pipeline)
        state = tx.init(params)
        return lambda: tx.update(grads, state, params)

    arms = {name: arm(library) for name, library in LIBRARIES.items()}
    assert_equal(*(run()[0] for run in arms.values()))
    return arms


def assert_equal(ours: Any, theirs: Any) -> None:
    """Normwise by leaf, to 1e-5."""

    def check(a: Any, b: Any) -> None:
        assert float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) < 1e-5

    jax.tree.map(check, ours, theirs)


def child(measure: str, layers: int, rounds: int, library: str, **env: str) -> Any:
    """One measure in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--measure", measure]
    command += ["--layers", str(layers), "--rounds", str(rounds), "--library", library]
    command.append("--here")
    run = subprocess.run(
        command, env={**os.environ, **env}, check=True, capture_output=True, text=True
    )
    return json.loads(run.stdout.splitlines()[-1])


def measure(name: str, layers: int, rounds: int) -> dict[str, float]:
    """Median seconds of both libraries in one measure.

    A step has a process of its own: what an allocation costs depends on what the
    process did before (glibc raises its threshold for giving memory back).
    """
    pipeline, what = name.split(": ")
    match what:
        case "trace, first in a process":
            pairs = [
                {lib: child(name, layers, 0, lib)[lib] for lib in LIBRARIES}
                for _ in range(3)
            ]
            return {
                lib: statistics.median(pair[lib] for pair in pairs) for lib in LIBRARIES
            }
        case "step":
            return child(name, layers, rounds, "both")
        case "step, allocator keeps memory":
            return child(f"{pipeline}: step", layers, rounds, "both", **KEEPS_MEMORY)
    return measure_here(name, layers, rounds)


def measure_here(name: str, layers: int, rounds: int) -> dict[str, float]:
    """Median seconds of both libraries in one measure, in this process."""
    pipeline, what = name.split(": ")
    if what == "trace, warm":
        return median_times(trace(pipeline, layers, list(LIBRARIES)), rounds)
    arms = {"step": step, "update without jit": unjitted}[what]
    return median_times(arms(pipeline, layers), rounds)


def first_trace(name: str, layers: int, library: str) -> dict[str, float]:
    """Seconds of the first trace of this process."""
    (arm,) = trace(name.split(": ")[0], layers, [library]).values()
    start = time.perf_counter()
    arm()
    return {library: time.perf_counter() - start}


def settle(name: str, layers: int, rounds: int) -> dict[str, float]:
    """A measure; a miss is run twice again, and the median of the three counts."""
    bound = BOUNDS[name]
    runs = [measure(name, layers, rounds)]
    if bound is not None and ratio(runs[0]) > bound:
        runs += [measure(name, layers, rounds) for _ in range(2)]
    return sorted(runs, key=ratio)[len(runs) // 2]


def ratio(times: dict[str, float]) -> float:
    """Ours over optax's."""
    return times["gradtx"] / times["optax"]


def machine() -> str:
    """The processor, the versions."""
    with open("/proc/cpuinfo") as info:
        models = [line.split(":")[1].strip() for line in info if "model name" in line]
    processor = models[0] if models else platform.processor()
    return (
        f"{os.cpu_count()} cores of {processor}, Python {platform.python_version()}, "
        f"jax {jax.__version__}, optax {optax.__version__}"
    )


def report(layers: Sequence[int], rounds: int) -> None:
    """Measure everything, print a row as soon as it is there, and the table."""
    table = Table(title="gradtx / optax, medians", caption=machine())
    for heading in ("measure", "layers", "gradtx ms", "optax ms", "ratio", "at most"):
        table.add_column(heading, justify="left" if heading == "measure" else "right")
    for name, bound in BOUNDS.items():
        for n in layers:
            times = settle(name, n, rounds)
            limit = "" if bound is None else f"{bound:.2f}"
            row = [
                name, str(n), f"{1e3 * times['gradtx']:.1f}",
                f"{1e3 * times['optax']:.1f}", f"{ratio(times):.2f}", limit,
            ]  # fmt: skip
            print("| " + " | ".join(row) + " |", flush=True)
            missed = bound is not None and ratio(times) > bound
            table.add_row(*row, style="red" if missed else None)
    Console(width=100).print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[24, 96])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--measure", choices=BOUNDS, help="one only, printed as JSON")
    parser.add_argument("--library", choices=[*LIBRARIES, "both"], default="both")
    parser.add_argument("--here", action="store_true", help="start no process for it")
    options = parser.parse_args(argv)
    if options.measure is None:
        report(options.layers, options.rounds)
    elif options.library != "both":
        print(
            json.dumps(first_trace(options.measure, options.layers[0], options.library))
        )
    else:
        run = measure_here if options.here else measure
        print(json.dumps(run(options.measure, options.layers[0], options.rounds)))


if __name__ == "__main__":
    main()
