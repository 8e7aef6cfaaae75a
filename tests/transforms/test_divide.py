import functools
import itertools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.averages import ema_by_the_paper, trace_by_the_paper
from tests.oracles.layerwise import novograd_by_the_paper
from tests.oracles.rmsprop import (
    adadelta_by_the_paper,
    rms_by_the_paper,
    rss_by_the_paper,
)
from tests.oracles.runs import (
    COMPLEX,
    REAL,
    assert_equals_paper,
    assert_kept_in_single,
    assert_same_updates,
    assert_slots_equal_optax,
    kinds_of_slots,
    updates_of,
)

PAPERS: dict[str, Any] = {
    "scale_by_rms": rms_by_the_paper,
    "scale_by_stddev": functools.partial(rms_by_the_paper, is_centered=True),
    "scale_by_rss": rss_by_the_paper,
    "scale_by_adadelta": adadelta_by_the_paper,
}
BOTH = itertools.product([False, True], repeat=2)
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *(
        (
            name,
            {
                "decay": 0.8,
                "eps": 1e-6,
                "initial_scale": 0.5,
                "eps_in_sqrt": eps_in_sqrt,
                "bias_correction": bias_correction,
            },
        )
        for eps_in_sqrt, bias_correction in BOTH
        for name in ("scale_by_rms", "scale_by_stddev")
    ),
    ("scale_by_rms", {}),
    ("scale_by_stddev", {}),
    ("scale_by_rss", {}),
    ("scale_by_rss", {"initial_accumulator_value": 0.0, "eps": 1e-3}),
    ("scale_by_adadelta", {}),
    ("scale_by_adadelta", {"rho": 0.5, "eps": 1e-2}),
]


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("name", "arguments"), SETTINGS, ids=repr)
def test_division_equals_the_paper(name, arguments, is_complex):
    tx = getattr(gradtx, name)(**arguments)
    paper = functools.partial(PAPERS[name], **arguments)
    assert_equals_paper(tx, lambda g, p: paper(g), is_complex)


@pytest.mark.parametrize(("name", "arguments"), SETTINGS[:-2], ids=repr)
def test_division_equals_optax_in_updates_and_slots(name, arguments):
    assert_slots_equal_optax(name, arguments)


@pytest.mark.parametrize("is_complex", [False, True])
def test_novograd_equals_the_paper(is_complex):
    tx = gradtx.scale_by_novograd(0.8, 0.5, 1e-3, weight_decay=0.1)
    paper = functools.partial(
        novograd_by_the_paper, b1=0.8, b2=0.5, eps=1e-3, weight_decay=0.1
    )
    assert_equals_paper(tx, paper, is_complex)


@pytest.mark.parametrize("eps_in_sqrt", [False, True])
def test_corrected_variance_equals_the_paper_once_it_is_not_rounding(eps_in_sqrt):
    # After one gradient the variance is 0, and g**2 - g**2 leaves rounding: about
    # 1e-16 here, whose root is 1e-8. From the second on the variance is of order one.
    arguments = {"eps_in_sqrt": eps_in_sqrt, "bias_correction": True, "eps": 1e-8}
    steps = [g[:2] for g in REAL]
    with jax.enable_x64(True):
        grads = map(jnp.asarray, steps)
        first, *mine = updates_of(gradtx.scale_by_stddev(0.9, **arguments), grads)
    assert np.isfinite(first).all()
    _, *expected = rms_by_the_paper(steps, 0.9, **arguments, is_centered=True)
    np.testing.assert_allclose(mine, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("scale_by_rms", {"decay": 0.999}),
        ("scale_by_stddev", {"decay": 0.999}),
        ("scale_by_rss", {}),
        ("scale_by_adadelta", {"rho": 0.999}),
    ],
)
def test_moments_of_half_precision_are_kept_and_computed_in_single(
    name, arguments, dtype
):
    assert_kept_in_single(name, PAPERS[name], dtype, **arguments)


@pytest.mark.parametrize(
    ("tx", "kinds"),
    [
        (gradtx.scale_by_rms(), {"nu": "float32"}),
        (gradtx.scale_by_stddev(), {"mu": "complex64", "nu": "float32"}),
        (gradtx.scale_by_rss(), {"sum_of_squares": "float32"}),
        (gradtx.scale_by_adadelta(), {"e_g": "float32", "e_x": "float32"}),
        (gradtx.scale_by_novograd(), {"mu": "complex64", "nu": "float32"}),
        (
            gradtx.divide_by(gradtx.chain(gradtx.magnitude(), gradtx.scale_by_ema(0))),
            {"ema": "float32"},
        ),
    ],
    ids=["rms", "stddev", "rss", "adadelta", "novograd", "divide_by"],
)
def test_second_moments_of_complex_parameters_are_real(tx, kinds):
    assert kinds_of_slots(tx) == kinds


