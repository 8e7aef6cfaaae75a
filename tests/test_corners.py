"""What every transformation does at the corners of its domain.

Each test walks all of the registry: arrays without elements, complex numbers in slots
of a given dtype, learning rates of 0.
"""

import inspect

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import testing
from tests import registry, settings
from tests.registry import CASES, TRANSFORMATIONS, factories

WITH = {"w": jnp.arange(1.0, 7.0).reshape(2, 3) / 7, "b": jnp.ones(2)}
# Behind the others: the random numbers of a leaf are those of its place.
EMPTY = {
    "z": {
        "vector": jnp.zeros(0),
        "wide": jnp.zeros((0, 3)),
        "tall": jnp.zeros((3, 0)),
        "four": jnp.zeros((2, 0, 3, 1)),
        "no tree": {},
    }
}
MORE = ("adafactor, small", "adafactor, momentum", "galore, of rank 2", "sm3, slow")
ALL = {
    **TRANSFORMATIONS,
    **{name: (lambda name=name: settings.OPTIMIZERS[name](gradtx)) for name in MORE},
}


def two_updates(make, name, params, beside):
    """Those of some leaves, beside others, and the state."""
    case, tx = CASES.get(name.split(",")[0], {}), make()
    grads = case.get("gradients", testing.gradients)({**params, **beside})
    extra = case.get("extra", lambda *_: {})
    params, state, made = {**params, **beside}, None, []
    state = tx.init(params)
    for _ in range(2):
        given = extra(params, grads)
        if "value" in given and "value_fn" not in given:
            given["value"] = 2.0  # whatever the gradients are
        updates, state = tx.update(grads, state, params, **given)
        params = gradtx.apply_updates(params, updates)
        made.append(updates)
    return made, state


@pytest.mark.parametrize("name", ALL)
def test_arrays_without_elements_change_nothing_for_the_others(name):
    """Not one of them raises, and no slot of theirs is NaN; nor alone."""
    alone, _ = two_updates(ALL[name], name, WITH, {})
    beside, state = two_updates(ALL[name], name, WITH, EMPTY)
    for one, other in zip(alone, beside, strict=True):
        assert jax.tree.map(jnp.shape, other) == jax.tree.map(jnp.shape, WITH | EMPTY)
        for key in WITH:
            np.testing.assert_allclose(other[key], one[key], rtol=1e-6, atol=1e-7)
    _, lonely = two_updates(ALL[name], name, {}, EMPTY)
    for leaf in jax.tree.leaves((state, lonely)):
        assert not jnp.isnan(leaf).any()


def dtype_arguments():
    """Every argument that says in which dtype something is kept."""
    for name, factory in factories().items():
        for argument, parameter in factory.signature.parameters.items():
            if "DType" in str(parameter.annotation):
                yield name, argument


def first_arguments(factory):
    """Arguments for those that a factory requires."""
    return {
        name: registry.EXAMPLES[
            own if (own := f"{factory.name}.{name}") in registry.EXAMPLES else name
        ]()
        for name, parameter in factory.signature.parameters.items()
        if parameter.default is inspect.Parameter.empty
    }


NOT_COMPLEX = {*registry.REAL_ONLY, "inject_hyperparams"}


@pytest.mark.parametrize(
    ("name", "argument"),
    [pair for pair in dtype_arguments() if pair[0] not in NOT_COMPLEX],
)
def test_a_slot_of_a_real_dtype_holds_complex_numbers_as_they_are(name, argument):
    """And computes as without the dtype, which for these changes nothing."""
    factory = factories()[name]
    arguments = first_arguments(factory)
    if "momentum" in factory.signature.parameters:
        arguments["momentum"] = 0.5
    params = {"w": jnp.asarray([[1 + 2j, 0.5j, -1.0]] * 2, jnp.complex64)}
    grads = testing.gradients(params)
    runs = []
    for dtype in ("float32", "complex64"):
        tx = factory(**{**arguments, argument: dtype})
        state, at = tx.init(params), params
        before = jax.tree.map(jnp.dtype, jax.tree.map(lambda x: x.dtype, state))
        for _ in range(3):
            updates, state = tx.update(grads, state, at)
            at = gradtx.apply_updates(at, updates)
        assert jax.tree.map(lambda x: x.dtype, state) == before
        runs.append((updates, state))
    jax.tree.map(np.testing.assert_array_equal, *runs)


def test_adafactors_momentum_of_complex_gradients_is_their_average():
    rng = np.random.default_rng(0)
    grads = rng.normal(size=(5, 3, 2)) + 1j * rng.normal(size=(5, 3, 2))
    with jax.enable_x64(True):
        tx = gradtx.adafactor(
            0.1, momentum=0.5, clipping_threshold=None,
            multiply_by_parameter_scale=False,
        )  # fmt: skip
        state = tx.init(jnp.asarray(grads[0]))
        v = m = 0.0
        for t, g in enumerate(grads, 1):
            updates, state = tx.update(jnp.asarray(g), state, jnp.asarray(grads[0]))
            kept = 1 - t**-0.8
            v = kept * v + (1 - kept) * (np.abs(g) ** 2 + 1e-30)
            m = 0.5 * m + 0.5 * 0.1 * g / np.sqrt(v)
            np.testing.assert_allclose(updates, -m, rtol=1e-12)
        assert state["ema"].dtype == jnp.complex128


