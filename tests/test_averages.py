import functools
import itertools
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import oracles
from tests.oracles import steps_of, updates_of

STEPS = 20
rng = np.random.default_rng(0)
REAL = [rng.normal(size=4) * [1, 1, 1e-3, 0] for _ in range(STEPS)]
COMPLEX = [g + 1j * rng.normal(size=4) * [1, 0, 1e-3, 0] for g in REAL]

PAPERS = {
    "scale_by_rms": oracles.rms_by_the_paper,
    "scale_by_stddev": functools.partial(oracles.rms_by_the_paper, is_centered=True),
    "scale_by_rss": oracles.rss_by_the_paper,
    "scale_by_adam": oracles.adam_by_the_paper,
    "scale_by_amsgrad": oracles.amsgrad_by_the_paper,
    "trace": oracles.trace_by_the_paper,
    "ema": oracles.ema_by_the_paper,
}


def flags(*names: str) -> list[dict[str, Any]]:
    values = itertools.product([False, True], repeat=len(names))
    return [dict(zip(names, each, strict=True)) for each in values]


SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *(
        (name, {"decay": 0.8, "eps": 1e-6, "initial_scale": 0.5, **each})
        for name in ("scale_by_rms", "scale_by_stddev")
        for each in flags("eps_in_sqrt", "bias_correction")
    ),
    ("scale_by_rms", {}),
    ("scale_by_stddev", {}),
    ("scale_by_rss", {}),
    ("scale_by_rss", {"initial_accumulator_value": 0.0, "eps": 1e-3}),
    ("scale_by_adam", {}),
    ("scale_by_adam", {"b1": 0.0, "b2": 0.5}),
    ("scale_by_adam", {"b1": 0.8, "b2": 0.0, "eps": 1e-3}),
    ("scale_by_adam", {"b1": 0.7, "b2": 0.95, "eps": 1e-3, "eps_root": 1e-4}),
    ("scale_by_adam", {"b1": 0.7, "b2": 0.95, "nesterov": True}),
    *(
        ("scale_by_amsgrad", {"b1": 0.7, "b2": 0.8, "eps": 1e-6, **each})
        for each in flags("bias_correction_mu", "bias_correction_nu")
    ),
    ("scale_by_amsgrad", {"eps_root": 1e-4}),
    *(("trace", {"decay": 0.8, **each}) for each in flags("nesterov")),
    ("trace", {"decay": 1.5}),
    *(("ema", {"decay": 0.8, **each}) for each in flags("debias")),
]


def each_setting(test):
    ids = [f"{name}({', '.join(f'{k}={v}' for k, v in kw.items())})"
           for name, kw in SETTINGS]  # fmt: skip
    return pytest.mark.parametrize(("name", "arguments"), SETTINGS, ids=ids)(test)


@each_setting
def test_average_equals_the_paper(name, arguments):
    with jax.enable_x64(True):
        grads = [
            (jnp.asarray(a), jnp.asarray(b)) for a, b in zip(REAL, COMPLEX, strict=True)
        ]
        mine = list(updates_of(getattr(gradtx, name)(**arguments), grads))
    for leaf, steps in enumerate((REAL, COMPLEX)):
        for t, expected in enumerate(PAPERS[name](steps, **arguments)):
            np.testing.assert_allclose(mine[t][leaf], expected, rtol=1e-12)


