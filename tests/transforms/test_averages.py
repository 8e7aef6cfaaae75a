import functools
import itertools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.averages import ema_by_the_paper, trace_by_the_paper
from tests.oracles.runs import (
    COMPLEX,
    REAL,
    assert_equals_paper,
    assert_kept_in_single,
    assert_same_updates,
    assert_slots_equal_optax,
    assert_stored,
    kinds_of_slots,
    updates_of,
)

PAPERS: dict[str, Any] = {
    "trace": trace_by_the_paper,
    "ema": ema_by_the_paper,
}
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("trace", {"decay": 0.8, "nesterov": False}),
    ("trace", {"decay": 0.8, "nesterov": True}),
    ("trace", {"decay": 1.5}),
    ("ema", {"decay": 0.8, "debias": False}),
    ("ema", {"decay": 0.8, "debias": True}),
]


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("name", "arguments"), SETTINGS, ids=repr)
def test_average_equals_the_paper(name, arguments, is_complex):
    tx = getattr(gradtx, name)(**arguments)
    paper = functools.partial(PAPERS[name], **arguments)
    assert_equals_paper(tx, lambda g, p: paper(g), is_complex)


@pytest.mark.parametrize(("name", "arguments"), SETTINGS, ids=repr)
def test_average_equals_optax_in_updates_and_slots(name, arguments):
    assert_slots_equal_optax(name, arguments)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("name", "more"), [("trace", {}), ("trace", {"nesterov": True}), ("ema", {})]
)
def test_slot_is_stored_in_its_dtype_and_computed_with_in_double(name, more, dtype):
    arguments = {"decay": 0.9, "accumulator_dtype": jnp.dtype(dtype), **more}
    assert_stored(name, PAPERS[name], name, dtype, **arguments)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_averages_of_half_precision_are_kept_and_computed_in_single(dtype):
    assert_kept_in_single("ema", PAPERS["ema"], dtype, decay=0.999)


@pytest.mark.parametrize(
    ("tx", "kinds"),
    [
        (gradtx.ema(0.9), {"ema": "complex64"}),
        (gradtx.trace(0.9), {"trace": "complex64"}),
        (gradtx.difference(), {"previous": "complex64"}),
        (
            gradtx.chain(gradtx.square(), gradtx.scale_by_ema(0.9)),
            {"ema": "float32"},
        ),
        (gradtx.scale_by_ema(0.9, dtype="float16"), {"ema": "float16"}),
    ],
    ids=str,
)
def test_a_slot_is_complex_where_the_update_is(tx, kinds):
    if "float16" in kinds.values():  # a dtype that is given must hold the update
        with pytest.raises(ValueError, match="complex"):
            kinds_of_slots(tx)
    else:
        assert kinds_of_slots(tx) == kinds


SAME: dict[str, tuple[Any, Any]] = {
    "ema": (
        gradtx.ema(0.9),
        gradtx.chain(gradtx.scale_by_ema(0.9), gradtx.bias_correction(0.9)),
    ),
    "plain ema": (gradtx.ema(0.9, debias=False), gradtx.scale_by_ema(0.9)),
    "nesterov": (
        gradtx.trace(0.9, nesterov=True),
        gradtx.add(gradtx.identity(), gradtx.trace(0.9), weights=(1.0, 0.9)),
    ),
    "dampened": (
        gradtx.trace(0.9, dampening=0.4),
        gradtx.chain(gradtx.dampen(0.4), gradtx.trace(0.9)),
    ),
}


@pytest.mark.parametrize(("named", "composed"), SAME.values(), ids=SAME)
def test_named_average_is_the_composition_of_its_parts(named, composed):
    assert_same_updates(named, composed)


def lagged(first):
    return [first, *COMPLEX[:-1]]


def sign_average(squares, decay, value):
    for square in squares:
        value = value - (1 - decay) * np.sign(value - square) * square
        yield value


def maxima(sizes, decay):
    largest = 0.0
    for size in sizes:
        largest = np.maximum(decay * largest, size)
        yield largest


SQUARES = [np.abs(g) ** 2 for g in COMPLEX]
SQUARE = gradtx.square()
plain = functools.partial(ema_by_the_paper, debias=False)


