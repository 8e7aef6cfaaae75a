import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.equality import as_optax_needs


def scales(m, values, **arguments):
    """What an update of 1 becomes, for each loss."""
    tx = m.reduce_on_plateau(**arguments)
    state, seen = tx.init(jnp.ones(())), []
    update = jax.jit(tx.update)
    with as_optax_needs():
        for value in values:
            updates, state = update(jnp.ones(()), state, value=jnp.float32(value))
            seen.append(float(updates))
    return seen


def test_the_scale_falls_on_negative_losses_that_do_not():
    """In optax it never does."""
    flat = {"patience": 2, "factor": 0.5}
    negative = scales(gradtx, [-1.0] * 7, **flat)
    assert (
        negative
        == scales(gradtx, [1.0] * 7, **flat)
        == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]
    )
    assert scales(optax.contrib, [-1.0] * 7, **flat) == [1.0] * 7
    assert scales(optax.contrib, [1.0] * 7, **flat) == negative
    falling = [-1.0, -1.1, -1.2, -1.3]
    assert scales(gradtx, falling, patience=1) == [1.0] * 4


def test_without_patience_the_first_value_that_does_not_fall_counts():
    values = [3.0, 2.0, 2.0, 1.0]
    np.testing.assert_allclose(scales(gradtx, values, patience=0), [1, 1, 0.1, 0.1])


@pytest.mark.parametrize("seed", range(3))
def test_the_scale_is_that_of_optax_on_positive_losses(seed):
    values = np.random.default_rng(seed).uniform(1, 3, 40)
    arguments = {"factor": 0.7, "patience": 3, "cooldown": 2, "accumulation_size": 2}
    ours, theirs = (
        scales(m, values, **arguments, min_scale=0.2) for m in (gradtx, optax.contrib)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert min(ours) < 1


def test_a_tolerance_that_is_none_is_refused():
    with pytest.raises(
        ValueError, match=r"reduce_on_plateau: rtol or atol must be pos"
    ):
        gradtx.reduce_on_plateau(rtol=0.0)


def test_with_a_relative_tolerance_of_all_a_first_value_is_still_the_best():
    """In optax it stays infinite, times 0."""
    assert scales(gradtx, [2.0, 2.0, -1.0, -1.0], patience=2, rtol=1.0)[:2] == [1, 1]
    tx = gradtx.reduce_on_plateau(rtol=1.0)
    _, state = tx.update(jnp.ones(()), tx.init(jnp.ones(())), value=2.0)
    assert float(state["best_value"]) == 2
