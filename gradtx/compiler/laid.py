"""Programs with schedules, laid out once for updates that are not traced.

There a recipe would run at every update, since its numbers are others. So their
numbers are compiled as a function of the count, which is how a jitted step has them;
what is made of them is only the rules that take them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import jax

from gradtx.compiler.lower import program_of
from gradtx.compiler.program import Op, Program
from gradtx.core.call import FactoryCall
from gradtx.core.internals import Tracer, token_of_context
from gradtx.core.numbers import is_concrete
from gradtx.core.rule import Rule


def program_at(bound: FactoryCall, count: Any) -> Program:
    """As `program_of`; from the second update on, what was laid out before."""
    known = bound.laid
    if bound.program is not None or known is None or not is_concrete(count):
        return program_of(bound, count)
    context = token_of_context(())
    if laid := known.get(context):
        try:
            return laid.at(count) or program_of(bound, count)
        except TypeError:  # a recipe looks at its numbers, which a trace has not
            bound.laid = None
    program = program_of(bound, count)
    if program.is_timed and laid is None:
        may_be = program.is_pure and not _is_traced(bound.children)
        known[context] = Laid(bound) if context in known and may_be else None
    return program


class Laid:
    """A program whose numbers are compiled, under one setting of JAX's."""

    def __init__(self, bound: FactoryCall):
        self.program: Any = None
        self.settled: dict[int, Op] = {}

        def numbers(count: Any) -> dict[int, Any] | None:
            """The children of each operation that depend on the count, if traced."""
            if not isinstance(count, Tracer):
                return None  # under `jax.disable_jit`
            program = program_of(bound, count)
            children = {
                k: op.bound.children
                for k, op in enumerate(program.ops)
                if op.bound is not None and _is_traced(op.bound.children)
            }
            self.program = _without_numbers(program, children)
            return children

        self.numbers = jax.jit(numbers)

    def at(self, count: Any) -> Program | None:
        """The program at a count; None in a staged computation, and without any."""
        numbers = self.numbers(count)
        if numbers is None or _is_traced(numbers):
            return None
        ops = [
            _made(op, FactoryCall(op.bound.spec, numbers[k]))
            if k in numbers
            else self._op(k)
            for k, op in enumerate(self.program.ops)
        ]
        return dataclasses.replace(self.program, ops=tuple(ops), is_laid=True)

    def _op(self, k: int) -> Op:
        """An operation whose numbers stay: made once, outside of the trace."""
        if k not in self.settled:
            op = self.program.ops[k]
            self.settled[k] = op if op.bound is None else _made(op, op.bound)
        return self.settled[k]


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


def _is_traced(tree: Any) -> bool:
    return any(isinstance(x, Tracer) for x in jax.tree.leaves(tree))