@each_setting
def test_average_equals_optax_in_updates_and_slots(name, arguments):
    grads = [
        (jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.complex64))
        for a, b in zip(REAL, COMPLEX, strict=True)
    ]
    runs = [steps_of(getattr(lib, name)(**arguments), grads) for lib in (gradtx, optax)]
    mine, theirs = map(list, runs)
    for (one, _), (other, _) in zip(mine, theirs, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=2e-6)
    (_, slots), (_, named_slots) = mine[-1], theirs[-1]
    assert {"count", *slots} == {"count", *named_slots._fields}
    for key in slots.keys() - {"count"}:
        for a, b in zip(slots[key], getattr(named_slots, key), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6)


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
    _, *expected = oracles.rms_by_the_paper(steps, 0.9, **arguments, is_centered=True)
    np.testing.assert_allclose(mine, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("name", "slot", "arguments"),
    [
        ("scale_by_adam", "mu", {}),
        ("scale_by_adam", "mu", {"nesterov": True}),
        ("scale_by_amsgrad", "mu", {}),
        ("trace", "trace", {"decay": 0.9}),
        ("trace", "trace", {"decay": 0.9, "nesterov": True}),
        ("ema", "ema", {"decay": 0.9}),
    ],
)
def test_slot_is_stored_in_its_dtype_and_computed_with_in_double(
    name, slot, arguments, dtype
):
    argument = "mu_dtype" if slot == "mu" else "accumulator_dtype"
    arguments = {argument: jnp.dtype(dtype), **arguments}
    with jax.enable_x64(True):
        tx = getattr(gradtx, name)(**arguments)
        mine = list(steps_of(tx, map(jnp.asarray, REAL)))
        their_state = getattr(optax, name)(**arguments).init(jnp.asarray(REAL[0]))
    expected = PAPERS[name](REAL, **arguments)
    for (updates, state), by_the_paper in zip(mine, expected, strict=True):
        for key in state.keys() - {"count"}:
            assert state[key].dtype == getattr(their_state, key).dtype
        assert state[slot].dtype == dtype
        np.testing.assert_allclose(updates, by_the_paper, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "name", ["scale_by_rms", "scale_by_stddev", "scale_by_rss", "scale_by_adam", "ema"]
)
def test_moments_of_half_precision_are_kept_and_computed_in_single(name, dtype):
    # In half precision 0.999 is 1, and the square of a float16 of 1e-4 is 0.
    arguments = {"decay": 0.999} if name != "scale_by_adam" else {}
    arguments = {} if name == "scale_by_rss" else arguments
    grads = [jnp.asarray(1e-4 * g[:2], dtype) for g in REAL]
    tx: Any = getattr(gradtx, name)(**arguments)
    exact = [np.float64(g) for g in grads]
    expected = PAPERS[name](exact, **arguments)
    for (updates, state), by_the_paper in zip(
        steps_of(tx, grads), expected, strict=True
    ):
        assert updates.dtype == dtype
        assert {state[key].dtype.name for key in state} == {"int32", "float32"}
        rounding = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(
            np.float64(updates), by_the_paper, rtol=rounding, atol=1e-7
        )


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("scale_by_rms", set(), {"nu"}),
        ("scale_by_stddev", {"mu"}, {"nu"}),
        ("scale_by_rss", set(), {"sum_of_squares"}),
        ("scale_by_adam", {"mu"}, {"nu"}),
        ("scale_by_amsgrad", {"mu"}, {"nu", "nu_max"}),
        ("ema", {"ema"}, set()),
        ("trace", {"trace"}, set()),
    ],
)
def test_second_moments_of_complex_parameters_are_real(name, first, second):
    arguments = {"decay": 0.9} if name in ("ema", "trace") else {}
    params: Any = jnp.ones(2, jnp.complex64)
    tx: Any = getattr(gradtx, name)(**arguments)
    states = [tx.init(params), tx.update(1j * params, tx.init(params), params)[1]]
    for state in states:
        kept = {key: state[key].dtype.name for key in state if key != "count"}
        assert kept == {
            **dict.fromkeys(first, "complex64"),
            **dict.fromkeys(second, "float32"),
        }


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
    "amsgrad": (
        gradtx.scale_by_amsgrad(),
        gradtx.moments(
            gradtx.ema(0.9),
            gradtx.divide_by_root(
                gradtx.chain(SECOND_MOMENT, gradtx.running_maximum())
            ),
        ),
    ),
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
    "ema": (
        gradtx.ema(0.9),
        gradtx.chain(gradtx.scale_by_ema(0.9), gradtx.bias_correction(0.9)),
    ),
    "plain ema": (gradtx.ema(0.9, debias=False), gradtx.scale_by_ema(0.9)),
    "nesterov": (
        gradtx.trace(0.9, nesterov=True),
        gradtx.add(gradtx.identity(), gradtx.trace(0.9), weights=(1.0, 0.9)),
    ),
}


@pytest.mark.parametrize(("named", "composed"), SAME.values(), ids=SAME)
def test_named_average_is_the_composition_of_its_parts(named, composed):
    grads = [jnp.asarray(g, jnp.float32) for g in REAL[:5]]
    runs = [updates_of(tx, grads) for tx in (named, composed)]
    for one, other in zip(*runs, strict=True):
        np.testing.assert_allclose(one, other, rtol=5e-7)


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
    ("tx", "expected"),
    [
        (gradtx.square(), [np.abs(g) ** 2 for g in COMPLEX]),
        (
            gradtx.running_sum(),
            np.cumsum(COMPLEX, axis=0),
        ),
        (
            gradtx.running_sum(initial_value=2.0),
            2 + np.cumsum(COMPLEX, axis=0),
        ),
        (
            gradtx.chain(gradtx.square(), gradtx.running_maximum()),
            np.maximum.accumulate(np.abs(COMPLEX) ** 2),
        ),
        (
            gradtx.scale_by_ema(0.8),
            list(oracles.ema_by_the_paper(COMPLEX, 0.8, debias=False)),
        ),
        (
            gradtx.scale_by_ema(0.8, initial_value=3.0),
            [
                m + 3 * 0.8**t
                for t, m in enumerate(oracles.ema_by_the_paper(COMPLEX, 0.8, False), 1)
            ],
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
            gradtx.divide_by_root(gradtx.square(), eps=0.5, eps_root=0.25),
            [g / (np.sqrt(np.abs(g) ** 2 + 0.25) + 0.5) for g in COMPLEX],
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, tuple) else "",
)
def test_part_equals_its_formula(tx, expected):
    with jax.enable_x64(True):
        mine = updates_of(tx, map(jnp.asarray, COMPLEX))
        for one, other in zip(mine, expected, strict=True):
            assert one.dtype == np.complex128
            np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("is_corrected", [False, True])
