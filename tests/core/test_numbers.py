from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from gradtx.core.numbers import DecayValue


def test_the_complement_of_a_decay_keeps_its_precision_through_jit():
    tx = gradtx.scale_by_ema(0.9999)
    grads = jnp.ones(1)

    @jax.jit
    def first(tx):
        return tx.update(grads, tx.init(grads))[0]

    np.testing.assert_allclose(first(tx), [1 - 0.9999], rtol=1e-6)


def test_a_decay_whose_leaf_was_changed_forgets_its_complement():
    tx = jax.tree.map(lambda x: x * 1.0, gradtx.scale_by_ema(0.5))
    leaves, treedef = jax.tree.flatten(tx)
    moved = jax.tree.unflatten(treedef, [0.75, *leaves[1:]])

    @jax.jit
    def first(tx):
        return tx.update(jnp.ones(1), tx.init(jnp.ones(1)))[0]

    np.testing.assert_allclose(first(moved), [0.25])


def test_a_decay_computes_as_its_number():
    decay: Any = DecayValue.of(0.75)
    assert (decay * 2, 2 * decay, decay**2, 1 - decay) == (1.5, 1.5, 0.5625, 0.25)
    assert (decay + 1, decay / 2, -decay, float(decay)) == (1.75, 0.375, -0.75, 0.75)
    assert decay.complement == 0.25
    assert DecayValue.of(0.999).complement == 1 - 0.999
    np.testing.assert_array_equal(jnp.ones(2) * decay, [0.75, 0.75])


def test_comparisons_of_a_decay_are_of_its_number():
    decay: Any = DecayValue.of(0.5)
    assert decay == 0.5 and decay < 1 and decay > 0 and abs(decay) == 0.5
    assert decay <= 0.5 and decay >= 0.5 and decay != 1


def test_numbers_beyond_float32_are_infinite_and_no_warning():
    tx = gradtx.sgd(1e39)
    ones = jnp.ones(3)
    updates, _ = tx.update(ones, tx.init(ones))
    assert np.isinf(updates).all()
