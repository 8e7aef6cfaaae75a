import chex
import jax
import numpy as np
import optax
from jax import numpy as jnp

import gradtx
from tests.equality import as_optax_needs, bitwise

MIXED = {
    "half": jnp.ones((2, 3), jnp.bfloat16),
    "single": jnp.arange(3.0),
    "none": None,
}
COMPLEX = {"c": jnp.array([1 + 2j, 3 - 1j]), "r": jnp.arange(3.0)}


def test_flat_parameters_keep_their_own_dtypes():
    """In optax all updates leave in the widest."""
    tx = gradtx.flatten(gradtx.adam(0.1))
    updates, state = tx.update(MIXED, tx.init(MIXED), MIXED)
    assert state["inner"]["mu"].shape == (9,)
    assert jax.tree.map(lambda u: u.dtype, updates) == jax.tree.map(
        lambda p: p.dtype, MIXED
    )


def test_what_is_measured_of_an_array_is_measured_of_all():
    params = {"a": jnp.full(2, 3.0), "b": jnp.full(2, 4.0)}
    tx = gradtx.flatten(gradtx.clip_by_block_rms(1.0))
    updates, _ = tx.update(params, tx.init(params))
    np.testing.assert_allclose(updates["a"], 3 / np.sqrt(12.5), rtol=1e-6)


def test_the_elements_of_a_skipped_leaf_stay_in_the_vector():
    tx = gradtx.flatten(gradtx.trace(0.9))
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    _, state = tx.update(params, tx.init(params), params)
    updates, after = tx.update({"a": None, "b": jnp.ones(3)}, state, params)
    np.testing.assert_allclose(after["inner"]["trace"], [1, 1, 1.9, 1.9, 1.9])
    assert updates["a"] is None


def test_layouts_go_with_masks():
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    for layout in (gradtx.flatten, gradtx.split_real_and_imaginary):
        tx = gradtx.masked(layout(gradtx.sgd(0.5, 0.9)), {"a": True, "b": False})
        updates, _ = tx.update(params, tx.init(params), params)
        bitwise(updates, {"a": jnp.full(2, -0.5), "b": jnp.zeros(3)})


def test_complex_parameters_are_pairs_of_real_ones():
    runs = []
    for m in (gradtx, optax.contrib):
        adam = gradtx.adam if m is gradtx else optax.adam
        tx = m.split_real_and_imaginary(adam(0.1))
        with as_optax_needs():
            _, state = tx.update(COMPLEX, tx.init(COMPLEX), COMPLEX)
            runs.append(tx.update(COMPLEX, state, COMPLEX)[0])
    chex.assert_trees_all_close(*runs, rtol=2e-5)
    tx = gradtx.split_real_and_imaginary(gradtx.clip(1.5))
    updates, _ = tx.update(COMPLEX, tx.init(COMPLEX), COMPLEX)
    np.testing.assert_array_equal(updates["c"], [1 + 1.5j, 1.5 - 1j])
    skipped, _ = tx.update({"c": None, "r": COMPLEX["r"]}, tx.init(COMPLEX), COMPLEX)
    assert skipped["c"] is None


def test_pairs_of_pairs_are_pairs():
    once = gradtx.split_real_and_imaginary(gradtx.adam(0.1))
    twice = gradtx.split_real_and_imaginary(once)
    expected, _ = once.update(COMPLEX, once.init(COMPLEX), COMPLEX)
    bitwise(twice.update(COMPLEX, twice.init(COMPLEX), COMPLEX)[0], expected)