@pytest.mark.parametrize(
    ("tx", "expected"),
    [
        (gradtx.running_sum(), np.cumsum(COMPLEX, axis=0)),
        (gradtx.running_sum(initial_value=2.0), 2 + np.cumsum(COMPLEX, axis=0)),
        (
            gradtx.running_sum(decay=0.8),
            list(trace_by_the_paper(COMPLEX, 0.8)),
        ),
        (
            gradtx.chain(SQUARE, gradtx.running_maximum()),
            np.maximum.accumulate(SQUARES),
        ),
        (
            gradtx.chain(SQUARE, gradtx.running_maximum(decay=0.5)),
            list(maxima(SQUARES, 0.5)),
        ),
        (gradtx.scale_by_ema(0.8), list(plain(COMPLEX, 0.8))),
        (
            gradtx.scale_by_ema(0.8, initial_value=3.0),
            [m + 3 * 0.8**t for t, m in enumerate(plain(COMPLEX, 0.8), 1)],
        ),
        (
            gradtx.scale_by_ema(0.8, initial_value=None),
            [m + COMPLEX[0] * 0.8**t for t, m in enumerate(plain(COMPLEX, 0.8), 1)],
        ),
        (
            gradtx.scale_by_ema(0.8, initial_value=3.0, lagged=True),
            [
                m + 3 * 0.8**t
                for t, m in enumerate(itertools.chain([0.0], plain(COMPLEX[:-1], 0.8)))
            ],
        ),
        (
            gradtx.scale_by_ema(0.0, initial_value=None, lagged=True),
            [0 * COMPLEX[0], *COMPLEX[:-1]],
        ),
        (
            gradtx.chain(SQUARE, gradtx.sign_average(0.8, initial_value=0.5)),
            list(sign_average(SQUARES, 0.8, 0.5)),
        ),
        (
            gradtx.bias_correction(0.8),
            [g / (1 - 0.8**t) for t, g in enumerate(COMPLEX, 1)],
        ),
        (
            gradtx.bias_correction(0.8, steps_ahead=2),
            [g / (1 - 0.8 ** (t + 2)) for t, g in enumerate(COMPLEX, 1)],
        ),
        (
            gradtx.bias_correction(0.8, steps_ahead=-2),
            [g / (1 - 0.8 ** max(t - 2, 1)) for t, g in enumerate(COMPLEX, 1)],
        ),
        (
            gradtx.difference(),
            [0 * COMPLEX[0], *np.diff(COMPLEX, axis=0)],
        ),
        (gradtx.at_first(2.5), [np.full(4, 2.5), *COMPLEX[1:]]),
        (
            gradtx.dampen(0.3),
            [COMPLEX[0], *(0.7 * g for g in COMPLEX[1:])],
        ),
        (
            gradtx.dampen(1.0),
            [COMPLEX[0], *(0 * g for g in COMPLEX[1:])],
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, tuple) else "",
)
def test_part_equals_its_formula(tx, expected):
    assert_equals_paper(tx, lambda g, p: expected, is_complex=True)


def test_scheduled_decay_has_the_value_of_its_count():
    decays = [0.5, 0.6, 0.7, 0.8, 0.8, 0.8]
    m, expected = np.zeros(4), []
    for b, g in zip(decays, REAL, strict=False):
        m = b * m + (1 - b) * g
        expected.append(m)
    with jax.enable_x64(True):
        tx = gradtx.scale_by_ema(gradtx.linear_schedule(0.5, 0.8, 3))
        mine = list(updates_of(tx, map(jnp.asarray, REAL[:6])))
    np.testing.assert_allclose(mine, expected, rtol=1e-12)


@pytest.mark.parametrize("is_traced", [False, True])
@pytest.mark.parametrize("decay", [0.999, 0.9999, 0.99999])
def test_complement_of_a_decay_is_exact_in_single(decay, is_traced):
    # In float32 1 - 0.9999 is wrong by 5e-5 of itself.
    def first(tx):
        return tx.update(jnp.ones(2), tx.init(jnp.ones(2)))[0]

    mine = (jax.jit(first) if is_traced else first)(gradtx.scale_by_ema(decay))
    np.testing.assert_allclose(mine, 1 - decay, rtol=1e-6)


def test_an_average_from_the_first_update_does_not_see_a_nan_in_what_it_starts_at():
    tx: Any = gradtx.scale_by_ema(0.5, initial_value=None)
    state = tx.init(jnp.ones(2)) | {"ema": jnp.full(2, jnp.nan)}
    np.testing.assert_array_equal(tx.update(jnp.ones(2), state)[0], 1)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda x: gradtx.scale_by_ema(0.9, initial_value=x), "initial_value"),
        (lambda x: gradtx.running_sum(initial_value=x), "initial_value"),
        (lambda x: gradtx.sign_average(0.9, initial_value=x), "initial_value"),
        (lambda x: gradtx.second_moment(0.9, initial_value=x), "initial_value"),
        (lambda x: gradtx.scale_by_rms(initial_scale=x), "initial_scale"),
        (lambda x: gradtx.scale_by_stddev(initial_scale=x), "initial_scale"),
        (lambda x: gradtx.centered_second_moment(0.9, x), "initial_scale"),
        (lambda x: gradtx.scale_by_rss(x), "initial_accumulator_value"),
        (
            lambda x: gradtx.scale_by_yogi(initial_accumulator_value=x),
            "initial_accumulator_value",
        ),
        (lambda x: gradtx.scale_by_rprop(x), "learning_rate"),
        (lambda x: gradtx.scale_by_dowg(x), "init_estim_sq_dist"),
    ],
    ids=itertools.count(),
)
def test_first_value_takes_a_number_and_no_schedule(make, argument):
    tx, schedule = make(2.0), gradtx.constant_schedule(1.0)
    assert tx.arguments[argument] == 2.0
    with pytest.raises(TypeError) as caught:
        make(schedule)
    assert str(caught.value) == (
        f"{tx.name}: {argument} must be a number, not a schedule, "
        f"got constant_schedule(value=1.0)"
    )
    with pytest.raises(ValueError) as refused:
        make(-1.0)
    assert str(refused.value) == f"{tx.name}: {argument} must be at least 0, got -1.0"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gradtx.ema(1.0), "ema: decay must be in [0, 1), got 1.0"),
        (
            lambda: gradtx.trace(float("nan")),
            "trace: decay must be a number, got nan",
        ),
        (lambda: gradtx.dampen(1.5), "dampen: dampening must be in [0, 1], got 1.5"),
        (
            lambda: gradtx.running_maximum(decay=1.5),
            "running_maximum: decay must be in [0, 1], got 1.5",
        ),
    ],
)
def test_number_out_of_its_range_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_maximum_of_complex_updates_raises():
    tx, grads = gradtx.running_maximum(), jnp.ones(2, jnp.complex64)
    with pytest.raises(TypeError) as caught:
        tx.update(grads, tx.init(grads))
    assert str(caught.value) == (
        "running_maximum: complex numbers have no order, "
        "but the update at '<root>' is complex64"
    )
