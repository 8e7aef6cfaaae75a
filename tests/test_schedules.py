import pickle
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx

COUNTS = range(31)

# Each is built from gradtx and from optax: the transition ends, begins, or jumps among
# the counts, and where a count divides its number of steps.
SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "constant": lambda lib: lib.constant_schedule(0.3),
    "linear": lambda lib: lib.linear_schedule(1.0, 0.1, 10),
    "linear from zero, late": lambda lib: lib.linear_schedule(0.0, 1.0, 7, 5),
    "linear in one step": lambda lib: lib.linear_schedule(0.5, 0.0, 1),
    "parabola": lambda lib: lib.polynomial_schedule(1.0, 0.1, 2, 10),
    "root": lambda lib: lib.polynomial_schedule(0.1, 2.0, 0.5, 7, 3),
    "root to zero": lambda lib: lib.polynomial_schedule(1.0, 0.0, 0.5, 30),
    "cubic to zero": lambda lib: lib.polynomial_schedule(1.0, 0.0, 3.0, 30),
    "exponential": lambda lib: lib.exponential_decay(1.0, 10, 0.5),
    "exponential, late": lambda lib: lib.exponential_decay(0.3, 6, 0.7, 4),
    "exponential staircase": lambda lib: lib.exponential_decay(1.0, 4, 0.5, 3, True),
    "exponential to a floor": lambda lib: lib.exponential_decay(
        0.1, 5, 0.9, end_value=0.08
    ),
    "exponential to a ceiling": lambda lib: lib.exponential_decay(
        0.1, 3, 1.5, 2, True, 0.4
    ),
    "cosine": lambda lib: lib.cosine_decay_schedule(0.3, 20),
    "cosine to a share": lambda lib: lib.cosine_decay_schedule(0.3, 13, 0.1),
    "cosine squared": lambda lib: lib.cosine_decay_schedule(1.0, 30, 0.05, 2.0),
    "warm cosine": lambda lib: lib.warmup_cosine_decay_schedule(0.0, 1.0, 5, 25),
    "cosine, no warmup": lambda lib: lib.warmup_cosine_decay_schedule(
        0.1, 0.7, 0, 20, 0.01
    ),
    "long warmup": lambda lib: lib.warmup_cosine_decay_schedule(
        0.1, 0.7, 10, 11, 0.2, 1.5
    ),
    "piecewise": lambda lib: lib.piecewise_constant_schedule(1.0, {11: 0.1, 5: 0.5}),
    "piecewise from the start": lambda lib: lib.piecewise_constant_schedule(
        2.0, {0: 0.5, 30: 0.0}
    ),
    "piecewise in one piece": lambda lib: lib.piecewise_constant_schedule(2.0),
    "joined": lambda lib: lib.join_schedules(
        [
            lib.linear_schedule(0.0, 1.0, 6),
            lib.join_schedules(
                [lib.cosine_decay_schedule(1.0, 9), lib.constant_schedule(0.2)], [8]
            ),
            lib.exponential_decay(0.5, 4, 0.5),
        ],
        [6, 20],
    ),
}
OWN: dict[str, Callable[[Any], Any]] = {
    "inverse": lambda lib: lib.inverse_time_decay(0.2, 1.0),
    "inverse staircase": lambda lib: lib.inverse_time_decay(0.2, 1.0, 2),
}
EVERY = SCHEDULES | OWN

CALLS: dict[str, tuple[Callable[[int], Any], Callable[[Any], Any]]] = {
    "int": (int, lambda schedule: schedule),
    "int32": (jnp.int32, lambda schedule: schedule),
    "jit": (jnp.int32, jax.jit),
}
each_call = pytest.mark.parametrize(("count", "wrap"), CALLS.values(), ids=CALLS)


def each_schedule(kinds: dict[str, Any]) -> Any:
    return pytest.mark.parametrize("make", kinds.values(), ids=kinds)


