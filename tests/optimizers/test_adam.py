import functools
from typing import Any

import chex
import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.adam import (
    adam_by_the_paper,
    adamc_by_the_paper,
    amsgrad_by_the_paper,
    nadam_by_torch,
)
from tests.oracles.runs import (
    PARAMS,
    REAL,
    assert_equals_paper,
    assert_kept_in_single,
    assert_same_updates,
    assert_slots_equal_optax,
    assert_stored,
    kinds_of_slots,
    steps_of,
)

PAPERS: dict[str, Any] = {
    "scale_by_adam": adam_by_the_paper,
    "scale_by_amsgrad": amsgrad_by_the_paper,
}


OFF = {"bias_correction_mu": False, "bias_correction_nu": False}


SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("scale_by_adam", {}),
    ("scale_by_adam", {"b1": 0.0, "b2": 0.5}),
    ("scale_by_adam", {"b1": 0.8, "b2": 0.0, "eps": 1e-3}),
    ("scale_by_adam", {"b1": 0.7, "b2": 0.95, "eps": 1e-3, "eps_root": 1e-4}),
    ("scale_by_adam", {"b1": 0.7, "b2": 0.95, "nesterov": True}),
    *(
        ("scale_by_amsgrad", {"b1": 0.7, "b2": 0.8, "eps": 1e-6, **each})
        for each in ({}, OFF, {"bias_correction_mu": False}, {"eps_root": 1e-4})
    ),
    ("scale_by_amsgrad", {"bias_correction_nu": False}),
]


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("name", "arguments"), SETTINGS, ids=repr)
def test_adam_equals_the_paper(name, arguments, is_complex):
    tx = getattr(gradtx, name)(**arguments)
    paper = functools.partial(PAPERS[name], **arguments)
    assert_equals_paper(tx, lambda g, p: paper(g), is_complex)


@pytest.mark.parametrize(("name", "arguments"), SETTINGS, ids=repr)
def test_adam_equals_optax_in_updates_and_slots(name, arguments):
    assert_slots_equal_optax(name, arguments)


def amsgrad_by_torch(grads, b1=0.7, b2=0.8, eps=1e-6):
    """The maximum is taken before it is corrected, so the correction can lower it."""
    m, v, v_max = 0.0, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.abs(g) ** 2
        v_max = np.maximum(v_max, v)
        yield m / (1 - b1**t) / (np.sqrt(v_max / (1 - b2**t)) + eps)


KIN: dict[str, tuple[Any, Any]] = {
    "nadam": (gradtx.scale_by_nadam(0.8, 0.9), nadam_by_torch),
    "nadam, quickly": (
        gradtx.scale_by_nadam(0.8, 0.9, momentum_decay=0.5),
        functools.partial(nadam_by_torch, momentum_decay=0.5),
    ),
}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("tx", "paper"), KIN.values(), ids=KIN)
def test_kin_of_adam_equals_its_paper(tx, paper, is_complex):
    assert_equals_paper(tx, lambda g, p: paper(g, 0.8, 0.9), is_complex)


@pytest.mark.parametrize("is_complex", [False, True])
def test_amsgrad_may_correct_the_maximum_as_torch_does(is_complex):
    tx = gradtx.scale_by_amsgrad(0.7, 0.8, 1e-6, max_before_correction=True)
    assert_equals_paper(tx, lambda g, p: amsgrad_by_torch(g), is_complex)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("scale_by_adam", {}),
        ("scale_by_adam", {"nesterov": True}),
        ("scale_by_amsgrad", {}),
    ],
)
def test_first_moment_is_stored_in_its_dtype_and_computed_with_in_double(
    name, arguments, dtype
):
    arguments = {"mu_dtype": jnp.dtype(dtype), **arguments}
    assert_stored(name, PAPERS[name], "mu", dtype, **arguments)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_moments_of_half_precision_are_kept_and_computed_in_single(dtype):
    assert_kept_in_single("scale_by_adam", PAPERS["scale_by_adam"], dtype)


SECOND_MOMENT = gradtx.chain(
    gradtx.square(), gradtx.scale_by_ema(0.999, "nu"), gradtx.bias_correction(0.999)
)


