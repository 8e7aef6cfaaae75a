import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.adam import adamc_by_the_paper
from tests.oracles.adam_variants import (
    adam_atan2_by_the_paper,
    stable_adamw_by_the_paper,
)
from tests.oracles.low_memory import adam_mini_by_the_paper, came_by_the_paper
from tests.oracles.mixed_momentum import aggmo_by_the_paper, qhadam_by_the_paper
from tests.oracles.normalized import laprop_by_the_paper
from tests.oracles.runs import PARAMS, REAL, assert_equals_paper, updates_of

RATES = [0.1 - 0.004 * i for i in range(20)]
RNG = np.random.default_rng(0)
MATRICES = [RNG.normal(size=(3, 5)) for _ in range(20)], [RNG.normal(size=(3, 5))] * 20


def falling(count):
    return 0.1 - 0.004 * count


def descent(tx, rate=1.0):
    """The direction of a step: turned around, without its learning rate."""
    return gradtx.chain(tx, gradtx.scale(-1 / rate))


PAPERS: dict[str, tuple[Any, Any]] = {
    "laprop": (
        descent(gradtx.laprop(0.1, 0.8, 0.9), 0.1),
        functools.partial(laprop_by_the_paper, b1=0.8, b2=0.9),
    ),
    "laprop, by default": (
        gradtx.scale_by_laprop(),
        laprop_by_the_paper,
    ),
    "stable_adamw": (
        descent(gradtx.stable_adamw(1.0, 0.8, 0.9, weight_decay=0.2)),
        functools.partial(stable_adamw_by_the_paper, b1=0.8, b2=0.9),
    ),
    "stable_adamw, strict": (
        descent(gradtx.stable_adamw(1.0, threshold=0.3, weight_decay=0.2, eps=1e-3)),
        functools.partial(stable_adamw_by_the_paper, threshold=0.3, eps=1e-3),
    ),
    "adam_atan2": (
        descent(gradtx.adam_atan2(0.5), 0.5),
        adam_atan2_by_the_paper,
    ),
    "adam_atan2, of the paper": (
        gradtx.scale_by_adam_atan2(0.8, 0.95, 1.0, 2.0),
        functools.partial(adam_atan2_by_the_paper, b1=0.8, b2=0.95, a=1.0, b=2.0),
    ),
    "qhadam": (
        descent(gradtx.qhadam(0.1), 0.1),
        functools.partial(qhadam_by_the_paper, b1=0.995, b2=0.999, nu1=0.7, nu2=1.0),
    ),
    "qhadam, of the square too": (
        gradtx.scale_by_qhadam(0.8, 0.9, 0.6, 0.7, 1e-3),
        functools.partial(
            qhadam_by_the_paper,
            b1=0.8,
            b2=0.9,
            nu1=0.6,
            nu2=0.7,
            eps=1e-3,
        ),
    ),
    "aggmo": (descent(gradtx.aggmo(0.1), 0.1), aggmo_by_the_paper),
    "aggmo, of two": (
        gradtx.scale_by_aggmo((0.5, 0.99)),
        functools.partial(aggmo_by_the_paper, betas=(0.5, 0.99)),
    ),
    "adam_mini": (
        descent(gradtx.adam_mini(0.1, 0.8, 0.9), 0.1),
        functools.partial(adam_mini_by_the_paper, axes=(), b1=0.8, b2=0.9),
    ),
    "adam_mini, of one block": (
        gradtx.scale_by_adam_mini(0.8, 0.9, block_axes=lambda p: 0),
        functools.partial(adam_mini_by_the_paper, axes=None, b1=0.8, b2=0.9),
    ),
    "came": (
        descent(gradtx.came(0.1), 0.1),
        came_by_the_paper,
    ),
}
OF_MATRICES: dict[str, tuple[Any, Any]] = {
    "came": (gradtx.scale_by_came(), came_by_the_paper),
    "came, fast": (
        gradtx.scale_by_came(0.8, 0.9, 0.95, 1e-8, 1e-6, 0.5),
        lambda g, p: came_by_the_paper(g, p, 0.8, 0.9, 0.95, 1e-8, 1e-6, 0.5),
    ),
    "adam_mini, by output": (
        gradtx.scale_by_adam_mini(),
        functools.partial(adam_mini_by_the_paper, axes=0),
    ),
    "adam_mini, by row": (
        gradtx.scale_by_adam_mini(block_axes=lambda p: -1),
        functools.partial(adam_mini_by_the_paper, axes=1),
    ),
}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("name", PAPERS)
def test_optimizer_equals_its_paper(name, is_complex):
    tx, paper = PAPERS[name]
    if is_complex and "atan2" in name:
        pytest.skip("its paper is of reals")
    assert_equals_paper(tx, paper, is_complex)


