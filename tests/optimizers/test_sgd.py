import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.averages import ema_by_the_paper
from tests.oracles.runs import REAL, assert_equals_paper, descent, updates_of


def dampened_by_torch(grads, momentum, dampening, nesterov):
    """torch.optim.SGD: the first gradient enters the buffer whole."""
    buffer = None
    for g in grads:
        new = g if buffer is None else momentum * buffer + (1 - dampening) * g
        buffer = new
        yield g + momentum * buffer if nesterov else buffer


@pytest.mark.parametrize("nesterov", [False, True])
def test_dampened_momentum_equals_that_of_torch(nesterov):
    tx = descent(gradtx.sgd(0.1, 0.8, nesterov, dampening=0.3), 0.1)
    assert_equals_paper(tx, lambda g, p: dampened_by_torch(g, 0.8, 0.3, nesterov))


def test_sgd_without_momentum_keeps_nothing():
    state = gradtx.sgd(0.1).init(jnp.ones(3))
    assert state.keys() == {"count"}
    assert gradtx.sgd(0.1, 0.9).init(jnp.ones(3)).keys() == {"count", "trace"}


def test_signum_follows_the_sign_of_the_average_and_sign_sgd_that_of_the_gradient():
    averages = list(ema_by_the_paper(REAL, 0.8, debias=False))
    for tx, expected in (
        (gradtx.signum(0.1, 0.8), averages),
        (gradtx.sign_sgd(0.1), REAL),
    ):
        assert_equals_paper(descent(tx, 0.1), lambda g, p, x=expected: map(np.sign, x))


def test_optimistic_descent_adds_the_change_of_the_gradient():
    def paper(grads, params):
        before = grads[0]
        for g in grads:
            yield 1.5 * g + 0.5 * (g - before)
            before = g

    tx = gradtx.optimistic_gradient_descent(0.1, 1.5, 0.5)
    assert_equals_paper(descent(tx, 0.1), paper)


def test_private_descent_steps_along_the_mean_of_clipped_examples():
    """Abadi et al. 2016, Algorithm 1, without its noise."""
    examples = np.stack(REAL[:5])
    norms = np.linalg.norm(examples, axis=1, keepdims=True)
    clipped = examples / np.maximum(1, norms / 0.5)
    assert 0 < np.sum(norms > 0.5) < 5
    tx = gradtx.dpsgd(0.1, l2_norm_clip=0.5, noise_multiplier=0.0, seed=0)
    with jax.enable_x64(True):
        params = jnp.ones(4)
        update, _ = tx.update(jnp.asarray(examples), tx.init(params), params)
    np.testing.assert_allclose(update, -0.1 * np.mean(clipped, axis=0), rtol=1e-12)


def test_noise_has_the_variance_of_its_count():
    """Neelakantan et al. 2015: eta / (1 + t)**gamma, t from 0."""
    zeros = jnp.zeros(20_000)
    tx = descent(gradtx.noisy_sgd(0.1, eta=4.0, gamma=0.5, seed=1), 0.1)
    for t, noise in enumerate(updates_of(tx, [zeros] * 3), start=1):
        np.testing.assert_allclose(np.var(noise), 4.0 / t**0.5, rtol=0.05)
        np.testing.assert_allclose(np.mean(noise), 0.0, atol=0.06)
