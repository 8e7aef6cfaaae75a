import inspect
import pickle
import re
from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.schedules.settings import EVERY, each_schedule

THEIRS = [
    n for n in dir(optax.schedules) if re.match(r"[a-z]\w+_(schedules?|decay)$", n)
]


@pytest.mark.parametrize("name", THEIRS)
def test_schedule_of_optax_is_here_with_its_signature(name):
    mine, theirs = (
        inspect.signature(getattr(library, name)) for library in (gradtx, optax)
    )
    assert hasattr(getattr(gradtx, name), "factory")
    for one, other in zip(
        mine.parameters.values(), theirs.parameters.values(), strict=True
    ):
        assert one.replace(annotation=None) == other.replace(annotation=None)


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (gradtx.constant_schedule(1), "constant_schedule(value=1.0)"),
        (
            gradtx.linear_schedule(1.0, 0.1, 10),
            "linear_schedule(init_value=1.0, end_value=0.1, transition_steps=10, "
            "transition_begin=0)",
        ),
        (
            gradtx.exponential_decay(0.1, 3, 0.5, end_value=0.01),
            "exponential_decay(init_value=0.1, transition_steps=3, decay_rate=0.5, "
            "transition_begin=0, staircase=False, end_value=0.01)",
        ),
        (
            gradtx.piecewise_constant_schedule(1.0, {5: 0.5}),
            "piecewise_constant_schedule(init_value=1.0, "
            "boundaries_and_scales={5: 0.5})",
        ),
        (
            gradtx.join_schedules(
                (gradtx.constant_schedule(1.0), gradtx.inverse_time_decay(0.2, 1.0)),
                (3,),
            ),
            "join_schedules(schedules=(constant_schedule(value=1.0), "
            "inverse_time_decay(init_value=0.2, decay_rate=1.0, interval=None)), "
            "boundaries=(3,))",
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_repr_of_a_schedule_names_its_numbers(schedule, text):
    assert repr(schedule) == text


@each_schedule(EVERY)
def test_schedule_equals_its_like_and_hashes_like_it(make):
    assert make(gradtx) == make(gradtx)
    assert (make(gradtx) != make(gradtx)) is False
    assert hash(make(gradtx)) == hash(make(gradtx))
    others = [other(gradtx) for other in EVERY.values() if other is not make]
    assert make(gradtx) not in others


@each_schedule(EVERY)
def test_schedule_survives_pickling(make):
    back = pickle.loads(pickle.dumps(make(gradtx)))
    assert back == make(gradtx)
    assert hash(back) == hash(make(gradtx))
    assert [back(n) for n in (0, 9)] == [make(gradtx)(n) for n in (0, 9)]


def test_replace_changes_one_argument_and_keeps_the_others():
    before = gradtx.linear_schedule(1.0, 0.0, 10, 2)
    after = before.replace(end_value=0.5)
    assert after == gradtx.linear_schedule(1.0, 0.5, 10, 2)
    assert before == gradtx.linear_schedule(1.0, 0.0, 10, 2)


def test_replace_reaches_a_part_of_a_joined_schedule():
    first, second = gradtx.linear_schedule(0, 1, 4), gradtx.constant_schedule(1)
    joined = gradtx.join_schedules((first, second), (4,))
    changed = joined.replace(schedules=(first, second.replace(value=0.5)))
    half = gradtx.constant_schedule(0.5)
    assert changed == gradtx.join_schedules((first, half), (4,))
    assert changed != joined


@each_schedule(EVERY)
def test_schedule_is_a_pytree_of_its_numbers(make):
    schedule = make(gradtx)
    numbers, treedef = jax.tree.flatten(schedule)
    assert numbers
    assert all(type(number) in (int, float) for number in numbers)
    assert treedef.unflatten(numbers) == schedule


@each_schedule(EVERY)
def test_jit_over_a_schedule_traces_once_for_all_numbers(make):
    traces = []

    @jax.jit
    def value(schedule, count):
        traces.append(schedule)
        return schedule(count)

    schedule = make(gradtx)
    halved = jax.tree.map(lambda x: x / 2 if isinstance(x, float) else x, schedule)
    for each in (schedule, halved):
        for count in (0, 4, 5, 12, 31):
            np.testing.assert_allclose(
                value(each, count), each(count), rtol=1e-6, atol=1e-7
            )
    assert len(traces) == 1


def test_vmap_over_stacked_schedules_gives_the_value_of_each():
    schedules = [gradtx.cosine_decay_schedule(peak, 10, 0.1) for peak in (1.0, 2.0)]
    stacked = jax.tree.map(lambda *numbers: jnp.stack(numbers), *schedules)
    values = jax.vmap(lambda schedule: schedule(4))(stacked)
    np.testing.assert_allclose(values, [each(4) for each in schedules], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [3, jnp.int32(3)], ids=["int", "int32"])
@each_schedule(
    {
        "constant": lambda x: gradtx.constant_schedule(x),
        "linear": lambda x: gradtx.linear_schedule(x, 0.1, 10),
        "linear with int64 steps": lambda x: gradtx.linear_schedule(
            x, 0.1, np.int64(10)
        ),
        "polynomial": lambda x: gradtx.polynomial_schedule(1.0, x, x, 10),
        "exponential": lambda x: gradtx.exponential_decay(x, 10, x, end_value=x / 2),
        "inverse": lambda x: gradtx.inverse_time_decay(x, x, 2),
        "cosine": lambda x: gradtx.cosine_decay_schedule(1.0, 10, x, x),
        "warm": lambda x: gradtx.warmup_cosine_decay_schedule(x, 1.0, 4, 10, x),
        "piecewise": lambda x: gradtx.piecewise_constant_schedule(0.2, {2: x}),
        "interpolated": lambda x: gradtx.piecewise_interpolate_schedule(
            "cosine", np.float32(0.2), {2: x, 5: 0.1}
        ),
        "linear onecycle": lambda x: gradtx.linear_onecycle_schedule(
            9, np.float32(0.2), x, np.float64(0.7)
        ),
        "cyclic": lambda x: gradtx.cyclic_schedule(x, 0.7, 2, np.float32(3), x, x),
        "joined": lambda x: gradtx.join_schedules(
            (gradtx.constant_schedule(np.float32(1)), gradtx.linear_schedule(x, 0, 9)),
            (2,),
        ),
    }
)
def test_numbers_of_any_dtype_meet_under_strict_promotion(make, count, dtype):
    with jax.enable_x64(True):
        np.testing.assert_allclose(make(dtype(0.5))(count), make(0.5)(count), rtol=1e-6)


@each_schedule(EVERY)
def test_factory_takes_traced_numbers_of_several_dtypes(make):
    numbers, treedef = jax.tree.flatten(make(gradtx))

    def value(numbers):
        return jnp.asarray(treedef.unflatten(numbers).replace()(3), np.float32)

    with jax.enable_x64(True):
        mixed = [[np.float32, np.float64][i % 2](x) for i, x in enumerate(numbers)]
        np.testing.assert_allclose(
            jax.jit(value)(mixed), make(gradtx)(3), rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (gradtx.scale, "step_size"),
        (gradtx.trace, "decay"),
        (gradtx.scale_by_ema, "decay"),
        (gradtx.sgd, "learning_rate"),
    ],
)
def test_plain_function_is_a_schedule_where_a_number_is_scheduled(make, argument):
    def plain(count):
        return jnp.where(count < 1, 0.25, 0.75)

    grads, states = jnp.array([1.0, -2.0]), []
    for schedule in (plain, gradtx.piecewise_constant_schedule(0.25, {1: 3.0})):
        tx: Any = make(**{argument: schedule})
        state = tx.init(grads)
        for _ in range(3):
            updates, state = tx.update(grads, state)
            states.append((updates, state))
    for one, other in zip(states[:3], states[3:], strict=True):
        chex.assert_trees_all_equal(one, other)
    assert make(**{argument: plain}) == make(**{argument: plain})


@pytest.mark.parametrize("is_jitted", [False, True])
def test_first_update_sees_count_zero(is_jitted):
    tx: Any = gradtx.sgd(gradtx.linear_schedule(1.0, 0.0, 4))
    update = jax.jit(tx.update) if is_jitted else tx.update
    grads = jnp.array([1.0, -2.0])
    state = tx.init(grads)
    for count in range(6):
        assert int(state["count"]) == count
        updates, state = update(grads, state)
        expected = -max(0, 1 - count / 4) * grads
        np.testing.assert_allclose(updates, expected, rtol=1e-6)


def test_schedule_keeps_the_state_that_a_constant_keeps():
    params = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
    states = []
    for learning_rate in (0.1, gradtx.linear_schedule(0.1, 0.0, 3), lambda count: 0.1):
        tx = gradtx.sgd(learning_rate, momentum=0.9)
        states.append(tx.init(params))
        states.append(jax.jit(tx.update)(params, states[-1], params)[1])
    shapes = [jax.tree.map(jax.typeof, state) for state in states]
    assert all(shape == shapes[0] for shape in shapes)
