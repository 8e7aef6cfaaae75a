from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

import gradtx
from gradtx.compiler.lower import program_of
from gradtx.compiler.stage import Broadcast, TreeStage, pack, unpack
from gradtx.core.numbers import DecayValue


def stages(tx: Any) -> Any:
    return program_of(tx.bound, jnp.int32(0)).stages


def staged(tx):
    """The only stage, and the operations."""
    (stage,) = stages(tx)
    return stage, program_of(tx.bound, jnp.int32(0)).ops


def outline(stage):
    """The operations of a stage, what it reads and what it writes."""
    return tuple(op.index for op in stage.ops), stage.reads, stage.writes


def broadcast(numbers, arrays=()):
    return Broadcast(
        numbers=numbers,
        arrays=arrays,
        count=None,
        totals={},
        shared={},
        before={},
        extra={},
        is_due=None,
    )


def test_numbers_are_one_vector_with_complements_behind_decays():
    stage, ops = staged(gradtx.chain(gradtx.scale(2.0), gradtx.scale_by_ema(0.75)))
    vector, arrays = pack(stage, ops)
    assert isinstance(vector, np.ndarray) and vector.dtype == "float32" and not arrays
    np.testing.assert_array_equal(vector[:3], [2.0, 0.75, 0.25])
    assert stage.places[:2] == (0, 1) and stage.owners[:2] == (0, 1)
    assert stage.changes[:2] == (None, False)


def test_stages_of_other_numbers_are_equal():
    one, other = (
        staged(gradtx.adam(rate, b1=b1))[0] for rate, b1 in [(1, 0), (2, 0.5)]
    )
    assert one == other and hash(one) == hash(other)
    assert one != staged(gradtx.adam(1.0, nesterov=True))[0]


def test_an_array_in_the_place_of_a_number_is_passed_by_itself():
    stage, ops = staged(gradtx.chain(gradtx.scale(jnp.arange(3.0)), gradtx.scale(2.0)))
    vector, ((array,),) = pack(stage, ops)
    assert stage.places == (-1, 0)
    np.testing.assert_array_equal(vector, [2.0])
    np.testing.assert_array_equal(array, [0, 1, 2])


def test_what_is_unpacked_is_what_was_packed_as_weak_scalars():
    stage, ops = staged(gradtx.chain(gradtx.scale_by_ema(0.75), gradtx.scale(2.0)))
    vector, arrays = pack(stage, ops)
    average, scale = unpack(stage, broadcast(jnp.asarray(vector), arrays), (True, True))
    assert scale[0] == 2.0 and scale[0].weak_type and scale[0].shape == ()
    decay = average[0]
    assert isinstance(decay, DecayValue)
    assert decay.value == 0.75 and decay.complement == 0.25 and not decay.changes


def test_the_complement_is_as_exact_as_it_was_in_double():
    stage, ops = staged(gradtx.scale_by_ema(0.9999))
    vector, arrays = pack(stage, ops)
    ((decay, *_),) = unpack(stage, broadcast(jnp.asarray(vector), arrays), (True,))
    assert decay.complement == np.float32(1e-4)
    assert 1 - decay.value != np.float32(1e-4)


def test_what_a_leaf_does_not_go_through_has_no_numbers():
    stage, ops = staged(gradtx.chain(gradtx.scale(2.0), gradtx.scale(3.0)))
    vector, arrays = pack(stage, ops)
    packed = broadcast(jnp.asarray(vector), arrays)
    assert unpack(stage, packed, (False, True))[0] == (None,)
    program = jax.make_jaxpr(lambda v: unpack(stage, broadcast(v), (False, True))[1])(
        vector
    )
    assert str(program).count("slice") == 1


def test_numbers_beyond_float32_are_infinite_and_no_warning():
    stage, ops = staged(gradtx.scale(1e300))
    assert pack(stage, ops)[0] == np.inf


def test_a_decay_that_a_schedule_gave_is_known_to_change():
    line = gradtx.linear_schedule(0.5, 0.9, 10)
    assert staged(gradtx.scale_by_ema(line))[0].changes[0] is True


def test_rules_are_one_stage_until_one_measures_what_was_computed_in_it():
    clip, scale = gradtx.clip_by_global_norm(1.0), gradtx.scale(2.0)
    assert [*map(outline, stages(gradtx.chain(clip, scale)))] == [((0, 1), (0,), (2,))]
    assert [*map(outline, stages(gradtx.chain(scale, clip)))] == [
        ((0,), (0,), (1,)),
        ((1,), (1,), (2,)),
    ]


def test_what_needs_the_tree_is_a_stage_of_its_own():
    scale = gradtx.scale(2.0)
    first, second, third = stages(gradtx.chain(scale, optax.trace(0.9), scale))
    assert second == TreeStage(1)
    assert [outline(stage)[0] for stage in (first, third)] == [(0,), (2,)]


def test_a_register_leaves_a_stage_only_where_it_is_read_later():
    tx = gradtx.moments(
        gradtx.trace(0.9), gradtx.scale(1.0), gradtx.clip_by_global_norm(1.0)
    )
    first, second = stages(tx)
    assert first.writes == (2,)
    assert second.reads == (0, 2)  # the scope's gradient, and what is clipped


def test_a_register_that_a_later_stage_reads_is_kept_for_it():
    clip = gradtx.clip_by_global_norm(1.0)
    twice = gradtx.chain(gradtx.scale(2.0), clip, clip)
    first, second, third = stages(gradtx.add(gradtx.trace(0.9), twice))
    assert first.writes == (1, 2)
    assert second.reads == (2,) and third.reads == (0, 1, 3)


def test_a_schedule_lays_out_equal_stages_for_every_count():
    line = gradtx.linear_schedule(1.0, 0.0, 10)
    tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(line))
    first, later = (program_of(tx.bound, jnp.int32(n)).stages for n in (0, 7))
    assert first == later and [*map(hash, first)] == [*map(hash, later)]
