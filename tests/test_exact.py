"""An exact difference leaves in float32, and `p + u` is rounded once."""

from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import Rule, TreeRule, memoryless, transformation
from gradtx.compiler.lower import program_of
from gradtx.compiler.steps import made_by

FACTOR, OFFSET = 1 - 2**-12, 2**-14 + 2**-21
"""All that is made of these is exact in float32, and no number of bfloat16."""
PARAMS = {
    "w": jnp.asarray([1.0, -3.140625, 0.0625], "bfloat16"),
    "b": jnp.asarray(5.03125, "bfloat16"),
}
GRADS = jax.tree.map(lambda p: p / 2, PARAMS)


def target(param):
    return np.asarray(param, np.float32) * np.float32(FACTOR) + np.float32(OFFSET)


def exact_of(param):
    """The difference to the target, in float32."""
    return target(param) - np.asarray(param, np.float32)


@transformation
def to_target():
    """A rule that gives the difference to a target."""

    def update(u, leaf):
        return leaf.param * FACTOR + OFFSET - leaf.param

    return memoryless(update, is_exact=True, is_step=True)


@transformation
def to_target_in_a_tree():
    """The same for the whole tree."""

    def update(updates, slots, tree):
        def one(u, p):
            p = p.astype(jnp.float32)
            return p * FACTOR + OFFSET - p

        return jax.tree.map(one, updates, tree.params), slots

    return TreeRule(update, is_exact=True, is_step=True)


@transformation
def observer():
    """A rule that only looks."""
    return Rule(lambda u, slots, leaf: (u, slots), passes=True)


def first_update(tx, grads=GRADS, params=PARAMS):
    return tx.update(grads, tx.init(params), params)[0]


def assert_exact(update, param):
    assert update.dtype == jnp.float32
    np.testing.assert_array_equal(update, exact_of(param))
    assert np.any(update.astype("bfloat16").astype("float32") != update)


EXACT = {
    "a rule": to_target,
    "a tree rule": to_target_in_a_tree,
    "behind a rule": lambda: gradtx.chain(gradtx.scale_by_adam(), to_target()),
    "behind optax's": lambda: gradtx.chain(optax.trace(0.9), to_target()),
    "before a rule that passes": lambda: gradtx.chain(to_target(), observer()),
    "before a tree rule that passes": lambda: gradtx.chain(
        to_target(), gradtx.record("size", lambda u, p: jnp.sum(u["w"])), observer()
    ),
    "before an average": lambda: gradtx.average_params(to_target()),
    "before a masked scale of nothing": lambda: gradtx.chain(
        to_target(), gradtx.masked(gradtx.scale(0.5), False)
    ),
    "recalled": lambda: gradtx.let(
        "it", to_target(), gradtx.chain(gradtx.scale(0.5), gradtx.recall("it"))
    ),
    "in a measured clip": lambda: gradtx.clipping(to_target()),
    "in groups": lambda: gradtx.groups({"**": to_target()}),
    "in accumulate": lambda: gradtx.accumulate(to_target(), 1),
    "in MultiSteps": lambda: gradtx.MultiSteps(
        to_target(), 1
    ).gradient_transformation(),
    "in skip": lambda: gradtx.skip(to_target()),
    "in skip of a function": lambda: gradtx.skip(to_target(), gradtx.skip_not_finite),
    "in apply_if_finite": lambda: gradtx.apply_if_finite(to_target(), 2),
    "in conditionally_transform": lambda: gradtx.conditionally_transform(
        to_target(), lambda step: step == 0
    ),
    "in conditionally_mask": lambda: gradtx.conditionally_mask(
        to_target(), lambda step: step == 0
    ),
    "in editable": lambda: gradtx.editable(to_target()),
    "in inject_hyperparams": lambda: gradtx.inject_hyperparams(to_target)(),
    "in flatten": lambda: gradtx.flatten(to_target()),
    "in split_real_and_imaginary": lambda: gradtx.split_real_and_imaginary(to_target()),
    "in sam": lambda: gradtx.sam(to_target(), gradtx.sgd(0.1), 1),
    "three deep": lambda: gradtx.accumulate(
        gradtx.skip(gradtx.apply_if_finite(to_target_in_a_tree(), 2)), 1
    ),
}
"""Transformations that give the exact difference."""


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize("name", EXACT)
def test_an_exact_difference_leaves_as_it_is(name, is_jitted):
    run = jax.jit(first_update, static_argnums=0) if is_jitted else first_update
    with jax.numpy_dtype_promotion("standard"):
        updates = run(EXACT[name]())
        new: Any = optax.apply_updates(PARAMS, updates)
    for key, param in PARAMS.items():
        assert_exact(updates[key], param)
        np.testing.assert_array_equal(new[key], target(param).astype("bfloat16"))
    assert {it.dtype.name for it in new.values()} == {"bfloat16"}


CAST = {
    "before a scale": lambda: gradtx.chain(to_target(), gradtx.scale(2.0)),
    "before a scale and an observer": lambda: gradtx.chain(
        to_target(), gradtx.scale(2.0), observer()
    ),
    "before a tree rule": lambda: gradtx.chain(
        to_target(), gradtx.skip(gradtx.scale(2.0))
    ),
    "before optax's": lambda: gradtx.chain(to_target(), optax.scale(2.0)),
    "in a sum": lambda: gradtx.add(to_target(), to_target()),
    "inside, before a scale": lambda: gradtx.accumulate(
        gradtx.chain(to_target(), gradtx.scale(2.0)), 1
    ),
    "what passes alone": observer,
    "nothing exact": lambda: gradtx.skip(gradtx.sgd(0.1)),
}
"""Transformations whose updates are cast as any."""


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize("name", CAST)
def test_behind_a_rule_that_changes_it_an_update_is_cast_again(name, is_jitted):
    run = jax.jit(first_update, static_argnums=0) if is_jitted else first_update
    updates = run(CAST[name]())
    assert {it.dtype.name for it in updates.values()} == {"bfloat16"}


