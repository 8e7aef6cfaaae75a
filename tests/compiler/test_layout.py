import concurrent.futures
import functools
import gc
import weakref

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler import layout, update
from gradtx.compiler.layout import program_at
from gradtx.compiler.lower import program_of
from gradtx.core.internals import Tracer
from tests import registry
from tests.equality import bitwise
from tests.settings import OPTIMIZERS

PARAMS = {"w": jnp.linspace(0.5, 2.0, 6).reshape(2, 3), "b": jnp.ones(3)}
GRADS = {"w": jnp.linspace(-1.0, 3.0, 6).reshape(2, 3), "b": jnp.full(3, 0.5)}
LINE = gradtx.linear_schedule(0.1, 0.2, 10)
CALLS = []


@gradtx.transformation
def counted(learning_rate: gradtx.ScalarOrSchedule):
    CALLS.append(learning_rate)
    return gradtx.chain(
        gradtx.scale_by_adam(b1=0.5 + learning_rate), gradtx.scale(-2 * learning_rate)
    )


def injected(tx):
    """The same by `inject_hyperparams`."""
    return gradtx.inject_hyperparams(counted)(**tx.arguments)


def path(tx, update=None, steps=6):
    update, state, found = update or tx.update, tx.init(PARAMS), []
    for _ in range(steps):
        updates, state = update(GRADS, state, PARAMS)
        found.append(updates)
    return found, state


def anew(tx, monkeypatch):
    """The same, laid out at every update."""
    with monkeypatch.context() as patch:
        patch.setattr(update, "program_at", program_of)
        return path(tx)


def near(a, b, rtol=1e-6):
    chex.assert_trees_all_close(a, b, rtol=rtol)


AROUND = {
    "alone": lambda tx: tx,
    "chain": lambda tx: gradtx.chain(gradtx.clip(1.0), tx),
    "partition": lambda tx: gradtx.partition(
        {"a": tx, "b": gradtx.sgd(LINE)}, {"w": "a", "b": "b"}
    ),
    "masked": lambda tx: gradtx.masked(tx, {"w": True, "b": False}),
    "wrapper": lambda tx: gradtx.skip(tx),
    "editable": lambda tx: gradtx.editable(tx),
}


TRACED = ("wrapper",)
"""JAX traces a condition at every update."""


@pytest.mark.parametrize("around", AROUND)
def test_an_unjitted_recipe_with_a_schedule_runs_at_two_updates_only(around):
    tx = AROUND[around](counted(LINE))
    state = tx.init(PARAMS)
    runs = []
    for _ in range(8):
        CALLS.clear()
        _, state = tx.update(GRADS, state, PARAMS)
        runs.append(len(CALLS))
    assert runs[0] > 0
    assert not any(runs[3:]) or around in TRACED


@pytest.mark.parametrize("around", AROUND)
def test_numbers_are_those_of_a_layout_at_every_update(around, monkeypatch):
    found, state = path(AROUND[around](counted(LINE)))
    expected, last = anew(AROUND[around](counted(LINE)), monkeypatch)
    near((found, state), (expected, last))
    tx = AROUND[around](counted(LINE))
    near(found, path(tx, jax.jit(tx.update))[0])


SCHEDULED = {
    name: make
    for name, make in OPTIMIZERS.items()
    if name.endswith("scheduled") and name.split(",")[0] not in registry.CASES
}


@pytest.mark.parametrize("name", SCHEDULED)
def test_scheduled_optimizers_are_those_of_a_layout_at_every_update(name, monkeypatch):
    with jax.enable_x64(True):
        runs = [
            run(SCHEDULED[name](gradtx))
            for run in (path, lambda tx: anew(tx, monkeypatch))
        ]
    near(*runs, rtol=1e-9)


def test_a_recipe_may_put_a_number_into_a_function_of_its_own(monkeypatch):
    """Which a trace must not leave behind: then it is laid out at every update."""

    @gradtx.transformation
    def closing(rate: gradtx.ScalarOrSchedule):
        return gradtx.stateless(
            lambda updates, params: jax.tree.map(lambda u: rate * u, updates)
        )

    near(path(closing(LINE)), anew(closing(LINE), monkeypatch))


