import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx

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
    "piecewise linear": lambda lib: lib.piecewise_interpolate_schedule(
        "linear", 1.0, {4: 0.1, 8: 0.01}
    ),
    "piecewise cosine": lambda lib: lib.piecewise_interpolate_schedule(
        "cosine", 0.3, {21: 0.5, 7: 3.0, 8: 0.0}
    ),
    "piecewise cosine from the start": lambda lib: lib.piecewise_interpolate_schedule(
        "cosine", 0.3, {0: 0.5, 9: 0.1}
    ),
    "interpolated in no piece": lambda lib: lib.piecewise_interpolate_schedule(
        "linear", 0.3
    ),
    "linear onecycle": lambda lib: lib.linear_onecycle_schedule(23, 0.3),
    "linear onecycle, other": lambda lib: lib.linear_onecycle_schedule(
        29, 1.0, 0.5, 0.9, 10.0, 2.0
    ),
    "linear onecycle, no way up": lambda lib: lib.linear_onecycle_schedule(3, 0.3),
    "cosine onecycle": lambda lib: lib.cosine_onecycle_schedule(23, 0.3),
    "cosine onecycle, other": lambda lib: lib.cosine_onecycle_schedule(
        30, 1.0, 0.45, 10.0, 2.0
    ),
    "warm constant": lambda lib: lib.warmup_constant_schedule(0.0, 0.3, 7),
    "warm exponential": lambda lib: lib.warmup_exponential_decay_schedule(
        0.0, 1.0, 5, 10, 0.5
    ),
    "warm exponential, other": lambda lib: lib.warmup_exponential_decay_schedule(
        0.1, 0.7, 3, 4, 0.6, 2, True, 0.2
    ),
    "warm exponential, no warmup": lambda lib: lib.warmup_exponential_decay_schedule(
        0.1, 0.7, 0, 4, 1.1, end_value=1.2
    ),
    "one cosine cycle": lambda lib: lib.sgdr_schedule(
        [dict(init_value=0.0, peak_value=1.0, warmup_steps=5, decay_steps=25)]
    ),
    "warm restarts": lambda lib: lib.sgdr_schedule(
        [
            dict(init_value=0.1, peak_value=1.0, warmup_steps=3, decay_steps=8),
            dict(init_value=0.0, peak_value=0.5, warmup_steps=0, decay_steps=9),
            dict(
                init_value=0.1,
                peak_value=0.3,
                warmup_steps=2,
                decay_steps=11,
                end_value=0.05,
                exponent=1.5,
            ),
        ]
    ),
    "growth that ends": lambda lib: lib.join_schedules(
        [lib.exponential_decay(0.1, 1, 1.5), lib.constant_schedule(0.2)], [5]
    ),
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


def cooled(curve):
    """Hu et al. 2024, section 4.2, but from a first value and to a last one."""

    def value(t):
        if t < 6:
            return 0.1 + (1.5 - 0.1) * t / 6
        return 0.2 + (1.5 - 0.2) * curve(min(max(t - 6 - 10, 0) / 11, 1))

    return value


def triangular(up, down, scale):
    """Smith 2015, section 3.2; torch's `CyclicLR` from 0.1 to 0.7."""

    def value(t):
        cycle = np.floor(1 + t / (up + down))
        x, top = 1 + t / (up + down) - cycle, up / (up + down)
        height = x / top if x <= top else (x - 1) / (top - 1)
        return 0.1 + (0.7 - 0.1) * height * scale(cycle, t)

    return value


