import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.lower import program_of
from gradtx.compiler.masks import active_of
from gradtx.compiler.program import Mask, recovered
from gradtx.compiler.steps import is_frozen


def program(tx):
    return program_of(tx.bound, jnp.int32(0))


def named(tx, name):
    """The operation of a name."""
    (op,) = (op for op in program(tx).ops if op.name == name)
    return op


def frozen(made):
    """Whether each of two leaves, b and w, gets no step."""
    params = {"b": jnp.ones(2), "w": jnp.ones(2)}
    active = active_of(made, params, jax.tree.structure(params))
    return [is_frozen(made, on) for on in active]


def test_an_operation_reads_its_inputs_and_whatever_has_a_name():
    op = named(gradtx.scale_by_adam(), "divide_by_root")
    assert op.reads == {*op.inputs, 0}
    assert len(op.inputs) == 2 and 0 not in op.inputs  # both moments, and the gradient


def test_slots_of_rules_are_kept_by_leaf_and_scalars_and_trees_are_not():
    average = named(gradtx.scale_by_ema(0.9, "mu"), "scale_by_ema")
    assert average.keeps_by_leaf("mu") and not average.keeps_by_leaf("nu")
    noise = named(gradtx.add_noise(0.1, 0.5, 7), "add_noise")
    assert noise.shared.keys() == {"key"} and not noise.keeps_by_leaf("key")
    assert noise.has_key
    np.testing.assert_array_equal(noise.shared["key"]([]), jax.random.PRNGKey(7))
    around = named(gradtx.accumulate(gradtx.scale(1.0), 2), "accumulate")
    assert "inner" in around.slots and not around.keeps_by_leaf("inner")


def test_the_first_state_of_what_is_inside_is_a_slot():
    inner = gradtx.sgd(0.1, momentum=0.9)
    op = named(gradtx.accumulate(inner, 2), "accumulate")
    assert op.node.inner["inner"] == inner
    state = op.slots["inner"](jnp.ones(3))
    assert state.keys() == {"count", "trace"}


def test_around_an_operation_are_its_parts_outwards():
    made = program(gradtx.chain(gradtx.scale_by_adam()))
    around = made.around(made.ops[0])
    names = [part.bound and part.bound.factory.name for part in around]
    assert names[:2] == ["scale_by_ema", "chain"] and names[-1] == "chain"
    assert names.index("first_moment") < names.index("scale_by_adam")


def test_the_period_is_common_to_all_that_happens_every_so_many_updates():
    assert program(gradtx.sgd(0.1)).period is None
    both = gradtx.chain(gradtx.apply_every(4), gradtx.apply_every(6))
    assert int(program(both).period) == 12


@pytest.mark.parametrize("name", ["frozen", "masked"])
def test_a_leaf_is_frozen_if_nothing_makes_a_step_of_it(name):
    flags = {"w": True, "b": False}
    tx = {
        "frozen": gradtx.groups({"b": gradtx.frozen(), "**": gradtx.sgd(0.1)}),
        "masked": gradtx.masked(gradtx.sgd(0.1), flags),
    }[name]
    made = program(tx)
    assert made.may_freeze and not program(gradtx.sgd(0.1)).may_freeze
    assert frozen(made) == [True, False]
    assert frozen(program(gradtx.chain(tx, gradtx.trace(0.9)))) == [True, False]


def test_a_leaf_that_something_else_makes_a_step_of_is_not_frozen():
    masked = gradtx.masked(gradtx.sgd(0.1), {"w": True, "b": False})
    tx = gradtx.chain(masked, gradtx.scale(2.0))
    assert frozen(program(tx)) == [False, False]


def test_foreign_arguments_are_those_that_foreign_members_declare():
    def update(updates, state, params=None, *, value=None, **rest):
        return updates, state

    foreign = optax.GradientTransformationExtraArgs(lambda params: (), update)
    made = program(gradtx.chain(foreign, gradtx.scale(1.0)))
    assert "value" in made.foreign_arguments
    assert made.takes_anything
    assert not program(gradtx.chain(optax.trace(0.9))).takes_anything


def test_what_is_needed_is_told_with_who_needs_it():
    tx = gradtx.chain(gradtx.sgd(0.1), gradtx.scale_by_polyak())
    assert program(tx).needs == {"value": "scale_by_polyak"}


def test_what_keeps_nothing_ignores_the_states_of_others_only():
    plain, keeps = program(gradtx.scale(1.0)), program(gradtx.trace(0.9))
    theirs = {"mu": 0.0}
    assert plain.ignores(theirs) and not plain.ignores({"count": 0})
    assert not keeps.ignores(theirs)


def test_two_groups_of_one_grouping_exclude_one_another():
    def labels(params):
        return params

    one, other = (Mask("groups", labels, label) for label in "ab")
    assert one.excludes(other) and not one.excludes(one)
    assert not one.excludes(Mask("groups", lambda params: params, "b"))


def test_weights_of_averages_are_recovered_and_kept_where_decays_change():
    decay = gradtx.linear_schedule(0.5, 0.9, 10)
    for tx, key in (
        (gradtx.ema(0.9), None),
        (gradtx.ema(decay), "ema_weight"),
    ):
        ((_, slot, kept, _),) = recovered(program(tx))
        assert slot == "weight" and kept == key
