import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.low_memory import adam_mini_by_the_paper, came_by_the_paper
from tests.oracles.runs import (
    assert_equals_paper,
    descent,
    same,
)

RNG = np.random.default_rng(0)


MATRICES = [RNG.normal(size=(3, 5)) for _ in range(20)], [RNG.normal(size=(3, 5))] * 20


PAPERS: dict[str, tuple[Any, Any]] = {
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
    assert_equals_paper(tx, paper, is_complex)


@pytest.mark.parametrize("name", OF_MATRICES)
def test_optimizer_of_matrices_equals_its_paper(name):
    tx, paper = OF_MATRICES[name]
    assert_equals_paper(tx, paper, data=MATRICES)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (gradtx.adam_mini(0.1), gradtx.adam(0.1)),
    ],
    ids=["adam_mini of vectors"],
)
def test_reductions_hold(one, other):
    same(one, other)


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
