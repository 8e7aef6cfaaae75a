"""Steps: the place where a direction becomes an update; frozen leaves, exact updates.

A rule declares that it makes a step (`is_step`), or the number that it multiplies by
(`factor`), which turns a direction into an update if it is negative. These functions
follow directions through a program.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from gradtx.compiler.program import Op, Program
from gradtx.compiler.stage import Active
from gradtx.core.nodes import Fork, Recall


class Flow(NamedTuple):
    """The rules applied to a direction on its paths to a register.

    Attributes:
        is_step: Whether a rule on a path declares a step.
        ways: The factors on each path.
        is_known: Whether no foreign transformation is on a path.
    """

    is_step: bool = False
    ways: tuple[tuple[Any, ...], ...] = ((),)
    is_known: bool = True

    @property
    def is_direction(self) -> bool:
        """Whether it is certainly still a direction."""
        return self.is_known and not (self.is_step or any(self.ways))

    @property
    def is_update(self) -> Any:
        """Whether it is an update, by the factors; an array if a factor is one."""
        turned = (
            functools.reduce(_differ, map(_is_negative, w), False) for w in self.ways
        )
        return self.is_step or functools.reduce(_either, turned, False)

    def then(self, other: Flow) -> Flow:
        """This flow, followed by another one."""
        return Flow(
            self.is_step or other.is_step,
            tuple((*a, *b) for a in self.ways for b in other.ways),
            self.is_known and other.is_known,
        )


def _is_negative(factor: Any) -> Any:
    """Whether a factor changes signs, including -0, the first factor of a warmup."""
    if isinstance(factor, jax.Array):
        return jnp.all(jnp.signbit(factor))
    return bool(np.all(np.signbit(factor)))


def _differ(a: Any, b: Any) -> Any:
    are_known = isinstance(a, bool) and isinstance(b, bool)
    return a != b if are_known else jnp.logical_xor(a, b)


def _either(a: Any, b: Any) -> Any:
    are_known = isinstance(a, bool) and isinstance(b, bool)
    return a or b if are_known else jnp.logical_or(a, b)


def flow(program: Program, active: Active, *, through: bool = False) -> Flow:
    """The flow of a leaf's direction through a program.

    Args:
        program: The program.
        active: The operations of the leaf.
        through: Whether to include operations that a freezing mask excludes.
    """
    found = {0: Flow()}
    for op, on in zip(program.ops, active, strict=True):
        before = found[op.inputs[0]]
        acts = on or (through and on is None)
        found[op.out] = _behind(op, before, found) if acts else before
    return found[program.out]


def _behind(op: Op, before: Flow, found: dict[int, Flow]) -> Flow:
    """The flow in the output register of an operation."""
    node = op.node
    if node.is_step:
        return Flow(is_step=True)
    if isinstance(node, Recall):
        return found[dict(op.marks)[node.name]]
    if isinstance(node, Fork) and node.branches and not node.measures:
        branches = [found[register] for register in op.inputs[1:]]
        return Flow(
            any(branch.is_step for branch in branches),
            tuple(way for branch in branches for way in branch.ways),
            all(branch.is_known for branch in branches),
        )
    for program in op.inside:
        before = before.then(whole_flow(program))
    if node.factor is not None:
        before = before.then(Flow(ways=((node.factor,),)))
    return before._replace(is_known=before.is_known and not op.holds_foreign)


def whole_flow(program: Program) -> Flow:
    """The flow of a direction through all operations of a program."""
    return flow(program, program.everything)


def is_frozen(program: Program, active: Active) -> bool:
    """Whether a leaf gets no step, if that does not depend on numbers.

    True if a rule freezes it, or if its operations leave a direction that would become
    an update without a freezing mask.
    """
    if active not in program.frozen:
        pairs = zip(program.ops, active, strict=True)
        program.frozen[active] = any(on and op.node.freezes for op, on in pairs) or (
            None in active
            and flow(program, active).is_direction
            and flow(program, active, through=True).is_step
        )
    return program.frozen[active]


def is_left_out(program: Program, active: Active) -> Any:
    """As `is_frozen`, by factors; an array if a factor is one.

    A leaf with another factor passes, for either sign of the factor.
    """
    own = flow(program, active)
    if own.is_step or any(own.ways):
        return False
    return flow(program, active, through=True).is_update


def made_by(program: Program, active: Active) -> int | None:
    """The index of the last operation that changed a leaf's update.

    None if the update is unchanged.
    """
    if active not in program.made:
        writers = {op.out: k for k, op in enumerate(program.ops)}
        register, made = program.out, None
        while made is None and register in writers:
            k = writers[register]
            op = program.ops[k]
            if active[k] and isinstance(op.node, Recall):
                register = dict(op.marks)[op.node.name]
            elif active[k] and not op.node.passes:
                made = k
            else:
                register = op.inputs[0]
        program.made[active] = made
    return program.made[active]


def is_exact(program: Program, active: Active) -> bool:
    """Whether a leaf's update is an exact difference, which must not be cast.

    True if the operation that made it declares it, or contains a program that is exact
    for a leaf with all operations.
    """
    if active not in program.exact:
        made = made_by(program, active)
        op = None if made is None else program.ops[made]
        program.exact[active] = op is not None and (
            op.node.is_exact
            or any(is_exact(inner, inner.everything) for inner in op.inside)
        )
    return program.exact[active]
