import inspect
import pickle
import re

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.schedules.test_schedules import EVERY, each_schedule

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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda lib: lib.linear_schedule(float("nan"), 0.0, 10),
            "linear_schedule: init_value must be a number, got nan",
        ),
        (
            lambda lib: lib.exponential_decay(1.0, 10, -0.5),
            "exponential_decay: decay_rate must be at least 0, got -0.5",
        ),
        (
            lambda lib: lib.inverse_time_decay(0.2, -1.0),
            "inverse_time_decay: decay_rate must be at least 0, got -1.0",
        ),
        (
            lambda lib: lib.inverse_time_decay(0.2, 1.0, 0),
            "inverse_time_decay: interval must be positive, got 0",
        ),
        (
            lambda lib: lib.cosine_decay_schedule(1.0, 0),
            "cosine_decay_schedule: decay_steps must be positive, got 0",
        ),
        (
            lambda lib: lib.warmup_cosine_decay_schedule(0.0, 1.0, -1, 5),
            "warmup_cosine_decay_schedule: warmup_steps must be at least 0, got -1",
        ),
        (
            lambda lib: lib.warmup_cosine_decay_schedule(0.0, 1.0, 10, 10),
            "warmup_cosine_decay_schedule: decay_steps includes the warmup and must be "
            "above warmup_steps, got 10 and 10",
        ),
        (
            lambda lib: lib.warmup_cosine_decay_schedule(0.0, 1.0, 10, 50).replace(
                decay_steps=3
            ),
            "warmup_cosine_decay_schedule: decay_steps includes the warmup and must be "
            "above warmup_steps, got 3 and 10",
        ),
        (
            lambda lib: lib.piecewise_constant_schedule(1.0, {3: -1.0}),
            "piecewise_constant_schedule: boundaries_and_scales must be at least 0, "
            "got -1.0",
        ),
        (
            lambda lib: lib.polynomial_schedule(1.0, 0.1, -1.0, 10),
            "polynomial_schedule: power must be at least 0, got -1.0",
        ),
        (
            lambda lib: lib.cosine_decay_schedule(1.0, 10, exponent=-1.0),
            "cosine_decay_schedule: exponent must be at least 0, got -1.0",
        ),
        (
            lambda lib: lib.transition_schedule(1.0, 0.1, -1),
            "transition_schedule: transition_steps must be at least 0, got -1",
        ),
        (
            lambda lib: lib.transition_schedule(1.0, 0.1, 9, curve="sine"),
            "transition_schedule: curve must be 'linear' or 'cosine' or '1-sqrt' or "
            "'rex', got 'sine'",
        ),
        (
            lambda lib: lib.rex_schedule(1.0, 0.1, 0),
            "rex_schedule: transition_steps must be positive, got 0",
        ),
        (
            lambda lib: lib.inverse_sqrt_decay(1.0, 0.0),
            "inverse_sqrt_decay: timescale must be positive, got 0.0",
        ),
        (
            lambda lib: lib.piecewise_interpolate_schedule("linear", 1.0, {3: -1.0}),
            "piecewise_interpolate_schedule: boundaries_and_scales must be at least 0, "
            "got -1.0",
        ),
        (
            lambda lib: lib.piecewise_interpolate_schedule("square", 1.0, {3: 1.0}),
            "piecewise_interpolate_schedule: interpolate_type must be 'linear' or "
            "'cosine' or '1-sqrt' or 'rex', got 'square'",
        ),
        (
            lambda lib: lib.linear_onecycle_schedule(0, 1.0),
            "linear_onecycle_schedule: transition_steps must be positive, got 0",
        ),
        (
            lambda lib: lib.linear_onecycle_schedule(10, 1.0, 1.5),
            "linear_onecycle_schedule: pct_start must be in [0, 1], got 1.5",
        ),
        (
            lambda lib: lib.linear_onecycle_schedule(10, 1.0, 0.5, 0.25),
            "linear_onecycle_schedule: pct_final must be at least pct_start, "
            "got 0.25 and 0.5",
        ),
        (
            lambda lib: lib.cosine_onecycle_schedule(10, 1.0, -0.5),
            "cosine_onecycle_schedule: pct_start must be in [0, 1], got -0.5",
        ),
        (
            lambda lib: lib.cosine_onecycle_schedule(10, 1.0, div_factor=0.0),
            "cosine_onecycle_schedule: div_factor must be positive, got 0.0",
        ),
        (
            lambda lib: lib.cosine_onecycle_schedule(10, 1.0, final_div_factor=-1.0),
            "cosine_onecycle_schedule: final_div_factor must be positive, got -1.0",
        ),
        (
            lambda lib: lib.warmup_constant_schedule(0.0, 1.0, -1),
            "warmup_constant_schedule: warmup_steps must be at least 0, got -1",
        ),
        (
            lambda lib: lib.warmup_exponential_decay_schedule(0.0, 1.0, 5, 9, -0.5),
            "warmup_exponential_decay_schedule: decay_rate must be at least 0, "
            "got -0.5",
        ),
        (
            lambda lib: lib.warmup_inverse_sqrt_schedule(0.0, 1.0, 0),
            "warmup_inverse_sqrt_schedule: warmup_steps must be positive, got 0",
        ),
        (
            lambda lib: lib.warmup_stable_decay_schedule(0.0, 1.0, 5, -1, 9),
            "warmup_stable_decay_schedule: stable_steps must be at least 0, got -1",
        ),
        (
            lambda lib: lib.warmup_stable_decay_schedule(0.0, 1.0, 5, 5, 0),
            "warmup_stable_decay_schedule: cooldown_steps must be positive, got 0",
        ),
        (
            lambda lib: lib.warmup_stable_decay_schedule(
                0.0, 1.0, 5, 5, 9, cooldown="sqrt"
            ),
            "warmup_stable_decay_schedule: cooldown must be 'linear' or 'cosine' or "
            "'1-sqrt' or 'rex', got 'sqrt'",
        ),
        (
            lambda lib: lib.sgdr_schedule(
                [dict(init_value=0.0, peak_value=1.0, warmup_steps=5, decay_steps=5)]
            ),
            "warmup_cosine_decay_schedule: decay_steps includes the warmup and must be "
            "above warmup_steps, got 5 and 5",
        ),
        (
            lambda lib: lib.cyclic_schedule(0.1, 1.0, 0),
            "cyclic_schedule: up_steps must be positive, got 0",
        ),
        (
            lambda lib: lib.cyclic_schedule(0.1, 1.0, 5, -1),
            "cyclic_schedule: down_steps must be positive, got -1",
        ),
        (
            lambda lib: lib.cyclic_schedule(0.1, 1.0, 5, cycle_factor=0.0),
            "cyclic_schedule: cycle_factor must be positive, got 0.0",
        ),
        (
            lambda lib: lib.join_schedules([abs, abs], []),
            "join_schedules: needs at least one schedule, and at least one boundary "
            "fewer than schedules, got 0 for 2",
        ),
        (
            lambda lib: lib.join_schedules([], []),
            "join_schedules: needs at least one schedule, and at least one boundary "
            "fewer than schedules, got 0 for 0",
        ),
    ],
)
def test_number_out_of_its_range_raises_where_it_is_given(make, message):
    with pytest.raises(ValueError) as caught:
        make(gradtx)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda lib: lib.constant_schedule("1e-3"),
            "constant_schedule: value must be a number, got '1e-3'",
        ),
        (
            lambda lib: lib.linear_schedule(1.0, 0.0, True),
            "linear_schedule: transition_steps must be a number, got True",
        ),
        (
            lambda lib: lib.piecewise_constant_schedule(1.0, {3: "half"}),
            "piecewise_constant_schedule: boundaries_and_scales must be a number, "
            "got 'half'",
        ),
        (
            lambda lib: lib.piecewise_interpolate_schedule("linear", 1.0, {"3": 1.0}),
            "piecewise_interpolate_schedule: boundaries_and_scales must be a dict from "
            "counts to factors, got {'3': 1.0}",
        ),
        (
            lambda lib: lib.cyclic_schedule(0.1, 1.0, lib.constant_schedule(1)),
            "cyclic_schedule: up_steps takes no schedule, only a number; "
            "got constant_schedule(value=1.0)",
        ),
        (
            lambda lib: lib.sgdr_schedule([dict(peak_value="high")]),
            "sgdr_schedule: cosine_kwargs must be a number, got 'high'",
        ),
        (
            lambda lib: lib.sgdr_schedule([dict(init_value=0.0, peak_value=1.0)]),
            "warmup_cosine_decay_schedule: missing a required argument: 'warmup_steps'",
        ),
        (
            lambda lib: lib.sgdr_schedule([dict(warmup_step=5)]),
            "warmup_cosine_decay_schedule: unknown argument 'warmup_step'; "
            "did you mean 'warmup_steps'?",
        ),
        (
            lambda lib: lib.sgd("1e-3"),
            "sgd: learning_rate must be a number or a schedule, got '1e-3'",
        ),
        (
            lambda lib: lib.linear_schedule(lib.constant_schedule(1), 0.0, 10),
            "linear_schedule: init_value takes no schedule, only a number; "
            "got constant_schedule(value=1.0)",
        ),
        (
            lambda lib: lib.linear_schedule(1.0, 0.0, lib.constant_schedule(1)),
            "linear_schedule: transition_steps takes no schedule, only a number; "
            "got constant_schedule(value=1.0)",
        ),
        (
            lambda lib: lib.join_schedules([abs, 2.0], [3]),
            "join_schedules: schedules must be schedules, got 2.0",
        ),
        (
            lambda lib: lib.linear_schedule(1.0, 0.0),
            "linear_schedule: missing a required argument: 'transition_steps'",
        ),
        (
            lambda lib: lib.linear_schedule(1.0, 0.0, 10, transition_begn=1),
            "linear_schedule: unknown argument 'transition_begn'; "
            "did you mean 'transition_begin'?",
        ),
        (
            lambda lib: lib.linear_schedule(1.0, 0.0, 10).replace(init_valu=1.0),
            "linear_schedule: unknown argument 'init_valu'; did you mean 'init_value'?",
        ),
    ],
)
def test_argument_of_another_kind_raises_where_it_is_given(make, message):
    with pytest.raises(TypeError) as caught:
        make(gradtx)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "make",
    [
        lambda lib: lib.linear_schedule(1.0, None, 10),
        lambda lib: lib.constant_schedule(None),
        lambda lib: lib.piecewise_constant_schedule(1.0, [3]),
    ],
)
def test_number_that_is_absent_raises_where_it_is_given(make):
    with pytest.raises(TypeError, match=r"_schedule: .* must be "):
        make(gradtx)


@gradtx.schedule
def composed_by_a_user(warmup_steps: gradtx.Constant):
    return gradtx.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps, 10)


def test_number_that_a_part_refuses_raises_where_the_whole_is_made():
    assert composed_by_a_user(5) == composed_by_a_user(5.0)
    with pytest.raises(ValueError, match="must be above warmup_steps, got 10 and 20"):
        composed_by_a_user(20)
