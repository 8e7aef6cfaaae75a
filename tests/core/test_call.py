import pickle

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.core.call import CHILD, FactoryValue
from gradtx.core.numbers import DecayValue

RATE = gradtx.linear_schedule(1.0, 0.0, 10)


def test_a_call_is_numbers_and_members_beside_what_is_static():
    bound = gradtx.sgd(0.5, momentum=0.25, nesterov=True).bound
    statics = dict(zip(bound.spec.names, bound.spec.statics, strict=True))
    assert statics["learning_rate"] is CHILD and statics["momentum"] is CHILD
    assert statics["nesterov"] is True
    assert bound.children == (0.5, 0.25)
    member = gradtx.chain(gradtx.scale_by_ema(0.25)).bound.children[0]
    decay = member.bound.children[0]
    assert isinstance(decay, DecayValue) and decay.value == 0.25


def test_specs_are_equal_whatever_the_numbers_are():
    one, other = gradtx.sgd(0.5).bound.spec, gradtx.sgd(0.25).bound.spec
    assert one == other and hash(one) == hash(other)
    assert one != gradtx.sgd(0.5, momentum=0.9).bound.spec
    assert one != gradtx.adam(0.5).bound.spec


def test_arrays_that_are_static_are_compared_by_value():
    one, same, other = (
        gradtx.only(gradtx.scale(1.0), {"w": np.array(flag)}).bound.spec
        for flag in (True, True, False)
    )
    assert one == same and hash(one) == hash(other)
    assert one != other


def test_unequal_specs_say_where_they_differ():
    one, other = (
        gradtx.sgd(0.5, nesterov=nesterov).bound.spec for nesterov in (False, True)
    )
    assert "differs" not in repr(one)
    assert one != other
    assert repr(one).endswith(" [differs in 'nesterov']")
    mine, theirs = (gradtx.stateless(lambda u, p: u).bound.spec for _ in range(2))
    assert mine != theirs
    assert "functions and foreign transformations are equal only" in repr(mine)


def test_values_are_one_for_each_parameter_of_the_factory():
    tx = gradtx.add(gradtx.scale(1.0), gradtx.scale(2.0), weights=(3.0, 4.0))
    members, weights = tx.bound.values()
    assert members == (gradtx.scale(1.0), gradtx.scale(2.0))
    assert weights == (3.0, 4.0)


def test_a_schedule_is_evaluated_at_its_count_and_checked():
    bound = gradtx.sgd(RATE).bound
    assert bound.is_scheduled and bound.schedules() == [RATE]
    at = bound.at(jnp.int32(5))
    assert not at.is_scheduled
    np.testing.assert_allclose(at.children[0], 0.5)
    with pytest.raises(TypeError, match=r"sgd: learning_rate .* schedule gave 'high'"):
        gradtx.sgd(lambda count: "high").bound.at(jnp.int32(0))


def test_a_mapped_leaf_may_become_static_and_back():
    bound = gradtx.sgd(0.5).bound
    scheduled = bound.mapped(lambda role, leaf, name: abs if leaf == 0.5 else leaf)
    assert abs in scheduled.spec.statics and 0.5 not in scheduled.children
    back = scheduled.mapped(lambda role, leaf, name: 0.5 if leaf is abs else leaf)
    assert back.spec == bound.spec and back.children == bound.children


def test_what_holds_a_foreign_member_knows_it_at_any_depth():
    inner = gradtx.chain(gradtx.chain(optax.trace(0.9)), gradtx.scale(1.0))
    assert inner.bound.holds_foreign
    assert not gradtx.chain(gradtx.chain(gradtx.scale(0.1))).bound.holds_foreign


def test_arguments_are_shown_as_they_were_given():
    tx = gradtx.adam(RATE, b1=0.5)
    assert isinstance(tx, FactoryValue)
    assert tx.arguments["b1"] == 0.5 and type(tx.arguments["b1"]) is float
    assert tx.arguments["learning_rate"] is RATE
    whole = gradtx.linear_schedule(1.0, 0.0, 10.0).arguments["transition_steps"]
    assert whole == 10 and type(whole) is int


def test_replacing_an_unknown_argument_names_the_near_one():
    with pytest.raises(TypeError, match="unexpected argument 'learning_rte'; did you"):
        gradtx.sgd(0.1).replace(learning_rte=1.0)


def test_a_value_is_a_pytree_that_pickles_and_equals_its_like():
    tx = gradtx.chain(gradtx.scale(2.0), gradtx.sgd(RATE, momentum=0.5))
    leaves, treedef = jax.tree.flatten(tx)
    again = treedef.unflatten(leaves)
    for other in (again, pickle.loads(pickle.dumps(tx))):
        assert other == tx and hash(other) == hash(tx)
    assert tx != jax.tree.map(lambda x: 2 * x, tx)


def test_a_body_that_branches_on_a_number_is_told_that_it_may_not():
    @gradtx.transformation
    def branching(amount: gradtx.Scalar):
        return gradtx.scale(2.0) if amount > 0 else gradtx.identity()

    with pytest.raises(jax.errors.TracerBoolConversionError) as raised:
        jax.jit(lambda tx: tx.init({"w": jnp.ones(2)}))(branching(0.5))
    assert "may branch only on arguments" in "".join(raised.value.__notes__)
