import pytest

import gradtx


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
            "join_schedules: expected at least one schedule, and at least one boundary "
            "fewer than schedules, got 0 for 2",
        ),
        (
            lambda lib: lib.join_schedules([], []),
            "join_schedules: expected at least one schedule, and at least one boundary "
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
            "cyclic_schedule: up_steps must be a number, not a schedule, "
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
            "warmup_cosine_decay_schedule: unexpected argument 'warmup_step'; "
            "did you mean 'warmup_steps'?",
        ),
        (
            lambda lib: lib.sgd("1e-3"),
            "sgd: learning_rate must be a number or a schedule, got '1e-3'",
        ),
        (
            lambda lib: lib.linear_schedule(lib.constant_schedule(1), 0.0, 10),
            "linear_schedule: init_value must be a number, not a schedule, "
            "got constant_schedule(value=1.0)",
        ),
        (
            lambda lib: lib.linear_schedule(1.0, 0.0, lib.constant_schedule(1)),
            "linear_schedule: transition_steps must be a number, not a schedule, "
            "got constant_schedule(value=1.0)",
        ),
        (
            lambda lib: lib.join_schedules([abs, 2.0], [3]),
            "join_schedules: schedules must be a schedule, got 2.0",
        ),
        (
            lambda lib: lib.linear_schedule(1.0, 0.0),
            "linear_schedule: missing a required argument: 'transition_steps'",
        ),
        (
            lambda lib: lib.linear_schedule(1.0, 0.0, 10, transition_begn=1),
            "linear_schedule: unexpected argument 'transition_begn'; "
            "did you mean 'transition_begin'?",
        ),
        (
            lambda lib: lib.linear_schedule(1.0, 0.0, 10).replace(init_valu=1.0),
            "linear_schedule: unexpected argument 'init_valu'; "
            "did you mean 'init_value'?",
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