def test_centered_second_moment_equals_its_formula(is_corrected):
    grads = np.array(COMPLEX)
    tx = gradtx.centered_second_moment(0.8, 0.5, is_corrected)
    with jax.enable_x64(True):
        mine = list(updates_of(tx, map(jnp.asarray, grads)))
    nu = list(oracles.ema_by_the_paper(np.abs(grads) ** 2, 0.8, False))
    mu = list(oracles.ema_by_the_paper(grads, 0.8, is_corrected))
    for t, variance in enumerate(mine):
        first = nu[t] + 0.5 * 0.8 ** (t + 1)
        first = first / (1 - 0.8 ** (t + 1)) if is_corrected else first
        np.testing.assert_allclose(variance, first - np.abs(mu[t]) ** 2, rtol=1e-12)


@pytest.mark.parametrize("is_scope", [False, True])
def test_root_measures_the_gradient_in_a_scope_and_else_what_reaches_it(is_scope):
    connect = gradtx.moments if is_scope else gradtx.chain
    tx = connect(gradtx.trace(0.9), gradtx.divide_by_root(gradtx.square(), eps=1.0))
    traces = list(oracles.trace_by_the_paper(REAL, 0.9))
    with jax.enable_x64(True):
        mine = updates_of(tx, map(jnp.asarray, REAL))
        for t, update in enumerate(mine):
            measured = REAL[t] if is_scope else traces[t]
            expected = traces[t] / (np.abs(measured) + 1)
            np.testing.assert_allclose(update, expected, rtol=1e-12)


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


ROOTS: dict[str, Any] = {
    "rms": lambda eps: gradtx.scale_by_rms(eps=eps),
    "rms outside": lambda eps: gradtx.scale_by_rms(eps=eps, eps_in_sqrt=False),
    "stddev": lambda eps: gradtx.scale_by_stddev(eps=eps),
    "rss": lambda eps: gradtx.scale_by_rss(0.0, eps),
    "adam": lambda eps: gradtx.scale_by_adam(eps=eps),
    "adam without momentum": lambda eps: gradtx.scale_by_adam(b1=0.0, eps=eps),
    "amsgrad": lambda eps: gradtx.scale_by_amsgrad(eps=eps),
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


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda x: gradtx.scale_by_ema(0.9, initial_value=x), "initial_value"),
        (lambda x: gradtx.running_sum(initial_value=x), "initial_value"),
        (lambda x: gradtx.scale_by_rms(initial_scale=x), "initial_scale"),
        (lambda x: gradtx.scale_by_stddev(initial_scale=x), "initial_scale"),
        (lambda x: gradtx.centered_second_moment(0.9, x), "initial_scale"),
        (lambda x: gradtx.scale_by_rss(x), "initial_accumulator_value"),
    ],
    ids=[
        "scale_by_ema",
        "running_sum",
        "scale_by_rms",
        "scale_by_stddev",
        "centered_second_moment",
        "scale_by_rss",
    ],
)
def test_first_value_takes_a_number_and_no_schedule(make, argument):
    tx, schedule = make(2.0), gradtx.constant_schedule(1.0)
    assert tx.arguments[argument] == 2.0
    with pytest.raises(TypeError) as caught:
        make(schedule)
    assert str(caught.value) == (
        f"{tx.name}: {argument} takes no schedule, only a number; "
        f"got constant_schedule(value=1.0)"
    )
    with pytest.raises(ValueError) as refused:
        make(-1.0)
    assert str(refused.value) == f"{tx.name}: {argument} must be at least 0, got -1.0"


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
            lambda: gradtx.scale_by_rms(decay=1.5),
            "scale_by_rms: decay must be in [0, 1), got 1.5",
        ),
        (lambda: gradtx.ema(1.0), "ema: decay must be in [0, 1), got 1.0"),
        (lambda: gradtx.trace(-0.5), "trace: decay must be at least 0, got -0.5"),
    ],
)
def test_number_out_of_its_range_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_dtype_that_is_none_raises():
    with pytest.raises(TypeError) as caught:
        gradtx.scale_by_adam(mu_dtype="bfloat17")
    expected = "scale_by_adam: mu_dtype must be a dtype, got 'bfloat17'"
    assert str(caught.value) == expected


def test_maximum_of_complex_updates_raises():
    tx, grads = gradtx.running_maximum(), jnp.ones(2, jnp.complex64)
    with pytest.raises(TypeError) as caught:
        tx.update(grads, tx.init(grads))
    assert str(caught.value) == (
        "running_maximum: complex numbers have no order, "
        "but the update at '<root>' is complex64"
    )
