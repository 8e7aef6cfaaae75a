import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from gradtx.compiler.lower import program_of
from gradtx.compiler.plan import Broadcast, numbers_of, plan_of, unpack
from gradtx.core.numbers import DecayValue


def planned(tx):
    """The plan of the only stage, and the operations."""
    program = program_of(tx.bound, jnp.int32(0))
    (stage,) = program.stages
    return plan_of(stage, program.ops), program.ops


def common(numbers, arrays=()):
    return Broadcast(numbers, arrays, None, {}, {}, {}, {}, None)


def test_numbers_are_one_vector_with_complements_behind_decays():
    plan, ops = planned(gradtx.chain(gradtx.scale(2.0), gradtx.scale_by_ema(0.75)))
    vector, arrays = numbers_of(plan, ops)
    assert isinstance(vector, np.ndarray) and vector.dtype == "float32" and not arrays
    np.testing.assert_array_equal(vector[:3], [2.0, 0.75, 0.25])
    assert plan.places[:2] == (0, 1) and plan.owners[:2] == (0, 1)
    assert plan.decays[:2] == (None, False)


def test_plans_of_other_numbers_are_equal():
    one, other = (
        planned(gradtx.adam(rate, b1=b1))[0] for rate, b1 in [(1, 0), (2, 0.5)]
    )
    assert one == other and hash(one) == hash(other)
    assert one != planned(gradtx.adam(1.0, nesterov=True))[0]


def test_an_array_in_the_place_of_a_number_is_passed_by_itself():
    plan, ops = planned(gradtx.chain(gradtx.scale(jnp.arange(3.0)), gradtx.scale(2.0)))
    vector, ((array,),) = numbers_of(plan, ops)
    assert plan.places == (-1, 0)
    np.testing.assert_array_equal(vector, [2.0])
    np.testing.assert_array_equal(array, [0, 1, 2])


def test_what_is_unpacked_is_what_was_packed_as_weak_scalars():
    plan, ops = planned(gradtx.chain(gradtx.scale_by_ema(0.75), gradtx.scale(2.0)))
    vector, arrays = numbers_of(plan, ops)
    average, scale = unpack(plan, common(jnp.asarray(vector), arrays), (True, True))
    assert scale[0] == 2.0 and scale[0].weak_type and scale[0].shape == ()
    decay = average[0]
    assert isinstance(decay, DecayValue)
    assert decay.value == 0.75 and decay.complement == 0.25 and not decay.changes


def test_the_complement_is_as_exact_as_it_was_in_double():
    plan, ops = planned(gradtx.scale_by_ema(0.9999))
    vector, arrays = numbers_of(plan, ops)
    ((decay, *_),) = unpack(plan, common(jnp.asarray(vector), arrays), (True,))
    assert decay.complement == np.float32(1e-4)
    assert 1 - decay.value != np.float32(1e-4)


def test_what_a_leaf_does_not_go_through_has_no_numbers():
    plan, ops = planned(gradtx.chain(gradtx.scale(2.0), gradtx.scale(3.0)))
    vector, arrays = numbers_of(plan, ops)
    packed = common(jnp.asarray(vector), arrays)
    assert unpack(plan, packed, (False, True))[0] == (None,)
    program = jax.make_jaxpr(lambda v: unpack(plan, common(v), (False, True))[1])(
        vector
    )
    assert str(program).count("slice") == 1


def test_numbers_beyond_float32_are_infinite_and_no_warning():
    plan, ops = planned(gradtx.scale(1e300))
    assert numbers_of(plan, ops)[0] == np.inf


def test_a_decay_that_a_schedule_gave_is_known_to_change():
    line = gradtx.linear_schedule(0.5, 0.9, 10)
    assert planned(gradtx.scale_by_ema(line))[0].decays[0] is True