SAME: dict[str, tuple[Any, Any]] = {
    "adam": (
        gradtx.scale_by_adam(),
        gradtx.moments(
            gradtx.scale_by_ema(0.9, "mu"),
            gradtx.bias_correction(0.9),
            gradtx.divide_by_root(SECOND_MOMENT, 1e-8),
        ),
    ),
    "adam of a nested scope": (
        gradtx.scale_by_adam(),
        gradtx.moments(
            gradtx.chain(gradtx.ema(0.9), gradtx.identity()),
            gradtx.chain(gradtx.divide_by_root(SECOND_MOMENT, 1e-8)),
        ),
    ),
    "adam without momentum": (
        gradtx.scale_by_adam(b1=0.0),
        gradtx.divide_by_root(SECOND_MOMENT),
    ),
    "adam without momentum as rms": (
        gradtx.scale_by_adam(b1=0.0),
        gradtx.scale_by_rms(0.999, eps_in_sqrt=False, bias_correction=True),
    ),
    "first moment": (gradtx.first_moment(0.9), gradtx.ema(0.9)),
    "nadam": (
        gradtx.scale_by_adam(nesterov=True),
        gradtx.moments(
            gradtx.add(
                gradtx.chain(
                    gradtx.scale_by_ema(0.9, "mu"),
                    gradtx.bias_correction(0.9, steps_ahead=1),
                ),
                gradtx.bias_correction(0.9),
                weights=(0.9, 1 - 0.9),
            ),
            gradtx.divide_by_root(SECOND_MOMENT),
        ),
    ),
    "correction of Nesterov": (
        gradtx.moments(gradtx.first_moment(0.9, nesterov=True)),
        gradtx.moments(gradtx.scale_by_ema(0.9, "mu"), gradtx.nesterov_correction(0.9)),
    ),
    "momentum that does not grow": (
        gradtx.moments(
            gradtx.scale_by_ema(0.9), gradtx.scheduled_nesterov_correction(0.9, 0.0)
        ),
        # Half of 0.9 all the time, over an average that decays by 0.9.
        gradtx.moments(gradtx.scale_by_ema(0.9), gradtx.nesterov_correction(0.45)),
    ),
    "amsgrad": (
        gradtx.scale_by_amsgrad(),
        gradtx.moments(
            gradtx.ema(0.9),
            gradtx.divide_by_root(
                gradtx.chain(SECOND_MOMENT, gradtx.running_maximum())
            ),
        ),
    ),
}


@pytest.mark.parametrize(("named", "composed"), SAME.values(), ids=SAME)
def test_kin_of_adam_is_the_composition_of_its_parts(named, composed):
    assert_same_updates(named, composed)


def test_composed_adam_keeps_the_state_of_adam():
    named, composed = SAME["adam"]
    params = {"w": jnp.ones((2, 3)), "b": [jnp.ones(3), None]}
    states = []
    for tx in (named, composed):
        state = tx.init(params)
        states.append(tx.update(params, state, params)[1])
    chex.assert_trees_all_equal(*states)
    assert states[0].keys() == {"count", "mu", "nu"}


@pytest.mark.parametrize(
    ("tx", "real"),
    [
        (gradtx.scale_by_adam(), {"nu"}),
        (gradtx.scale_by_amsgrad(), {"nu", "nu_max"}),
        (gradtx.scale_by_nadam(), {"nu", "mu_product"}),
    ],
    ids=["adam", "amsgrad", "nadam"],
)
def test_second_moments_of_complex_parameters_are_real(tx, real):
    expected = {"mu": "complex64", **dict.fromkeys(real, "float32")}
    assert kinds_of_slots(tx) == expected


def test_product_of_momenta_is_kept_for_the_whole_tree():
    grads = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    momenta = [0.9 * (1 - 0.96 ** (t * 0.1) / 2) for t in (1, 2, 3)]
    runs = steps_of(gradtx.scale_by_nadam(momentum_decay=0.1), [grads] * 3)
    for t, (_, state) in enumerate(runs, 1):
        assert state["mu_product"].shape == ()
        np.testing.assert_allclose(state["mu_product"], np.prod(momenta[:t]), rtol=1e-6)


RATES = [0.1 - 0.004 * i for i in range(20)]


def falling(count):
    return 0.1 - 0.004 * count


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.scale_by_adam(b1=1.0),
            "scale_by_adam: b1 must be in [0, 1), got 1.0",
        ),
        (
            lambda: gradtx.scale_by_adam(b2=-0.1),
            "scale_by_adam: b2 must be in [0, 1), got -0.1",
        ),
        (
            lambda: gradtx.scale_by_adam(eps=-1e-8),
            "scale_by_adam: eps must be at least 0, got -1e-08",
        ),
        (
            lambda: gradtx.scale_by_amsgrad(eps_root=-1.0),
            "scale_by_amsgrad: eps_root must be at least 0, got -1.0",
        ),
        (
            lambda: gradtx.scale_by_nadam(momentum_decay=-1.0),
            "scale_by_nadam: momentum_decay must be at least 0, got -1.0",
        ),
    ],
)
def test_number_out_of_its_range_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_dtype_that_is_none_raises():
    with pytest.raises(TypeError) as caught:
        gradtx.scale_by_adam(mu_dtype="bfloat17")
    expected = "scale_by_adam: mu_dtype must be a dtype of floats, got 'bfloat17'"
    assert str(caught.value) == expected
