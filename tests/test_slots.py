"""Slots are what they declare: tried on each operation by itself, on one array."""

import math
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import Rule, Slot, transformation
from gradtx.compiler.lower import programs_in
from gradtx.compiler.scopes import error_scope
from gradtx.core.context import Leaf, SettleContext, Tree
from tests.registry import CASES, TRANSFORMATIONS

SHAPES = [(), (3,), (2, 3)]

UNDECLARED = {
    ("monitor", "average"): "what a user's measure gives, of any shape",
    ("scale_by_zoom_linesearch", "grad"): "of the objective where the search ended",
}
"""Slots of the shape of the leaf that declare nothing of it, each with the reason."""


def operations(tx):
    """The operations of a transformation that keep slots of their own, inside, too."""
    for program in programs_in(tx):
        for op in program.ops:
            if own := {k: it for k, it in op.slots.items() if k not in op.node.inner}:
                yield op, own


def is_rule(op):
    return isinstance(op.node, Rule)


def first_of(op, slot, array):
    """The first value of a slot for one array, which is the only leaf of a tree."""
    if not is_rule(op):
        return slot({"w": array})
    static = () if op.node.static is None else (op.node.static({"w": array})["w"],)
    return slot(array, *static)


def array_in(op, value) -> Any:
    """The array that a slot has for the only leaf; None if it has none there."""
    if is_rule(op):
        return value
    is_like_params = isinstance(value, dict) and value.keys() == {"w"}
    return value["w"] if is_like_params else None


class Probe:
    """One operation on one array, with the whole-tree numbers of some inputs held."""

    def __init__(self, op, extra, count, given, slots):
        self.op, self.extra, self.count = op, extra, jnp.int32(count)
        if not is_rule(op):
            return
        node, self.total = op.node, None
        self.before = {k: first([given["param"]]) for k, first in op.shared.items()}
        self.shared = self.before
        with error_scope(op.name):
            if node.measure is not None:
                self.total = node.measure(given["u"], slots, self.leaf(given))
            if node.settle is not None:
                step = SettleContext(self.count, extra)
                own = {k: self.before[k] for k in node.shared}
                self.shared = node.settle(self.total, own, step)

    def leaf(self, given):
        other = given["other"]
        return Leaf(
            owner=self.op.name,
            grad=other,
            flowing=other,
            marks={name: other for name, _ in self.op.marks},
            clock=self.count,
            total=self.total,
            shared=self.shared,
            before=self.before,
            key=None if self.op.node.key is None else jax.random.PRNGKey(0),
            extra=self.extra,
            static=None,
            array=given["param"],
        )

    def after(self, given, slots):
        """The slots after an update."""
        with error_scope(self.op.name):
            if is_rule(self.op):
                return self.op.node.update(given["u"], slots, self.leaf(given))[1]
            u, param, other = ({"w": given[k]} for k in ("u", "param", "other"))
            tree = Tree(param, param, param, other, self.count, self.extra)
            return self.op.node.update(u, slots, tree)[1]


def some(rng, like):
    """Positive numbers, like an array."""
    return jnp.asarray(np.abs(rng.normal(size=like.shape)) + 0.1, like.dtype)


def extra_for(name, array):
    make = CASES.get(name, {}).get("extra")
    return {} if make is None else make({"w": array}, {"w": array})


def assert_elementwise(op, slots, declared, shape, extra):
    """One element of all that an update reads changes no other one of new slots."""
    rng = np.random.default_rng(len(shape))
    zero = jnp.zeros(shape)
    first = {name: first_of(op, slot, zero) for name, slot in slots.items()}
    first |= {k: first_of(op, op.slots[k], zero) for k in op.node.inner}
    kept = {k: x for k in declared if (x := array_in(op, first[k])) is not None}
    for name, array in kept.items():
        assert array.shape == shape, f"{op.name}: {name!r} has shape {array.shape}"
        assert jnp.issubdtype(array.dtype, jnp.inexact), f"{op.name}: {name!r}"
    inputs = dict.fromkeys(("u", "param", "other"), zero)

    def changed(array):
        return array.reshape(-1).at[0].set(7 * array.reshape(-1)[0] + 1).reshape(shape)

    def put(arrays):
        if is_rule(op):
            return {**first, **arrays}
        return {**first, **{name: {"w": x} for name, x in arrays.items()}}

    given = {name: some(rng, x) for name, x in inputs.items()}
    arrays = {name: some(rng, x) for name, x in kept.items()}
    for count in (0, 1):
        probe = Probe(op, extra, count, given, put(arrays))
        new = probe.after(given, put(arrays))
        others = [{k: changed(x) for k, x in it.items()} for it in (given, arrays)]
        near = probe.after(others[0], put(others[1]))
        for name in kept:
            one, other = (np.ravel(array_in(op, it[name])) for it in (new, near))
            assert one.size == math.prod(shape), f"{op.name}: {name!r}"
            np.testing.assert_array_equal(
                one[1:], other[1:], f"{op.name}: {name!r} is not elementwise"
            )


