"""JAX's internals: every name that no promise covers, in one place.

`jax.core` and `jax.extend` change without deprecation. Three of their names are used,
all here; programs are otherwise read by their attributes, which jax 0.8 to 0.11 share
though 0.11 merged `Jaxpr` and `ClosedJaxpr` into one class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax

WORKS_WITH = "jax 0.8.0 to 0.10.2"
"""The versions that the suite was run on."""

try:
    from jax.core import Tracer as Tracer
    from jax.extend.core import jaxpr_as_fun as jaxpr_as_fun
except ImportError as error:
    raise ImportError(
        f"gradtx works with {WORKS_WITH}, and this is jax {jax.__version__}: {error}"
    ) from None

try:
    from jax.extend.backend import get_compile_options
except ImportError:
    get_compile_options = None


def xla_options() -> bytes:
    """The options that XLA compiles with, serialized. Makes XLA read its flags."""
    if get_compile_options is None:
        raise RuntimeError(
            f"enable_cpu_fusion works with {WORKS_WITH}: jax {jax.__version__} has no "
            "jax.extend.backend.get_compile_options; set XLA_FLAGS by hand"
        )
    return get_compile_options(1, 1).SerializeAsString()


def is_variable(x: Any) -> bool:
    """Whether an operand of an equation is a variable, and not a literal."""
    return not hasattr(x, "val")


def subprograms(parameters: Mapping[str, Any]) -> Iterator[Any]:
    """The programs among the parameters of an equation, without their constants."""
    for value in parameters.values():
        for each in value if isinstance(value, tuple) else (value,):
            if hasattr(each, "eqns"):
                yield getattr(each, "jaxpr", each)


def replaced(program: Any, **changes: Any) -> Any:
    """A program with other operands, results or equations, and the same constants."""
    inner = program.jaxpr
    changed = inner.replace(**changes)
    return changed if inner is program else type(program)(changed, program.consts)


def token_of_context(arguments: Any) -> object:
    """An object that is the same as long as a trace of such arguments would be.

    That is under the same settings, mesh, named axes and all else that JAX's own cache
    of traces depends on. JAX keeps it, and drops it with its trace.
    """
    return jax.eval_shape(_probe, arguments)


@jax.tree_util.register_static
class _Token:
    """A result without arrays, which JAX keeps with the trace that made it."""


@jax.jit
def _probe(arguments: Any) -> _Token:
    return _Token()
