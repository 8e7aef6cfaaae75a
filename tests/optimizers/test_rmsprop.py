import functools
import itertools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
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
    ],
    ids=["rms", "stddev", "rss", "adadelta"],
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


@pytest.mark.parametrize(
    ("tx", "expected"),
    [
        (gradtx.scale_by_past_rms(0.8, 1e-2), list(past_rms(COMPLEX, 0.8, 1e-2))),
    ],
    ids=lambda value: repr(value) if isinstance(value, tuple) else "",
)
def test_part_equals_its_formula(tx, expected):
    assert_equals_paper(tx, lambda g, p: expected, is_complex=True)


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
    ],
)
def test_number_out_of_its_range_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