SAME: dict[str, tuple[Any, Any]] = {
    "rms": (
        gradtx.scale_by_rms(0.8, 1e-6),
        gradtx.divide_by_root(
            gradtx.chain(gradtx.square(), gradtx.scale_by_ema(0.8, "nu")), 0, 1e-6
        ),
    ),
    "stddev": (
        gradtx.scale_by_stddev(0.8, 1e-3, eps_in_sqrt=False),
        gradtx.divide_by_root(gradtx.centered_second_moment(0.8), 1e-3),
    ),
    "rss": (
        gradtx.scale_by_rss(0.5, 1e-3),
        gradtx.divide_by_root(
            gradtx.chain(gradtx.square(), gradtx.running_sum(initial_value=0.5)),
            eps=0.0,
            eps_root=1e-3,
        ),
    ),
    "second moment": (
        gradtx.second_moment(0.8, initial_value=0.5),
        gradtx.chain(
            gradtx.square(),
            gradtx.scale_by_ema(0.8, initial_value=0.5),
            gradtx.bias_correction(0.8),
        ),
    ),
    "a root and a shift": (
        gradtx.divide_by_root(gradtx.second_moment(0.8), 1e-3),
        gradtx.divide_by(
            gradtx.chain(gradtx.second_moment(0.8), gradtx.root(), gradtx.shift(1e-3))
        ),
    ),
    "adadelta": (
        gradtx.scale_by_adadelta(0.8, 1e-3),
        gradtx.chain(
            gradtx.divide_by_root(
                gradtx.second_moment(0.8, bias_correction=False), 0.0, 1e-3
            ),
            gradtx.scale_by_past_rms(0.8, 1e-3),
        ),
    ),
}


@pytest.mark.parametrize(("named", "composed"), SAME.values(), ids=SAME)
def test_named_division_is_the_composition_of_its_parts(named, composed):
    assert_same_updates(named, composed)


def past_rms(grads, decay, eps):
    average = 0.0
    for g in grads:
        step = np.sqrt(average + eps) * g
        average = decay * average + (1 - decay) * np.abs(step) ** 2
        yield step


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
        (
            gradtx.divide_by(gradtx.chain(SIZE, gradtx.shift(0.5))),
            [g / (np.abs(g) + 0.5) for g in COMPLEX],
        ),
        (
            gradtx.divide_by_root(gradtx.square(), eps=0.5, eps_root=0.25),
            [g / (np.sqrt(np.abs(g) ** 2 + 0.25) + 0.5) for g in COMPLEX],
        ),
        (gradtx.scale_by_past_rms(0.8, 1e-2), list(past_rms(COMPLEX, 0.8, 1e-2))),
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


def test_novograd_keeps_one_number_for_each_array():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(())}
    state = gradtx.scale_by_novograd().init(params)
    assert jax.tree.map(jnp.shape, state["nu"]) == {"w": (), "b": ()}
    assert jax.tree.map(jnp.shape, state["mu"]) == {"w": (2, 3), "b": ()}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.scale_by_rms(decay=1.5),
            "scale_by_rms: decay must be in [0, 1), got 1.5",
        ),
        (
            lambda: gradtx.scale_by_adadelta(eps=0),
            "scale_by_adadelta: eps must be positive, got 0",
        ),
        (
            lambda: gradtx.scale_by_past_rms(0.9, 0.0),
            "scale_by_past_rms: eps must be positive, got 0.0",
        ),
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


def test_floor_of_complex_updates_raises():
    tx, grads = gradtx.at_least(0.0), jnp.ones(2, jnp.complex64)
    with pytest.raises(TypeError) as caught:
        tx.update(grads, tx.init(grads))
    assert str(caught.value) == (
        "at_least: complex numbers have no order, "
        "but the update at '<root>' is complex64"
    )


def test_decay_of_novograd_needs_the_parameters():
    tx, grads = gradtx.scale_by_novograd(weight_decay=0.1), jnp.ones(2)
    with pytest.raises(ValueError) as caught:
        tx.update(grads, tx.init(grads))
    assert str(caught.value) == (
        "add_decayed_weights: needs the parameters; call update(updates, state, params)"
    )
