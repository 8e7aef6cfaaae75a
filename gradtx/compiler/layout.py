"""Layouts: programs whose numbers change, laid out once for un-jitted updates.

Otherwise a recipe would run at every update: its schedules give other numbers, or the
transformation is another one with other numbers, as `editable` makes. So the numbers
are compiled as a function of the count and of the arrays among the given ones, which is
how a jitted step has them; what is made of them is only the rules that take them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import numpy as np

from gradtx.compiler.lower import program_of
from gradtx.compiler.program import Op, Program
from gradtx.core.call import CallSpec, FactoryCall
from gradtx.core.internals import Tracer, token_of_context
from gradtx.core.numbers import is_concrete
from gradtx.core.rule import Rule

ARRAY = object()
"""Marks, in the leaves of a call, the place of an array."""


class Structure(NamedTuple):
    """A call of a factory without the arrays in it, at any depth.

    Attributes:
        spec: The spec of the call.
        treedef: The structure of its children.
        leaves: Their leaves, `ARRAY` for an array.
        kinds: For each leaf its type; for an array, its own.
    """

    spec: CallSpec
    treedef: Any
    leaves: tuple[Any, ...]
    kinds: tuple[Any, ...]

    def call(self, arrays: Any) -> FactoryCall:
        """The call with some arrays."""
        rest = iter(arrays)
        leaves = [next(rest) if leaf is ARRAY else leaf for leaf in self.leaves]
        return FactoryCall(self.spec, tuple(self.treedef.unflatten(leaves)))


def _apart(bound: FactoryCall) -> tuple[Structure, list[Any]]:
    """A call as its structure, and the arrays in it."""
    leaves, treedef = jax.tree.flatten(bound.children)
    are_arrays = [*map(_is_array, leaves)]
    pairs = [*zip(leaves, are_arrays, strict=True)]
    kept = tuple([ARRAY if is_array else leaf for leaf, is_array in pairs])
    kinds = tuple([jax.typeof(x) if is_array else type(x) for x, is_array in pairs])
    arrays = [leaf for leaf, is_array in pairs if is_array]
    return Structure(bound.spec, treedef, kept, kinds), arrays


def _is_array(leaf: Any) -> bool:
    """Whether a number may be another one in the same program: a constant 0 may not."""
    is_zero = isinstance(leaf, np.generic) and leaf == 0
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and not is_zero


def program_at(bound: FactoryCall, count: Any) -> Program:
    """As `program_of`; from the second update on, as it was laid out before."""
    if bound.program is not None or not is_concrete(count) or is_traced(bound.children):
        return program_of(bound, count)
    structure, arrays = _apart(bound)
    layout = _layout(structure, token_of_context(()))
    if layout.is_usable and layout.is_seen:
        try:
            return layout.at(arrays, count) or program_of(bound, count)
        except TypeError:  # a recipe looks at its numbers, which a trace has not
            layout.is_usable = False
    program = program_of(bound, count)
    layout.is_seen = True
    layout.is_usable &= program.is_pure and (program.is_timed or bool(arrays))
    return program


@functools.lru_cache(maxsize=256)
def _layout(structure: Structure, context: object) -> Layout:
    """The layout of calls of one structure, under one setting of JAX's."""
    return Layout(structure)


class Layout:
    """A program whose numbers are compiled.

    Attributes:
        is_seen: Whether there was an update with such a program.
        is_usable: Whether it may be laid out, for all that is known.
    """

    def __init__(self, structure: Structure):
        self.is_seen, self.is_usable = False, True
        self._program: Any = None
        self._settled: dict[int, Op] = {}

        def numbers(arrays: Any, count: Any) -> dict[int, Any] | None:
            """The children of each operation that depend on the given, if traced."""
            if not isinstance(count, Tracer):
                return None  # under `jax.disable_jit`
            program = program_of(structure.call(arrays), count)
            children = {
                k: op.bound.children
                for k, op in enumerate(program.ops)
                if op.bound is not None and is_traced(op.bound.children)
            }
            self._program = _without_numbers(program, children)
            return children

        self._numbers = jax.jit(numbers)

    def at(self, arrays: Any, count: Any) -> Program | None:
        """The program at a count; None in a staged computation, and without any."""
        numbers = self._numbers(arrays, count)
        if numbers is None or is_traced(numbers):
            return None
        ops = [
            _made(op, FactoryCall(op.bound.spec, numbers[k]))
            if k in numbers
            else self._op(k)
            for k, op in enumerate(self._program.ops)
        ]
        return dataclasses.replace(self._program, ops=tuple(ops), layout=self)

    def _op(self, k: int) -> Op:
        """An operation whose numbers stay: made once, outside of the trace."""
        if k not in self._settled:
            op = self._program.ops[k]
            self._settled[k] = op if op.bound is None else _made(op, op.bound)
        return self._settled[k]


def _without_numbers(program: Program, traced: Collection[int]) -> Program:
    """A program without what is of its trace: operations are made anew."""

    def bare(k: int, op: Op) -> Op:
        if op.bound is None:
            return op
        bound = FactoryCall(op.bound.spec, ()) if k in traced else op.bound
        return dataclasses.replace(op, bound=bound, node=Rule(lambda u, *_: (u, {})))

    ops = tuple(bare(k, op) for k, op in enumerate(program.ops))
    parts = tuple(part._replace(bound=None) for part in program.parts)
    return dataclasses.replace(program, ops=ops, parts=parts)


def _made(op: Op, bound: FactoryCall) -> Op:
    """An operation with other numbers."""
    return dataclasses.replace(op, bound=bound, node=bound.call())


def is_traced(tree: Any) -> bool:
    """Whether a tracer is among the leaves."""
    return any(isinstance(x, Tracer) for x in jax.tree.leaves(tree))
