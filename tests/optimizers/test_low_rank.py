import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.low_rank import apollo_by_the_paper

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(6, 4), (3, 5)])
@pytest.mark.parametrize(
    ("granularity", "rank", "scale"), [("channel", 2, 1.0), ("tensor", 1, 128.0)]
)
def test_apollo_equals_its_paper(shape, granularity, rank, scale):
    """With the projections that its state holds, new every third update."""
    grads = [RNG.normal(size=shape) * (1 + 2 * (i % 4)) for i in range(8)]
    tx = gradtx.apollo(0.1, rank, 3, scale, granularity, weight_decay=0.1, seed=5)
    mine, projections = [], []
    with jax.enable_x64(True):
        params = jnp.ones(shape)
        state, update = tx.init(params), jax.jit(tx.update)
        for g in grads:
            updates, state = update(jnp.asarray(g), state, params)
            mine.append(np.asarray(updates) / -0.1)
            projections.append(np.asarray(state["projector"]).T)
    assert not np.array_equal(projections[2], projections[3])
    np.testing.assert_array_equal(projections[0], projections[2])
    paper = apollo_by_the_paper(
        grads, None, projections, scale=scale, is_tensorwise=granularity == "tensor",
        is_debiased_within=True,
    )  # fmt: skip
    for ours, theirs in zip(mine, paper, strict=True):
        # The authors add 1e-8 to the norms that they divide by.
        np.testing.assert_allclose(ours, theirs + 0.1, rtol=1e-6, atol=1e-7)


def test_vectors_are_adams_and_matrices_keep_projections_only():
    params = {"w": jnp.ones((64, 32)), "b": jnp.ones(8)}
    tx, adam = gradtx.apollo(0.1, 4), gradtx.adam(0.1, eps=1e-6)
    updates, state = tx.update(params, tx.init(params), params)
    expected, _ = adam.update(params, adam.init(params), params)
    np.testing.assert_allclose(updates["b"], expected["b"], rtol=1e-6)
    assert state["mu"]["w"].shape == (64, 4) and state["projector"]["w"].shape == (
        32,
        4,
    )


def test_a_zero_gradient_does_not_freeze_a_matrix():
    """In the authors' code its norm can then only grow from 0."""
    params, tx = jnp.ones((4, 3)), gradtx.apollo(0.1, 2)
    state = tx.init(params)
    for scale in (1.0, 0.0, 1.0):
        updates, state = tx.update(scale * params, state, params)
    assert float(jnp.max(jnp.abs(updates))) > 1e-3


def test_a_rank_above_the_size_of_a_matrix_is_that():
    params = jnp.ones((8, 6))
    state = gradtx.apollo(0.1).init(params)
    assert state["projector"].shape == (6, 6) and state["mu"].shape == (8, 6)


def test_projections_are_orthogonal_on_average():
    params = jnp.ones((512, 256))
    tx = gradtx.apollo(0.1, 64)
    _, state = tx.update(params, tx.init(params), params)
    vectors = state["projector"]
    np.testing.assert_allclose(jnp.mean(jnp.sum(vectors**2, 1)), 1, rtol=0.05)
