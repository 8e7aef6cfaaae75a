"""Each schedule beside its formula in Python: ints for whole numbers, else float64."""

import bisect
import math
from collections.abc import Callable
from typing import Any

import gradtx

LAST = 2**31 - 1

Formula = Callable[[Any], float]


def line(first, last, steps, begin=0, power=1.0) -> Formula:
    def value(t):
        t = min(max(t - begin, 0), steps)
        left, done = ((steps - t) / steps), t / steps
        if power == 1:
            return first * left + last * done
        return last + (first - last) * left**power

    return value


def half_cosine(first, last, steps, begin=0, power=1.0) -> Formula:
    def value(t):
        t = min(max(t - begin, 0), steps)
        left = math.sin(math.pi / 2 * (steps - t) / steps) ** 2
        return last + (first - last) * left**power

    return value


def decay(first, steps, rate, begin=0, staircase=False) -> Formula:
    def value(t):
        t = max(t - begin, 0)
        return first * rate ** (t // steps if staircase else t / steps)

    return value


def joined(parts, boundaries) -> Formula:
    def value(t):
        turn = bisect.bisect_right(boundaries, t)
        return parts[turn](t - (0, *boundaries)[turn])

    return value


def through(way, values, boundaries) -> Formula:
    ends = (0, *boundaries)
    legs = [
        way(values[i], values[i + 1], ends[i + 1] - ends[i])
        for i in range(len(boundaries))
    ]
    return joined([*legs, lambda t: values[-1]], boundaries)


def triangles(n, d) -> Formula:
    def value(t):
        cycle, own = t // (n + d), t % (n + d)
        height = own / n if own < n else (n + d - own) / d
        return 0.1 + 0.6 * height * 0.5**cycle

    return value


def warm(n, then) -> Formula:
    return joined([line(0.1, 0.7, n), then], [n])


def twice(count):
    return count * 2.0


Pair = tuple[gradtx.Schedule, Formula]

WAYS_BETWEEN: list[tuple[Any, Any]] = [("linear", line), ("cosine", half_cosine)]

# Of each factory one or more, which turn at n, 2n and d beside them, and their
# formulas.
OF: dict[str, Callable[[int, int], list[Pair]]] = {
    "constant_schedule": lambda n, d: [
        (gradtx.constant_schedule(0.3), lambda t: 0.3),
    ],
    "transition_schedule": lambda n, d: [
        (gradtx.transition_schedule(0.3, 0.1, n, n), line(0.3, 0.1, n, n)),
        (
            gradtx.transition_schedule(1.0, 0.2, n, n, "1-sqrt", 2.0),
            lambda t: 0.2 + 0.8 * (1 - (min(max(t - n, 0), n) / n) ** 0.5) ** 2,
        ),
        (
            gradtx.transition_schedule(1.0, 0.2, 0, n),
            lambda t: 1.0 if t < n else 0.2,
        ),
    ],
    "linear_schedule": lambda n, d: [
        (gradtx.linear_schedule(0.0, 0.7, n, n), line(0.0, 0.7, n, n)),
        (gradtx.linear_schedule(0.7, 0.0, 2 * n), line(0.7, 0.0, 2 * n)),
    ],
    "polynomial_schedule": lambda n, d: [
        (gradtx.polynomial_schedule(0.7, 0.1, 3.0, n, n), line(0.7, 0.1, n, n, 3.0)),
        (gradtx.polynomial_schedule(0.7, 0.0, 0.5, n, d), line(0.7, 0.0, n, d, 0.5)),
    ],
    "rex_schedule": lambda n, d: [
        (
            gradtx.rex_schedule(0.3, 0.0, n, n),
            lambda t: 0.6 * (r := max(min(2 * n - t, n), 0) / n) / (1 + r),
        )
    ],
    "cosine_decay_schedule": lambda n, d: [
        (gradtx.cosine_decay_schedule(0.3, 2 * n), half_cosine(0.3, 0.0, 2 * n)),
        (
            gradtx.cosine_decay_schedule(0.3, n, 0.1, 1.5),
            half_cosine(0.3, 0.03, n, 0, 1.5),
        ),
    ],
    "exponential_decay": lambda n, d: [
        (gradtx.exponential_decay(0.3, n, 0.97, n), decay(0.3, n, 0.97, n)),
        (
            gradtx.exponential_decay(0.3, n, 0.97, n, True),
            decay(0.3, n, 0.97, n, True),
        ),
        (
            gradtx.exponential_decay(0.3, n, 0.97, 0, True, 0.1),
            lambda t: max(decay(0.3, n, 0.97, 0, True)(t), 0.1),
        ),
        (
            gradtx.exponential_decay(0.3, 1, 1 - 0.01 / n, n),
            lambda t: 0.3 * (1 - 0.01 / n) ** max(t - n, 0),
        ),
    ],
    "inverse_time_decay": lambda n, d: [
        (gradtx.inverse_time_decay(0.2, 0.5), lambda t: 0.2 / (1 + 0.5 * t)),
        (gradtx.inverse_time_decay(0.2, 0.5, n), lambda t: 0.2 / (1 + 0.5 * (t // n))),
    ],
    "inverse_sqrt_decay": lambda n, d: [
        (gradtx.inverse_sqrt_decay(0.2, n), lambda t: 0.2 / math.sqrt(1 + t / n))
    ],
    "join_schedules": lambda n, d: [
        (
            gradtx.join_schedules(
                [
                    gradtx.linear_schedule(0.0, 1.0, n),
                    twice,
                    gradtx.inverse_time_decay(0.2, 1.0, 2),
                ],
                [n, n + 2 * d],
            ),
            joined(
                [line(0.0, 1.0, n), twice, lambda t: 0.2 / (1 + t // 2)], [n, n + 2 * d]
            ),
        ),
        (
            gradtx.join_schedules(
                [gradtx.join_schedules([twice, twice], [n]), twice], [n + d]
            ),
            joined([joined([twice, twice], [n]), twice], [n + d]),
        ),
    ],
    "per_epoch": lambda n, d: [
        (
            gradtx.per_epoch(gradtx.inverse_time_decay(0.2, 1.0), n),
            lambda t: 0.2 / (1 + t // n),
        ),
        (
            gradtx.per_epoch(gradtx.linear_schedule(0.7, 0.1, 2), n, smooth=True),
            line(0.7, 0.1, 2 * n),
        ),
    ],
    "piecewise_constant_schedule": lambda n, d: [
        (
            gradtx.piecewise_constant_schedule(0.2, {n: 0.5, n + d: 0.25}),
            lambda t: 0.2 if t < n else 0.1 if t < n + d else 0.025,
        )
    ],
    "piecewise_interpolate_schedule": lambda n, d: [
        (
            gradtx.piecewise_interpolate_schedule(
                kind, 0.2, {n: 0.5, n + d: 8.0, 2 * n: 0.5}
            ),
            through(way, (0.2, 0.1, 0.8, 0.4), (n, n + d, 2 * n)),
        )
        for kind, way in WAYS_BETWEEN
    ],
    "linear_onecycle_schedule": lambda n, d: [
        (
            gradtx.linear_onecycle_schedule(2 * n, 0.5, 0.5, 0.75),
            through(line, (0.02, 0.5, 0.02, 2e-6), (n, int(1.5 * n), 2 * n)),
        )
    ],
    "cosine_onecycle_schedule": lambda n, d: [
        (
            gradtx.cosine_onecycle_schedule(2 * n, 0.5, 0.5),
            through(half_cosine, (0.02, 0.5, 2e-6), (n, 2 * n)),
        )
    ],
    "cyclic_schedule": lambda n, d: [
        (gradtx.cyclic_schedule(0.1, 0.7, n, d, 0.5), triangles(n, d)),
        (
            gradtx.cyclic_schedule(0.0, 0.6, 2, 2, 1.0, 1 - 0.01 / n),
            lambda t: 0.6 * (1 - abs(t % 4 - 2) / 2) * (1 - 0.01 / n) ** t,
        ),
    ],
    "warmup_constant_schedule": lambda n, d: [
        (gradtx.warmup_constant_schedule(0.1, 0.7, n), line(0.1, 0.7, n))
    ],
    "warmup_cosine_decay_schedule": lambda n, d: [
        (
            gradtx.warmup_cosine_decay_schedule(0.1, 0.7, n, 2 * n),
            warm(n, half_cosine(0.7, 0.0, n)),
        ),
        (
            gradtx.warmup_cosine_decay_schedule(0.1, 0.7, n, n + d, 0.2),
            warm(n, half_cosine(0.7, 0.2, d)),
        ),
    ],
    "warmup_exponential_decay_schedule": lambda n, d: [
        (
            gradtx.warmup_exponential_decay_schedule(0.1, 0.7, n, 2, 0.9, 1, True),
            warm(n, decay(0.7, 2, 0.9, 1, True)),
        ),
        (
            gradtx.warmup_exponential_decay_schedule(0.1, 0.7, n, n, 0.9),
            warm(n, decay(0.7, n, 0.9)),
        ),
    ],
    "warmup_inverse_sqrt_schedule": lambda n, d: [
        (
            gradtx.warmup_inverse_sqrt_schedule(0.1, 0.7, n),
            warm(n, lambda t: 0.7 / math.sqrt(1 + t / n)),
        )
    ],
    "warmup_stable_decay_schedule": lambda n, d: [
        (
            gradtx.warmup_stable_decay_schedule(0.1, 0.7, n, d, n - d),
            warm(n, line(0.7, 0.0, n - d, d)),
        )
    ],
    "sgdr_schedule": lambda n, d: [
        (
            gradtx.sgdr_schedule(
                [
                    dict(init_value=0.1, peak_value=0.7, warmup_steps=d, decay_steps=n),
                    dict(init_value=0.1, peak_value=0.7, warmup_steps=2, decay_steps=7),
                ]
            ),
            joined(
                [
                    joined([line(0.1, 0.7, d), half_cosine(0.7, 0.0, n - d)], [d]),
                    joined([line(0.1, 0.7, 2), half_cosine(0.7, 0.0, 5)], [2]),
                ],
                [n],
            ),
        )
    ],
}
