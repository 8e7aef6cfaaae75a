import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.schedules.settings import EVERY, each_schedule


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