OFFSETS = {
    "adafactor": lambda offset: gradtx.adafactor(1.0, decay_offset=offset),
    "adafactor, factored": lambda offset: gradtx.adafactor(
        1.0, decay_offset=offset, min_dim_size_to_factor=2
    ),
    "scale_by_factored_rms": lambda offset: gradtx.scale_by_factored_rms(
        step_offset=offset
    ),
    "factored_average": lambda offset: gradtx.divide_by_root(
        gradtx.chain(gradtx.square(), gradtx.factored_average(step_offset=offset))
    ),
}


@pytest.mark.parametrize("offset", [1, 3])
@pytest.mark.parametrize("name", OFFSETS)
def test_before_its_offset_adafactors_step_is_its_first(name, offset):
    """There the average is the last square; then it goes on as from a fresh state."""
    tx, plain = OFFSETS[name](offset), OFFSETS[name](0)
    params = {"w": jnp.arange(1.0, 13.0).reshape(3, 4) / 7}
    state, fresh = tx.init(params), plain.init(params)
    first = plain.init(params)
    for t in range(6):
        grads = testing.gradients(params, t)
        updates, state = tx.update(grads, state, params)
        if t <= offset:
            expected, fresh = plain.update(grads, first, params)
        else:
            expected, fresh = plain.update(grads, fresh, params)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updates, expected
        )


def test_a_decay_of_ones_own_sees_the_steps_before_the_offset_as_in_optax():
    seen = {}
    for library in (gradtx, optax):

        def decay(step, rate):
            return 0.5 + 0.01 * step

        tx = library.scale_by_factored_rms(step_offset=3, decay_rate_fn=decay)
        params = jnp.ones(2)
        state = tx.init(params)
        with jax.numpy_dtype_promotion("standard"):
            for _ in range(3):
                seen[library], state = tx.update(params, state, params)
    np.testing.assert_allclose(seen[gradtx], seen[optax], rtol=1e-6)


RATES = ("learning_rate", "max_learning_rate", "scaling")
NOT_AT_0 = {
    "adamc.max_learning_rate": "is divided by, and must be positive",
    "interpolate_iterates.learning_rate": "a weight: the steps come from elsewhere",
    "schedule_free.learning_rate": "a weight: the steps are the base optimizer's",
    "scale_by_backtracking_linesearch.max_learning_rate": "must be positive",
    "scale_by_zoom_linesearch.max_learning_rate": "must be positive",
    "schedule_free_adamw.learning_rate": "must be positive",
    "schedule_free_sgd.learning_rate": "must be positive",
}
"""Rates that are not 0, each with the reason."""


def rates():
    """Every rate of every transformation that may be 0."""
    for name, factory in factories().items():
        for argument in factory.signature.parameters:
            is_rate = argument in RATES and f"{name}.{argument}" not in NOT_AT_0
            if is_rate and name not in registry.PARTS:
                yield name, argument


def assert_stays(tx, name):
    """Five updates of other gradients move no parameter by a bit."""
    case, params = CASES.get(name, {}), WITH
    state, at = tx.init(params), params
    for t in range(5):
        grads = case.get("gradients", testing.gradients)(params, t)
        extra = case.get("extra", lambda *_: {})(at, grads)
        updates, state = tx.update(grads, state, at, **extra)
        at = gradtx.apply_updates(at, updates)
    jax.tree.map(np.testing.assert_array_equal, at, params)


@pytest.mark.parametrize(("name", "argument"), list(rates()))
def test_at_a_learning_rate_of_0_nothing_moves(name, argument):
    """Constant or scheduled, and with weight decay, which the rate multiplies."""
    factory = factories()[name]
    arguments = first_arguments(factory)
    if "weight_decay" in factory.signature.parameters:
        arguments["weight_decay"] = 0.1
    assert_stays(factory(**{**arguments, argument: 0.0}), name)
    if name not in ("rprop", "scale_by_rprop"):  # only `init` reads theirs
        zero = gradtx.constant_schedule(0.0)
        assert_stays(factory(**{**arguments, argument: zero}), name)


WRAPPERS = ("base_optimizer", "fast_optimizer", "inner", "opt", "optimizer")


@pytest.mark.parametrize("name", list(factories()))
def test_nothing_moves_around_an_optimizer_whose_rate_is_0(name):
    factory = factories()[name]
    members = [arg for arg in factory.signature.parameters if arg in WRAPPERS]
    if not members or name in ("galore", "sam", "conditionally_transform"):
        return  # has a rate of its own; moves in between; gives gradients in between
    arguments = first_arguments(factory)
    arguments |= dict.fromkeys(members, gradtx.sgd(0.0, 0.9))
    assert_stays(factory(**arguments), name)
