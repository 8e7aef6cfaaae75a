"""JAX's internals: every name without a stability promise, in one place.

`jax.core` and `jax.extend` change without deprecation. We use three of their names, all
here. Programs have no public interface either: we read their attributes, which are the
same in jax 0.8 to 0.11, though 0.11 merged `Jaxpr` and `ClosedJaxpr` into one class.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

WORKS_WITH = "jax 0.8.0 to 0.10.2"
"""The versions that the test suite was run with."""

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
    """The serialized compile options of XLA. Makes XLA read its flags."""
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
    """An object that is the same as long as JAX would reuse a trace of such arguments.

    That holds under the same settings, mesh, named axes and all else that JAX's cache
    of traces depends on. JAX keeps the object, and drops it with its trace.
    """
    return jax.eval_shape(_probe, arguments)


@jax.tree_util.register_static
class _Token:
    """A result without arrays, which JAX keeps with its trace."""


@jax.jit
def _probe(arguments: Any) -> _Token:
    return _Token()


def is_staging() -> bool:
    """Whether computations are being traced, so that their results have no values yet.

    JAX has no function for that, but arrays made during a trace are tracers.
    """
    return isinstance(jnp.zeros(()), Tracer)


def weak(array: jax.Array, dtype: np.dtype) -> jax.Array:
    """An array as a weakly typed one of a dtype, like a Python number.

    Public functions make weakly typed arrays of Python numbers only.
    """
    if array.dtype == dtype and array.weak_type:
        return array
    return lax.convert_element_type_p.bind(
        array, new_dtype=dtype, weak_type=True, sharding=None
    )


def equations(program: Any, calls: Collection[str]) -> Iterator[tuple[str, bool]]:
    """The name of each equation's primitive, and whether it operates on arrays.

    Args:
        program: The program.
        calls: Names of primitives to descend into.
    """
    for eqn in program.eqns:
        if eqn.primitive.name in calls:
            for inner in subprograms(eqn.params):
                yield from equations(inner, calls)
        else:
            touches_arrays = any(x.aval.ndim for x in eqn.invars + eqn.outvars)
            yield eqn.primitive.name, touches_arrays


def split(program: Any, number: int) -> tuple[Any, Any, int]:
    """Split a program: the first part computes scalars from the first operands.

    The second part takes these scalars; also returns their number.
    """
    jaxpr = program.jaxpr
    known = dict.fromkeys(jaxpr.invars[:number])
    first, rest = [], []
    for eqn in jaxpr.eqns:
        reads = {*filter(is_variable, eqn.invars)}
        makes_scalars = all(x.aval.size == 1 for x in eqn.outvars)
        if reads <= known.keys() and makes_scalars and not eqn.effects:
            first.append(eqn)
            known |= dict.fromkeys(eqn.outvars)
        else:
            rest.append(eqn)
    read = {x for eqn in rest for x in filter(is_variable, eqn.invars)}
    read |= {*filter(is_variable, jaxpr.outvars)}
    passed = [x for x in known if x in read]
    before, after = jaxpr.invars[:number], jaxpr.invars[number:]
    scalars = replaced(program, invars=before, outvars=passed, eqns=first)
    arrays = replaced(program, invars=[*passed, *after], eqns=rest)
    return scalars, arrays, len(passed)


def signature_of(program: Any) -> Hashable:
    """A key that is equal for equal programs; a program with constants itself.

    The context of an equation (`ctx`) has the settings of its trace.
    """
    jaxpr, number = program.jaxpr, itertools.count()
    numbers: dict[Any, int] = dict(zip(jaxpr.invars, number, strict=False))

    def sign(x: Any) -> Hashable:
        return numbers[x] if is_variable(x) else (x.aval, np.asarray(x.val).item())

    signs: list[Hashable] = []
    for eqn in jaxpr.eqns:
        given = tuple(map(sign, eqn.invars))
        signs.append((eqn.primitive, given, tuple(eqn.params.items()), eqn.ctx))
        numbers.update(zip(eqn.outvars, number, strict=False))
    signature = (*signs, *map(sign, jaxpr.outvars))
    try:
        hash(signature)
    except TypeError:
        return program
    return program if program.consts else signature
