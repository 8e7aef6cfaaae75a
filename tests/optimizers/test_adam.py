import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.adabelief import acprop_by_optax, belief_by_the_paper
from tests.oracles.adam import adam_by_the_paper, amsgrad_by_the_paper, nadam_by_torch
from tests.oracles.adam_variants import (
    adamax_by_the_paper,
    radam_by_the_paper,
    yogi_by_the_paper,
)
from tests.oracles.normalized import adopt_by_the_paper
from tests.oracles.runs import (
    REAL,
    assert_equals_paper,
    assert_kept_in_single,
    assert_same_updates,
    assert_slots_equal_optax,
    assert_stored,
    kinds_of_slots,
    steps_of,
    updates_of,
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
    "adamax": (gradtx.scale_by_adamax(0.8, 0.9), adamax_by_the_paper),
    "belief": (gradtx.scale_by_belief(0.8, 0.9), belief_by_the_paper),
    "acprop": (gradtx.scale_by_acprop(0.8, 0.9), acprop_by_optax),
    "radam": (gradtx.scale_by_radam(0.8, 0.9), radam_by_the_paper),
    "nadam": (gradtx.scale_by_nadam(0.8, 0.9), nadam_by_torch),
    "adopt": (gradtx.scale_by_adopt(0.8, 0.9), adopt_by_the_paper),
    "adopt, plain": (
        gradtx.scale_by_adopt(0.8, 0.9, 1e-3, use_clipping=False),
        functools.partial(adopt_by_the_paper, eps=1e-3, clip=False),
    ),
    "adopt, Nesterov": (
        gradtx.scale_by_adopt(0.8, 0.9, nesterov=True),
        functools.partial(adopt_by_the_paper, nesterov=True),
    ),
    "yogi": (
        gradtx.scale_by_yogi(0.8, 0.9, initial_accumulator_value=0.1),
        functools.partial(yogi_by_the_paper, start=0.1),
    ),
    "radam, at 4": (
        gradtx.scale_by_radam(0.8, 0.9, threshold=4.0),
        functools.partial(radam_by_the_paper, threshold=4.0),
    ),
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
    "radam that is rectified early": (
        gradtx.scale_by_radam(b2=0.9, threshold=4.0),
        gradtx.moments(
            gradtx.first_moment(0.9),
            gradtx.rectify(gradtx.divide_by_root(gradtx.second_moment(0.9)), 0.9, 4.0),
        ),
    ),
    "radam that never is": (
        gradtx.scale_by_radam(threshold=1e9),
        gradtx.first_moment(0.9),
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
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert states[0].keys() == {"count", "mu", "nu"}


@pytest.mark.parametrize(
    ("tx", "real"),
    [
        (gradtx.scale_by_adam(), {"nu"}),
        (gradtx.scale_by_amsgrad(), {"nu", "nu_max"}),
        (gradtx.scale_by_adamax(), {"nu"}),
        (gradtx.scale_by_nadam(), {"nu", "mu_product"}),
    ],
    ids=["adam", "amsgrad", "adamax", "nadam"],
)
def test_second_moments_of_complex_parameters_are_real(tx, real):
    expected = {"mu": "complex64", **dict.fromkeys(real, "float32")}
    assert kinds_of_slots(tx) == expected


def test_rectification_starts_with_the_update_whose_average_is_long_enough():
    # With a decay of 0.9 the longest average is of 19, and of t updates
    # 1, 1.9, 2.8, 3.6, 4.3, 5.2, 6, ...: 5 is reached at the sixth.
    tx = gradtx.rectify(gradtx.scale(0.0), 0.9)
    updates = list(updates_of(tx, [jnp.ones(1)] * 8))
    np.testing.assert_array_equal(np.ravel(updates), [1, 1, 1, 1, 1, 0, 0, 0])


def test_product_of_momenta_is_kept_for_the_whole_tree():
    grads = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    momenta = [0.9 * (1 - 0.96 ** (t * 0.1) / 2) for t in (1, 2, 3)]
    runs = steps_of(gradtx.scale_by_nadam(momentum_decay=0.1), [grads] * 3)
    for t, (_, state) in enumerate(runs, 1):
        assert state["mu_product"].shape == ()
        np.testing.assert_allclose(state["mu_product"], np.prod(momenta[:t]), rtol=1e-6)


def test_first_update_of_adopt_only_starts_its_second_moment():
    tx, grads = gradtx.scale_by_adopt(), jnp.array([3.0, 0.0])
    updates, state = tx.update(grads, tx.init(grads))
    np.testing.assert_array_equal(updates, 0)
    np.testing.assert_array_equal(state["nu"], [9, 0])
    np.testing.assert_array_equal(state["mu"], 0)


def test_first_gradient_of_acprop_is_not_divided():
    grads = jnp.array([3.0, 0.0, 1e-3])
    first, second = updates_of(gradtx.scale_by_acprop(0.5, 0.5), [grads, grads])
    np.testing.assert_array_equal(first, grads)
    np.testing.assert_allclose(second, [1, 0, 1], rtol=1e-6)


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
            lambda: gradtx.scale_by_adopt(eps=0.0),
            "scale_by_adopt: eps must be positive, got 0.0",
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
