from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.averages import ema_by_the_paper
from tests.oracles.runs import (
    COMPLEX,
    assert_equals_paper,
    assert_same_updates,
    updates_of,
)

SAME: dict[str, tuple[Any, Any]] = {
    "second moment": (
        gradtx.second_moment(0.8, initial_value=0.5),
        gradtx.chain(
            gradtx.square(),
            gradtx.scale_by_ema(0.8, initial_value=0.5),
            gradtx.bias_correction(0.8),
        ),
    ),
}


@pytest.mark.parametrize(("named", "composed"), SAME.values(), ids=SAME)
def test_named_division_is_the_composition_of_its_parts(named, composed):
    assert_same_updates(named, composed)


SIZE = gradtx.magnitude()


@pytest.mark.parametrize(
    ("tx", "expected"),
    [
        (gradtx.square(), [np.abs(g) ** 2 for g in COMPLEX]),
        (SIZE, [np.abs(g) for g in COMPLEX]),
        (gradtx.shift(-0.5), [g - 0.5 for g in COMPLEX]),
        (gradtx.chain(SIZE, gradtx.root()), [np.sqrt(np.abs(g)) for g in COMPLEX]),
        (
            gradtx.chain(SIZE, gradtx.at_least(0.5)),
            [np.maximum(np.abs(g), 0.5) for g in COMPLEX],
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, tuple) else "",
)
def test_part_equals_its_formula(tx, expected):
    assert_equals_paper(tx, lambda g, p: expected, is_complex=True)


@pytest.mark.parametrize("is_corrected", [False, True])
def test_centered_second_moment_equals_its_formula(is_corrected):
    grads = np.array(COMPLEX)
    tx = gradtx.centered_second_moment(0.8, 0.5, is_corrected)
    with jax.enable_x64(True):
        mine = list(updates_of(tx, map(jnp.asarray, grads)))
    nu = list(ema_by_the_paper(np.abs(grads) ** 2, 0.8, False))
    mu = list(ema_by_the_paper(grads, 0.8, is_corrected))
    for t, variance in enumerate(mine):
        first = nu[t] + 0.5 * 0.8 ** (t + 1)
        first = first / (1 - 0.8 ** (t + 1)) if is_corrected else first
        np.testing.assert_allclose(variance, first - np.abs(mu[t]) ** 2, rtol=1e-12)


def test_floor_of_complex_updates_raises():
    tx, grads = gradtx.at_least(0.0), jnp.ones(2, jnp.complex64)
    with pytest.raises(TypeError) as caught:
        tx.update(grads, tx.init(grads))
    assert str(caught.value) == (
        "at_least: complex numbers have no order, "
        "but the update at '<root>' is complex64"
    )