def test_a_recipe_may_look_at_its_numbers(monkeypatch):
    @gradtx.transformation
    def looking(rate: gradtx.ScalarOrSchedule):
        return gradtx.sgd(rate) if rate < 0.14 else gradtx.identity()

    found, _ = path(looking(LINE))
    bitwise(found[-1], GRADS)
    near(found, anew(looking(LINE), monkeypatch)[0])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda schedule: schedule,
        lambda schedule: gradtx.join_schedules([LINE, schedule], [0]),
    ],
)
def test_a_plain_function_is_asked_at_every_update(wrap):
    rate = {"now": 0.1}
    tx = gradtx.sgd(wrap(lambda count: rate["now"]))
    state = tx.init(PARAMS)
    for now in (0.1, 0.2, 0.3, 0.4, 0.5):
        rate["now"] = now
        updates, state = tx.update(GRADS, state, PARAMS)
        near(updates["b"], jnp.full(3, -0.5 * now))


def test_settings_of_jax_may_change_between_updates():
    tx = gradtx.adam(LINE, b1=gradtx.linear_schedule(0.5, 0.9, 10))
    found = []
    for x64 in (False, True, False, True):
        with jax.enable_x64(x64):
            found.append(path(tx)[0])
    near(found[:2], found[2:], rtol=5e-7)
    assert [x[0]["b"].dtype for x in found] == ["float32"] * 4
    rates = [float(-u["b"][0]) for u in found[1]]
    np.testing.assert_allclose(rates, [LINE(i) for i in range(6)], rtol=1e-6)


def test_numbers_of_schedules_may_be_traced():
    """Without jit: by a derivative, and along an axis of many."""

    def after(rate):
        tx = gradtx.sgd(gradtx.linear_schedule(rate, 0.0, 10))
        updates, _ = path(tx, steps=4)
        return sum(jnp.sum(u["b"]) for u in updates)

    total = sum(1 - i / 10 for i in range(4)) * -1.5
    assert float(jax.grad(after)(0.1)) == pytest.approx(total)
    near(jax.vmap(after)(jnp.array([0.1, 0.2])), jnp.array([0.1, 0.2]) * total)


def test_an_update_inside_of_another_computation_is_laid_out_there():
    tx = gradtx.sgd(LINE)
    state = tx.init(PARAMS)
    for i in range(6):
        update = functools.partial(tx.update, GRADS, state, PARAMS)  # count included
        updates, state = jax.jit(update)() if i % 2 else update()
        near(updates["b"], jnp.full(3, -0.5 * float(LINE(i))))


@pytest.mark.parametrize("first", [0, 3])
def test_without_any_jit_it_is_laid_out_at_every_update(first):
    for schedule in (LINE, gradtx.constant_schedule(0.1)):
        tx = gradtx.sgd(schedule)
        state = tx.init(PARAMS)
        for i in range(6):
            with jax.disable_jit(i >= first):
                updates, state = tx.update(GRADS, state, PARAMS)
            near(updates["b"], jnp.full(3, -0.5 * float(schedule(i))))


def with_number(make):
    """A recipe that makes something of its number."""

    @gradtx.transformation
    def recipe(rate: gradtx.ScalarOrSchedule):
        return make(rate)

    return recipe(LINE)


CLOSING = {
    "a function": lambda rate: gradtx.stateless(
        lambda updates, params: jax.tree.map(lambda u: rate * u, updates)
    ),
    "a number of the host": lambda rate: gradtx.stateless(
        lambda updates, params: jax.tree.map(lambda u: float(rate) * u, updates)
    ),
    "a mask": lambda rate: gradtx.add_decayed_weights(
        rate, lambda params: jax.tree.map(lambda p: float(rate) > 0.13, params)
    ),
    "arrays in a mask": lambda rate: gradtx.masked(
        gradtx.scale(rate), {"w": jnp.array(True), "b": jnp.array(False)}
    ),
    "optax's": optax.scale,
}


@pytest.mark.parametrize("name", CLOSING)
def test_whatever_a_recipe_makes_of_its_number_runs_without_jit(name, monkeypatch):
    found = path(with_number(CLOSING[name]))
    near(found, anew(with_number(CLOSING[name]), monkeypatch))


def test_threads_may_share_a_transformation():
    tx = with_number(CLOSING["a function"])
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(path, tx) for _ in range(8)]
    for run in runs:
        near(run.result()[0], path(tx)[0])