def assert_param(op, slots, declared, extra):
    """Where nothing moves, it is the parameter."""
    param, zero = some(np.random.default_rng(0), jnp.zeros((2, 3))), jnp.zeros((2, 3))
    given = {"u": zero, "param": param, "other": zero}
    first = {name: first_of(op, slot, param) for name, slot in slots.items()}
    first |= {k: first_of(op, op.slots[k], param) for k in op.node.inner}
    new = Probe(op, extra, 0, given, first).after(given, first)
    for name in declared:
        np.testing.assert_array_equal(
            array_in(op, new[name]), param, f"{op.name}: {name!r} is no parameter"
        )


def check(tx, extra):
    for op, slots in operations(tx):
        if declared := [name for name, slot in slots.items() if slot.is_elementwise]:
            for shape in SHAPES:
                assert_elementwise(op, slots, declared, shape, extra)
        if declared := [name for name, slot in slots.items() if slot.is_param]:
            assert_param(op, slots, declared, extra)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_slots_are_what_they_declare(name):
    check(TRANSFORMATIONS[name](), extra_for(name, jnp.ones((2, 3))))


def test_slots_of_the_shape_of_a_leaf_declare_whether_they_are_elementwise():
    silent = set()
    for make in TRANSFORMATIONS.values():
        for op, slots in operations(make()):
            for name, slot in slots.items():
                shape = jax.eval_shape(lambda: first_of(op, slot, jnp.ones((2, 3))))  # noqa: B023
                array = array_in(op, shape)
                if getattr(array, "shape", None) == (2, 3) and not slot.is_elementwise:
                    silent.add((op.name, name))
    assert silent == UNDECLARED.keys()


@transformation
def centered(is_elementwise: bool = False, is_param: bool = False):
    """Keeps what is no point among the parameters, and mixes elements."""

    def update(u, slots, leaf):
        return u, {"mean": u - jnp.mean(u)}

    slot = Slot(jnp.zeros_like, is_elementwise=is_elementwise, is_param=is_param)
    return Rule(update, {"mean": slot})


def test_a_wrong_declaration_is_found():
    check(centered(), {})
    with pytest.raises(AssertionError, match="centered: 'mean' is not elementwise"):
        check(centered(is_elementwise=True), {})
    with pytest.raises(AssertionError, match="centered: 'mean' is no parameter"):
        check(centered(is_param=True), {})


def test_a_slot_of_another_shape_is_not_elementwise():
    @transformation
    def summed():
        slot = Slot(lambda array: jnp.zeros(()), is_elementwise=True)
        return Rule(lambda u, slots, leaf: (u, {"sum": jnp.sum(u)}), {"sum": slot})

    with pytest.raises(AssertionError, match=r"summed: 'sum' has shape \(\)"):
        check(summed(), {})


def test_a_declared_dtype_is_that_of_the_state():
    for tx, key, dtype in (
        (gradtx.scale_by_adam(mu_dtype="bfloat16"), "mu", "bfloat16"),
        (gradtx.scale_by_adam(mu_dtype="bfloat16"), "nu", "float32"),
        (gradtx.trace(0.9, accumulator_dtype="float16"), "trace", "float16"),
        (gradtx.schedule_free(gradtx.sgd(0.1), 0.1, state_dtype="bfloat16"), "z",
         "bfloat16"),
    ):  # fmt: skip
        params = jnp.ones(3)
        state = tx.init(params)
        assert state[key].dtype == dtype
        assert tx.update(params, state, params)[1][key].dtype == dtype
