"""Every schedule at every count: past 2**24, at int32's maximum, below 0, at epochs.

Each is compared with its formula in Python: whole numbers are ints there, and the rest
is float64.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.schedules.formulas import LAST, OF

FACTORIES = [
    name for name, made in vars(gradtx.schedules).items() if hasattr(made, "factory")
]

each_factory = pytest.mark.parametrize("name", FACTORIES)


def counts_near(n):
    near = {t + d for t in (0, n, int(1.5 * n), 2 * n, 2**24) for d in range(-3, 8)}
    spread = {n // 3, n + n // 7, 2 * n - n // 9, 10**9, 2 * 10**9, LAST - 1, LAST}
    return np.array(sorted(t for t in near | spread if 0 <= t <= LAST), np.int32)


WAYS: dict[str, Callable[..., Any]] = {
    "array": lambda it, counts: it(counts),
    "scan": lambda it, counts: jax.jit(lambda n: jax.lax.map(it, n))(counts),
}


def assert_as(formula, values, counts, rtol):
    expected = np.array([formula(t) for t in counts.tolist()])
    values = np.broadcast_to(np.asarray(values, float), expected.shape)
    np.testing.assert_allclose(values, expected, rtol, 1.2e-38)


@pytest.mark.parametrize("is_x64", [False, True])
@pytest.mark.parametrize("values_of", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("n", [8, 2**24 + 1, 10**9 - 1, 10**10])
@each_factory
def test_schedule_is_exact_at_every_count(name, n, values_of, is_x64):
    counts = counts_near(n)
    with jax.enable_x64(is_x64):
        for schedule, formula in OF[name](n, 3):
            values = values_of(schedule, counts)
            assert_as(formula, values, counts, 1e-12 if is_x64 else 1e-6)


@pytest.mark.parametrize(("n", "d"), [(8, 3), (2**25, 4), (10**9, 128)])
@each_factory
def test_schedule_of_traced_numbers_turns_at_the_same_counts(name, n, d):
    # Traced numbers are float32: these steps are among them, rates next to 1 are not.
    counts = counts_near(n)
    for schedule, formula in OF[name](n, d):
        if any(0 < abs(x - 1) < 1e-6 for x in jax.tree.leaves(schedule)):
            continue
        if name == "cyclic_schedule" and n > 2**24:
            continue  # the count in a cycle is a float32 too
        values = jax.jit(lambda it, at: it(at))(schedule, counts)
        expected = np.array([formula(t) for t in counts.tolist()])
        np.testing.assert_allclose(values, expected, 2e-6, 2e-4 * abs(expected).max())


@pytest.mark.parametrize(
    "counts",
    [
        np.array([-1, -5, -(2**31)], np.int32),
        np.array([-0.5, -1e30, -math.inf], np.float32),
    ],
    ids=["ints", "floats"],
)
@each_factory
def test_before_its_beginning_a_schedule_has_its_first_value(name, counts):
    for n in (5, 2**25):
        for schedule, formula in OF[name](n, 3):
            for value in (schedule(counts), jax.jit(schedule)(counts)):
                np.testing.assert_allclose(value, formula(0), 1e-6)
            np.testing.assert_allclose(schedule(counts[0].item()), formula(0), 1e-6)


@each_factory
def test_schedule_takes_epochs_with_a_fraction(name):
    epochs = np.array([0.0, 0.25, 3.75, 7.75, 8.5, 10.125, 17.5, 30.5], np.float32)
    for schedule, formula in OF[name](8, 3):
        expected = [formula(epoch) for epoch in epochs.tolist()]
        for value in (schedule(epochs), jax.jit(schedule)(epochs)):
            np.testing.assert_allclose(value, expected, 1e-6, 1e-7)


@pytest.mark.parametrize(
    "counts",
    [
        np.array([-3, 0, 1, 5, 7, 8, 11, 16, LAST], np.int32),
        np.array([-0.5, 0.0, 0.5, 7.999, 8.0, 16.0, 1e30], np.float32),
    ],
    ids=["ints", "floats"],
)
@each_factory
def test_values_and_derivatives_are_finite_at_every_count(name, counts):
    def value(it, count):
        return jnp.asarray(it(count), float)

    # Derivatives by the count, and by the numbers, at counts that there are.
    there_are = counts < 1e9
    for schedule, _ in OF[name](8, 3):
        if name != "join_schedules":  # one plain function grows for ever
            assert np.isfinite(value(schedule, counts)).all()
        arguments = (0, 1) if counts.dtype == np.float32 else 0
        slopes = jax.jit(jax.vmap(jax.grad(value, arguments), (None, 0)))(
            schedule, counts[there_are]
        )
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(slopes))


@pytest.mark.parametrize(
    "count",
    [np.uint8(5), np.int8(5), np.uint32(5), np.int64(5), np.array(5), 5.0, True + 4],
    ids=lambda x: type(x).__name__,
)
@each_factory
def test_count_may_be_of_any_dtype(name, count):
    for schedule, formula in OF[name](4, 3):
        np.testing.assert_allclose(schedule(count), formula(5), 1e-6)
        array = jnp.full(2, count)
        assert array.dtype == jnp.asarray(count).dtype
        np.testing.assert_allclose(schedule(array), formula(5), 1e-6)


@pytest.mark.parametrize("count", [2**31, 2**32 - 2048, 3 * 10**9, 2**40, 10**30])
@each_factory
def test_count_of_the_host_may_be_above_int32(name, count):
    for schedule, formula in OF[name](2**31, 512):
        if name in ("join_schedules", "cyclic_schedule", "inverse_time_decay"):
            assert np.isfinite(schedule(count))
            continue  # they count, and a float32 of such a size does not
        np.testing.assert_allclose(schedule(count), formula(count), 1e-5, 1e-6)


@pytest.mark.parametrize("interval", [2.5, 0.5, 10 / 3, 3.3, 1234.56, 33333 + 1 / 3])
@pytest.mark.parametrize("is_x64", [False, True])
def test_staircase_with_an_interval_that_is_not_whole(interval, is_x64):
    # The quotient in double, where the interval times a whole number is exact enough.
    stairs = [math.ceil(k * interval) for k in (1, 2, 3, 1000)]
    far = min(10**6 * math.ceil(interval), LAST)
    counts = np.array(sorted({0, far} | {t + d for t in stairs for d in (-1, 0, 1)}))
    counts = counts.astype(np.int32)
    over = np.floor(counts.astype(float) / interval)
    with jax.enable_x64(is_x64):
        for way in WAYS.values():
            values = way(gradtx.inverse_time_decay(1.0, 1.0, interval), counts)
            np.testing.assert_allclose(values, 1 / (1 + over), 1e-6)
            stair = gradtx.exponential_decay(1.0, interval, 0.9999, 0, True)
            np.testing.assert_allclose(way(stair, counts), 0.9999**over, 1e-6, 1e-6)


@pytest.mark.parametrize("n", [5, 2**24 + 1, 2 * 10**9])
@pytest.mark.parametrize("way", WAYS)
def test_a_plain_function_gets_its_own_count_as_an_int(n, way):
    table = jnp.arange(20.0)
    joined = gradtx.join_schedules([lambda c: 0.0 * c, lambda c: table[c]], [n])
    counts = np.array([n - 1, n, n + 1, n + 10], np.int32)
    np.testing.assert_array_equal(WAYS[way](joined, counts), [0.0, 0.0, 1.0, 10.0])


def test_a_plain_function_gets_the_fraction_of_an_epoch():
    joined = gradtx.join_schedules([lambda c: c, lambda c: 10 * c], [2])
    assert [float(joined(t)) for t in (0.5, 1.5, 2.0, 2.25)] == [0.5, 1.5, 0.0, 2.5]
    assert float(gradtx.join_schedules([lambda c: c], [])(0.5)) == 0.5
    late = gradtx.join_schedules([lambda c: c, lambda c: 10 * c], [1.5])
    assert [float(late(t)) for t in (1, 2, 3)] == [1.0, 5.0, 15.0]


RATES = [1 - 1e-6, 1 + 1e-6, 1 - 1e-9, 0.9999, 0.999, 0.1, 1.0001]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("way", WAYS)
def test_power_of_a_rate_is_as_exact_as_float32_allows(rate, way):
    last = min(math.ceil(8 / abs(math.log(rate))), LAST)
    counts = np.array([1, last // 9, last // 2, last], np.int32)
    powers = np.array([rate ** int(t) for t in counts])
    schedules = {
        "exponential_decay": gradtx.exponential_decay(1.0, 1, rate),
        "staircase": gradtx.exponential_decay(1.0, 1, rate, 0, True),
        "warm": gradtx.warmup_exponential_decay_schedule(0.0, 1.0, 0, 1, rate),
        "steps of cycles": gradtx.cyclic_schedule(1.0, 2.0, 1, 1, 1.0, rate),
        "cycles": gradtx.cyclic_schedule(1.0, 2.0, 1, 1, rate),
    }
    for name, schedule in schedules.items():
        values = np.asarray(WAYS[way](schedule, counts), float)
        expected = powers
        if "cycles" in name:
            half = powers if "steps" in name else rate ** (counts // 2).astype(float)
            expected = 1 + (counts % 2) * half
        np.testing.assert_allclose(values, expected, 6e-7, err_msg=name)
        if name == "exponential_decay":
            with jax.numpy_dtype_promotion("standard"):
                theirs = optax.exponential_decay(1.0, 1, rate)(counts)
            distance = abs(np.asarray(theirs, float) / powers - 1).max()
            assert abs(values / powers - 1).max() <= distance + 1.2e-7


def test_a_million_steps_of_a_rate_near_one():
    schedule = gradtx.exponential_decay(1.0, 1, 1 - 1e-6)
    np.testing.assert_allclose(schedule(10**6), (1 - 1e-6) ** 10**6, 2e-7)


@pytest.mark.parametrize("end_value", [1e-5, 1e-3, 1e-1])
@pytest.mark.parametrize("staircase", [False, True])
def test_rates_beside_one_are_its_neighbours(end_value, staircase):
    first, steps = 1e-3, 1000
    kept = [0.9999] * (end_value <= first) + [1.0001] * (end_value >= first)
    for count in (0, 1, 1000, 1500):
        for make in (
            lambda rate: gradtx.exponential_decay(
                first, steps, rate, 0, staircase, end_value
            ),
            lambda rate: gradtx.warmup_exponential_decay_schedule(
                0.0, first, 0, steps, rate, 0, staircase, end_value
            ),
        ):
            np.testing.assert_allclose(make(1.0)(count), first, 1e-6)
            traced = jax.jit(lambda it: it(count))(make(1.0))  # noqa: B023
            np.testing.assert_allclose(traced, first, 1e-6)
            for rate in kept:
                np.testing.assert_allclose(make(rate)(count), first, 3e-4)


def test_a_schedule_that_sees_the_next_count_keeps_its_end():
    # int32's last count plus 1 would be its lowest, where a schedule starts anew.
    number: Any = gradtx.linear_schedule(1.0, 0.25, 10)
    bound = gradtx.interpolate_iterates(number).bound
    ahead = [role for role in bound.spec.roles if getattr(role, "steps_ahead", 0)]
    assert ahead
    for count, value in ((0, 0.925), (LAST - 1, 0.25), (LAST, 0.25)):
        numbers = bound.at(jnp.int32(count)).leaves()
        found = numbers[bound.spec.roles.index(ahead[0])]
        np.testing.assert_allclose(found, value, 1e-6)
