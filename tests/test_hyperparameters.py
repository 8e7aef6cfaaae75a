from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality
from tests.equality import bitwise
from tests.settings import LINE, is_matrix

anything: Any = gradtx  # what mistakes are made with
PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}
inject = gradtx.inject_hyperparams

INJECTED = {
    "sgd": lambda m: m.inject_hyperparams(m.sgd)(0.1),
    "adam": lambda m: m.inject_hyperparams(m.adam)(0.01, b1=LINE, eps=1e-3),
    "scheduled": lambda m: m.inject_hyperparams(m.sgd)(LINE, momentum=0.9),
    "masked": lambda m: m.inject_hyperparams(m.adamw, static_args="mask")(
        LINE, mask=is_matrix
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", INJECTED)
def test_injected_equals_optax_over_thirty_steps(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        equality.assert_equals_optax(INJECTED[name], dtype, run=equality.QUICKLY[dtype])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_injected_equals_plain_in_every_dtype(dtype):
    """In optax `b2` is 1 in bfloat16, and Adam's first update NaN."""
    with jax.enable_x64(dtype == "float64"):
        params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
        updates = []
        for factory in (gradtx.adam, inject(gradtx.adam)):
            tx = factory(0.1, b1=LINE)
            _, state = tx.update(params, tx.init(params), params)
            updates.append(tx.update(params, state, params)[0])
        rounding = max(float(jnp.finfo(dtype).eps), 3e-5 if dtype != "float64" else 0)
        for a, b in zip(*map(jax.tree.leaves, updates), strict=True):
            np.testing.assert_allclose(np.float64(a), np.float64(b), rtol=rounding)


def test_numbers_are_read_and_changed_in_the_state_without_a_trace():
    tx, traces = inject(gradtx.adam)(LINE, b2=0.99), 0

    @jax.jit
    def update(grads, state):
        nonlocal traces
        traces += 1
        return tx.update(grads, state, PARAMS)

    state = tx.init(PARAMS)
    assert state.keys() == {
        "count", "hyperparams", "hyperparams_states", "inner_state"
    }  # fmt: skip
    np.testing.assert_allclose(state["hyperparams"]["learning_rate"], LINE(0))
    for i in range(3):
        _, state = update(PARAMS, state)
        np.testing.assert_allclose(state["hyperparams"]["learning_rate"], LINE(i))
        state["hyperparams"]["b2"] = jnp.float32(0.9)
    assert traces == 1
    updates, _ = update(PARAMS, state)
    assert np.isfinite(updates["w"]).all()
    changed = inject(gradtx.sgd)(0.1)
    state = changed.init(PARAMS)
    state["hyperparams"]["learning_rate"] = 2.0
    updates, _ = changed.update(PARAMS, state)
    bitwise(updates["b"], -2 * PARAMS["b"])


def test_what_is_no_number_of_ours_is_known_by_its_annotation():
    tx = inject(gradtx.adopt)(0.1, clip_value_fn=lambda count: 1.0 + count)
    assert "clip_value_fn" not in tx.init(PARAMS)["hyperparams"]
    galore = inject(gradtx.galore)(0.1, rank=2)
    assert "rank" not in galore.init(PARAMS)["hyperparams"]


def test_foreign_factories_and_schedules_with_a_state_are_taken():
    class Halving:
        def init(self):
            return jnp.float32(1.0)

        def update(self, state, **extra):
            return state / 2

        def __call__(self, state, **extra):
            return state

    for factory in (optax.sgd, gradtx.sgd):
        tx = inject(factory)(learning_rate=Halving())
        state = tx.init(PARAMS)
        for expected in (1.0, 0.5, 0.25):
            updates, state = tx.update(PARAMS, state, PARAMS)
            np.testing.assert_allclose(updates["w"], -expected)


def test_numbers_that_are_missing_or_unknown_in_the_state_are_named():
    tx = inject(gradtx.sgd)(0.1)
    state = tx.init(PARAMS)
    state["hyperparams"] = {"rate": jnp.float32(0.1)}
    with pytest.raises(ValueError) as raised:
        tx.update(PARAMS, state)
    assert "must hold ['learning_rate'], got ['rate']" in str(raised.value)


def test_an_unknown_static_argument_is_named():
    with pytest.raises(ValueError) as raised:
        inject(gradtx.adam, static_args=("b1", "b3"))
    assert str(raised.value) == (
        "inject_hyperparams: static_args must be arguments of adam, got ['b3']"
    )


SCHEDULE = gradtx.linear_schedule(0.1, 0.0, 10)


def pipeline():
    return gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(SCHEDULE, b1=0.8))


def stepped(tx, n, params=PARAMS):
    state = tx.init(params)
    for _ in range(n):
        _, state = tx.update(params, state, params)
    return state


def rounded(numbers):
    return {name: round(float(value), 5) for name, value in numbers.items()}


def test_every_number_is_read_by_name_at_its_value_now():
    tx = pipeline()
    assert rounded(gradtx.hyperparams(tx, stepped(tx, 3))) == {
        "max_norm": 1.0, "learning_rate": 0.07, "b1": 0.8, "b2": 0.999, "eps": 0.0,
        "eps_root": 0.0, "weight_decay": 0.0001,
    }  # fmt: skip


def test_numbers_of_one_name_are_qualified_by_what_is_around_them():
    tx = gradtx.chain(
        gradtx.trace(0.5),
        gradtx.groups({"w": gradtx.sgd(0.1, momentum=0.9), "**": gradtx.sgd(0.2)}),
        gradtx.trace(0.25),
    )
    assert rounded(gradtx.hyperparams(tx, tx.init(PARAMS))) == {
        "chain.decay.1of2": 0.5,
        "chain.decay.2of2": 0.25,
        "chain.groups.**.learning_rate": 0.2,
        "chain.groups.w.learning_rate": 0.1,
        "momentum": 0.9,
    }


def test_numbers_inside_wrappers_are_at_the_count_of_what_is_inside():
    tx = gradtx.chain(gradtx.skip(gradtx.accumulate(gradtx.sgd(SCHEDULE), 2)))
    found = gradtx.hyperparams(tx, stepped(tx, 6))
    assert rounded(found) == {"learning_rate": 0.07, "every": 2.0}


def test_numbers_that_are_in_the_state_are_read_there():
    tx = gradtx.chain(gradtx.clip(1.0), inject(gradtx.sgd)(SCHEDULE, momentum=0.5))
    state = stepped(tx, 2)
    assert rounded(gradtx.hyperparams(tx, state))["momentum"] == 0.5
    state["hyperparams"]["momentum"] = 0.25
    assert rounded(gradtx.hyperparams(tx, state))["momentum"] == 0.25


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_what_nobody_edits_is_bit_for_bit_as_plain(dtype, is_jitted):
    with jax.enable_x64(dtype == "float64"):
        params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
        runs = []
        for tx in (pipeline(), gradtx.editable(pipeline())):
            update = jax.jit(tx.update) if is_jitted else tx.update
            updates, state = params, tx.init(params)
            for _ in range(3):
                updates, state = update(params, state, params)
            runs.append((updates, state.get("inner", state)))
        bitwise(*runs)


def test_an_edit_takes_effect_at_the_next_update_without_a_trace():
    tx, traces = gradtx.editable(gradtx.sgd(0.1, momentum=0.9)), 0

    @jax.jit
    def update(grads, state):
        nonlocal traces
        traces += 1
        return tx.update(grads, state, PARAMS)

    state = tx.init(PARAMS)
    assert rounded(state["hyperparams"]) == {"learning_rate": 0.1, "momentum": 0.9}
    first, state = update(PARAMS, state)
    state["hyperparams"]["learning_rate"] = jnp.float32(0.2)
    state["hyperparams"]["momentum"] = jnp.float32(0.0)
    second, state = update(PARAMS, state)
    np.testing.assert_allclose(second["w"], 2 * first["w"], rtol=1e-6)
    assert rounded(state["hyperparams"]) == {"learning_rate": 0.2, "momentum": 0.0}
    assert gradtx.hyperparams(tx, state) == state["hyperparams"]
    assert traces == 1


def test_an_edit_overrides_a_schedule_until_nan_brings_it_back():
    tx = gradtx.editable(gradtx.sgd(SCHEDULE))
    update, state, rates = jax.jit(tx.update), tx.init(PARAMS), []
    edits = {2: 0.5, 5: jnp.nan}
    for i in range(8):
        if i in edits:
            state["hyperparams"]["learning_rate"] = jnp.float32(edits[i])
        updates, state = update(PARAMS, state)
        rates.append(round(-float(updates["w"][0, 0]), 4))
    assert rates == [0.1, 0.09, 0.5, 0.5, 0.5, 0.05, 0.04, 0.03]
    assert rounded(state["hyperparams"]) == {"learning_rate": 0.02}


def test_editing_to_what_the_schedule_has_now_changes_nothing():
    """What is written equals what was there: nobody could see an edit."""
    tx = gradtx.editable(gradtx.sgd(SCHEDULE))
    _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    state["hyperparams"] = dict(state["hyperparams"])
    _, state = tx.update(PARAMS, state, PARAMS)
    assert rounded(state["hyperparams"]) == {"learning_rate": 0.08}


def test_groups_and_wrappers_are_editable():
    inner = gradtx.groups({"w": gradtx.sgd(0.1), "**": gradtx.sgd(SCHEDULE)})
    tx = gradtx.editable(gradtx.accumulate(inner, 2))
    state = tx.init(PARAMS)
    assert set(state["hyperparams"]) == {
        "every",
        "accumulate.groups.w.learning_rate",
        "accumulate.groups.**.learning_rate",
    }
    state["hyperparams"]["every"] = jnp.float32(1)
    state["hyperparams"]["accumulate.groups.w.learning_rate"] = jnp.float32(1)
    updates, state = tx.update(PARAMS, state, PARAMS)
    np.testing.assert_allclose(updates["w"], -1.0)
    np.testing.assert_allclose(updates["b"], -0.1 * PARAMS["b"], rtol=1e-6)
    name = "accumulate.groups.**.learning_rate"
    assert round(float(state["hyperparams"][name]), 5) == 0.09


def test_a_number_that_is_not_there_is_an_error():
    tx = gradtx.editable(gradtx.sgd(0.1))
    state = tx.init(PARAMS)
    state["hyperparams"]["lr"] = 0.1
    message = (
        r"editable: state\['hyperparams'\] must hold \['learning_rate'\], "
        r"got \['learning_rate', 'lr'\]"
    )
    with pytest.raises(ValueError, match=message):
        tx.update(PARAMS, state, PARAMS)
    with pytest.raises(TypeError, match="editable: takes a transformation of gradtx"):
        gradtx.editable(optax.sgd(0.1))
    with pytest.raises(
        TypeError, match="hyperparams: takes a transformation of gradtx"
    ):
        anything.hyperparams(optax.sgd(0.1), None)
