"""In float32 each optimizer is as near to float64 as optax's is, or nearer."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality
from tests.equality import QUICKLY
from tests.settings import OF_EXAMPLES, OPTAX, PLAIN
from tests.test_optimizers import WITHOUT

RANDOM = ("dpsgd", "noisy_sgd")
"""Which draw other numbers in float64."""
ROUNDED = 1.5
"""How much further ours may be: the same roundings in another order."""


@pytest.mark.parametrize("name", [n for n in PLAIN if n not in (*RANDOM, "lbfgs")])
def test_float32_is_as_near_to_float64_as_optaxs_is(name):
    make, steps = PLAIN[name], equality.STEPS
    start, grads = (
        equality.mixed_tree("float32", 0),
        equality.mixed_tree("float32", 1, steps, *OF_EXAMPLES.get(name, ())),
    )
    for tree in (start, grads):
        tree.pop(WITHOUT.get(name), None)
    values, run = equality.losses("float32", steps), QUICKLY["float32"]
    ours, _ = run(make(gradtx), start, grads, values)
    with equality.as_optax_needs():
        theirs, _ = run(make(OPTAX), start, grads, values)
    exact = equality.in_double(make, start, grads, values, run)

    def error(updates):
        """Of the parameters: optax's updates may be differences of those."""
        return equality.distance(*(sums(tree, start) for tree in (updates, exact)))

    assert error(ours) <= max(1e-6, ROUNDED * error(theirs))


def sums(updates, start):
    """The parameters after each step, in float64."""
    return jax.tree.map(
        lambda u, p: np.float64(p) + np.cumsum(np.asarray(u, np.float64), axis=0),
        updates,
        start,
    )


@pytest.mark.parametrize("decay", [0.9, 0.99, 0.999, 0.9999, 0.999999, 1 - 2.0**-24])
def test_a_bias_correction_in_float32_is_that_of_float64_but_for_rounding(decay):
    """The decay is the float32 number, or the Python one, of which more is known."""
    t = np.array([1, 2, 3, 10, 100, 10_000, 1_000_000])
    for given in (decay, np.float32(decay)):
        tx = gradtx.bias_correction(given)
        exact = -np.expm1(t * np.log(np.float64(given)))
        for count, weight in zip(t, exact, strict=True):
            state = {"count": jnp.int32(count - 1)}
            for update in (tx.update, jax.jit(tx.update)):
                found, _ = update(jnp.float32(1.0), state)
                np.testing.assert_allclose(1 / np.float64(found), weight, rtol=5e-7)