# Those that optax lacks, with the value by the paper in float64.
OWN: dict[str, tuple[Callable[[Any], Any], Callable[[int], float]]] = {
    "inverse": (lambda lib: lib.inverse_time_decay(0.2, 1.0), lambda t: 0.2 / (1 + t)),
    "inverse staircase": (
        lambda lib: lib.inverse_time_decay(0.2, 1.0, 2),
        lambda t: 0.2 / (1 + t // 2),
    ),
    "k/sqrt(t)": (
        lambda lib: lib.inverse_sqrt_decay(0.2),
        lambda t: 0.2 / np.sqrt(t + 1),
    ),
    "k/sqrt(t), slow": (
        lambda lib: lib.inverse_sqrt_decay(0.2, 7),
        lambda t: 0.2 * np.sqrt(7 / (7 + t)),
    ),
    "Noam": (
        lambda lib: lib.warmup_inverse_sqrt_schedule(0.0, (64 * 9) ** -0.5, 9),
        lambda t: 64**-0.5 * min(max(t, 1) ** -0.5, t * 9**-1.5),
    ),
    "T5": (
        lambda lib: lib.warmup_inverse_sqrt_schedule(10**-0.5, 10**-0.5, 10),
        lambda t: 1 / np.sqrt(max(t, 10)),
    ),
    "WSD": (
        lambda lib: lib.warmup_stable_decay_schedule(0.1, 1.5, 6, 10, 11, 0.2),
        cooled(lambda p: 1 - p),
    ),
    "WSD, cosine": (
        lambda lib: lib.warmup_stable_decay_schedule(
            0.1, 1.5, 6, 10, 11, 0.2, "cosine"
        ),
        cooled(lambda p: (1 + np.cos(np.pi * p)) / 2),
    ),
    "WSD, 1-sqrt": (
        lambda lib: lib.warmup_stable_decay_schedule(
            0.1, 1.5, 6, 10, 11, 0.2, "1-sqrt"
        ),
        cooled(lambda p: 1 - np.sqrt(p)),
    ),
    "WSD, decay only": (
        lambda lib: lib.warmup_stable_decay_schedule(0.0, 0.3, 0, 0, 30),
        lambda t: 0.3 * max(1 - t / 30, 0),
    ),
    "REX": (
        lambda lib: lib.rex_schedule(0.3, 0.0, 25),
        lambda t: 0.3 * (1 - min(t / 25, 1)) / (0.5 + 0.5 * (1 - min(t / 25, 1))),
    ),
    "REX, late": (
        lambda lib: lib.rex_schedule(1.0, 0.1, 8, 4),
        lambda t: (
            0.1 + 0.9 * (12 - min(max(t, 4), 12)) / (8 - min(max(t - 4, 0), 8) / 2)
        ),
    ),
    "triangular": (
        lambda lib: lib.cyclic_schedule(0.1, 0.7, 4),
        triangular(4, 4, lambda cycle, t: 1),
    ),
    "triangular2": (
        lambda lib: lib.cyclic_schedule(0.1, 0.7, 5, 3, 0.5),
        triangular(5, 3, lambda cycle, t: 0.5 ** (cycle - 1)),
    ),
    "exp_range": (
        lambda lib: lib.cyclic_schedule(0.1, 0.7, 3, 7, step_factor=0.97),
        triangular(3, 7, lambda cycle, t: 0.97**t),
    ),
    "transition": (
        lambda lib: lib.transition_schedule(1.0, 0.2, 20, 3, "1-sqrt", 2.0),
        lambda t: 0.2 + 0.8 * (1 - np.sqrt(min(max(t - 3, 0) / 20, 1))) ** 2,
    ),
    "jump": (
        lambda lib: lib.transition_schedule(1.0, 0.2, 0, 12),
        lambda t: 1.0 if t < 12 else 0.2,
    ),
}
EVERY = SCHEDULES | {name: make for name, (make, _) in OWN.items()}

COUNTS = np.arange(31, dtype=np.int32)
# Un-jitted at all counts at once, and compiled, as in a training loop.
WAYS: dict[str, Callable[[Any], Any]] = {
    "array": lambda schedule: schedule(COUNTS),
    "scan": lambda schedule: jax.jit(lambda n: jax.lax.map(schedule, n))(COUNTS),
}
each_way = pytest.mark.parametrize("values_of", WAYS.values(), ids=WAYS)


def each_schedule(kinds: dict[str, Any]) -> Any:
    return pytest.mark.parametrize("make", kinds.values(), ids=kinds)


@functools.cache
def values_by_optax(make, is_x64):
    # At Python's ints, because with x64 optax's are float32 at int32 counts.
    with jax.enable_x64(is_x64), jax.numpy_dtype_promotion("standard"):
        return np.array(list(map(make(optax), range(31))))


@pytest.mark.parametrize("is_x64", [False, True])
@each_way
@each_schedule(SCHEDULES)
def test_schedule_equals_optax(make, values_of, is_x64):
    theirs = values_by_optax(make, is_x64)
    with jax.enable_x64(is_x64):
        mine = np.broadcast_to(values_of(make(gradtx)), theirs.shape)
    # Sums such as 1 + cos cancel near 0: what is left is good to the rounding of 1.
    rounding = np.finfo(np.float64 if is_x64 else np.float32).eps * theirs.max()
    np.testing.assert_allclose(mine, theirs, 1e-12 if is_x64 else 1e-6, rounding)


@pytest.mark.parametrize("is_x64", [False, True])
@each_way
@each_schedule(OWN)
def test_schedule_that_optax_lacks_is_its_paper_s(make, values_of, is_x64):
    schedule, by_the_paper = make
    with jax.enable_x64(is_x64):
        mine = np.array(values_of(schedule(gradtx)))
    rounding = float(np.finfo(np.float64 if is_x64 else np.float32).eps)
    expected = [by_the_paper(int(n)) for n in COUNTS]
    np.testing.assert_allclose(mine, expected, 8 * rounding, 2 * rounding)


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


KINKS = np.array([*range(40), 10**6], np.float32)


@each_schedule(EVERY)
def test_derivative_by_every_number_is_a_quotient_of_differences(make):
    numbers, treedef = jax.tree.flatten(make(gradtx))
    step = 1e-7

    def value(numbers, count):
        return jnp.asarray(treedef.unflatten(list(numbers))(count))

    # Between counts, where no kink is; onecycle's floors are kinks from below.
    counts, here = np.arange(0.37, 33, 2), np.array(numbers)
    moved = here + step * np.eye(len(here) + 1, len(here), -1)
    with jax.enable_x64(True):
        at = jax.jit(jax.vmap(jax.vmap(value, (None, 0)), (0, None)))
        first, *others = np.asarray(at(moved, counts))
        derivative = jax.jit(jax.vmap(jax.grad(value), (None, 0)))
        found = derivative(here, np.append(counts, KINKS))
    slopes = [(other - first) / step for other in others]
    np.testing.assert_allclose(found.T[:, : len(counts)], slopes, 1e-5, 1e-6)
    assert np.isfinite(found).all()


@each_schedule(EVERY)
def test_derivative_in_float32_is_finite_at_every_count(make):
    derivative = jax.jit(jax.vmap(jax.grad(lambda it, n: it(n) * 1.0), (None, 0)))
    leaves = jax.tree.leaves(derivative(make(gradtx), KINKS))
    assert leaves and all(np.isfinite(leaf).all() for leaf in leaves)


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


@pytest.mark.parametrize("share", [0.0, 0.29, 0.57, 0.94])
@pytest.mark.parametrize("steps", [100, 57.5])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("linear_onecycle_schedule", {"pct_final": 0.97}),
        ("cosine_onecycle_schedule", {}),
    ],
)
def test_onecycle_turns_where_optax_does_also_when_its_numbers_are_traced(
    name, more, steps, share
):
    # 0.29 * 100 is below 29 in double, and int() of it 28.
    mine, theirs = (
        getattr(library, name)(steps, 1.0, share, **more) for library in (gradtx, optax)
    )
    counts = np.arange(int(steps) + 3)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        expected = jax.jit(jax.vmap(theirs))(counts)
        np.testing.assert_allclose(mine(counts), expected, 1e-12, 1e-15)
        traced = jax.jit(lambda schedule: schedule(counts))(mine)
        np.testing.assert_allclose(traced, expected, 1e-12, 1e-15)


