import functools

import jax
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.layerwise import novograd_by_the_paper
from tests.oracles.runs import (
    assert_equals_paper,
    kinds_of_slots,
)


@pytest.mark.parametrize("is_complex", [False, True])
def test_novograd_equals_the_paper(is_complex):
    tx = gradtx.scale_by_novograd(0.8, 0.5, 1e-3, weight_decay=0.1)
    paper = functools.partial(
        novograd_by_the_paper, b1=0.8, b2=0.5, eps=1e-3, weight_decay=0.1
    )
    assert_equals_paper(tx, paper, is_complex)


@pytest.mark.parametrize(
    ("tx", "kinds"),
    [
        (gradtx.scale_by_novograd(), {"mu": "complex64", "nu": "float32"}),
    ],
    ids=["novograd"],
)
def test_second_moments_of_complex_parameters_are_real(tx, kinds):
    assert kinds_of_slots(tx) == kinds


def test_novograd_keeps_one_number_for_each_array():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(())}
    state = gradtx.scale_by_novograd().init(params)
    assert jax.tree.map(jnp.shape, state["nu"]) == {"w": (), "b": ()}
    assert jax.tree.map(jnp.shape, state["mu"]) == {"w": (2, 3), "b": ()}


def test_decay_of_novograd_needs_the_parameters():
    tx, grads = gradtx.scale_by_novograd(weight_decay=0.1), jnp.ones(2)
    with pytest.raises(ValueError) as caught:
        tx.update(grads, tx.init(grads))
    assert str(caught.value) == (
        "add_decayed_weights: missing parameters; call update(updates, state, params)"
    )
