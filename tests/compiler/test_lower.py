import jax
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.lower import program_of, programs_in, takes_batch
from gradtx.core.context import NoStateError
from gradtx.core.members import AbsentMember

ZERO = jnp.int32(0)
LINE = gradtx.linear_schedule(1.0, 0.0, 10)


def program(tx, count=ZERO):
    return program_of(tx.bound, count)


def names(tx):
    return [op.name for op in program(tx).ops]


def test_adamw_is_its_rules_in_order():
    assert names(gradtx.adamw(0.1)) == [
        "scale_by_ema",
        "bias_correction",
        "square",
        "scale_by_ema",
        "bias_correction",
        "divide_by_root",
        "add_decayed_weights",
        "scale_by_learning_rate",
    ]


def test_members_of_a_chain_read_what_the_one_before_wrote():
    ops = program(gradtx.chain(gradtx.scale(1.0), gradtx.trace(0.9))).ops
    assert [(op.inputs, op.out) for op in ops] == [((0,), 1), ((1,), 2)]


def test_estimators_in_moments_read_the_gradient_and_see_what_flows_past():
    """Register 0 is the gradient, 2 the first moment, 5 the second."""
    ops = program(gradtx.scale_by_adam()).ops
    assert [op.inputs for op in ops] == [(0,), (1,), (0,), (3,), (4,), (2, 5)]
    assert [op.out for op in ops] == [1, 2, 3, 4, 5, 6]
    first, second = {"grad": 0}, {"grad": 0, "flowing": 2}
    assert [dict(op.marks) for op in ops] == [*[first] * 2, *[second] * 3, first]


def test_of_a_sum_only_its_own_numbers_are_kept():
    branches = gradtx.scale(2.0), gradtx.trace(0.9)
    *_, op = program(gradtx.add(*branches, weights=(3.0, 4.0))).ops
    assert op.inputs == (0, 1, 2)
    absent = AbsentMember("add")
    assert op.bound and [*op.bound.children] == [absent, absent, 3.0, 4.0]


def test_the_gradient_of_a_scope_is_what_enters_it():
    tx = gradtx.chain(gradtx.scale(2.0), gradtx.moments(gradtx.trace(0.9)))
    assert [dict(op.marks) for op in program(tx).ops] == [{}, {"grad": 1}]


def test_what_is_let_is_a_register_and_its_recall_no_operation():
    tx = gradtx.let(
        "x", gradtx.trace(0.9), gradtx.chain(gradtx.scale(2.0), gradtx.recall("x"))
    )
    made = program(tx)
    average, scale = made.ops
    assert scale.inputs == (0,) and dict(scale.marks) == {"x": average.out}
    assert made.out == average.out


def test_a_recall_of_nothing_is_an_error():
    with pytest.raises(
        ValueError, match="recall: expected a let of 'x' around it, got none"
    ):
        program(gradtx.recall("x"))


def test_members_of_groups_have_the_masks_of_their_labels():
    tx = gradtx.groups({"*/b": gradtx.sgd(0.1), "**": gradtx.trace(0.5)})
    made = program(tx)
    labels = [[made.masks[m].label for m in op.masks] for op in made.ops]
    assert labels == [["**"], ["*/b"]]
    assert all(mask.owner == "groups" and not mask.within for mask in made.masks)


def test_a_mask_in_a_mask_knows_what_is_around_it():
    inner = gradtx.only(gradtx.trace(0.9), {"w": True, "b": False})
    made = program(gradtx.only(gradtx.chain(gradtx.scale(1.0), inner), True))
    assert [mask.within for mask in made.masks] == [(), (0,)]
    assert [op.masks for op in made.ops] == [(0,), (0, 1)]


def test_a_program_is_kept_unless_its_numbers_depend_on_the_count():
    plain, scheduled = gradtx.sgd(0.1), gradtx.sgd(LINE)
    assert program(plain) is program(plain, jnp.int32(5))
    assert not program(plain).is_timed
    first, second = (program(scheduled, jnp.int32(n)) for n in (0, 5))
    assert first is not second and first.is_timed
    bounds = [made.ops[0].bound for made in (first, second)]
    assert [float(it.children[0]) for it in bounds if it] == [1.0, 0.5]


def test_a_program_that_is_made_in_a_trace_is_not_kept():
    tx = gradtx.sgd(0.1)
    traced = jax.jit(lambda x: (program(tx), x)[1])
    traced(1.0)
    assert tx.bound.program is None
    program(tx)
    assert tx.bound.program is not None


def test_only_schedules_that_remember_what_they_are_made_of_are_pure():
    joined = gradtx.join_schedules([LINE, lambda count: 1.0], [3])
    assert program(gradtx.sgd(LINE)).is_pure
    assert not program(gradtx.sgd(lambda count: 0.1)).is_pure
    assert not program(gradtx.sgd(joined)).is_pure


def test_a_schedule_without_a_count_is_an_error():
    with pytest.raises(NoStateError, match="sgd: has a schedule, which counts; give"):
        program(gradtx.sgd(LINE), None)


def test_a_factory_that_makes_something_else_is_an_error():
    @gradtx.transformation
    def odd():
        return 3

    with pytest.raises(TypeError, match="odd: a factory must return a gradient"):
        program(odd())


def test_programs_inside_are_found_at_any_depth():
    tx = gradtx.skip(gradtx.accumulate(gradtx.sgd(0.1), 2))
    found = [made.name for made in programs_in(tx)]
    assert found == ["skip", "accumulate", "sgd", "not_finite"]
    assert [*programs_in(optax.sgd(0.1))] == []


def test_what_takes_examples_is_seen_inside_of_wrappers():
    assert takes_batch(gradtx.accumulate(gradtx.dpsgd(0.1, 1.0, 0.5, 0), 2))
    assert not takes_batch(gradtx.accumulate(gradtx.sgd(0.1), 2))