ONLY_W = {"w": True, "b": False}
SOME = {
    "masked": lambda: gradtx.masked(to_target(), ONLY_W),
    "only": lambda: gradtx.only(to_target(), ONLY_W),
    "groups": lambda: gradtx.groups({"w": to_target(), "b": gradtx.sgd(0.1)}),
    "groups, exact last": lambda: gradtx.groups(
        {"b": gradtx.sgd(0.1), "w": to_target()}
    ),
    "partition": lambda: gradtx.partition(
        {"one": to_target(), "other": gradtx.sgd(0.1)}, {"w": "one", "b": "other"}
    ),
    "groups in skip": lambda: gradtx.skip(
        gradtx.groups({"b": gradtx.sgd(0.1), "w": to_target()})
    ),
    "masked in apply_if_finite": lambda: gradtx.apply_if_finite(
        gradtx.masked(to_target(), ONLY_W), 2
    ),
    "masked in a wrapper in a wrapper": lambda: gradtx.accumulate(
        gradtx.skip(gradtx.masked(to_target(), ONLY_W)), 1
    ),
    "a wrapper, masked": lambda: gradtx.masked(gradtx.skip(to_target()), ONLY_W),
    "scaled elsewhere": lambda: gradtx.chain(
        to_target(), gradtx.only(gradtx.scale(2.0), {"w": False, "b": True})
    ),
}
"""Transformations that give an exact difference for one leaf."""


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize("name", SOME)
def test_other_leaves_are_cast_as_any(name, is_jitted):
    run = jax.jit(first_update, static_argnums=0) if is_jitted else first_update
    updates = run(SOME[name]())
    assert_exact(updates["w"], PARAMS["w"])
    assert updates["b"].dtype == jnp.bfloat16


WAITING = {
    "accumulate": lambda: gradtx.accumulate(to_target(), 2),
    "skip": lambda: gradtx.skip(to_target()),
    "skip of a function": lambda: gradtx.skip(to_target(), gradtx.skip_not_finite),
    "apply_if_finite": lambda: gradtx.apply_if_finite(to_target(), 2),
    "conditionally_mask": lambda: gradtx.conditionally_mask(
        to_target(), lambda step: step > 0
    ),
}


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize("name", WAITING)
def test_zeros_of_a_step_that_waits_have_the_same_dtype(name, is_jitted):
    """A first update that is no step, and a second that is, in one trace."""
    tx = WAITING[name]()
    update = jax.jit(tx.update) if is_jitted else tx.update
    bad = jax.tree.map(lambda g: g * jnp.nan, GRADS)
    first = GRADS if name in ("accumulate", "conditionally_mask") else bad
    zeros, state = update(first, tx.init(PARAMS), PARAMS)
    assert {x.dtype.name for x in zeros.values()} == {"float32"}
    assert not any(np.any(x) for x in zeros.values())
    updates, _ = update(GRADS, state, PARAMS)
    for key, param in PARAMS.items():
        assert_exact(updates[key], param)


@pytest.mark.parametrize("around", [gradtx.identity, gradtx.skip])
def test_behind_a_schedule_each_of_several_updates_is_exact(around):
    """Un-jitted, where later programs are laid out with other numbers."""
    line = gradtx.scale_by_schedule(gradtx.linear_schedule(1.0, 0.0, 5))
    chained = gradtx.chain(line, to_target())
    tx = chained if around is gradtx.identity else around(chained)
    state = tx.init(PARAMS)
    for _ in range(4):
        updates, state = tx.update(GRADS, state, PARAMS)
        for key, param in PARAMS.items():
            assert_exact(updates[key], param)


def test_an_update_is_made_by_the_last_operation_that_does_not_pass_it_on():
    def name(tx, on=None):
        program = program_of(tx.bound, jnp.int32(0))
        k = made_by(program, on or (True,) * len(program.ops))
        return None if k is None else program.ops[k].name

    tx = gradtx.chain(gradtx.scale(2.0), to_target(), observer())
    assert name(tx) == "to_target"
    assert name(tx, (True, False, True)) == "scale"
    assert name(tx, (False, None, True)) is None
    assert name(observer()) is None
    assert name(EXACT["recalled"]()) == "to_target"


def test_in_float32_and_for_integers_nothing_differs():
    params = jax.tree.map(lambda p: p.astype("float32"), PARAMS)
    updates = first_update(to_target(), params, params)
    assert {x.dtype.name for x in updates.values()} == {"float32"}

    @transformation
    def kept():
        return memoryless(lambda u, leaf: u, is_exact=True, takes_integers=True)

    whole = {"n": jnp.arange(3)}
    assert first_update(kept(), whole, whole)["n"].dtype == jnp.int32


def test_a_leaf_without_a_gradient_has_no_update_and_a_frozen_one_zeros():
    grads = {"w": None, "b": GRADS["b"]}
    updates = first_update(to_target(), grads)
    assert updates["w"] is None
    assert_exact(updates["b"], PARAMS["b"])
    frozen = gradtx.groups({"w": to_target(), "b": gradtx.frozen()})
    assert not np.any(first_update(frozen)["b"])
