"""Arguments that optax takes and computes sensibly, in float64 against optax."""

from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality


def contrib(m):
    return m if m is gradtx else optax.contrib


TAKEN = {
    # Negative momentum: Gidel et al. 2018, https://arxiv.org/abs/1807.04740.
    "sgd": lambda m: m.sgd(0.1, -0.5),
    "sgd with nesterov": lambda m: m.sgd(0.1, -0.3, nesterov=True),
    "trace": lambda m: m.trace(-0.9),
    "a sum that grows": lambda m: m.trace(1.1),
    "rmsprop": lambda m: m.rmsprop(0.1, momentum=-0.5),
    "lars": lambda m: m.lars(0.1, momentum=-0.5),
    "normalize_by_update_norm": lambda m: m.normalize_by_update_norm(2.0, eps=0.0),
    "adam without eps": lambda m: m.adam(0.1, eps=0.0),
    "adam without decay": lambda m: m.adam(0.1, b1=0.0, b2=0.0),
    "negative rate": lambda m: m.adamw(-0.1, weight_decay=-0.1),
    "numbers as arrays": lambda m: m.sgd(jnp.asarray(0.1), jnp.asarray(0.9)),
    "bools as arrays": lambda m: m.sgd(0.1, 0.9, nesterov=jnp.asarray(True)),
    "bools as numbers": lambda m: m.sgd(0.1, 0.9, nesterov=1),
    "numpy bools": lambda m: m.sgd(0.1, 0.9, nesterov=np.True_),
    "rates of ints": lambda m: m.sgd(1, 0),
    "clip to nothing": lambda m: m.clip(0.0),
    "no noise": lambda m: m.add_noise(0.0, 0.0, 1),
    "a dtype by class": lambda m: m.adam(0.1, mu_dtype=jnp.float64),
    "no rate": lambda m: m.chain(m.scale_by_adam(), m.scale_by_learning_rate(None)),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_optax_takes_gives_its_numbers(name):
    with jax.enable_x64(True), equality.as_optax_needs():
        params: Any = {"w": jnp.arange(1.0, 7.0).reshape(2, 3), "b": jnp.ones(3)}
        runs = []
        for m in (gradtx, optax):
            tx: Any = TAKEN[name](m)
            state = tx.init(params)
            for i in range(4):
                grads = jax.tree.map(lambda p, i=i: jnp.sin(p + i), params)
                updates, state = tx.update(grads, state, params)
                runs.append(updates)
        ours, theirs = runs[:4], runs[4:]
        for mine, its in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-12, atol=1e-15)


def test_without_eps_zeros_stay_zeros():
    tx = gradtx.normalize_by_update_norm(eps=0.0)
    zeros = jnp.zeros(3)
    np.testing.assert_array_equal(tx.update(zeros, tx.init(zeros))[0], zeros)


def test_a_partition_of_nothing_has_no_labels():
    for m in (gradtx, optax):
        tx = m.partition({}, {})
        assert tx.update({}, tx.init({}))[0] == {}