@pytest.mark.parametrize("name", OF_MATRICES)
def test_optimizer_of_matrices_equals_its_paper(name):
    tx, paper = OF_MATRICES[name]
    assert_equals_paper(tx, paper, data=MATRICES)


@pytest.mark.parametrize("normalized", [True, False])
def test_adamc_equals_its_paper(normalized):
    tx = gradtx.adamc(falling, 0.1, weight_decay=0.3, normalized=normalized)
    paper = functools.partial(
        adamc_by_the_paper,
        rates=RATES,
        weight_decay=0.3,
        normalized=normalized,
    )
    assert_equals_paper(tx, paper)


def test_adamc_decays_only_what_its_mask_selects():
    params = {"a": jnp.ones(2), "b": jnp.ones(2), "c": jnp.ones(2)}
    tx = gradtx.adamc(
        0.1, 0.2, weight_decay=0.4,
        mask={"a": True, "b": True, "c": False},
        normalized={"a": True, "b": False, "c": True},
    )  # fmt: skip
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params)
    decays = {k: float(u[0]) / -0.1 for k, u in updates.items()}
    np.testing.assert_allclose([decays[k] for k in "abc"], [0.2, 0.4, 0], rtol=1e-6)


def same(one, other, grads=REAL, rtol=1e-6):
    grads = [jnp.asarray(g, jnp.float32) for g in grads]
    for a, b in zip(updates_of(one, grads), updates_of(other, grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-9)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (gradtx.scale_by_qhadam(0.9, 0.99, 1.0, 1.0), gradtx.scale_by_adam(0.9, 0.99)),
        (gradtx.aggmo(0.1, (0.9,)), gradtx.sgd(0.1, 0.9)),
        (gradtx.adam_mini(0.1), gradtx.adam(0.1)),
        (
            gradtx.scale_by_laprop(0.0, 0.9),
            gradtx.scale_by_rms(0.9, 1e-15, eps_in_sqrt=False, bias_correction=True),
        ),
    ],
    ids=[
        "qhadam of nu 1",
        "aggmo of one beta",
        "adam_mini of vectors",
        "laprop of b1 0",
    ],
)
def test_reductions_hold(one, other):
    same(one, other)


def test_adamc_of_a_constant_rate_is_adamw():
    params = [jnp.asarray(p, jnp.float32) for p in PARAMS]
    for tx in (gradtx.adamc(0.1, 0.1, weight_decay=0.2), gradtx.stable_adamw(0.1)):
        state = tx.init(params[0])
        plain = gradtx.adamw(0.1, weight_decay=0.2)
        if tx.name == "stable_adamw":
            plain = gradtx.adamw(0.1, 0.9, 0.99, 1e-6, weight_decay=1e-2)
        alone = plain.init(params[0])
        for g, p in zip(REAL[:1], params, strict=False):
            mine, state = tx.update(jnp.asarray(g, jnp.float32), state, p)
            expected, alone = plain.update(jnp.asarray(g, jnp.float32), alone, p)
            np.testing.assert_allclose(mine, expected, rtol=1e-6)


def test_the_second_moment_of_adam_mini_has_an_element_a_block():
    params = {"embed": jnp.ones((7, 4)), "query": jnp.ones((4, 2, 3)), "b": jnp.ones(5)}
    axes = {"embed": -1, "query": (0, 2), "b": ()}
    state = gradtx.adam_mini(0.1, block_axes=axes).init(params)
    assert jax.tree.map(jnp.shape, state["nu"]) == {
        "embed": (7, 1), "query": (1, 2, 1), "b": (5,)
    }  # fmt: skip
    outside = {"embed": 2, "query": 0, "b": 0}
    for axes in (outside, {"embed": (0, -2), "query": 0, "b": 0}):
        with pytest.raises(ValueError, match=r"block_axes must be axes of an array"):
            gradtx.adam_mini(0.1, block_axes=axes).init(params)
    with pytest.raises(ValueError, match=r"block_axes must have axes for each array"):
        gradtx.adam_mini(0.1, block_axes={"embed": 0}).init(params)


def test_absent_parameters_have_no_blocks_and_an_array_may_have_none():
    params = {"w": jnp.ones((2, 3)), "v": jnp.ones((2, 3)), "absent": None}
    axes = {"w": 0, "v": None, "absent": None}
    state = gradtx.adam_mini(0.1, block_axes=axes).init(params)
    shapes = jax.tree.map(jnp.shape, state["nu"])
    assert shapes == {"w": (1, 3), "v": (2, 3), "absent": None}
