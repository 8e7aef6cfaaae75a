"""Kernels in two parts: what no leaf is needed for is computed once for all leaves.

A rule is written for one leaf, and computes its bias corrections there. In a program of
1000 leaves these would be 1000 copies of the same scalars, which XLA takes long to
merge.
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
    """A computation on leaves of one shape.

    Attributes:
        hoist: Makes scalars of what all leaves get.
        run: Makes the outputs for a leaf of these scalars and of what the leaf gets.
    """

    hoist: Callable[..., Any]
    run: Callable[[list[Any], list[Any]], Any]


class Operands(NamedTuple):
    """What all leaves get, flat, too; and a token of all else that traces depend on."""

    broadcast: Any
    leaves: list[Any]
    token: Any

    @classmethod
    def of(cls, broadcast: Any) -> Operands:
        """What all leaves get, ready for kernels."""
        return cls(broadcast, jax.tree.leaves(broadcast), token_of_context(broadcast))


class Job(NamedTuple):
    """A kernel and a leaf: what it gets as a tree, taken apart, and where it is."""

    kernel: Kernel
    treedef: Any
    arrays: list[Any]
    path: Callable[[], str]

    @property
    def leaf(self) -> Any:
        """What the leaf gets."""
        return self.treedef.unflatten(self.arrays)


class Kernel:
    """A computation on one leaf, traced once for each shape."""

    def __init__(self, compute: Callable[[Any, Any], Any]):
        self.compute = compute
        # Forgotten with JAX's own traces.
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
        """The outputs for a leaf, computed operation by operation."""
        with at_path(job.path):
            return self.compute(broadcast, job.leaf)

    def _trace(self, operands: Operands, leaf: Any) -> Hoisted:
        program = jax.make_jaxpr(self.compute, return_shape=True)
        traced, shape = program(operands.broadcast, leaf)
        scalars, arrays, number = split(traced, len(operands.leaves))
        out = jax.tree.structure(shape)
        hoists = self.hoists.setdefault(operands.token, {})
        same = signature_of(scalars)  # mostly for all shapes
        if same not in hoists:
            hoists[same] = jax.jit(jaxpr_as_fun(scalars), inline=True)
        make = separated(arrays, number)

        def run(scalars: list[Any], given: list[Any]) -> Any:
            there = [x for x in given if x is not None]
            return out.unflatten(make(*scalars, *there))

        run.__name__ = self.compute.__name__
        return Hoisted(hoists[same], jax.jit(run))


def _type_of(x: Any) -> Any:
    """As `jax.typeof`, which for a plain array takes longer than all the rest here."""
    is_plain = not isinstance(x, Tracer) and isinstance(x, jax.Array)
    if is_plain and type(x.sharding) is SingleDeviceSharding:
        return x.aval
    return None if x is None else jax.typeof(x)
