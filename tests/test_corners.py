"""What every transformation does at the corners of its domain.

Each test walks all of the registry: arrays without elements, complex numbers in slots
of a given dtype, learning rates of 0.
"""

import inspect
import math

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import testing
from gradtx.compiler.counts import common_period
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
        updates = None
        before = jax.tree.map(jnp.dtype, jax.tree.map(lambda x: x.dtype, state))
        for _ in range(3):
            updates, state = tx.update(grads, state, at)
            at = gradtx.apply_updates(at, updates)
        assert jax.tree.map(lambda x: x.dtype, state) == before
        runs.append((updates, state))
    chex.assert_trees_all_equal(*runs)


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
        chex.assert_trees_all_close(updates, expected, rtol=1e-6)


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
    chex.assert_trees_all_equal(at, params)


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


LAST = np.iinfo(np.int32).max


def at_count(state, count):
    """A state, each count in it another."""

    def one(path, leaf):
        is_count = getattr(path[-1], "key", None) == "count"
        return jnp.int32(count) if is_count else leaf

    return jax.tree_util.tree_map_with_path(one, state)


def periodic():
    """Every factory that takes a whole number of updates, and which argument it is."""
    for name, factory in factories().items():
        for argument, parameter in factory.signature.parameters.items():
            if "Every" in str(parameter.annotation):
                yield name, argument


PERIODS = {
    **{
        f"{name}({argument}=3)": (name, {argument: 3})
        for name, argument in periodic()
        if name not in registry.PARTS
    },
    "lookahead that restarts": ("lookahead", {"sync_period": 3, "reset_state": True}),
    "mean of parameters": ("average_params", {"decay": "polyak", "every": 3}),
    "late mean": ("average_params", {"every": 3, "start": LAST - 400}),
    "lbfgs": ("lbfgs", {"memory_size": 3, "linesearch": None, "learning_rate": 0.1}),
    "galore": ("galore", {"rank": 1, "update_proj_gap": 3}),
    "apollo": ("apollo", {"rank": 1, "every": 3}),
}


def run_from(tx, name, count, steps=14):
    """Updates and states from a count on; the first two are left to settle."""
    case, params = CASES.get(name, {}), WITH
    state, at, seen = at_count(tx.init(params), count), params, []
    for t in range(steps):
        grads = case.get("gradients", testing.gradients)(params, t % 5)
        extra = case.get("extra", lambda *_: {})(at, grads)
        updates, state = tx.update(grads, state, at, **extra)
        at = gradtx.apply_updates(at, updates)
        seen.append((updates, state))
    return seen


@pytest.mark.parametrize("name", PERIODS)
def test_what_happens_every_so_many_updates_goes_on_at_the_end_of_the_count(name):
    """As it does from a count before, that is as many periods less."""
    factory, numbers = PERIODS[name]
    make = factories()[factory]
    tx = make(**{**first_arguments(make), **numbers})
    late = run_from(tx, factory, LAST - 4)
    early = run_from(tx, factory, LAST - 4 - 300)

    def without_count(tree):
        return at_count(tree, 0)

    for mine, its in zip(late, early, strict=True):
        chex.assert_trees_all_close(
            *map(without_count, (mine, its)), rtol=1e-5, atol=1e-6
        )


def test_periods_of_one_chain_keep_their_common_phase():
    """And the count stays just below its end, where schedules see about the last."""
    tx = gradtx.chain(gradtx.apply_every(4), gradtx.lookahead(gradtx.sgd(0.1), 6, 0.5))
    runs = [run_from(tx, "sgd", LAST - 4 - away, 30) for away in (0, 1200)]
    for mine, its in zip(*runs, strict=True):
        chex.assert_trees_all_equal(mine[0], its[0])
    counts = [int(state["count"]) for _, state in runs[0]]
    assert max(counts) == LAST
    assert all(count > LAST - 12 for count in counts)


@pytest.mark.parametrize("kind", ["traced", "scheduled"])
def test_a_period_that_is_no_constant_goes_on_too(kind):
    every = gradtx.constant_schedule(3) if kind == "scheduled" else 3
    update = jax.jit(lambda tx, *args: tx.update(*args))
    for tx in (
        gradtx.apply_every(every),
        gradtx.lookahead(gradtx.sgd(1.0), every, 0.5),
    ):
        seen = []
        for start in (LAST - 4, LAST - 304):
            state, made = at_count(tx.init(WITH), start), []
            for _ in range(12):
                updates, state = update(tx, WITH, state, WITH)
                made.append(updates)
            seen.append(made)
        chex.assert_trees_all_equal(*seen)


def test_the_common_period_is_the_least_common_multiple_and_never_too_long():
    for periods in ([4, 6], [3], [7, 2, 14], [2**20 + 7, 2**20 + 9], [2**31 - 1]):
        expected = min(math.lcm(*periods), 2**30)
        assert common_period(periods) == expected
        assert common_period([jnp.int32(p) for p in periods]) == expected
    assert common_period([]) is None
