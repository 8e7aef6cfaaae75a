"""What a step costs on the device that is there: time, bandwidth, kernels, bytes."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import jax
from jax import numpy as jnp

from tests import compiled
from tests.benchmarks import arms, work

READINGS = {
    "clip + adamw": (2, "the norm is known only when every gradient was read"),
    "skip": (2, "whether to skip, likewise"),
    "adafactor": (2, "the factors of the second moment, likewise"),
}
"""How often a rule must read the gradient, where not once, and why."""


def median_times(made: arms.Arms, seconds: float) -> dict[str, float]:
    """Seconds of each arm, in turns, many calls a turn where one is short.

    Calls of a turn are not waited for one by one: a training loop does not wait either.
    """
    firsts = arms.median_times(made, 1)
    repeats = {name: _between(1, 0.02 / max(t, 1e-6), 50) for name, t in firsts.items()}
    turn = sum(repeats[name] * t for name, t in firsts.items())
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(_between(5, seconds / turn, 25)):
        for name, arm in made.items():
            start = time.perf_counter()
            for _ in range(repeats[name] - 1):
                arm()
            arms.wait(arm())
            times[name].append((time.perf_counter() - start) / repeats[name])
    return {name: statistics.median(each) for name, each in times.items()}


def _between(least: int, x: float, most: int) -> int:
    return min(most, max(least, math.ceil(x)))


BEYOND_CACHES = 2**27
"""Bytes that no cache holds: steps that move fewer have no share of the bandwidth."""
COPIED: dict[str, float] = {}
"""The bandwidth that `copy` found, in bytes a second, for the rows after it."""


def copy(elements: int, seconds: float) -> dict[str, Any]:
    """Bandwidth of a copy, its reading and its writing counted."""
    x = jnp.ones(elements, jnp.float32)
    made = jax.jit(lambda x: x + 1)
    times = median_times({"copy": lambda: made(x)}, seconds)
    COPIED["bytes a second"] = 8 * elements / times["copy"]
    return {"bytes": 8 * elements, "seconds": times["copy"], **COPIED}


def product(size: int, seconds: float) -> dict[str, Any]:
    """Operations a second of a product of two bfloat16 matrices."""
    x = jnp.asarray(work.arrays([(size, size)])[0], jnp.bfloat16)
    made = jax.jit(lambda x: x @ x)
    times = median_times({"product": lambda: made(x)}, seconds)
    rate = 2 * size**3 / times["product"]
    return {"rows": size, "seconds": times["product"], "operations a second": rate}


def least_bytes(pipeline: str, parameters: int, state: int) -> float:
    """Bytes that a step must move: it reads and writes all it keeps, reads gradients.

    Args:
        pipeline: The pipeline's name.
        parameters: Bytes of the parameters, and of the gradients.
        state: Bytes of the state.
    """
    readings, _ = READINGS.get(pipeline, (1, ""))
    whole = 2 * (parameters + state) + readings * parameters
    if pipeline != "accumulate":
        return whole
    # The other gradients only go into the mean, which has the parameters' size.
    return whole + (work.EVERY - 1) * 3 * parameters


def measure(shapes: work.Shapes, pipeline: str, seconds: float) -> dict[str, Any]:
    """Figures of the donated step: by what is measured, then by arm."""
    libraries = libraries_of(pipeline)
    programs = {lib: arms.compiled(shapes, pipeline, lib)[1] for lib in libraries}
    made, states = arms.step_arms(shapes, pipeline, programs, has_torch=True)
    times = median_times(made, seconds)
    n = work.number_of_parameters(shapes)
    parameters = n * jnp.dtype(work.dtype_of(pipeline)).itemsize
    least = least_bytes(pipeline, parameters, states["gradtx"])
    is_in_cache = least < BEYOND_CACHES
    bandwidth = math.nan if is_in_cache else COPIED.get("bytes a second", math.nan)
    return {
        "parameters": n,
        "least bytes a parameter": least / n,
        "seconds": times,
        "ratio": {
            name: times["gradtx"] / t for name, t in times.items() if name != "gradtx"
        },
        "share of bandwidth": {
            name: least / t / bandwidth for name, t in times.items()
        },
        "kernels": {lib: compiled.fusions(p, 1) for lib, p in programs.items()},
        "moved": {lib: compiled.bytes_moved(p) / n for lib, p in programs.items()},
        "temporary": {
            lib: compiled.temporary_bytes(p) / n for lib, p in programs.items()
        },
        "state": {lib: size / n for lib, size in states.items()},
    }


def libraries_of(pipeline: str) -> list[str]:
    """The libraries that have a pipeline: a pipeline of `work.LATER` is only ours."""
    if pipeline not in work.LATER:
        return [*work.LIBRARIES]
    return ["gradtx"]


def compilation(shapes: work.Shapes, pipeline: str) -> dict[str, Any]:
    """Seconds to trace, lower, compile and first run a step, and of an eager update."""
    figures: dict[str, dict[str, float]] = {}
    params = work.arrays(shapes)
    structs = work.structs(shapes)
    for library in work.LIBRARIES:
        tx = work.make(pipeline, library)
        state = jax.tree.map(jnp.copy, tx.init(params))
        shape = jax.eval_shape(tx.init, structs)
        step = work.step_of(pipeline, library)
        grads = jax.tree.map(jnp.copy, params)
        stages = [time.perf_counter()]
        traced = step.trace(structs, shape, structs)
        stages.append(time.perf_counter())
        lowered = traced.lower()
        stages.append(time.perf_counter())
        executable = lowered.compile()
        stages.append(time.perf_counter())
        arms.wait(executable(jax.tree.map(jnp.copy, params), state, grads))
        stages.append(time.perf_counter())
        names = ("trace", "lower", "compile", "first step")
        for name, start, end in zip(names, stages, stages[1:], strict=False):
            figures.setdefault(name, {})[library] = end - start
    eager = arms.eager_arms(shapes, pipeline)
    return {**figures, "un-jitted update": arms.median_times(eager, 3)}
