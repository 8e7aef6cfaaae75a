from typing import Any

import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.adabelief import acprop_by_optax, belief_by_the_paper
from tests.oracles.runs import assert_equals_paper, updates_of

KIN: dict[str, tuple[Any, Any]] = {
    "belief": (gradtx.scale_by_belief(0.8, 0.9), belief_by_the_paper),
    "acprop": (gradtx.scale_by_acprop(0.8, 0.9), acprop_by_optax),
}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("tx", "paper"), KIN.values(), ids=KIN)
def test_kin_of_adam_equals_its_paper(tx, paper, is_complex):
    assert_equals_paper(tx, lambda g, p: paper(g, 0.8, 0.9), is_complex)


def test_first_gradient_of_acprop_is_not_divided():
    grads = jnp.array([3.0, 0.0, 1e-3])
    first, second = updates_of(gradtx.scale_by_acprop(0.5, 0.5), [grads, grads])
    np.testing.assert_array_equal(first, grads)
    np.testing.assert_allclose(second, [1, 0, 1], rtol=1e-6)