@pytest.mark.parametrize("is_x64", [False, True])
@each_call
@each_schedule(SCHEDULES)
def test_schedule_equals_optax(make, count, wrap, is_x64):
    with jax.enable_x64(is_x64):
        counts = list(map(count, COUNTS))
        mine = list(map(wrap(make(gradtx)), counts))
        with jax.numpy_dtype_promotion("standard"):
            theirs = list(map(make(optax), counts))
    # In optax the share of a transition is float32 for an int32 count, also in x64.
    is_double = is_x64 and count is int
    # Sums such as 1 + cos cancel near 0: what is left is good to the rounding of 1.
    rounding = np.finfo(np.float64 if is_double else np.float32).eps * max(theirs)
    rtol = 1e-12 if is_double else 1e-6
    np.testing.assert_allclose(np.array(mine), np.array(theirs), rtol, rounding)


@each_call
@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (None, [0.2, 0.1, 0.2 / 3, 0.05, 0.04]),
        (2, [0.2, 0.2, 0.1, 0.1, 0.2 / 3]),
        (3, [0.2, 0.2, 0.2, 0.1, 0.1]),
    ],
)
def test_inverse_time_decay_divides_by_the_count_of_intervals(
    count, wrap, interval, expected
):
    schedule = wrap(gradtx.inverse_time_decay(0.2, 1.0, interval))
    values = [schedule(count(n)) for n in range(5)]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize("is_x64", [False, True])
@pytest.mark.parametrize("steps", [3, 41, 49, 55])
@pytest.mark.parametrize(
    ("staircase", "value"),
    [
        (lambda n: gradtx.exponential_decay(1.0, n, 0.5, staircase=True), [1.0, 0.5]),
        (lambda n: gradtx.inverse_time_decay(1.0, 3.0, n), [1.0, 0.25]),
    ],
    ids=["exponential", "inverse"],
)
def test_staircase_steps_at_its_interval_in_jit(staircase, value, steps, is_x64):
    # XLA divides by a constant as it multiplies by 1 / constant, and 41 * (1 / 41) < 1.
    with jax.enable_x64(is_x64):
        step = jax.jit(staircase(steps))
        values = [step(jnp.int32(steps - 1)), step(jnp.int32(steps))]
        np.testing.assert_allclose(values, value, rtol=1e-6)


@pytest.mark.parametrize("is_x64", [False, True])
@pytest.mark.parametrize("steps", [3, 30, 41, 49])
def test_transition_arrives_at_its_end_in_jit(steps, is_x64):
    # As above: 1 - 30 * (1 / 30), fused, is below 0 and has no root.
    with jax.enable_x64(is_x64):
        schedule = jax.jit(gradtx.polynomial_schedule(1.0, 0.25, 0.5, steps))
        values = [schedule(jnp.int32(count)) for count in (steps, steps + 1, 2**30)]
        np.testing.assert_allclose(values, 0.25, rtol=1e-6)


