from typing import Any

import jax
import numpy as np
import optax
import pytest

import gradtx


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


def test_warm_restarts_take_any_iterable():
    cycle = dict(init_value=0.0, peak_value=1.0, warmup_steps=2, decay_steps=8)
    one = gradtx.sgdr_schedule([cycle, cycle])
    cycles: Any = (dict(cycle) for _ in range(2))
    assert gradtx.sgdr_schedule(cycles) == one


def test_lambda_is_a_part_of_a_joined_schedule():
    joined = gradtx.join_schedules((lambda c: c, lambda c: 10 * c), (3,))
    assert [int(joined(count)) for count in range(6)] == [0, 1, 2, 0, 10, 20]


def test_an_epoch_is_an_exact_quotient_at_every_count():
    epoch = gradtx.per_epoch(lambda epoch: epoch, 390)
    counts = [0, 389, 390, 2**24 + 1, 390 * 5_000_000 - 1, 390 * 5_000_000, 2**31 - 1]
    found = jax.jit(epoch)(np.array(counts, np.int32))
    assert found.tolist() == [count // 390 for count in counts]
    assert found.dtype == np.int32


def test_smooth_epochs_have_fractions_and_meet_the_whole_ones():
    epoch = gradtx.per_epoch(lambda epoch: epoch, 4, smooth=True)
    assert [float(epoch(count)) for count in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1.25]


def test_steps_per_epoch_may_be_traced():
    def value(steps):
        return gradtx.per_epoch(lambda epoch: epoch, steps)(2**24 + 1)

    assert int(jax.jit(value)(3)) == (2**24 + 1) // 3


def test_per_epoch_refuses_steps_that_are_not_whole_and_what_is_no_schedule():
    anything: Any = gradtx
    for steps in (0, 2.5):
        message = (
            f"per_epoch: steps_per_epoch must be whole and at least 1, got {steps}"
        )
        with pytest.raises(ValueError, match=message):
            gradtx.per_epoch(lambda epoch: epoch, steps)
    with pytest.raises(
        TypeError, match=r"per_epoch: schedule must be a schedule, got 0.1"
    ):
        anything.per_epoch(0.1, 390)
