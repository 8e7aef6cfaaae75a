import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.flatten_util import ravel_pytree

import lesson_11_generalization as lesson_11


@pytest.mark.parametrize("extra", [0, 200])
def test_all_optima_have_the_same_loss_on_the_training_digits(page, extra):
    loss = page[f"{extra} random labels: loss of the 200 digits"]
    assert loss == pytest.approx(lesson_11.GOAL, rel=0.05)
    assert page["training digits named wrongly (%)"] == 0


@pytest.mark.parametrize(
    "label", ["curvature", "loss after a shift of 0.1", "test errors (%)"]
)
def test_a_network_that_memorized_is_in_a_thin_optimum_and_fails_the_test(page, label):
    wide, thin = (page[f"{extra} random labels: {label}"] for extra in (0, 200))
    assert thin > 2 * wide > 0


def test_the_curvature_is_the_largest_eigenvalue_of_the_hessian():
    images, _ = lesson_11.data_sets()
    images = lesson_11.Examples(images.x[:, 20:24], images.y)
    weights = lesson_11.network(jax.random.key(1), (4, 3, 10))
    flat, unravel = ravel_pytree(weights)
    hessian = jax.jit(jax.hessian(lambda x: lesson_11.loss(unravel(x), images)))(flat)
    expected = abs(np.linalg.eigvalsh(hessian)).max()
    found = jax.jit(lesson_11.curvature)(weights, images, 200)
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_training_digits_are_not_in_the_test_set():
    images, test = lesson_11.data_sets()
    assert len(images.y) == 200 and len(test.y) == 645
    every = lesson_11.digits(1797)
    np.testing.assert_array_equal(test.x, every.x[1152:])
    np.testing.assert_array_equal(images.x, every.x[:200])
    assert jnp.bincount(test.y).min() > 50
