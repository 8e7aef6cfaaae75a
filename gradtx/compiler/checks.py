"""Checks of states, extra arguments and leaves; errors name the place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optax
from jax import numpy as jnp

from gradtx.compiler.leaves import Leaves, is_state
from gradtx.compiler.program import Op, Program
from gradtx.core.context import no_state
from gradtx.core.errors import did_you_mean, first_few
from gradtx.core.hosts import HOST_ARGUMENTS
from gradtx.core.rule import TreeRule


def check_state(owner: str, state: Any) -> None:
    """Raise unless a state is None, or a mapping with a count, as from `init`."""
    if state is None or isinstance(state, optax.EmptyState):
        return
    if not is_state(state):
        kind = type(state).__name__
        raise TypeError(
            f"{owner}: the state must be the dict that init makes, got a {kind}"
            + (
                f" with {first_few(sorted(state))}"
                if isinstance(state, dict) and state
                else ""
            )
        )


def check_keys(program: Program, state: Mapping[str, Any], optional: set[str]) -> None:
    """Raise unless the state has every slot, and nothing else."""
    keys = {key for keys in program.keys for key in keys.values()}
    missing = sorted(keys - optional - state.keys())
    unknown = sorted(state.keys() - keys - {"count"})
    if missing:
        raise missing_slots(program, missing, state)
    if unknown:
        raise ValueError(
            f"{program.name}: unexpected in the state: {first_few(unknown)}"
        )


def missing_slots(program: Program, missing: Sequence[str], state: Any) -> ValueError:
    """The error for missing slots."""
    if not state:
        return no_state(program.name, f"keeps {first_few(missing)}")
    return ValueError(
        f"{program.name}: missing in the state: {first_few(missing)}; "
        f"it holds {first_few(sorted(state))}"
    )


def check_extra(program: Program, extra: Iterable[str]) -> None:
    """Raise for missing extra arguments, and for near misses of known ones."""
    extra, needs = set(extra), program.needs
    known = {*needs, *HOST_ARGUMENTS, *program.foreign_arguments}
    plurals = {f"{name}{ending}" for name in known for ending in ("s", "es")}
    for name in sorted(extra - known - plurals):
        if not program.takes_anything and (near := did_you_mean(name, known)):
            raise TypeError(f"{program.name}: unexpected extra argument {name!r}{near}")
    missing = sorted(needs.keys() - extra)
    if missing:
        who = needs[missing[0]]
        mine = [need for need in missing if needs[need] == who]
        given = ", ".join(f"{need}=..." for need in mine)
        arguments = "argument" if len(mine) == 1 else "arguments"
        raise TypeError(
            f"{_who(program.name, who)}: missing extra {arguments} "
            f"{first_few(mine)}; "
            f"call update(updates, state, params, {given})"
        )


def _who(owner: str, member: str) -> str:
    return owner if member == owner else f"{owner}: {member}"


def _is_batch(update: Any, param: Any) -> bool:
    """Whether an update has a leading axis of examples."""
    if update is None or update.ndim == 0:
        return False
    return param is None or update.shape[1:] == param.shape


def check_leaf(leaves: Leaves, i: int, ops: Sequence[Op]) -> None:
    """Raise unless a leaf with operations is a float, and its parameter fits it."""
    u, p = leaves.updates[i], leaves.params[i]
    refusing = [op.name for op in ops if not op.node.takes_integers]
    for x in (u, p) if refusing else ():
        if x is not None and not jnp.issubdtype(x.dtype, jnp.inexact):
            raise TypeError(
                f"{_who(leaves.owner, refusing[0])} computes on floats, "
                f"but the leaf at {leaves.path(i)!r} is {x.dtype}; "
                f"mask it, or give None as its gradient"
            )
    if p is None and leaves.has_params:
        raise ValueError(
            f"{leaves.owner}: there is an update at {leaves.path(i)!r}, "
            f"but the parameter there is None"
        )
    takers = [op for op in ops if op.node.takes_batch]
    if any(isinstance(op.node, TreeRule) for op in takers):
        return  # inner transformations check it
    batch = next((op.name for op in takers), None)
    if batch is not None and (
        u.ndim == 0 or (p is not None and u.shape[1:] != p.shape)
    ):
        of = "" if p is None else f" of shape {p.shape}"
        raise ValueError(
            f"{batch}: expected gradients of single examples, their axis before the "
            f"parameter's{of}, but at {leaves.path(i)!r} the update has "
            f"shape {u.shape}"
        )
    if batch is not None:
        pairs = zip(leaves.updates, leaves.params, strict=True)
        sizes = {x.shape[0] for x, y in pairs if _is_batch(x, y)}
        if len(sizes) > 1:
            raise ValueError(
                f"{batch}: expected as many examples at every leaf, got {sorted(sizes)}"
            )
    if batch is None and p is not None and p.shape != u.shape:
        raise ValueError(
            f"{leaves.owner}: at {leaves.path(i)!r} the update has shape {u.shape}, "
            f"but the parameter {p.shape}"
        )
