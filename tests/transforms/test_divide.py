from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.averages import trace_by_the_paper
from tests.oracles.runs import (
    COMPLEX,
    REAL,
    assert_equals_paper,
    assert_same_updates,
    kinds_of_slots,
    updates_of,
)


@pytest.mark.parametrize(
    ("tx", "kinds"),
    [
        (
            gradtx.divide_by(gradtx.chain(gradtx.magnitude(), gradtx.scale_by_ema(0))),
            {"ema": "float32"},
        ),
    ],
    ids=["divide_by"],
)
def test_second_moments_of_complex_parameters_are_real(tx, kinds):
    assert kinds_of_slots(tx) == kinds


SAME: dict[str, tuple[Any, Any]] = {
    "a root and a shift": (
        gradtx.divide_by_root(gradtx.second_moment(0.8), 1e-3),
        gradtx.divide_by(
            gradtx.chain(gradtx.second_moment(0.8), gradtx.root(), gradtx.shift(1e-3))
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
        (
            gradtx.divide_by(gradtx.chain(SIZE, gradtx.shift(0.5))),
            [g / (np.abs(g) + 0.5) for g in COMPLEX],
        ),
        (
            gradtx.divide_by_root(gradtx.square(), eps=0.5, eps_root=0.25),
            [g / (np.sqrt(np.abs(g) ** 2 + 0.25) + 0.5) for g in COMPLEX],
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, tuple) else "",
)
def test_part_equals_its_formula(tx, expected):
    assert_equals_paper(tx, lambda g, p: expected, is_complex=True)


@pytest.mark.parametrize("divide", [gradtx.divide_by_root, gradtx.divide_by])
@pytest.mark.parametrize("is_scope", [False, True])
def test_estimator_measures_the_gradient_in_a_scope_and_else_what_reaches_it(
    is_scope, divide
):
    connect = gradtx.moments if is_scope else gradtx.chain
    is_root = divide is gradtx.divide_by_root
    estimator = gradtx.square() if is_root else gradtx.magnitude()
    shifted = gradtx.chain(estimator, gradtx.shift(1.0))
    tx = connect(gradtx.trace(0.9), divide(shifted, **{"eps": 0.0} if is_root else {}))
    traces = list(trace_by_the_paper(REAL, 0.9))
    with jax.enable_x64(True):
        mine = updates_of(tx, map(jnp.asarray, REAL))
        for t, update in enumerate(mine):
            size = np.abs(REAL[t] if is_scope else traces[t])
            divisor = np.sqrt(size**2 + 1) if is_root else size + 1
            np.testing.assert_allclose(update, traces[t] / divisor, rtol=1e-12)


ROOTS: dict[str, Any] = {
    "rms": lambda eps: gradtx.scale_by_rms(eps=eps),
    "rms outside": lambda eps: gradtx.scale_by_rms(eps=eps, eps_in_sqrt=False),
    "stddev": lambda eps: gradtx.scale_by_stddev(eps=eps),
    "rss": lambda eps: gradtx.scale_by_rss(0.0, eps),
    "adam": lambda eps: gradtx.scale_by_adam(eps=eps),
    "adam without momentum": lambda eps: gradtx.scale_by_adam(b1=0.0, eps=eps),
    "amsgrad": lambda eps: gradtx.scale_by_amsgrad(eps=eps),
    "adamax": lambda eps: gradtx.scale_by_adamax(eps=eps),
    "belief": lambda eps: gradtx.scale_by_belief(eps=eps, eps_root=eps),
    "nadam": lambda eps: gradtx.scale_by_nadam(eps=eps),
    "ademamix": lambda eps: gradtx.scale_by_ademamix(eps=eps),
}


@pytest.mark.parametrize("make", ROOTS.values(), ids=ROOTS)
def test_zero_gradient_stays_zero_without_eps(make):
    def total(grads):
        tx = make(0.0)
        updates, state = tx.update(grads, tx.init(grads))
        again, _ = tx.update(grads, state)
        return jnp.sum(updates) + jnp.sum(again), (updates, again)

    grads = jnp.array([0.0, 2.0])
    slope, (updates, again) = jax.jit(jax.grad(total, has_aux=True))(grads)
    assert updates[0] == again[0] == 0
    assert updates[1] > 0 and again[1] > 0
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("make", ROOTS.values(), ids=ROOTS)
def test_gradient_that_is_nan_shows_in_this_update_and_the_next(make):
    bad, good = jnp.array([np.nan, 1.0]), jnp.ones(2)
    for updates in updates_of(make(1e-8), [bad, good]):
        np.testing.assert_array_equal(np.isnan(updates), [True, False])


@pytest.mark.parametrize("part", [gradtx.root(), gradtx.divide_by(gradtx.square())])
def test_derivative_at_zero_is_finite(part):
    slope = jax.grad(lambda u: jnp.sum(part.update(u, part.init(u))[0]))(jnp.zeros(2))
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.divide_by_root(gradtx.square(), -1.0),
            "divide_by_root: eps must be at least 0, got -1.0",
        ),
    ],
)
def test_number_out_of_its_range_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
