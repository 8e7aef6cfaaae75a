from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality
from tests.equality import bitwise, traced_update
from tests.settings import LINE, is_matrix

anything: Any = gradtx  # what mistakes are made with
PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}
inject = gradtx.inject_hyperparams

INJECTED = {
    "sgd": lambda m: m.inject_hyperparams(m.sgd)(0.1),
    "adam": lambda m: m.inject_hyperparams(m.adam)(LINE, b1=0.8, eps=1e-3),
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
    tx = inject(gradtx.adam)(LINE, b2=0.99)
    update, traces = traced_update(tx, PARAMS)
    state = tx.init(PARAMS)
    assert state.keys() == {
        "count", "hyperparams", "hyperparams_states", "inner_state"
    }  # fmt: skip
    np.testing.assert_allclose(state["hyperparams"]["learning_rate"], LINE(0))
    for i in range(3):
        _, state = update(PARAMS, state)
        np.testing.assert_allclose(state["hyperparams"]["learning_rate"], LINE(i))
        state["hyperparams"]["b2"] = jnp.float32(0.9)
    assert len(traces) == 1
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
    message = "['hyperparams']: missing: 'learning_rate'; unexpected: 'rate'"
    assert message in str(raised.value)


def test_an_unknown_static_argument_is_named():
    with pytest.raises(ValueError) as raised:
        inject(gradtx.adam, static_args=("b1", "b3"))
    assert str(raised.value) == (
        "inject_hyperparams: static_args must be arguments of adam, got ['b3']"
    )
