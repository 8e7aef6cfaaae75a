"""Schedules of both libraries, and with papers those that optax lacks."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

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
    "epochs": (
        lambda lib: lib.per_epoch(lib.inverse_sqrt_decay(0.3, 2), 7),
        lambda t: 0.3 * np.sqrt(2 / (2 + t // 7)),
    ),
    "parts of epochs": (
        lambda lib: lib.per_epoch(lib.linear_schedule(1.0, 0.1, 3), 7, smooth=True),
        lambda t: 1 - 0.9 * min(t / 7, 3) / 3,
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
