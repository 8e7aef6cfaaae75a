import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.adam import adam_directions
from tests.oracles.modifiers import (
    adamw_of_cautious_weight_decay_by_the_paper,
    cautious_adamw_by_the_paper,
    cautious_by_the_paper,
    grams_of_updates,
    grokfast_by_the_paper,
    mars_adamw_by_the_paper,
    mars_gradients_by_the_paper,
    orthograd_by_the_paper,
)
from tests.oracles.runs import REAL, assert_equals_paper, steps_of, updates_of

LINE = [0.1 - 0.004 * i for i in range(20)]
DIRECTION = gradtx.scale_by_adam(0.8, 0.9)


def adam(grads):
    return list(adam_directions(grads, 0.8, 0.9))


PAPERS: dict[str, tuple[Any, Any]] = {
    "cautious": (
        gradtx.cautious(DIRECTION),
        lambda g, p: cautious_by_the_paper(adam(g), g),
    ),
    "cautious, of large shares": (
        gradtx.cautious(DIRECTION, 0.9),
        lambda g, p: cautious_by_the_paper(adam(g), g, floor=0.9),
    ),
    "grams": (
        gradtx.grams(DIRECTION),
        lambda g, p: grams_of_updates(adam(g), g),
    ),
    "cautious weight decay": (
        gradtx.chain(DIRECTION, gradtx.add_cautious_decay(0.1)),
        functools.partial(adamw_of_cautious_weight_decay_by_the_paper, b1=0.8, b2=0.9),
    ),
    "cautious adamw": (
        gradtx.chain(
            gradtx.cautious(gradtx.scale_by_adam(eps=1e-6)),
            gradtx.add_decayed_weights(0.1),
        ),
        functools.partial(
            cautious_adamw_by_the_paper, weight_decay=0.1, early_eps=False
        ),
    ),
    "mars": (
        gradtx.mars(),
        lambda g, p: mars_gradients_by_the_paper(g, first=g[0]),
    ),
    "mars adamw": (
        gradtx.chain(
            gradtx.mars(0.5, 0.9, 0.7),
            gradtx.scale_by_adam(0.9, 0.99),
            gradtx.add_decayed_weights(0.1),
        ),
        lambda g, p: mars_adamw_by_the_paper(
            g, p, 0.9, weight_decay=0.1, gamma=0.5, max_norm=0.7, first=g[0]
        ),
    ),
    "grokfast": (gradtx.grokfast(), grokfast_by_the_paper),
    "grokfast, fast": (
        gradtx.grokfast(0.8, 5.0),
        functools.partial(grokfast_by_the_paper, alpha=0.8, factor=5.0),
    ),
    "orthograd": (gradtx.orthograd(), orthograd_by_the_paper),
    "orthograd, not rescaled": (
        gradtx.orthograd(rescale=False),
        functools.partial(orthograd_by_the_paper, rescale=False),
    ),
}
TAKES_COMPLEX = ("mars", "mars adamw", "grokfast", "grokfast, fast")


@pytest.mark.parametrize("name", PAPERS)
def test_modifier_equals_its_paper(name):
    tx, paper = PAPERS[name]
    assert_equals_paper(tx, paper)
    if name in TAKES_COMPLEX:
        assert_equals_paper(tx, paper, is_complex=True)


def test_cautious_is_the_direction_where_all_signs_agree():
    """As at Adam's first update."""
    first, _ = next(steps_of(gradtx.cautious(DIRECTION), [jnp.asarray(REAL[0][:3])]))
    plain, _ = next(steps_of(DIRECTION, [jnp.asarray(REAL[0][:3])]))
    np.testing.assert_array_equal(first, plain)


def test_mars_of_no_gamma_and_no_clip_is_the_optimizer_behind_it():
    grads = [jnp.asarray(g, jnp.float32) for g in REAL]
    runs = [
        updates_of(tx, grads)
        for tx in (
            gradtx.chain(gradtx.mars(0.0, max_norm=None), gradtx.adam(0.1)),
            gradtx.adam(0.1),
        )
    ]
    for one, other in zip(*runs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_modifiers_go_with_foreign_optimizers_behind_them():
    tx = gradtx.chain(gradtx.grokfast(), gradtx.orthograd(), optax.adam(0.1))
    params = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}
    updates, _ = tx.update(params, tx.init(params), params)
    assert np.isfinite(updates["b"]).all()


@pytest.mark.parametrize("wrap", [gradtx.cautious, gradtx.grams])
@pytest.mark.parametrize(
    "step",
    [
        gradtx.adam(0.1),
        optax.scale_by_adam(),
        gradtx.accumulate(gradtx.sgd(1.0), 2),
        gradtx.inject_hyperparams(gradtx.adam)(0.1),
        gradtx.chain(gradtx.scale_by_adam(), gradtx.scale(-0.1)),
        gradtx.chain(gradtx.clip(1.0), optax.adam(0.1)),
        gradtx.skip(optax.adam(0.1)),
    ],
)
def test_what_turns_the_sign_is_refused(wrap, step):
    with pytest.raises(
        TypeError, match=r"expected a direction of gradtx, such as scale_by"
    ):
        wrap(step)


def test_signs_agree_where_their_product_underflows():
    tiny = jnp.array([1e-30, -1e-30, 1e-30], jnp.float32)
    updates, _ = next(steps_of(gradtx.cautious(gradtx.trace(0.9)), [tiny]))
    np.testing.assert_array_equal(updates, tiny)
    decayed = gradtx.add_cautious_decay(1.0)
    param = jnp.array([1e-30, 1e-30, 0.0], jnp.float32)
    updates, _ = decayed.update(tiny, decayed.init(param), param)
    np.testing.assert_allclose(updates, [2e-30, -1e-30, 1e-30], rtol=1e-6)


def test_what_orthograd_leaves_along_the_parameter_is_zero():
    """In the authors' code it is rounding errors, scaled to the gradient's norm."""
    tx, param = gradtx.orthograd(), jnp.asarray(REAL[0], jnp.float32)
    updates, _ = tx.update(3 * param, tx.init(param), param)
    np.testing.assert_array_equal(updates, jnp.zeros(4))
    one = jnp.full((1, 1), 0.3)  # nothing is orthogonal to its parameter
    np.testing.assert_array_equal(tx.update(one, tx.init(one), 7 * one)[0], one)


def test_orthogonal_gradients_have_the_norm_of_the_gradient():
    tx, param = gradtx.orthograd(), jnp.asarray(REAL[1], jnp.float32)
    updates, _ = tx.update(jnp.ones(4), tx.init(param), param)
    np.testing.assert_allclose(jnp.sum(updates * param), 0, atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(updates), 2, rtol=1e-6)


def test_a_decay_may_be_masked_and_scheduled_and_nothing():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    tx = gradtx.add_cautious_decay(lambda count: 0.5 + count, {"a": True, "b": False})
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    assert float(updates["a"][0]) == 1.5 and float(updates["b"][0]) == 1
    assert gradtx.add_cautious_decay().expand() == gradtx.identity()