def test_onecycle_keeps_both_factors_of_one_count():
    # optax writes both into one entry of a dict, so it ends 25 times too high.
    schedule = gradtx.linear_onecycle_schedule(20, 1.0, pct_final=1.0)
    values = [schedule(count) for count in (6, 13, 20)]
    np.testing.assert_allclose(values, [1.0, 0.52, 4e-6], rtol=1e-6)
    theirs = optax.linear_onecycle_schedule(20, 1.0, pct_final=1.0)
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(theirs(20), 1e-4, rtol=1e-6)


@pytest.mark.parametrize(
    "schedule",
    [
        gradtx.warmup_constant_schedule(0.1, 0.7, 0),
        gradtx.warmup_cosine_decay_schedule(0.1, 0.7, 0, 10, 0.7),
        gradtx.warmup_exponential_decay_schedule(0.1, 0.7, 0, 5, 0.5, 1),
        gradtx.warmup_stable_decay_schedule(0.1, 0.7, 0, 1, 5),
    ],
    ids=lambda schedule: schedule.name,
)
def test_warmup_of_no_steps_is_no_warmup(schedule):
    np.testing.assert_allclose([schedule(0), schedule(1)], 0.7, rtol=1e-6)


def test_warm_restarts_take_any_iterable():
    cycle = dict(init_value=0.0, peak_value=1.0, warmup_steps=2, decay_steps=8)
    one = gradtx.sgdr_schedule([cycle, cycle])
    cycles: Any = (dict(cycle) for _ in range(2))
    assert gradtx.sgdr_schedule(cycles) == one


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


@pytest.mark.parametrize("is_traced", [False, True])
def test_a_cosine_after_a_peak_of_zero_stays_there_as_in_optax(is_traced):
    def values(lib, peak_value):
        make = lib.warmup_cosine_decay_schedule
        return jax.vmap(make(0.2, peak_value, 5, 10, end_value=-3.0))(COUNTS)

    ours = functools.partial(values, gradtx)
    with jax.numpy_dtype_promotion("standard"):
        expected = values(optax, 0.0)
    np.testing.assert_allclose(
        (jax.jit(ours) if is_traced else ours)(0.0), expected, atol=1e-7
    )
