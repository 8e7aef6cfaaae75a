"""What a TPU's compiler makes of a step, where libtpu is installed; no TPU is needed.

Its figures say what an accelerator does, and anyone can check them. XLA fetches ahead
into fast memory there, and counts that as bytes accessed; which arrays it chooses hangs
on the order in which it schedules leaves. So the operands and results of what computes
are counted by themselves, too.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import re
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding

from tests import compiled
from tests.benchmarks import work
from tests.settings import OF_EXAMPLES, PLAIN

SHAPES = work.layers(6)
"""42 leaves, 3.5M parameters."""
AHEAD = "XLA fetches other leaves ahead; what computes moves no more"
MORE: dict[str, dict[str, str]] = {
    "fusions": {
        "sm3": "the maxima of an array are one vector: it is cut, and put together",
    },
    "computed": {
        "sm3": "the same",
        "lbfgs": "a reader of one remembered pair counts as one of the whole history",
    },
    "accessed": dict.fromkeys(
        ("adafactor", "lamb", "fromage", "noisy_sgd", "dog", "lbfgs"), AHEAD
    ),
    "temporary": dict.fromkeys(("fromage", "dog"), AHEAD),
}
"""By figure: the optimizers for which it may exceed optax's, and why."""


def is_there() -> bool:
    """Whether a TPU's compiler can be had."""
    has_path = os.path.exists(os.environ.get("TPU_LIBRARY_PATH", ""))
    return has_path or importlib.util.find_spec("libtpu") is not None


@functools.cache
def _device() -> Any:
    """A TPU v5e that is only described."""
    described = {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-8",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    os.environ.update(described)
    from jax.experimental import topologies

    return topologies.get_topology_desc("v5e:2x4", platform="tpu").devices[0]


def program(name: str, library: str, shapes: work.Shapes = SHAPES) -> Any:
    """The step compiled for a TPU."""
    layout = SingleDeviceSharding(_device())

    def there(x: Any) -> Any:
        weak = getattr(x, "weak_type", False)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout, weak_type=weak)

    params = jax.tree.map(there, work.structs(shapes))
    state = jax.tree.map(there, jax.eval_shape(work.make(name, library).init, params))
    return work.step_of(name, library).lower(params, state, params).compile()


INSTRUCTION = re.compile(r"(\(.*?\)|\S+) ([a-z][\w-]*\(.*)")
SHAPE = re.compile(r"(pred|[a-z]+)(\d*)\[([\d,]*)\]")


def _bytes_of(text: str) -> int:
    return sum(
        max(1, int(bits or 8) // 8) * math.prod(map(int, filter(None, size.split(","))))
        for _, bits, size in SHAPE.findall(text)
    )


MOVING = frozenset({
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "copy",
    "copy-start", "copy-done", "slice-start", "slice-done", "custom-call",
})  # fmt: skip
"""Instructions that compute nothing; XLA puts slices together with a custom call."""


def computed_bytes(executable: Any) -> int:
    """Bytes of the operands and results of what computes, in the entry computation."""
    entry = executable.as_text().split("ENTRY", 1)[1]
    sizes: dict[str, int] = {}
    moved = 0
    for line in entry.splitlines():
        name, is_assigned, rest = line.strip().removeprefix("ROOT ").partition(" = ")
        if not is_assigned:
            continue
        # A tuple's type has spaces; what follows a type is the instruction.
        result, call = INSTRUCTION.match(rest).groups()  # pyright: ignore
        kind, _, operands = call.partition("(")
        size = sizes[name.removeprefix("%")] = _bytes_of(result)
        if kind not in MOVING:
            given = compiled.NAME.findall(operands.split("), ", 1)[0])
            moved += size + sum(sizes.get(x, 0) for x in given)
    return moved


def measure(name: str) -> dict[str, Any]:
    """Figures of an optimizer's step: by what is counted, then by library."""
    programs = {library: program(name, library) for library in work.LIBRARIES}
    n = work.number_of_parameters(SHAPES)
    least = min(map(math.prod, SHAPES))

    def each(figure: Callable[[Any], float]) -> dict[str, float]:
        return {lib: round(figure(p), 3) for lib, p in programs.items()}

    return {
        "fusions": each(lambda p: compiled.fusions(p, least)),
        "computed": each(lambda p: computed_bytes(p) / n),
        "accessed": each(lambda p: compiled.bytes_moved(p) / n),
        "temporary": each(lambda p: compiled.temporary_bytes(p) / n),
    }


def rows() -> dict[str, Callable[[], dict[str, Any]]]:
    """A row for every optimizer that both libraries have."""
    names = [name for name in PLAIN if name not in OF_EXAMPLES]
    return {name: functools.partial(measure, name) for name in names}
