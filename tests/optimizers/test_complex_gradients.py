import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.runs import COMPLEX, updates_of


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.scale_by_rprop(0.1, delayed=False),
        gradtx.scale_by_lion(0.5, 0.5),
        gradtx.scale_by_sm3(),
        gradtx.clip_magnitude(0.5),
        gradtx.centralize(),
        gradtx.scale_by_factored_rms(),
    ],
    ids=lambda tx: tx.name,
)
def test_updates_turn_with_complex_gradients(tx):
    """No direction in the complex plane is special."""
    phase = np.exp(1.3j)
    grads = [jnp.asarray(g, "complex64") for g in COMPLEX[:6]]
    turned = updates_of(tx, [phase * g for g in grads])
    for mine, other in zip(updates_of(tx, grads), turned, strict=True):
        np.testing.assert_allclose(phase * mine, other, rtol=1e-4, atol=1e-6)