def test_an_error_of_the_user_s_is_raised_and_does_no_harm():
    tx = gradtx.sgd(LINE)
    _, state = path(tx)
    with pytest.raises(ValueError, match="'b'") as raised:
        tx.update({"w": GRADS["w"], "b": jnp.ones((5, 5))}, state, PARAMS)
    assert raised.value.__context__ is None  # it is told once
    assert program_at(tx.bound, state["count"]).layout.is_usable


def test_nothing_of_a_trace_is_kept():
    with jax.checking_leaks():
        updates, _ = path(gradtx.sgd(LINE))
    near(updates[5]["b"], jnp.full(3, -0.5 * float(LINE(5))))


@pytest.mark.parametrize("wrap", [gradtx.editable, injected])
def test_what_makes_other_transformations_of_its_numbers_lays_out_nothing_anew(wrap):
    tx, runs = wrap(counted(0.1)), []

    def edited(update):
        state, found = tx.init(PARAMS), []
        for i in range(6):
            state["hyperparams"]["learning_rate"] = jnp.float32(0.1 + 0.01 * i)
            CALLS.clear()
            updates, state = update(GRADS, state, PARAMS)
            found.append(updates)
            runs.append(len(CALLS))
        return found

    near(edited(tx.update), edited(jax.jit(tx.update)))
    assert runs[0] > 0 and max(runs[2:6]) < runs[0]


def test_a_new_transformation_takes_nothing_from_another_of_its_kind():
    """Its recipe may look at something that changed meanwhile."""
    config = {"scale": 0.0}

    @gradtx.transformation
    def configured(rate: gradtx.ScalarOrSchedule):
        return gradtx.chain(gradtx.scale(config["scale"]), gradtx.sgd(rate))

    for scale in (1.0, 2.0, 3.0):
        config["scale"] = scale
        found, _ = path(configured(LINE), steps=3)
        near(found[0]["b"], -scale * float(LINE(0)) * GRADS["b"])


def test_nothing_holds_what_a_schedule_closed_over():
    def trained():
        held = jnp.ones(3)
        path(gradtx.sgd(lambda count: 0.1 * held[0]), steps=3)
        return weakref.ref(held)

    of = trained()
    gc.collect()
    assert of() is None


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("make", [float, np.float32])
def test_the_sign_of_a_zero_is_kept(zero, make):
    mask = {"w": True, "b": False}
    for each in (-zero, zero):
        scales = gradtx.chain(gradtx.scale_by_schedule(LINE), gradtx.scale(make(each)))
        tx = gradtx.masked(scales, mask)
        near(path(tx)[0], path(tx, jax.jit(tx.update))[0])


def test_a_constant_zero_of_a_member_stays_one():
    """`0 * p` would be NaN, where the wrapper's own number is a schedule."""
    tx = gradtx.apply_if_finite(
        gradtx.chain(gradtx.add_decayed_weights(0.0), gradtx.scale(-0.1)),
        gradtx.linear_schedule(5.0, 1.0, 100),
    )
    params = {"w": jnp.array([jnp.inf])}
    state = tx.init(params)
    for _ in range(4):
        updates, state = tx.update({"w": jnp.ones(1)}, state, params)
        np.testing.assert_allclose(updates["w"], -0.1, rtol=1e-6)


@pytest.mark.parametrize("error", [AttributeError, ValueError, KeyError])
def test_a_recipe_that_fails_on_tracers_is_run_at_every_update(error, monkeypatch):
    def picky(rate):
        if isinstance(rate, Tracer):
            raise error("no tracers")
        return gradtx.sgd(rate)

    near(path(with_number(picky)), anew(with_number(picky), monkeypatch))


def test_a_number_that_jax_does_not_know_is_one_where_nothing_is_traced():
    tx, plain = gradtx.sgd(np.longdouble(0.1)), gradtx.sgd(0.1)
    state = plain.init(PARAMS)
    near(tx.update(GRADS, state, PARAMS), plain.update(GRADS, state, PARAMS))


def test_a_transformation_has_few_layouts():
    tx = gradtx.editable(gradtx.sgd(0.1))
    for steps in range(3 * layout.MOST):
        bound = gradtx.scale(np.zeros(steps + 1)).bound
        bound.layouts = tx.bound.layouts
        program_at(bound, jnp.int32(0))
    assert len(tx.bound.layouts) <= layout.MOST
