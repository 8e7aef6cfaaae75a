import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.runs import updates_of


@pytest.mark.parametrize("count", [0, 2**24 - 2, 2**30])
def test_every_third_update_is_given_however_many_there_were(count):
    """A float32 cannot tell 2**24 from its successor."""
    tx, grads = gradtx.apply_every(3), jnp.ones(2)
    state = tx.init(grads) | {"count": jnp.int32(count - count % 3)}
    update = jax.jit(tx.update)
    for expected in [0, 0, 3, 0, 0, 3]:
        updates, state = update(grads, state)
        np.testing.assert_array_equal(updates, expected)


def test_the_number_of_updates_to_sum_may_be_traced_or_scheduled():
    grads = jnp.ones(())

    @jax.jit
    def run(every):
        tx = gradtx.apply_every(every)
        state, seen = tx.init(grads), []
        for _ in range(4):
            updates, state = tx.update(grads, state)
            seen.append(updates)
        return seen

    for every, expected in [(1, [1, 1, 1, 1]), (2, [0, 2, 0, 2]), (4, [0, 0, 0, 4])]:
        np.testing.assert_array_equal(run(every), expected)
    tx = gradtx.apply_every(gradtx.piecewise_constant_schedule(1, {2: 2}))
    np.testing.assert_array_equal(list(updates_of(tx, [grads] * 4)), [1, 1, 0, 2])


@pytest.mark.parametrize("k", [0, -1, 0.5, 2.5, np.nan])
def test_less_than_one_whole_update_cannot_be_summed(k):
    with pytest.raises(ValueError) as caught:
        gradtx.apply_every(k)
    assert str(caught.value) == f"apply_every: k must be whole and at least 1, got {k}"
