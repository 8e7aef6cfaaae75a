"""Steps: where a direction becomes an update; frozen leaves, exact updates.

A rule declares it (`is_step`), or the number that it multiplies by (`factor`), which
turns a direction into an update if it is negative. Programs are followed from there.
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
    """What became of a direction on its way to a register.

    Attributes:
        is_step: Whether a rule on the way declares that it makes a step.
        ways: For each way that leads there the factors on it, if no rule declares it.
        is_known: Whether nothing foreign is on the way.
    """

    is_step: bool = False
    ways: tuple[tuple[Any, ...], ...] = ((),)
    is_known: bool = True

    @property
    def is_direction(self) -> bool:
        """Whether it is still a direction, for all that can be known."""
        return self.is_known and not (self.is_step or any(self.ways))

    @property
    def is_update(self) -> Any:
        """Whether it is an update, by the factors: an array where one of them is."""
        turned = (
            functools.reduce(_differ, map(_is_negative, w), False) for w in self.ways
        )
        return self.is_step or functools.reduce(_either, turned, False)

    def then(self, other: Flow) -> Flow:
        """What becomes of it on one more way."""
        return Flow(
            self.is_step or other.is_step,
            tuple((*a, *b) for a in self.ways for b in other.ways),
            self.is_known and other.is_known,
        )


def _is_negative(factor: Any) -> Any:
    """Whether a factor turns signs: also -0, as a warmup's first."""
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
    """What becomes of a direction that a leaf enters with.

    Args:
        program: The program.
        active: What the leaf goes through.
        through: Whether it also goes through what a mask that freezes keeps it from.
    """
    found = {0: Flow()}
    for op, on in zip(program.ops, active, strict=True):
        before = found[op.inputs[0]]
        acts = on or (through and on is None)
        found[op.out] = _behind(op, before, found) if acts else before
    return found[program.out]


def _behind(op: Op, before: Flow, found: dict[int, Flow]) -> Flow:
    """What is in the register that an operation writes."""
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
    """What becomes of a direction that goes through all of a program."""
    return flow(program, program.everything)


def is_frozen(program: Program, active: Active) -> bool:
    """Whether a leaf gets no step, which is known without looking at a number.

    That is, a rule freezes it; or what it goes through leaves a direction, where but
    for a mask that freezes it would end as a step.
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
    """The same, by factors: an array where one of them is.

    A leaf on which something else has a factor passes, whichever sign that has.
    """
    own = flow(program, active)
    if own.is_step or any(own.ways):
        return False
    return flow(program, active, through=True).is_update


def made_by(program: Program, active: Active) -> int | None:
    """The index of the operation that made a leaf's update, and did not pass it on.

    None if the update leaves as it came.
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
    """Whether a leaf's update is an exact difference, which nothing casts.

    That is, the operation that made it is, or has a program inside that is for a leaf
    that goes through all of it.
    """
    if active not in program.exact:
        made = made_by(program, active)
        op = None if made is None else program.ops[made]
        program.exact[active] = op is not None and (
            op.node.is_exact
            or any(is_exact(inner, inner.everything) for inner in op.inside)
        )
    return program.exact[active]
