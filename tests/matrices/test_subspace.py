import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.runs import updates_of

RNG = np.random.default_rng(1)


def truncated(matrix, rank):
    """The nearest matrix of a rank, by Eckart and Young."""
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    return (left[:, :rank] * sizes[:rank]) @ right[:rank]


def momentum_in_subspace(grads, rank, decay):
    """A decaying sum in the main directions of the first gradient's longer side."""
    left, _, right = np.linalg.svd(grads[0], full_matrices=False)
    is_tall = len(left) >= len(right.T)
    vectors, total = (left if is_tall else right.T)[:, :rank], 0.0
    for g in grads:
        total = decay * total + (vectors.T @ g if is_tall else g @ vectors)
        yield vectors @ total if is_tall else total @ vectors.T


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_nothing_in_the_subspace_leaves_the_nearest_matrix_of_its_rank(shape):
    grad = RNG.normal(size=shape)
    tx = gradtx.in_subspace(gradtx.identity(), rank=2, scale=0.5)
    with jax.enable_x64(True):
        (update,) = updates_of(tx, [jnp.asarray(grad)])
    np.testing.assert_allclose(update, 0.5 * truncated(grad, 2), rtol=1e-10)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
def test_momentum_in_the_subspace_equals_its_formula(shape):
    grads = [RNG.normal(size=shape) for _ in range(4)]
    tx = gradtx.in_subspace(gradtx.trace(0.9), rank=2)
    with jax.enable_x64(True):
        mine = updates_of(tx, map(jnp.asarray, grads))
        expected = momentum_in_subspace(grads, 2, 0.9)
        for one, other in zip(mine, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9)


def test_slots_of_matrices_are_of_the_rank_and_those_of_vectors_whole():
    params = {"tall": jnp.ones((8, 3)), "wide": jnp.ones((3, 8)), "b": jnp.ones(3)}
    state = gradtx.in_subspace(gradtx.trace(0.9), rank=2).init(params)
    shapes = {"tall": (2, 3), "wide": (3, 2), "b": (3,)}
    assert jax.tree.map(jnp.shape, state["trace"]) == shapes


def test_vectors_are_transformed_as_they_are_and_not_scaled():
    grads = {"b": jnp.array([1.0, -2.0])}
    tx = gradtx.in_subspace(gradtx.scale(3.0), rank=1, scale=0.5)
    (updates,) = updates_of(tx, [grads])
    np.testing.assert_array_equal(updates["b"], [3.0, -6.0])
