import jax
import numpy as np
import pytest
from jax import numpy as jnp

from gradtx.core import arithmetic


def test_the_square_of_a_magnitude_is_real_and_as_smooth_as_a_square():
    assert arithmetic.abs2(jnp.complex64(3 - 4j)) == 25
    assert arithmetic.abs2(jnp.complex64(3 - 4j)).dtype == "float32"
    assert arithmetic.abs2(jnp.float32(-3)) == 9
    slope = jax.grad(arithmetic.abs2)
    assert slope(jnp.complex64(0)) == 0 and slope(0.0) == 0


@pytest.mark.parametrize("root", [arithmetic.safe_sqrt, arithmetic.bare_sqrt])
def test_a_root_has_the_derivative_zero_at_zero(root):
    slopes = jax.vmap(jax.grad(root))(jnp.array([0.0, 4.0]))
    np.testing.assert_allclose(slopes, [0, 0.25])
    np.testing.assert_allclose(root(jnp.array([0.0, 4.0])), [0, 2])


def test_a_safe_root_is_zero_below_zero_and_nan_stays_nan():
    roots = arithmetic.safe_sqrt(jnp.array([-1.0, -jnp.inf, jnp.nan, jnp.inf]))
    np.testing.assert_array_equal(roots, [0, 0, np.nan, np.inf])
    assert jax.grad(arithmetic.safe_sqrt)(-1.0) == 0


def test_the_derivative_of_a_ratio_needs_no_square_that_underflows():
    x = y = jnp.float32(1e-30)
    by_x, by_y = jax.grad(arithmetic.ratio, argnums=(0, 1))(x, y)
    np.testing.assert_allclose([by_x, by_y], [1e30, -1e30], rtol=1e-6)
    assert arithmetic.ratio(jnp.float32(6), jnp.float32(3)) == 2


def test_a_safe_ratio_is_zero_with_derivative_zero_where_it_divides_by_zero():
    for x in (0.0, 1.0, -jnp.inf):
        assert arithmetic.safe_ratio(x, 0.0) == 0
    slopes = jax.grad(arithmetic.safe_ratio, argnums=(0, 1))(1.0, 0.0)
    assert slopes == (0, 0)
    assert arithmetic.safe_ratio(6.0, 3.0) == 2


@pytest.mark.parametrize("number", [3, 3.0, np.float64(3), jnp.float32(3), np.int64(3)])
def test_a_whole_number_is_an_int32(number):
    counted = arithmetic.whole(number)
    assert counted.dtype == "int32" and counted == 3


def test_the_inner_product_of_complex_arrays_is_that_of_real_pairs():
    x, y = jnp.array([1 + 2j, -1j]), jnp.array([3 - 1j, 2 + 5j])
    assert arithmetic.inner(x, y) == 1 * 3 + 2 * -1 + 0 * 2 + -1 * 5
    assert arithmetic.inner(x, x) == 6
    assert not jnp.iscomplexobj(arithmetic.inner(x, y))


def test_arrays_are_replicated_only_where_they_are_laid_out():
    mesh = jax.make_mesh((8,), ("x",), (jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        laid_out = jax.device_put(jnp.arange(8.0), jax.P("x"))
        whole = arithmetic.replicated(laid_out)
        assert jax.typeof(whole).sharding.spec == jax.P(None)
        np.testing.assert_array_equal(whole, np.arange(8.0))
    plain = jnp.ones(3)
    assert arithmetic.replicated(plain) is plain
