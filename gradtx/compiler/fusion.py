"""CPU fusion: one loop per leaf, with an option that lets XLA write several arrays.

Without it XLA makes one loop per array that a leaf's update writes, and each loop reads
its inputs again: 40 bytes per parameter for Adam instead of 28. With it XLA writes
intermediate values shared by two loops to memory. So each array is computed separately,
without shared values: XLA makes a loop of each, and then fuses them into one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from gradtx.core.internals import equations, jaxpr_as_fun, xla_options

OPTION = "xla_cpu_use_multi_output_fusion"
FLAGS = (
    f"--xla_backend_extra_options={OPTION}=true",
    # An array that a loop overwrites is read first, not copied.
    "--xla_cpu_copy_insertion_use_region_analysis=true",
)

ELEMENTWISE = frozenset({
    "abs", "add", "add_any", "and", "atan2", "bitcast_convert_type",
    "broadcast_in_dim", "cbrt", "clamp", "complex", "conj", "convert_element_type",
    "copy", "cos", "div", "eq", "erf", "erf_inv", "exp", "exp2", "expm1", "ge",
    "gt", "imag", "integer_pow", "is_finite", "le", "log", "log1p", "logistic",
    "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not",
    "optimization_barrier", "or", "pow", "real", "rem", "round", "rsqrt",
    "select_n", "sign", "sin", "slice", "sqrt", "square", "squeeze",
    "stop_gradient", "sub", "tan", "tanh", "xor",
})  # fmt: skip
"""Elementwise primitives."""
CALLS = frozenset({"jit", "custom_jvp_call", "custom_vjp_call"})
"""Primitives that are elementwise if their bodies are."""


def enable_cpu_fusion() -> None:
    """Compile updates on the CPU to one loop per leaf. Call it before anything else.

    XLA reads its flags once, before the first compilation. The flags are set in the
    environment, so child processes inherit them, and apply to all programs compiled for
    the CPU. Adam then moves 28 bytes per float32 parameter instead of 40, and
    elementwise rules need no temporary memory. Setting both `fusion.FLAGS` as
    `XLA_FLAGS` in the shell has the same effect.

    Raises:
        RuntimeError: JAX has already compiled a program.
        ValueError: `XLA_FLAGS` names a file.
    """
    before = os.environ.get("XLA_FLAGS", "").split()
    if before and not before[0].startswith("-"):
        raise ValueError(
            f"enable_cpu_fusion: XLA_FLAGS names the file {before[0]!r}; "
            f"add to it {' '.join(FLAGS)}"
        )
    missing = [flag for flag in FLAGS if flag not in before]
    os.environ["XLA_FLAGS"] = " ".join([*before, *missing])
    if not is_enabled():
        os.environ["XLA_FLAGS"] = " ".join(before)
        raise RuntimeError(
            "enable_cpu_fusion: must be called before the first JAX operation of the "
            "process, but XLA has read its flags already"
        )


def is_enabled() -> bool:
    """Whether XLA writes several arrays in one loop. Makes XLA read its flags."""
    return f"{OPTION}\x12\x04true".encode() in xla_options()


def _is_used() -> bool:
    is_asked = OPTION in os.environ.get("XLA_FLAGS", "")  # else it may read them later
    return is_asked and is_enabled() and jax.default_backend() == "cpu"


def apart(*values: Any) -> tuple[Any, ...]:
    """The values behind a barrier, if XLA may write several arrays in one loop.

    Otherwise operations of two leaves on one number would become one loop, which cannot
    overwrite the arrays of both.
    """
    return lax.optimization_barrier(values) if _is_used() else values


def separated(program: Any, numbers: int) -> Callable[..., list[Any]]:
    """A program as a function that computes each output separately, if useful.

    It is useful if the program is elementwise, so that XLA can fuse it into one loop.

    Args:
        program: The program; its operands are numbers, then arrays.
        numbers: How many operands are numbers.
    """
    together = jaxpr_as_fun(program)
    if not (_is_used() and _is_elementwise(program)):
        return together

    def run(*given: Any) -> list[Any]:
        outs, arrays = together(*given), given[numbers:]
        for i in range(1, len(outs)):
            # One more barrier for each: XLA would merge operations behind equal ones.
            arrays = lax.optimization_barrier(arrays)
            outs[i] = together(*given[:numbers], *arrays)[i]
        return outs

    return run


def _is_elementwise(program: Any) -> bool:
    """Whether all operations on arrays are elementwise; those on scalars may be any."""
    return not program.effects and all(
        name in ELEMENTWISE or not touches_arrays
        for name, touches_arrays in equations(program, CALLS)
    )
