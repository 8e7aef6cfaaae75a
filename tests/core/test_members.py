"""What is taken for a transformation: as in optax, whatever has `init` and `update`."""

import copy
import pickle
from typing import Any, NamedTuple

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.core.arguments import MemberRole
from gradtx.core.members import AbsentMember
from gradtx.core.nodes import Fork
from tests import equality, registry

PARAMS: Any = {"w": jnp.ones((2, 3)), "v": jnp.full(3, 2.0)}
GRADS: Any = {"w": jnp.full((2, 3), 0.5), "v": jnp.array([1.0, -2.0, 3.0])}
LABELS = {"w": "a", "v": "b"}


class Plain:
    """An optimizer of someone's."""

    def init(self, params):
        return jax.tree.map(jnp.zeros_like, params)

    def update(self, updates, state, params=None):
        state = jax.tree.map(jnp.add, updates, state)
        return state, state


class Pair(NamedTuple):
    """The same as a pair, which is no transformation of optax."""

    init: Any = Plain().init
    update: Any = Plain().update


ODD = {
    "MultiSteps": lambda m: m.MultiSteps(m.adam(0.1), 2),
    "optax.MultiSteps": lambda m: optax.MultiSteps(optax.sgd(0.1, 0.9), 2),
    "of both": lambda m: m.MultiSteps(optax.MultiSteps(optax.adam(0.1), 2), 2),
    "an object": lambda m: Plain(),
    "a pair": lambda m: Pair(),
}
AROUND = {
    "chain": lambda m, tx: m.chain(m.scale(2.0), tx),
    "partition": lambda m, tx: m.partition({"a": tx, "b": m.sgd(0.1)}, LABELS),
    "masked": lambda m, tx: m.chain(
        m.masked(tx, {"w": True, "v": False}), m.scale(-1.0)
    ),
    "named_chain": lambda m, tx: m.named_chain(("one", tx), ("two", m.scale(2.0))),
    "conditionally_transform": lambda m, tx: m.conditionally_transform(
        tx, lambda step: step > 1
    ),
}


def path(tx):
    state, found = tx.init(PARAMS), []
    for i in range(5):
        grads = jax.tree.map(lambda g, i=i: g * (i + 1), GRADS)
        updates, state = tx.update(grads, state, PARAMS)
        found.append(updates)
    return found


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("odd", ODD)
def test_objects_are_members_as_in_optax(odd, around):
    with equality.as_optax_needs():
        runs = [path(AROUND[around](m, ODD[odd](m))) for m in (gradtx, optax)]
    for mine, its in zip(*map(jax.tree.leaves, runs), strict=True):
        np.testing.assert_allclose(mine, its, rtol=2e-5)


def arguments():
    """Each factory and each of its arguments that holds transformations."""
    for name, factory in registry.factories().items():
        if name not in registry.PARTS:
            for argument, role in zip(
                factory.signature.parameters, factory.roles, strict=True
            ):
                if isinstance(role, MemberRole):
                    yield name, argument


@pytest.mark.parametrize(("name", "argument"), [*arguments()])
def test_every_factory_takes_a_multi_steps(name, argument):
    multi = gradtx.MultiSteps(gradtx.trace(0.9), 2)
    before: Any = registry.example(registry.factories()[name])
    given = before.arguments[argument]
    made = []
    for tx in (multi, multi.gradient_transformation()):
        value: Any = tx
        if isinstance(given, dict):
            value = dict.fromkeys(given, tx)
        elif type(given) is tuple:
            value = (tx,) * len(given)
        made.append(before.replace(**{argument: value}))
    assert made[0] == made[1] and hash(made[0]) == hash(made[1])


def test_tools_take_the_same():
    assert gradtx.memory(Plain(), PARAMS).total == gradtx.memory(Pair(), PARAMS).total
    for odd in (3, "adam", None, gradtx.adam, gradtx.MultiSteps, Plain, {"w": 3}):
        anything: Any = odd
        with pytest.raises(TypeError, match="must be gradient transformations"):
            gradtx.chain(anything)
        with pytest.raises(TypeError, match="must be a transformation"):
            gradtx.memory(anything, PARAMS)


def test_a_body_that_looks_at_its_member_in_a_kernel_is_an_error_that_explains():
    @gradtx.transformation
    def curious(transform: gradtx.Member):
        transform.init  # noqa: B018

        return Fork((transform,), lambda u, outputs, leaf: outputs[0])

    tx = curious(gradtx.scale(2.0))
    message = "curious: looks at 'init' of its member in a kernel, where"
    with pytest.raises(AttributeError, match=message):
        tx.update(GRADS, tx.init(PARAMS), PARAMS)


def test_a_body_that_composes_its_member_runs_in_kernels_too():
    @gradtx.transformation
    def doubled(transform: gradtx.Member, share: gradtx.Scalar = 0.5):
        inner = gradtx.chain(transform, gradtx.scale(2.0))
        return Fork((inner,), lambda u, outputs, leaf: share * outputs[0])

    tx = doubled(gradtx.trace(0.9))
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    chex.assert_trees_all_equal(updates, GRADS)


def test_a_rule_that_stands_for_a_member_is_an_error_that_says_how_to_make_one():
    message = "got Rule; return it from a function under @transformation"
    with pytest.raises(TypeError, match=message):
        gradtx.chain(gradtx.memoryless(lambda u, leaf: u))  # pyright: ignore[reportArgumentType]


def test_a_fork_s_schedule_is_there_in_kernels():
    @gradtx.transformation
    def scheduled(transform: gradtx.Member, schedule: Any):
        def join(u, outputs, leaf):
            return outputs[0] * schedule(leaf.count)

        return Fork((transform,), join)

    tx = scheduled(gradtx.scale(0.5), gradtx.constant_schedule(4.0))
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    chex.assert_trees_all_equal(updates, _doubled(GRADS))


def _doubled(tree):
    return jax.tree.map(lambda x: 2 * x, tree)


def test_a_placeholder_may_be_copied_and_pickled():
    absent = AbsentMember("add")
    for again in (copy.deepcopy(absent), pickle.loads(pickle.dumps(absent))):
        assert again == absent
