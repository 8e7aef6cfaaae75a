"""Arms: the same work done by gradtx, optax and torch, in turns, held to one result."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from tests.benchmarks import work

Arms = dict[str, Callable[[], Any]]


def median_times(arms: Arms, rounds: int) -> dict[str, float]:
    """Seconds of each arm, the arms taking turns; one round first is not counted."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for i in range(rounds + 1):
        for name, arm in arms.items():
            start = time.perf_counter()
            wait(arm())
            if i:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def wait(result: Any) -> None:
    """Until it is computed, by either library."""
    jax.block_until_ready(result)
    if any(getattr(x, "is_cuda", False) for x in jax.tree.leaves(result)):
        importlib.import_module("torch").cuda.synchronize()


def trace_arms(shapes: work.Shapes, pipeline: str) -> Arms:
    """Arms that trace and lower the step of a new optimizer."""
    params = work.structs(shapes, work.dtype_of(pipeline))

    def arm(library: str) -> Callable[[], None]:
        state = jax.eval_shape(work.make(pipeline, library).init, params)

        def run() -> None:
            work.step_of(pipeline, library).lower(params, state, params)

        return run

    return {library: arm(library) for library in work.LIBRARIES}


def compiled(shapes: work.Shapes, pipeline: str, library: str) -> tuple[float, Any]:
    """Seconds that the step takes to compile, and the executable."""
    params = work.structs(shapes, work.dtype_of(pipeline))
    state = jax.eval_shape(work.make(pipeline, library).init, params)
    lowered = work.step_of(pipeline, library).lower(params, state, params)
    start = time.perf_counter()
    executable = lowered.compile()
    return time.perf_counter() - start, executable


def step_arms(
    shapes: work.Shapes, pipeline: str, executables: dict[str, Any], has_torch: bool
) -> tuple[Arms, dict[str, int]]:
    """Arms that run the donated step, after one step of each; and bytes of states.

    An arm that accumulates runs it until it has made a step. What torch allocates
    changes what temporary memory costs the others (glibc then keeps more).
    """
    first = work.arrays(shapes, work.dtype_of(pipeline))
    grads = [0.01 * p for p in first]
    repeats = work.EVERY if pipeline == "accumulate" else 1

    def arm(library: str) -> tuple[Callable[[], Any], int]:
        tx = work.make(pipeline, library)
        # Copied: some states of optax share a buffer with the parameters.
        carry = jax.tree.map(jnp.copy, (first, tx.init(first)))
        size = sum(x.nbytes for x in jax.tree.leaves(carry[1]))

        def run() -> Any:
            nonlocal carry
            for _ in range(repeats):
                carry = executables[library](*carry, grads)
            return carry[0]

        return run, size

    pairs = {library: arm(library) for library in executables}
    arms = {name: run for name, (run, _) in pairs.items()}
    if has_torch:
        arms |= torch_arms(pipeline, first, grads)
    expected = sample(arms["gradtx"]())
    tolerance = 1e-5 if first[0].dtype == jnp.float32 else 0.02
    for name in list(arms)[1:]:
        assert_equal(name, sample(arms[name]()), expected, tolerance)
    return arms, {name: size for name, (_, size) in pairs.items()}


def sample(arrays: Any, most: int = 2**20) -> list[np.ndarray]:
    """The first elements of each array, of either library, on the host."""
    first = [x.reshape(-1)[:most] for x in arrays]
    host = [x.cpu() if hasattr(x, "cpu") else x for x in first]
    return [np.asarray(x, np.float32) for x in host]


def assert_equal(name: str, given: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Normwise by leaf."""
    for a, b in zip(given, expected, strict=True):
        error = np.max(np.abs(a - b)) / np.max(np.abs(b))
        if not error < tolerance:
            raise AssertionError(f"{name} is {error:.1e} from gradtx")


def eager_arms(shapes: work.Shapes, pipeline: str) -> Arms:
    """Arms that run the update without jit."""
    params = work.arrays(shapes, work.dtype_of(pipeline))
    grads = [0.01 * p for p in params]

    def arm(library: str) -> Callable[[], Any]:
        tx = work.make(pipeline, library)
        state = tx.init(params)
        return lambda: tx.update(grads, state, params)[0]

    return {library: arm(library) for library in work.LIBRARIES}


TORCH = ("sgd, momentum", "adam", "adamw", "clip + adamw", "adamw, bf16 moment")
"""The pipelines that torch has; at the first step its moments need no rounding."""


def torch_arms(pipeline: str, params: list[Any], grads: list[Any]) -> Arms:
    """torch's fused and foreach kernels on copies, where torch is installed.

    On a GPU if torch sees one.
    """
    if pipeline not in TORCH or importlib.util.find_spec("torch") is None:
        return {}
    torch: Any = importlib.import_module("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    schedule = work.rate_of(work.LIBRARIES["gradtx"])
    rates = [float(x) for x in jax.vmap(schedule)(jnp.arange(1000))]

    def arm(**form: bool) -> Callable[[], Any]:
        mine = [torch.from_numpy(np.array(p)).to(device) for p in params]
        for p, g in zip(mine, grads, strict=True):
            p.grad = torch.from_numpy(np.array(g)).to(device)
        match pipeline:
            case "sgd, momentum":
                optimizer = torch.optim.SGD(mine, lr=0.1, momentum=0.9, **form)
            case "adam":
                optimizer = torch.optim.Adam(mine, lr=1e-3, **form)
            case _:
                optimizer = torch.optim.AdamW(mine, 1e-3, weight_decay=1e-4, **form)
        counts = itertools.count()

        def run() -> Any:
            if pipeline == "clip + adamw":
                torch.nn.utils.clip_grad_norm_(mine, 1.0)
                optimizer.param_groups[0]["lr"] = rates[next(counts)]
            optimizer.step()
            return mine

        return run

    return {"torch fused": arm(fused=True), "torch foreach": arm(foreach=True)}


def bus_arms(size: int, has_torch: bool) -> Arms:
    """Arms that add in place to an array: 8 bytes an element, all that memory gives."""
    array = np.zeros(size, np.float32)

    def add() -> None:
        np.add(array, 1, out=array)

    arms: Arms = {"numpy add": add}
    if has_torch and importlib.util.find_spec("torch") is not None:
        torch: Any = importlib.import_module("torch")
        tensor = torch.zeros(size)

        def add_() -> None:
            tensor.add_(1)

        arms["torch add_"] = add_
    return arms
