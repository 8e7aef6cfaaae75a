import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.runs import steps_of

RNG = np.random.default_rng(0)


def matrices(shape, n):
    return [RNG.normal(size=shape) for _ in range(n)]


def best_projection(matrix, rank):
    """Onto the main directions of the longer side: of the covariance's eigenvectors."""
    matrix = matrix if matrix.shape[0] >= matrix.shape[1] else np.conj(matrix.T)
    _, vectors = np.linalg.eigh(matrix @ np.conj(matrix.T))
    main = vectors[:, -rank:]
    return main @ np.conj(main.T)


def directions_of(grads, rank, every=200):
    """The directions at each update, of another shape: so only a `let` has them."""
    main = gradtx.main_directions(rank, every)
    tx = gradtx.let("directions", main, gradtx.identity())
    return [np.asarray(state["projector"]) for _, state in steps_of(tx, grads)]


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
@pytest.mark.parametrize("is_complex", [False, True])
def test_directions_span_the_main_ones_of_the_longer_side(shape, is_complex):
    (grad,) = matrices(shape, 1)
    grad = grad + 1j * matrices(shape, 1)[0] if is_complex else grad
    with jax.enable_x64(True):
        (vectors,) = directions_of([jnp.asarray(grad)], 2)
    assert vectors.shape == (max(shape), 2)
    mine = vectors @ np.conj(vectors.T)
    np.testing.assert_allclose(mine, best_projection(grad, 2), atol=1e-10)


def test_directions_are_computed_again_every_so_many_updates():
    grads = [jnp.asarray(g, jnp.float32) for g in matrices((4, 3), 5)]
    for t, vectors in enumerate(directions_of(grads, 1, every=2)):
        expected = best_projection(np.asarray(grads[t - t % 2]), 1)
        np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-5)


def test_a_rank_above_the_size_is_the_size_and_vectors_have_no_directions():
    params = {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}
    tx = gradtx.main_directions()
    state = tx.init(params)
    assert jax.tree.map(jnp.shape, state["projector"]) == {"w": (4, 3), "b": None}
    updates, _ = tx.update(params, state)
    np.testing.assert_array_equal(updates["b"], params["b"])
