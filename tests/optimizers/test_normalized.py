import functools
from typing import Any

import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.normalized import adopt_by_the_paper, laprop_by_the_paper
from tests.oracles.runs import (
    REAL,
    assert_equals_paper,
    descent,
    same,
    updates_of,
)

KIN: dict[str, tuple[Any, Any]] = {
    "adopt": (gradtx.scale_by_adopt(0.8, 0.9), adopt_by_the_paper),
    "adopt, plain": (
        gradtx.scale_by_adopt(0.8, 0.9, 1e-3, use_clipping=False),
        functools.partial(adopt_by_the_paper, eps=1e-3, clip=False),
    ),
    "adopt, Nesterov": (
        gradtx.scale_by_adopt(0.8, 0.9, nesterov=True),
        functools.partial(adopt_by_the_paper, nesterov=True),
    ),
}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("tx", "paper"), KIN.values(), ids=KIN)
def test_kin_of_adam_equals_its_paper(tx, paper, is_complex):
    assert_equals_paper(tx, lambda g, p: paper(g, 0.8, 0.9), is_complex)


PAPERS: dict[str, tuple[Any, Any]] = {
    "laprop": (
        descent(gradtx.laprop(0.1, 0.8, 0.9), 0.1),
        functools.partial(laprop_by_the_paper, b1=0.8, b2=0.9),
    ),
    "laprop, by default": (
        gradtx.scale_by_laprop(),
        laprop_by_the_paper,
    ),
}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("name", PAPERS)
def test_optimizer_equals_its_paper(name, is_complex):
    tx, paper = PAPERS[name]
    assert_equals_paper(tx, paper, is_complex)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            gradtx.scale_by_laprop(0.0, 0.9),
            gradtx.scale_by_rms(0.9, 1e-15, eps_in_sqrt=False, bias_correction=True),
        ),
    ],
    ids=["laprop of b1 0"],
)
def test_reductions_hold(one, other):
    same(one, other)


def test_first_update_of_adopt_only_starts_its_second_moment():
    tx, grads = gradtx.scale_by_adopt(), jnp.array([3.0, 0.0])
    updates, state = tx.update(grads, tx.init(grads))
    np.testing.assert_array_equal(updates, 0)
    np.testing.assert_array_equal(state["nu"], [9, 0])
    np.testing.assert_array_equal(state["mu"], 0)


@pytest.mark.parametrize("bound", [0.5, gradtx.constant_schedule(0.5)])
def test_bound_of_adopt_may_be_a_number_or_a_schedule_of_its_count(bound):
    given = bound if callable(bound) else lambda count: bound
    tx = gradtx.scale_by_adopt(0.0, 0.9, clip_value_fn=given)
    _, *updates = updates_of(tx, map(jnp.asarray, REAL[:4]))
    expected = adopt_by_the_paper(REAL[:4], 0.0, 0.9, clip=False)
    for mine, wide in zip(updates, list(expected)[1:], strict=True):
        np.testing.assert_allclose(mine, np.clip(wide, -0.5, 0.5), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.scale_by_adopt(eps=0.0),
            "scale_by_adopt: eps must be positive, got 0.0",
        ),
    ],
)
def test_number_out_of_its_range_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
