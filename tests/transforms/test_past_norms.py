import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.clipping import adagc_by_the_paper

RNG = np.random.default_rng(0)
GRADS = [
    [RNG.normal(size=3) * np.exp(RNG.normal()), RNG.normal(size=(2, 2))]
    for _ in range(20)
]


def run(tx, grads=GRADS):
    """The updates of lists of arrays, in double, and the last state."""
    with jax.enable_x64(True):
        state, update, out = (
            tx.init(list(map(jnp.asarray, grads[0]))),
            jax.jit(tx.update),
            [],
        )
        for each in grads:
            updates, state = update(list(map(jnp.asarray, each)), state)
            out.append(list(map(np.asarray, updates)))
    return out, state


@pytest.mark.parametrize(("warmup", "eps"), [(5, 1e-6), (1, 0.0), (100, 1e-6)])
def test_adagc_equals_its_paper(warmup, eps):
    mine, _ = run(gradtx.adagc(1.1, 0.9, 0.7, warmup, eps))
    paper = adagc_by_the_paper(GRADS, None, 1.1, 0.9, 0.7, warmup, eps)
    for ours, theirs in zip(mine, paper, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("when", [0, 2])
def test_a_zero_gradient_at_first_does_not_make_later_ones_zero(when):
    """In the authors' code it does, for ever."""
    grads = [[g * (i != when) for g in each] for i, each in enumerate(GRADS)]
    mine, state = run(gradtx.adagc(warmup=4), grads)
    assert all(np.any(u) for u in mine[-1]) and not np.any(mine[when][0])
    assert all(float(x) > 0 for x in state["usual_norm"])
    late = [[g * (i > 6) for g in each] for i, each in enumerate(GRADS)]
    mine, _ = run(gradtx.adagc(warmup=4), late)
    np.testing.assert_allclose(mine[7][0], GRADS[7][0], rtol=1e-5)


def test_a_gradient_that_is_not_finite_is_not_remembered():
    grads = [
        [g * np.nan if i == 3 else g for g in each] for i, each in enumerate(GRADS)
    ]
    _, state = run(gradtx.adagc(warmup=2), grads)
    assert all(np.isfinite(x) for x in state["usual_norm"])


def test_norms_grow_by_at_most_a_factor_an_update():
    grads = [[np.full(4, size)] for size in (1.0, 10.0, 0.1, 10.0, 0.0, 5.0)]
    mine, state = run(gradtx.limit_norm_growth(2.0), grads)
    norms = [np.linalg.norm(u) for (u,) in mine]
    np.testing.assert_allclose(norms, [2, 4, 0.2, 0.4, 0, 10])
    assert float(state["last_norm"][0]) == 10
