"""Programs with schedules, laid out once for updates that are not traced.

There a recipe would run at every update, since its numbers are others. So their
numbers are compiled as a function of the count, which is how a jitted step has them;
what is made of them is only the rules that take them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from gradtx.binding import Bound
from gradtx.jaxpr import Tracer, token_of_context
from gradtx.lowering import program_of
from gradtx.numbers import is_concrete
from gradtx.program import Op, Program


def program_at(bound: Bound, count: Any) -> Program:
    """As `program_of`; from the second update on, what was laid out before."""
    if bound.program is not None or not is_concrete(count):
        return program_of(bound, count)
    context = token_of_context(())
    if isinstance(bound.laid, Laid) and bound.laid.context is context:
        try:
            return bound.laid.at(count) or program_of(bound, count)
        except TypeError:  # a recipe looks at its numbers, which a trace has not
            bound.laid = NEVER
    program = program_of(bound, count)
    if program.is_timed and bound.laid is not NEVER:
        is_second = bound.laid is not None
        bound.laid = SEEN
        if is_second:
            may_be = program.is_pure and not _is_traced(bound.children)
            bound.laid = Laid(bound, context) if may_be else NEVER
    return program


def forget(bound: Bound) -> bool:
    """Lay a transformation out at every update from now on; whether it was not.

    For a recipe that puts a number into a function of its own: that is of the trace.
    """
    was_laid, bound.laid = isinstance(bound.laid, Laid), NEVER
    return was_laid


SEEN, NEVER = "seen", "never"
"""Of what was updated once; of what is laid out at every update."""


class Laid:
    """A program whose numbers are compiled.

    Attributes:
        context: The settings of JAX's that it is for.
    """

    def __init__(self, bound: Bound, context: object):
        self.context = context
        self.program: Any = None
        self.settled: dict[int, Op] = {}

        def numbers(count: Any) -> dict[int, Any] | None:
            """The children of each operation that depend on the count, if traced."""
            if not isinstance(count, Tracer):
                return None  # under `jax.disable_jit`
            self.program = program_of(bound, count)
            children = {
                k: op.bound.children
                for k, op in enumerate(self.program.ops)
                if op.bound is not None
            }
            return {k: x for k, x in children.items() if _is_traced(x)}

        self.numbers = jax.jit(numbers)

    def at(self, count: Any) -> Program | None:
        """The program at a count; None in a staged computation, and without any."""
        numbers = self.numbers(count)
        if numbers is None or _is_traced(numbers):
            return None
        ops = [
            _made(op, Bound(op.bound.spec, numbers[k])) if k in numbers else self._op(k)
            for k, op in enumerate(self.program.ops)
        ]
        return dataclasses.replace(self.program, ops=tuple(ops))

    def _op(self, k: int) -> Op:
        """An operation whose numbers stay: made once, outside of the trace."""
        if k not in self.settled:
            op = self.program.ops[k]
            self.settled[k] = op if op.bound is None else _made(op, op.bound)
        return self.settled[k]


def _made(op: Op, bound: Bound) -> Op:
    """An operation with other numbers."""
    return dataclasses.replace(op, bound=bound, node=bound.call())


def _is_traced(tree: Any) -> bool:
    return any(isinstance(x, Tracer) for x in jax.tree.leaves(tree))
