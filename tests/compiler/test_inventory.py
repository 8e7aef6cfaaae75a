import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.inventory import (
    Place,
    changing,
    float32,
    follows,
    keys_of,
    now,
    numbers_of,
    with_numbers,
)
from gradtx.core.numbers import DecayValue

LINE = gradtx.linear_schedule(1.0, 0.0, 10)
PARAMS = {"w": jnp.ones(2), "b": jnp.ones(3)}


def after(tx, steps):
    """The place of the numbers after some updates."""
    state = tx.init(PARAMS)
    for _ in range(steps):
        _, state = tx.update(PARAMS, state, PARAMS)
    return Place(tx.bound, state)


def trail(number):
    return ".".join(unit.text for unit in number.trail)


def test_numbers_are_found_at_any_depth_with_what_is_around_them():
    groups = {"b": gradtx.sgd(LINE), "**": gradtx.trace(0.9)}
    tx = gradtx.chain(gradtx.clip_by_global_norm(2.0), gradtx.groups(groups))
    found = {trail(number): number for number in numbers_of(tx)}
    assert {name: number.value for name, number in found.items()} == {
        "chain.clip_by_global_norm.max_norm": 2.0,
        "chain.groups.**.trace.decay": 0.9,
        "chain.groups.b.sgd.learning_rate": 1.0,
    }
    assert found["chain.groups.b.sgd.learning_rate"].is_scheduled
    assert len({number.where for number in found.values()}) == 3


def test_the_value_of_a_schedule_is_that_of_the_next_update():
    tx = gradtx.sgd(LINE)
    for steps in (0, 3):
        (number,) = numbers_of(tx, after(tx, steps))
        np.testing.assert_allclose(number.value, 1 - steps / 10, rtol=1e-6)


def test_inside_of_a_wrapper_the_count_is_that_of_the_inner_state():
    tx = gradtx.accumulate(gradtx.sgd(LINE), 2)
    numbers = {number.argument: number for number in numbers_of(tx, after(tx, 5))}
    assert numbers["learning_rate"].count == numbers["every"].count == 2
    np.testing.assert_allclose(numbers["learning_rate"].value, 0.8, rtol=1e-6)


def test_what_only_init_reads_is_a_number_that_no_update_reads():
    found = {number.argument: number for number in numbers_of(gradtx.adagrad(0.1))}
    assert not found["initial_accumulator_value"].is_read
    assert found["learning_rate"].is_read


def test_the_numbers_of_editable_are_in_its_state():
    tx = gradtx.editable(gradtx.sgd(0.5))
    state = tx.init(PARAMS)
    state["hyperparams"]["learning_rate"] = jnp.float32(0.25)
    (number,) = numbers_of(tx, Place(tx.bound, state))
    assert number.is_kept and number.value == 0.25 and not number.is_read
    (before,) = numbers_of(tx)
    assert before.is_kept and before.value == 0.5


def test_keys_are_arguments_or_qualified_where_several_have_one():
    tx = gradtx.chain(gradtx.scale_by_ema(0.9, "x"), gradtx.sgd(0.5, momentum=0.9))
    assert {*keys_of([*numbers_of(tx)]).values()} == {
        "decay",
        "learning_rate",
        "momentum",
    }
    twice = gradtx.chain(gradtx.sgd(0.5), gradtx.adam(0.5))
    keys = {*keys_of([*numbers_of(twice)]).values()}
    assert {"sgd.learning_rate", "adam.learning_rate", "b1"} <= keys


@pytest.mark.parametrize(
    ("written", "said", "used"),
    [(0.5, 0.5, 1.0), (0.25, 0.5, 0.25), (np.nan, 0.5, 1.0)],
)
def test_what_nobody_wrote_and_what_is_nan_follows_the_transformation(
    written, said, used
):
    (number,) = numbers_of(gradtx.sgd(1.0))
    assert bool(follows(written, float32(said))) == (used == 1.0)
    assert now(number, written, float32(said)) == used


def test_numbers_are_kept_in_single():
    for value in (3, 0.5, np.float64(0.5), jnp.bfloat16(0.5)):
        assert float32(value).dtype == "float32" and float32(value) == float(value)


def decays_of(tx):
    return [x for x in tx.bound.children if isinstance(x, DecayValue)]


def test_decays_that_update_reads_may_change_at_any_depth():
    inner = gradtx.scale_by_ema(0.9)
    assert not any(decay.changes for decay in decays_of(inner))
    (changed,) = (x for x in changing(gradtx.chain(inner)).bound.children)
    assert changed == inner
    assert [decay.changes for decay in decays_of(changed)] == [True]
    some = changing(gradtx.adam(0.1), ["b1"])
    assert [decay.changes for decay in decays_of(some)] == [True, False]


def test_other_numbers_are_put_in_their_order_where_update_reads_them():
    tx = gradtx.chain(gradtx.adagrad(0.1, 0.25, 1e-3), gradtx.scale(2.0))
    made = with_numbers(tx, iter([1.0, 2.0, 3.0]))
    assert made == gradtx.chain(gradtx.adagrad(1.0, 0.25, 2.0), gradtx.scale(3.0))
