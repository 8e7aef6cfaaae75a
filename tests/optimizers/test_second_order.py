import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.runs import REAL

CURVATURE = np.array([0.5, 2.0, -1.0, 3.0])
GRADS = REAL[:7]


def quadratic(params):
    """A loss whose Hessian is diagonal, which one sign vector finds exactly."""
    return jnp.sum(jnp.asarray(CURVATURE, params.dtype) * params**2) / 2


def sophia_by_the_paper(grads, b1, b2, gamma, eps, every, most):
    """Liu et al. 2023, Algorithm 3, with the first moment corrected as in optax.

    As there, an estimate is used from the update after it on.
    """
    m, h = 0.0, np.zeros(4)
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        u = m / (1 - b1**t) / np.maximum(gamma * h, eps)
        yield u if most is None else np.clip(u, -most, most)
        h = b2 * h + (1 - b2) * CURVATURE if (t - 1) % every == 0 else h


def run(tx, obj_fn=quadratic):
    updates = []
    with jax.enable_x64(True):
        params = jnp.ones(4)
        state = tx.init(params)
        update = jax.jit(lambda g, s, p: tx.update(g, s, p, obj_fn=obj_fn))
        for g in GRADS:
            u, state = update(jnp.asarray(g), state, params)
            updates.append(np.asarray(u))
    return updates, state


@pytest.mark.parametrize(("every", "most"), [(1, 1.0), (3, 0.5), (2, None)])
def test_sophia_equals_the_paper(every, most):
    tx = gradtx.scale_by_sophia(0.8, 0.9, 1e-2, 0.3, most, every)
    updates, state = run(tx)
    expected = sophia_by_the_paper(GRADS, 0.8, 0.9, 0.3, 1e-2, every, most)
    for mine, theirs in zip(updates, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-11)
    estimates = -(-len(GRADS) // every)
    np.testing.assert_allclose(state["nu"], (1 - 0.9**estimates) * CURVATURE)


def test_a_step_of_sophia_decays_weights_outside_of_the_clip():
    settings = (0.8, 0.9, 1e-2)
    directions, _ = run(gradtx.scale_by_sophia(*settings, gamma=0.3))
    steps, _ = run(gradtx.sophia(0.1, *settings, weight_decay=0.2, gamma=0.3))
    for direction, step in zip(directions, steps, strict=True):
        np.testing.assert_allclose(step, -0.1 * (direction + 0.2), rtol=1e-12)


def test_a_win_rate_is_kept_and_printed_every_so_many_updates(capsys):
    tx = gradtx.scale_by_sophia(
        0.0, 0.9, 1.0, clip_threshold=1.0, verbose=True, print_win_rate_every_n_steps=3
    )
    _, state = run(tx)
    jax.effects_barrier()
    won = [float(np.mean(np.abs(g) < 1)) for g in GRADS]
    np.testing.assert_allclose(state["win_rate"], won[-1])
    lines = capsys.readouterr().out.splitlines()
    printed = [float(line.rpartition(" ")[2]) for line in lines]
    np.testing.assert_allclose(printed, [won[2], won[5]])
    _, silent = run(tx.replace(verbose=False))
    assert "win_rate" not in silent and capsys.readouterr().out == ""


def test_sophia_needs_an_objective():
    tx, params = gradtx.sophia(0.1), jnp.ones(2)
    with pytest.raises(TypeError, match="obj_fn"):
        tx.update(params, tx.init(params), params)
