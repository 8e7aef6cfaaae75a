"""Kernels in two parts: what no leaf is needed for is computed once for all leaves.

A rule is written for one leaf, and computes its bias corrections there. In a program of
1000 leaves these would be 1000 copies of the same scalars, which XLA takes long to
merge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Var, jaxpr_as_fun

from gradtx.fusion import separated


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """A computation on leaves of one shape.

    Attributes:
        hoist: Makes scalars of what all leaves get.
        run: Makes the outputs for a leaf of these scalars and of what the leaf gets.
        out: The structure of the outputs.
    """

    hoist: Callable[..., Any]
    run: Callable[..., Any]
    out: Any


class Shared(NamedTuple):
    """What all leaves get, flat, and all that a trace depends on because of it."""

    whole: Any
    leaves: list[Any]
    key: Hashable


def shared_of(common: Any) -> Shared:
    """What all leaves get, ready for kernels."""
    leaves, treedef = jax.tree.flatten(common)
    config = (
        jax.config.jax_enable_x64,
        jax.config.jax_default_matmul_precision,
        jax.sharding.get_abstract_mesh(),
    )
    return Shared(common, leaves, (treedef, config, *map(jax.typeof, leaves)))


class Kernel:
    """A computation on one leaf, traced once for each shape."""

    def __init__(self, compute: Callable[[Any, Any], Any]):
        self.compute = compute
        self.parts: dict[Hashable, Parts] = {}

    def place(self, shared: Shared, leaf: Any) -> tuple[Parts, list[Any]]:
        """The parts for a leaf, and what the leaf gets, flat."""
        arrays, treedef = jax.tree.flatten(leaf)
        key = (shared.key, treedef, *map(jax.typeof, arrays))
        if key not in self.parts:
            self.parts[key] = _split(self.compute, shared.whole, leaf)
        return self.parts[key], arrays


def _split(compute: Callable[[Any, Any], Any], common: Any, leaf: Any) -> Parts:
    closed, shape = jax.make_jaxpr(compute, return_shape=True)(common, leaf)
    jaxpr, consts = closed.jaxpr, closed.consts
    number = len(jax.tree.leaves(common))
    known = dict.fromkeys(jaxpr.invars[:number])
    first, rest = [], []
    for eqn in jaxpr.eqns:
        reads = {x for x in eqn.invars if isinstance(x, Var)}
        makes_scalars = all(x.aval.size == 1 for x in eqn.outvars)
        if reads <= known.keys() and makes_scalars and not eqn.effects:
            first.append(eqn)
            known |= dict.fromkeys(eqn.outvars)
        else:
            rest.append(eqn)
    read = {x for eqn in rest for x in eqn.invars if isinstance(x, Var)}
    read |= {x for x in jaxpr.outvars if isinstance(x, Var)}
    passed = [x for x in known if x in read]
    scalars = jaxpr.replace(invars=jaxpr.invars[:number], outvars=passed, eqns=first)
    arrays = jaxpr.replace(invars=[*passed, *jaxpr.invars[number:]], eqns=rest)
    hoist = jax.jit(jaxpr_as_fun(ClosedJaxpr(scalars, consts)), inline=True)
    run = separated(ClosedJaxpr(arrays, consts), len(passed))
    run.__name__ = compute.__name__
    return Parts(hoist, jax.jit(run), jax.tree.structure(shape))