@each_call
def test_warmup_of_no_steps_starts_at_its_peak(count, wrap):
    schedule = wrap(gradtx.warmup_cosine_decay_schedule(0.1, 0.7, 0, 10, 0.2))
    values = [schedule(count(n)) for n in (0, 10, 11)]
    np.testing.assert_allclose(values, [0.7, 0.2, 0.2], rtol=1e-6)


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
    assert [back(count) for count in COUNTS] == [make(gradtx)(c) for c in COUNTS]


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
    ("schedule", "slope"),
    [
        (gradtx.constant_schedule(0.3), lambda c: 1.0),
        (gradtx.linear_schedule(0.3, 0, 8, 1), lambda c: 1 - min(max(c - 1, 0), 8) / 8),
        (gradtx.polynomial_schedule(0.3, 0, 3, 8), lambda c: (1 - min(c, 8) / 8) ** 3),
        (gradtx.exponential_decay(0.3, 5, 0.5), lambda c: 0.5 ** (c / 5)),
        (gradtx.exponential_decay(0.3, 5, 0.5, 0, True), lambda c: 0.5 ** (c // 5)),
        (gradtx.inverse_time_decay(0.3, 2.0), lambda c: 1 / (1 + 2 * c)),
        (
            gradtx.cosine_decay_schedule(0.3, 8, 0.1, 0.5),
            lambda c: 0.1 + 0.9 * (0.5 + 0.5 * np.cos(np.pi * min(c, 8) / 8)) ** 0.5,
        ),
        (
            gradtx.warmup_cosine_decay_schedule(0.3, 1.0, 4, 8),
            lambda c: 1 - min(c, 4) / 4,
        ),
        (
            gradtx.piecewise_constant_schedule(0.3, {4: 0.5, 8: 0.0}),
            lambda c: [1.0, 0.5, 0.0][(c >= 4) + (c >= 8)],
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_derivative_by_the_first_value_is_finite_and_right(schedule, slope):
    first = "value" if schedule.name == "constant_schedule" else "init_value"

    @jax.jit
    @jax.grad
    def derivative(value, count):
        return jnp.asarray(schedule.replace(**{first: value})(count))

    counts = (0, 1, 4, 7, 8, 9)
    slopes = [derivative(0.3, jnp.int32(count)) for count in counts]
    expected = [slope(count) for count in counts]
    np.testing.assert_allclose(slopes, expected, rtol=1e-6, atol=1e-7)


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
        "joined": lambda x: gradtx.join_schedules(
            (gradtx.constant_schedule(np.float32(1)), gradtx.linear_schedule(x, 0, 9)),
            (2,),
        ),
    }
)
def test_numbers_of_any_dtype_meet_under_strict_promotion(make, count, dtype):
    with jax.enable_x64(True):
        np.testing.assert_allclose(make(dtype(0.5))(count), make(0.5)(count), rtol=1e-6)


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
        jax.tree.map(np.testing.assert_array_equal, one, other)
    assert make(**{argument: plain}) == make(**{argument: plain})


def test_lambda_is_a_part_of_a_joined_schedule():
    joined = gradtx.join_schedules((lambda c: c, lambda c: 10 * c), (3,))
    assert [int(joined(count)) for count in range(6)] == [0, 1, 2, 0, 10, 20]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda lib: lib.linear_schedule(1.0, 0.0, 0),
            "linear_schedule: transition_steps must be positive, got 0",
        ),
        (
            lambda lib: lib.polynomial_schedule(1.0, 0.0, 2, -3),
            "polynomial_schedule: transition_steps must be positive, got -3",
        ),
        (
            lambda lib: lib.linear_schedule(1.0, 0.0, 10, -1),
            "linear_schedule: transition_begin must be at least 0, got -1",
        ),
        (
            lambda lib: lib.linear_schedule(float("nan"), 0.0, 10),
            "linear_schedule: init_value must be a number, got nan",
        ),
        (
            lambda lib: lib.linear_schedule(1.0, 0.0, 10).replace(transition_steps=0),
            "linear_schedule: transition_steps must be positive, got 0",
        ),
        (
            lambda lib: lib.exponential_decay(1.0, 0, 0.5),
            "exponential_decay: transition_steps must be positive, got 0",
        ),
        (
            lambda lib: lib.exponential_decay(1.0, 10, 0.0),
            "exponential_decay: decay_rate must be positive, got 0.0",
        ),
        (
            lambda lib: lib.exponential_decay(1.0, 10, 0.5, -2),
            "exponential_decay: transition_begin must be at least 0, got -2",
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
            lambda lib: lib.join_schedules([abs, abs], []),
            "join_schedules: needs one boundary fewer than schedules, got 0 for 2",
        ),
        (
            lambda lib: lib.join_schedules([abs], [3]),
            "join_schedules: needs one boundary fewer than schedules, got 1 for 1",
        ),
        (
            lambda lib: lib.join_schedules([abs, abs], [-3]),
            "join_schedules: boundaries must be at least 0, got -3",
        ),
    ],
)
def test_number_out_of_its_range_raises_where_it_is_given(make, message):
    with pytest.raises(ValueError) as caught:
        make(gradtx)
    assert str(caught.value) == message


def test_boundaries_that_descend_raise():
    with pytest.raises(ValueError, match=r"join_schedules: .*boundaries.*4.*2"):
        gradtx.join_schedules((abs, abs, abs), (4, 2))


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
