"""Layouts: lowered programs with changing numbers, reused by un-jitted updates.

Otherwise a recipe would run at every update, since its schedules have other values or
`editable` makes a transformation with other numbers. So the numbers are compiled as a
function of the count and of the arrays among the numbers, as in a jitted step. Each
update then only makes rules with these numbers.

A transformation shares its layouts with copies that differ in numbers only.
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
"""Placeholder for a leaf that is filled in later."""
MOST = 16
"""Largest number of layouts of a transformation."""


class Gapped(NamedTuple):
    """A tree with gaps for leaves that are filled in later."""

    treedef: Any
    leaves: list[Any]

    @classmethod
    def of(cls, tree: Any, is_gap: Callable[[Any], bool]) -> tuple[Gapped, list[Any]]:
        """The tree without some of its leaves, and those leaves."""
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
    """As `program_of`, but with the first update's layout from the second one on."""
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
        except Exception:  # a recipe reads values of numbers, unknown in a trace
            layout.is_usable = False
    program = program_of(bound, count)
    if layout is not None:
        layout.note(program)
    return program


def _layout_of(bound: FactoryCall, leaves: list[Any], treedef: Any) -> Layout | None:
    """The layout of a call; None if a number has no JAX type."""
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
    """Whether the program is the same for another number; false for a constant 0."""
    is_zero = isinstance(leaf, np.generic) and leaf == 0
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and not is_zero


def _kind(leaf: Any) -> Hashable:
    """The type of a number, if it may change; else its type and value."""
    if _may_change(leaf):
        return jax.typeof(leaf)
    is_float = isinstance(leaf, float)  # distinguishes -0.0, and NaN equals itself
    return type(leaf), leaf.hex() if is_float else leaf


class Layout:
    """A program whose numbers are compiled.

    Attributes:
        is_usable: Whether it can make programs: one was noted, without failures.
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
            """The traced numbers of each operation."""
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
        """Note a program made without the layout; the first decides if it is usable."""
        if not self._is_seen:
            is_changing = program.is_timed or self._has_arrays
            self.is_usable = program.is_pure and is_changing
        self._is_seen = True

    def at(self, arrays: Any, count: Any) -> Program | None:
        """The program at a count; None during a trace, or without a noted program."""
        numbers = self._numbers(arrays, count)
        if numbers is None or _is_traced(numbers):
            return None
        ops = [self._op(k, numbers) for k in range(len(self._program.ops))]
        return dataclasses.replace(self._program, ops=tuple(ops), layout=self)

    def _op(self, k: int, numbers: dict[int, list[Any]]) -> Op:
        """An operation; one with constant numbers is made once, outside of a trace."""
        op = self._program.ops[k]
        if k in numbers:
            children = self._gapped[k].filled(numbers[k])
            return _made(op, FactoryCall(op.bound.spec, children))
        if k not in self._settled:
            self._settled[k] = op if op.bound is None else _made(op, op.bound)
        return self._settled[k]


def _without_numbers(program: Program, traced: dict[int, Gapped]) -> Program:
    """A program without values of its trace."""

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
