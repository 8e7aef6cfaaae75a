import concurrent.futures
import functools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler import layout, update
from gradtx.compiler.layout import program_at
from gradtx.compiler.lower import program_of
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
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol), a, b)


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
    with pytest.raises(ValueError, match="'b'"):
        tx.update({"w": GRADS["w"], "b": jnp.ones((5, 5))}, state, PARAMS)
    assert program_at(tx.bound, state["count"]).layout.is_usable


def test_nothing_of_a_trace_is_kept():
    with jax.checking_leaks():
        updates, _ = path(gradtx.sgd(LINE))
    near(updates[5]["b"], jnp.full(3, -0.5 * float(LINE(5))))


def test_transformations_of_one_structure_share_a_layout():
    """Such as those that a wrapper makes at every update, of numbers in its state."""
    leaves, treedef = jax.tree.flatten(counted(0.1))
    state, runs, updates = counted(0.1).init(PARAMS), [], None
    for i in range(6):
        tx = treedef.unflatten([jnp.asarray(x) + 0.01 * i for x in leaves])
        CALLS.clear()
        updates, state = tx.update(GRADS, state, PARAMS)
        runs.append(len(CALLS))
    assert runs[0] > 0 and not any(runs[2:])
    near(updates, _last(6))


def _last(steps):
    """The last update of as many, whose rates grow as above."""
    state = counted(0.1).init(PARAMS)
    updates = None
    for i in range(steps):
        updates, state = counted(0.1 + 0.01 * i).update(GRADS, state, PARAMS)
    return updates


def test_a_constant_zero_is_no_number_of_a_layout():
    """It adds nothing and reads no parameters, whatever other numbers there are."""
    state = gradtx.adamw(0.1, weight_decay=0.0).init(PARAMS)
    for rate in (0.1, 0.2, 0.3, 0.4):
        tx = gradtx.adamw(np.float32(rate), weight_decay=np.float32(0))
        updates, state = tx.update(GRADS, state)
        assert all(jnp.all(jnp.isfinite(u)) for u in jax.tree.leaves(updates))


def test_the_cache_of_layouts_is_bounded():
    assert layout._layout.cache_info().maxsize
