import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.runs import PARAMS, REAL

GRADS, START = REAL[:12], 1 + PARAMS[0]


def mechanic_by_the_paper(grads, start, rate, n=6, decay=0.0, s_init=1e-6, eps=1e-8):
    """Cutkosky et al. 2023, Algorithm 1, around descent: the parameters of each step.

    As in the authors' code, the decay is in the gradient, h is cut to the largest so
    far, and the displacement is that of the parameters over the scale plus eps.
    """
    betas = 1 - 0.1 ** np.arange(1, n + 1)
    s, r, m, v = np.full(n, s_init), np.zeros(n), np.zeros(n), np.zeros(n)
    x = start
    for g in grads:
        total = np.sum(s)
        away = (x - start) / (total + eps)
        norms = np.linalg.norm(g) / (np.linalg.norm(x) + eps)
        h = -np.sum((g + decay * total * norms * x) * away)
        cut = np.clip(h, -m, m)
        m = np.maximum(betas * m, np.abs(h) + eps)
        v = betas**2 * v + h**2
        r = betas * r + cut * s
        s = (s_init / n * m + np.maximum(r, 0)) / (np.sqrt(v) + eps)
        x = start + np.sum(s) * (away - rate * g)
        yield x, s


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("rate", [0.1, 10.0])
def test_the_scale_and_the_parameters_equal_those_of_the_paper(rate, decay):
    tx = gradtx.mechanize(gradtx.sgd(rate), decay, s_init=1e-2)
    expected = mechanic_by_the_paper(GRADS, START, rate, decay=decay, s_init=1e-2)
    with jax.enable_x64(True):
        x = jnp.asarray(START)
        state, update = tx.init(x), jax.jit(tx.update)
        for g, (its, scales) in zip(GRADS, expected, strict=True):
            updates, state = update(jnp.asarray(g), state, x)
            x = x + updates
            np.testing.assert_allclose(state["s"], scales, rtol=1e-9)
            np.testing.assert_allclose(x, its, rtol=1e-9)


def test_the_scale_grows_while_the_gradient_stays():
    """From a rate that is far too small, and from 0, which tiny steps change."""
    tx, x = gradtx.mechanize(gradtx.sgd(1e-3), weight_decay=0.0), jnp.zeros(3)
    state, update, sums = tx.init(x), jax.jit(tx.update), []
    for _ in range(60):
        updates, state = update(jnp.ones(3), state, x)
        x = x + updates
        sums.append(float(jnp.sum(state["s"])))
    assert sums[-1] > 1e3 * sums[0] > 0


def test_as_many_scales_are_learned_as_there_are_betas():
    state = gradtx.mechanize(gradtx.adam(0.1), num_betas=4).init(jnp.ones(2))
    for slot in "srmv":
        assert state[slot].shape == (4,)
    np.testing.assert_array_equal(state["x0"], 1.0)
