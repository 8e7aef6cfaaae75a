"""Hoisting: computations that need no leaf run once for all leaves.

A rule is written for one leaf, including its bias corrections. A program of 1000 leaves
would contain 1000 copies of these scalars, which XLA takes long to merge.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
from jax.sharding import SingleDeviceSharding

from gradtx.compiler.fusion import separated
from gradtx.core.errors import at_path
from gradtx.core.internals import (
    Tracer,
    jaxpr_as_fun,
    signature_of,
    split,
    token_of_context,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Hoisted:
    """A computation on leaves of one shape, in two parts.

    Attributes:
        hoist: Computes scalars from the inputs shared by all leaves.
        run: Computes the outputs of a leaf from these scalars and the leaf's inputs.
    """

    hoist: Callable[..., Any]
    run: Callable[[list[Any], list[Any]], Any]


class Operands(NamedTuple):
    """The shared inputs of all leaves, also flat; and a token of the trace context."""

    broadcast: Any
    leaves: list[Any]
    token: Any

    @classmethod
    def of(cls, broadcast: Any) -> Operands:
        """The shared inputs of all leaves, in the form for kernels."""
        return cls(broadcast, jax.tree.leaves(broadcast), token_of_context(broadcast))


class Job(NamedTuple):
    """A kernel and a leaf: the leaf's inputs as a flattened tree, and its path."""

    kernel: Kernel
    treedef: Any
    arrays: list[Any]
    path: Callable[[], str]

    @property
    def leaf(self) -> Any:
        """The inputs of the leaf."""
        return self.treedef.unflatten(self.arrays)


class Kernel:
    """A computation on one leaf, traced once for each shape."""

    def __init__(self, compute: Callable[[Any, Any], Any]):
        self.compute = compute
        # Dropped together with JAX's own traces.
        self.parts = weakref.WeakKeyDictionary[Any, dict[Hashable, Hoisted]]()
        self.hoists = weakref.WeakKeyDictionary[Any, dict[Hashable, Callable]]()

    def parts_for(self, operands: Operands, job: Job) -> Hoisted:
        """The parts for a leaf."""
        parts = self.parts.setdefault(operands.token, {})
        key = (job.treedef, *map(_type_of, job.arrays))
        if key not in parts:
            with at_path(job.path):
                parts[key] = self._trace(operands, job.leaf)
        return parts[key]

    def run(self, broadcast: Any, job: Job) -> Any:
        """The outputs for a leaf, computed without compilation."""
        with at_path(job.path):
            return self.compute(broadcast, job.leaf)

    def _trace(self, operands: Operands, leaf: Any) -> Hoisted:
        program = jax.make_jaxpr(self.compute, return_shape=True)
        traced, shape = program(operands.broadcast, leaf)
        scalars, arrays, number = split(traced, len(operands.leaves))
        out = jax.tree.structure(shape)
        hoists = self.hoists.setdefault(operands.token, {})
        same = signature_of(scalars)  # mostly equal for all shapes
        if same not in hoists:
            hoists[same] = jax.jit(jaxpr_as_fun(scalars), inline=True)
        make = separated(arrays, number)

        def run(scalars: list[Any], given: list[Any]) -> Any:
            there = [x for x in given if x is not None]
            return out.unflatten(make(*scalars, *there))

        run.__name__ = self.compute.__name__
        return Hoisted(hoists[same], jax.jit(run))


def _type_of(x: Any) -> Any:
    """As `jax.typeof`, which takes longer for a plain array than all the rest here."""
    is_plain = not isinstance(x, Tracer) and isinstance(x, jax.Array)
    if is_plain and type(x.sharding) is SingleDeviceSharding:
        return x.aval
    return None if x is None else jax.typeof(x)
