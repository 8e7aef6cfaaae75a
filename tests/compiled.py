"""Figures of a compiled program that no clock is needed for."""

from __future__ import annotations

import math
import re
from typing import Any

import jax

from gradtx.core.internals import subprograms

ARRAY = re.compile(r"\w+\[([\d,]*)\]")
NAME = re.compile(r"%([\w.-]+)")


def fusions(executable: Any, least: int) -> int:
    """Fusions over arrays of at least so many elements: over scalars they are free.

    Those of both branches of a condition, and of the body of a loop, once.
    """
    sizes: dict[str, int] = {}
    found = []
    for line in executable.as_text().splitlines():
        name, is_assigned, rest = line.strip().removeprefix("ROOT ").partition(" = ")
        if not is_assigned or not name.startswith("%"):
            continue
        shape, is_fusion, operands = rest.partition(" fusion(")
        if not is_fusion:
            shape = rest.split("(", 1)[0] if rest[0] != "(" else rest.split(")", 1)[0]
        sizes[name[1:]] = max(map(_size, ARRAY.findall(shape)), default=0)
        if is_fusion:
            found.append((name[1:], NAME.findall(operands.split(")", 1)[0])))
    return sum(
        max(sizes.get(x, 0) for x in (name, *operands)) >= least
        for name, operands in found
    )


def _size(dimensions: str) -> int:
    return math.prod(map(int, filter(None, dimensions.split(","))))


def bytes_moved(executable: Any) -> float:
    """Bytes of the operands and results of all instructions."""
    return executable.cost_analysis()["bytes accessed"]


def temporary_bytes(executable: Any) -> int:
    """Bytes that the program needs beside its operands and results."""
    return executable.memory_analysis().temp_size_in_bytes


def bytes_of(tree: Any) -> int:
    """Bytes of a tree's arrays, or of their shapes."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def equations(jaxpr: Any) -> int:
    """Equations of a program; a function's once, however often it is called."""
    seen: set[int] = set()

    def count(jaxpr: Any) -> int:
        if id(jaxpr) in seen:
            return 0
        seen.add(id(jaxpr))
        inner = (x for eqn in jaxpr.eqns for x in subprograms(eqn.params))
        return len(jaxpr.eqns) + sum(map(count, inner))

    return count(jaxpr)
