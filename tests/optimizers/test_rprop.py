import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.rprop import rprop_by_the_paper
from tests.oracles.runs import REAL, assert_equals_paper, updates_of

BOUNDS = {"eta_minus": 0.3, "eta_plus": 1.7, "min_step_size": 0.05}


@pytest.mark.parametrize("most", [0.15, 50.0])
def test_rprop_that_is_not_delayed_equals_the_paper(most):
    tx = gradtx.scale_by_rprop(0.1, **BOUNDS, max_step_size=most, delayed=False)

    def paper(grads, params):
        return rprop_by_the_paper(grads, 0.1, 0.3, 1.7, 0.05, most)

    assert_equals_paper(tx, paper)


def test_rprop_gives_the_step_of_the_update_before_as_optax_does():
    plain, delayed = (
        list(updates_of(gradtx.scale_by_rprop(0.1, delayed=d), map(jnp.asarray, REAL)))
        for d in (False, True)
    )
    np.testing.assert_array_equal(delayed[0], 0)
    for last, now, g, mine in zip(
        plain[:-1], plain[1:], REAL[1:], delayed[1:], strict=True
    ):
        turned = np.asarray(last) * g < 0
        np.testing.assert_array_equal(now[turned], 0)
        np.testing.assert_array_equal(mine, np.where(turned, 0, last))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.scale_by_rprop(-0.1),
            "scale_by_rprop: learning_rate must be at least 0, got -0.1",
        ),
    ],
)
def test_number_out_of_its_range_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
