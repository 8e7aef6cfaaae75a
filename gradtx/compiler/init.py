"""`init`: the initial state, for arrays or for shapes.

The state is a flat dict: `count`, one tree per slot with the structure of the
parameters, one scalar per whole-tree value, one pytree per slot of a tree rule.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.leaves import Leaves
from gradtx.compiler.lower import first_program
from gradtx.compiler.masks import active_of
from gradtx.compiler.program import Op, Program
from gradtx.compiler.scopes import error_scope
from gradtx.compiler.stage import Active, Static
from gradtx.core.call import FactoryCall, FactoryValue
from gradtx.core.context import Leaf
from gradtx.core.dtypes import wide
from gradtx.core.rule import Rule
from gradtx.core.state import State


def init(bound: FactoryCall, params: Any) -> State:
    """The initial state of a transformation for `params`; shapes for shapes."""
    if any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(params)):
        return _shapes(bound, params)
    leaves = Leaves(bound.factory.name, params, None)
    program = first_program(bound)
    active = active_of(program, params, leaves.treedef)
    arrays, make = leaves.updates, _Values(leaves.updates)
    return _state(program, active, params, arrays, leaves.treedef, make)


def shapes_of(tree: Any) -> Any:
    """The shapes of a tree of arrays."""
    return jax.eval_shape(lambda: tree)


def _shapes(bound: FactoryCall, params: Any) -> State:
    """The state for shapes; equal parts of equal kinds of leaves are made once."""
    noted: list[Any] = []

    def look(params: Any) -> Any:
        """Store the operations of each leaf; masks get tracers, as in `jax.jit`."""
        leaves = Leaves(bound.factory.name, params, None)
        program = first_program(bound)
        active = active_of(program, params, leaves.treedef)
        noted.append((program, active, leaves.treedef))
        return leaves.updates

    arrays = jax.eval_shape(look, params)
    program, active, treedef = noted[0]
    params = treedef.unflatten(arrays)
    return _state(program, active, params, arrays, treedef, _Shapes())


def _state(
    program: Program,
    active: list[Active],
    params: Any,
    arrays: list[Any],
    treedef: Any,
    make: _Values | _Shapes,
) -> State:
    """The state, from values or shapes."""
    state = State(count=make.value(jnp.zeros([], jnp.int32)))
    pairs = zip(active, arrays, strict=True)
    first = [make.slots(program, on, array) for on, array in pairs]
    for k, (op, keys) in enumerate(zip(program.ops, program.keys, strict=True)):
        mine = [
            array if on[k] else None for array, on in zip(arrays, active, strict=True)
        ]
        with error_scope(op.name):
            for name, scalar in op.shared.items():
                present = [array for array in mine if array is not None]
                state[keys[name]] = make.shared(scalar, present)
            for name, slot in op.slots.items():
                if isinstance(op.node, Rule):
                    tree = [s.get(keys[name]) for s in first]  # merged over groups
                    if keys[name] not in state:
                        state[keys[name]] = treedef.unflatten(map(make.value, tree))
                else:
                    is_whole = all(on[k] for on in active)
                    given = params if is_whole else treedef.unflatten(mine)
                    is_own = name in op.node.slots
                    is_state = not is_own and isinstance(
                        op.node.inner[name], FactoryValue
                    )
                    tree = make.tree(slot, given, is_state)
                    keep_tree(state, op, keys[name], tree)
    return state


def first_slots(program: Program, active: Active, array: Any) -> dict[str, Any]:
    """The initial values of one leaf's slots, by key."""
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return {}
    flow = {0: wide(array)}
    slots = {}
    for op, keys, is_active in zip(program.ops, program.keys, active, strict=True):
        flow[op.out] = like = flow[op.inputs[0]]
        if is_active and isinstance(op.node, Rule):
            with error_scope(op.name):
                static = tuple(is_active) if isinstance(is_active, Static) else ()
                for name, first in op.slots.items():
                    slots[keys[name]] = first(like, *static)
                flow[op.out] = op.node.out(like, *static)
    return slots


def measured_nothing(op: Op) -> Any:
    """The measurements of an operation without leaves: zeros."""

    def measure(u: Any) -> Any:
        assert op.node.measure is not None
        slots = {name: first(u) for name, first in op.slots.items()}
        shared = {name: first([]) for name, first in op.shared.items()}
        marks = {name: u for name, _ in op.marks}
        extra = dict.fromkeys(op.needs, u)
        leaf = Leaf(
            owner=op.name,
            grad=u,
            flowing=u,
            marks=marks,
            clock=u,
            total=None,
            shared=shared,
            before=shared,
            key=None,
            extra=extra,
            static=None,
            array=u,
        )
        return op.node.measure(u, slots, leaf)

    shapes = jax.eval_shape(measure, jax.ShapeDtypeStruct((), jnp.float32))
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


class _Values:
    """Makes each value strongly typed, in a separate buffer."""

    def __init__(self, taken: Sequence[Any]):
        self.taken = {id(x): x for x in taken}

    def value(self, value: Any) -> Any:
        if value is None or jnp.issubdtype(
            getattr(value, "dtype", jnp.float32), jax.dtypes.extended
        ):
            return value
        value = jnp.asarray(value)
        value = jnp.array(value, value.dtype, copy=id(value) in self.taken)
        self.taken[id(value)] = value
        return value

    def slots(self, program: Program, active: Active, array: Any) -> dict[str, Any]:
        return first_slots(program, active, array)

    def shared(self, scalar: Callable[[Any], Any], arrays: list[Any]) -> Any:
        return self.value(scalar([wide(array) for array in arrays]))

    def tree(self, slot: Callable[[Any], Any], params: Any, is_state: bool) -> Any:
        return jax.tree.map(self.value, slot(params))


class _Shapes:
    """Makes the shapes of the values, once for equal kinds of leaves."""

    def __init__(self):
        self.known: dict[Any, dict[str, Any]] = {}

    def value(self, value: Any) -> Any:
        is_made = value is None or isinstance(value, jax.ShapeDtypeStruct)
        return value if is_made else jax.eval_shape(lambda: value)

    def slots(self, program: Program, active: Active, array: Any) -> dict[str, Any]:
        look = jax.typeof(array), active
        if look not in self.known:
            first = functools.partial(first_slots, program, active)
            self.known[look] = self.tree(first, array, False)
        return self.known[look]

    def shared(self, scalar: Callable[[Any], Any], arrays: list[Any]) -> Any:
        looks = {jax.typeof(array): array for array in arrays}
        wides = jax.eval_shape(lambda arrays: [*map(wide, arrays)], [*looks.values()])
        return self.tree(scalar, wides, False)

    def tree(self, slot: Callable[[Any], Any], params: Any, is_state: bool) -> Any:
        if is_state and any(
            isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(params)
        ):
            return slot(params)
        return jax.tree.map(_strong, jax.eval_shape(slot, params))


def _strong(shape: Any) -> Any:
    """A strongly typed shape."""
    return shape.update(weak_type=False) if shape.weak_type else shape


def keep_tree(state: dict[str, Any], op: Op, key: str, slot: Any) -> None:
    """Add the slot of a tree rule to the state, unless it is an empty foreign state."""
    if op.bound is not None or not is_nothing(slot):
        state[key] = slot


def is_nothing(state: Any) -> bool:
    """Whether a state of optax contains only `EmptyState`s."""
    return state is None or (isinstance(state, tuple) and all(map(is_nothing, state)))
