import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.transforms.linesearch import Point
from gradtx.transforms.zoom import minimum_of_cubic, minimum_of_parabola
from tests.searches import updates_of


def test_minima_of_the_interpolating_polynomials():
    def points(f, slope):
        return [Point(x, f(x), slope(x)) for x in np.array([0.5, 3.0, -2.0])]

    a, b, _ = points(lambda x: 3 * (x - 1) ** 2 + 4, lambda x: 6 * (x - 1))
    np.testing.assert_allclose(minimum_of_parabola(a, b), 1.0, rtol=1e-6)
    cubic = points(lambda x: x**3 - 3 * x, lambda x: 3 * x**2 - 3)
    np.testing.assert_allclose(minimum_of_cubic(*cubic), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    "function", [lambda x: x**4 - x**2, lambda x: jnp.exp(-4 * x) + x**2]
)
def test_zoom_ends_where_both_of_wolfes_conditions_hold(function):
    @jax.jit
    def search(scale, x):
        tx = gradtx.chain(gradtx.scale(-scale), gradtx.scale_by_zoom_linesearch(30))
        return updates_of(tx, function, x)

    derivative = jax.grad(function)
    with jax.enable_x64(True):
        x = jnp.asarray(0.1)
        for scale in (1e-3, 1.0, 30.0):
            update, state = search(scale, x)
            assert state["decrease_error"] == state["curvature_error"] == 0
            assert function(x + update) <= function(x) + 1e-4 * update * derivative(x)
            assert abs(derivative(x + update)) <= 0.9 * abs(derivative(x))
            # What is kept is the objective there.
            kept, there = state["value"], x + update
            np.testing.assert_allclose(kept, function(there), rtol=1e-12)
            np.testing.assert_allclose(state["grad"], derivative(there), atol=1e-12)
