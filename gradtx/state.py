"""The state that a transformation starts with.

It is a flat dict: `count`; by name one tree a slot, with the structure of the
parameters; one scalar a whole-tree value; one pytree a slot of a tree rule.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.binding import Bound
from gradtx.checks import Leaves, active_of
from gradtx.kernel import place, wide
from gradtx.lowering import program_of
from gradtx.program import Active, Op, Program, Setting
from gradtx.rule import Leaf, Rule
from gradtx.state_dict import State


def init(bound: Bound, params: Any) -> State:
    """The state of a transformation for `params`; shapes for shapes."""
    if any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(params)):
        return jax.eval_shape(functools.partial(init, bound), params)
    leaves = Leaves(bound.factory.name, params, None)
    arrays, treedef = leaves.updates, leaves.treedef
    own = _Owner(arrays)
    state = State(count=jnp.zeros([], jnp.int32))
    program = program_of(bound, state["count"])
    active = active_of(program, params, treedef)
    first = [first_slots(program, *each) for each in zip(active, arrays, strict=True)]
    for k, (op, keys) in enumerate(zip(program.ops, program.keys, strict=True)):
        mine = [
            array if on[k] else None for array, on in zip(arrays, active, strict=True)
        ]
        with place(op.name):
            for name, scalar in op.shared.items():
                present = [wide(array) for array in mine if array is not None]
                state[keys[name]] = own(scalar(present))
            for name, slot in op.slots.items():
                if isinstance(op.node, Rule):
                    tree = [s.get(keys[name]) for s in first]  # of all groups
                    if keys[name] not in state:
                        state[keys[name]] = treedef.unflatten(map(own, tree))
                else:
                    is_whole = all(on[k] for on in active)
                    tree = slot(params if is_whole else treedef.unflatten(mine))
                    keep_tree(state, op, keys[name], jax.tree.map(own, tree))
    return state


def first_slots(program: Program, active: Active, array: Any) -> dict[str, Any]:
    """The first values of one leaf's slots, by key."""
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return {}
    flow = {0: wide(array)}
    slots = {}
    for op, keys, is_active in zip(program.ops, program.keys, active, strict=True):
        flow[op.out] = like = flow[op.inputs[0]]
        if is_active and isinstance(op.node, Rule):
            with place(op.name):
                setting = tuple(is_active) if isinstance(is_active, Setting) else ()
                for name, first in op.slots.items():
                    slots[keys[name]] = first(like, *setting)
                flow[op.out] = op.node.out(like, *setting)
    return slots


def measured_nothing(op: Op) -> Any:
    """What an operation measures where there are no leaves: zeros."""

    def measure(u: Any) -> Any:
        assert op.node.measure is not None
        slots = {name: first(u) for name, first in op.slots.items()}
        shared = {name: first([]) for name, first in op.shared.items()}
        marks = {name: u for name, _ in op.marks}
        extra = dict.fromkeys(op.needs, u)
        leaf = Leaf(
            op.name, u, u, marks, u, None, shared, shared, None, extra, None, u
        )  # fmt: skip
        return op.node.measure(u, slots, leaf)

    shapes = jax.eval_shape(measure, jax.ShapeDtypeStruct((), jnp.float32))
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


class _Owner:
    """Makes each value strongly typed, in a buffer that nothing else has."""

    def __init__(self, taken: Sequence[Any]):
        self.taken = {id(x): x for x in taken}

    def __call__(self, value: Any) -> Any:
        if value is None or jnp.issubdtype(
            getattr(value, "dtype", jnp.float32), jax.dtypes.extended
        ):
            return value
        value = jnp.asarray(value)
        value = jnp.array(value, value.dtype, copy=id(value) in self.taken)
        self.taken[id(value)] = value
        return value


def keep_tree(state: dict[str, Any], op: Op, key: str, slot: Any) -> None:
    """Keep what a tree rule keeps; of a foreign one nothing, if it keeps nothing."""
    if op.bound is not None or not is_nothing(slot):
        state[key] = slot


def is_nothing(state: Any) -> bool:
    """Whether a state of optax is made of `EmptyState`s only."""
    return state is None or (isinstance(state, tuple) and all(map(is_nothing, state)))
