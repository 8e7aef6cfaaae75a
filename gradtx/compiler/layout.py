"""Layouts: programs whose numbers change, made once for un-jitted updates.

Otherwise a recipe would run at every update: its schedules give other numbers, or the
transformation is another one with other numbers, as `editable` makes. So the numbers
are compiled as a function of the count and of the arrays among the numbers, which is
how a jitted step has them. At an update, only the rules are made, of these numbers.

A transformation has its layouts to itself, and shares them with those that are made of
it by other numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gradtx.compiler.lower import program_of
from gradtx.compiler.program import Op, Program
from gradtx.core.call import FactoryCall
from gradtx.core.internals import Tracer, token_of_context
from gradtx.core.numbers import is_concrete
from gradtx.core.rule import Rule

GAP = object()
"""Marks, among leaves, the place of one that is given later."""
MOST = 16
"""How many layouts a transformation may have."""


class Gapped(NamedTuple):
    """A tree in which some leaves are given later."""

    treedef: Any
    leaves: list[Any]

    @classmethod
    def of(cls, tree: Any, is_gap: Callable[[Any], bool]) -> tuple[Gapped, list[Any]]:
        """The tree without some of its leaves, and these."""
        leaves, treedef = jax.tree.flatten(tree)
        kept = [GAP if is_gap(leaf) else leaf for leaf in leaves]
        return cls(treedef, kept), [leaf for leaf in leaves if is_gap(leaf)]

    def filled(self, given: Sequence[Any]) -> Any:
        """The tree with leaves in its gaps."""
        rest = iter(given)
        return self.treedef.unflatten(
            [next(rest) if leaf is GAP else leaf for leaf in self.leaves]
        )


def program_at(bound: FactoryCall, count: Any) -> Program:
    """As `program_of`; from the second update on, by the layout of the first."""
    if bound.program is not None or not is_concrete(count):
        return program_of(bound, count)
    leaves, treedef = jax.tree.flatten(bound.children)
    if _is_traced(leaves):
        return program_of(bound, count)
    layout = _layout_of(bound, leaves, treedef)
    if layout is not None and layout.is_usable:
        try:
            if program := layout.at([*filter(_may_change, leaves)], count):
                return program
        except Exception:  # a recipe looks at its numbers, which a trace has not
            layout.is_usable = False
    program = program_of(bound, count)
    if layout is not None:
        layout.note(program)
    return program


def _layout_of(bound: FactoryCall, leaves: list[Any], treedef: Any) -> Layout | None:
    """The layout of a call; None if JAX does not know one of its numbers."""
    try:
        kinds = tuple([*map(_kind, leaves)])
        key = bound.spec, treedef, kinds, token_of_context(())
        layout = bound.layouts.get(key)
    except TypeError:
        return None
    if layout is None:
        if len(bound.layouts) >= MOST:
            bound.layouts.clear()
        layout = bound.layouts[key] = Layout(bound)
    return layout


def _may_change(leaf: Any) -> bool:
    """Whether the program is the same for another number: not for a constant 0."""
    is_zero = isinstance(leaf, np.generic) and leaf == 0
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and not is_zero


def _kind(leaf: Any) -> Hashable:
    """The type of a number, if it may change; else its type and value."""
    if _may_change(leaf):
        return jax.typeof(leaf)
    is_float = isinstance(leaf, float)  # -0.0 is not 0.0, and NaN equals itself
    return type(leaf), leaf.hex() if is_float else leaf


class Layout:
    """A program whose numbers are compiled.

    Attributes:
        is_usable: Whether it may make programs: one was seen, and all went well.
    """

    def __init__(self, bound: FactoryCall):
        self.is_usable = self._is_seen = False
        children, arrays = Gapped.of(bound.children, _may_change)
        self._has_arrays = bool(arrays)
        self._program: Any = None
        self._gapped: dict[int, Gapped] = {}
        self._settled: dict[int, Op] = {}
        spec = bound.spec

        def numbers(arrays: Any, count: Any) -> dict[int, list[Any]] | None:
            """For each operation its numbers that depend on those given, if traced."""
            if not isinstance(count, Tracer):
                return None  # under `jax.disable_jit`
            program = program_of(FactoryCall(spec, children.filled(arrays)), count)
            parts = {
                k: Gapped.of(op.bound.children, lambda x: isinstance(x, Tracer))
                for k, op in enumerate(program.ops)
                if op.bound is not None and _is_traced(op.bound.children)
            }
            self._gapped = {k: gapped for k, (gapped, _) in parts.items()}
            self._program = _without_numbers(program, self._gapped)
            return {k: traced for k, (_, traced) in parts.items()}

        self._numbers = jax.jit(numbers)

    def note(self, program: Program) -> None:
        """Note a program that was made without it: the first says if it may be used."""
        if not self._is_seen:
            is_changing = program.is_timed or self._has_arrays
            self.is_usable = program.is_pure and is_changing
        self._is_seen = True

    def at(self, arrays: Any, count: Any) -> Program | None:
        """The program at a count; None in a staged computation, and without any."""
        numbers = self._numbers(arrays, count)
        if numbers is None or _is_traced(numbers):
            return None
        ops = [self._op(k, numbers) for k in range(len(self._program.ops))]
        return dataclasses.replace(self._program, ops=tuple(ops), layout=self)

    def _op(self, k: int, numbers: dict[int, list[Any]]) -> Op:
        """An operation; one whose numbers stay is made once, outside of the trace."""
        op = self._program.ops[k]
        if k in numbers:
            children = self._gapped[k].filled(numbers[k])
            return _made(op, FactoryCall(op.bound.spec, children))
        if k not in self._settled:
            self._settled[k] = op if op.bound is None else _made(op, op.bound)
        return self._settled[k]


def _without_numbers(program: Program, traced: dict[int, Gapped]) -> Program:
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
