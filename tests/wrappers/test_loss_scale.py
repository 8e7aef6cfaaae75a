import functools
import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.equality import bitwise

GOLDEN = json.loads(
    (pathlib.Path(__file__).parents[1] / "golden/torch.json").read_text()
)
PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}


def times(number, tree=PARAMS):
    return jax.tree.map(lambda x: x * number, tree)


def scaled_by(number, tree=PARAMS, dtype: Any = "float32"):
    return jax.tree.map(lambda x: (x.astype("float32") * number).astype(dtype), tree)


TORCH = {
    "init_scale": "initial",
    "growth_factor": "growth",
    "backoff_factor": "backoff",
    "growth_interval": "growth_interval",
}


@pytest.mark.parametrize("is_scanned", [False, True])
@pytest.mark.parametrize("case", GOLDEN["scalers"], ids=lambda x: str(x["settings"]))
def test_the_scale_is_that_of_torch_after_every_update(case, is_scanned):
    settings = {TORCH[name]: value for name, value in case["settings"].items()}
    tx = gradtx.loss_scale(gradtx.sgd(0.1), minimum=1e-3, **settings)
    grads = jnp.where(jnp.asarray(GOLDEN["overflows"]), jnp.inf, 1.0)

    def step(state, grad):
        _, state = tx.update(grad, state)
        return state, (gradtx.loss_scale_of(state), state["growth_tracker"])

    state, kept = tx.init(jnp.zeros(())), []
    if is_scanned:
        kept = list(zip(*jax.lax.scan(step, state, grads)[1], strict=True))
    else:
        for grad in grads:
            state, now = step(state, grad)
            kept.append(now)
    for (scale, tracker), (theirs, count) in zip(kept, case["kept"], strict=True):
        np.testing.assert_allclose(scale, theirs, rtol=1e-6)
        assert int(tracker) == count


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_a_scale_of_a_power_of_two_changes_no_update(dtype, is_jitted):
    """Of clipping, moments and weight decay: they see the gradient itself."""
    inner = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(0.1, eps=1e-3))
    tx = gradtx.loss_scale(inner, 2.0**10, growth_interval=2)
    update: Any = jax.jit(tx.update) if is_jitted else tx.update
    plain: Any = jax.jit(inner.update) if is_jitted else inner.update
    params = scaled_by(1, dtype=dtype)
    state, theirs = tx.init(params), inner.init(params)
    for number in (1.0, 0.5, 0.25):
        grads = times(jnp.asarray(number, dtype), params)
        scale = gradtx.loss_scale_of(state).astype(dtype)
        updates, state = update(times(scale, grads), state, params)
        expected, theirs = plain(grads, theirs, params)
        bitwise(updates, expected)
        bitwise(state["inner"], theirs)


def test_gradients_that_float16_does_not_hold_reach_the_optimizer():
    tx = gradtx.loss_scale(gradtx.trace(0.0), 2.0**16)
    params = {"w": jnp.ones(3, "float16")}
    grads = {"w": jnp.asarray([2.0**-10, 1.0, -(2.0**-24)], "float16")}
    updates, state = tx.update(grads, tx.init(params), params)
    seen = state["inner"]["trace"]["w"]
    assert seen.dtype == jnp.float32 and updates["w"].dtype == jnp.float16
    np.testing.assert_array_equal(seen, [2.0**-26, 2.0**-16, -(2.0**-40)])


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize("bad", [jnp.inf, -jnp.inf, jnp.nan])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_skipped_step_leaves_the_optimizer_and_is_counted(bad, is_jitted, dynamic):
    inner = gradtx.chain(gradtx.adam(0.1), gradtx.add_noise(0.1, 0.5, 3))
    tx = gradtx.loss_scale(inner, 8.0, backoff=0.25, dynamic=dynamic)
    update: Any = jax.jit(tx.update) if is_jitted else tx.update
    _, state = update(PARAMS, tx.init(PARAMS), PARAMS)
    grads = {"w": PARAMS["w"], "b": PARAMS["b"].at[1].set(bad)}
    updates, after = update(grads, state, PARAMS)
    bitwise(after["inner"], state["inner"])
    bitwise(updates, times(0.0))
    assert int(after["total_skipped"]) == 1 and int(after["growth_tracker"]) == 0
    assert float(gradtx.loss_scale_of(after)) == (2.0 if dynamic else 8.0)


def test_a_static_scale_stays():
    tx = gradtx.loss_scale(gradtx.sgd(1.0), 0.5, growth_interval=1, dynamic=False)
    state = tx.init(PARAMS)
    for number in (1.0, 1.0, jnp.nan, 1.0):
        updates, state = tx.update(times(number), state, PARAMS)
        assert float(gradtx.loss_scale_of(state)) == 0.5
    bitwise(updates, times(-2.0))


def test_the_scale_falls_to_the_minimum_and_grows_from_there():
    tx = gradtx.loss_scale(gradtx.sgd(1.0), 4.0, growth_interval=1, minimum=2.0)
    state, scales = tx.init(PARAMS), []
    for number in (jnp.nan, jnp.nan, jnp.nan, 1.0):
        _, state = tx.update(times(number), state, PARAMS)
        scales.append(float(gradtx.loss_scale_of(state)))
    assert scales == [2.0, 2.0, 2.0, 4.0]


def test_a_scale_below_the_minimum_is_not_raised_by_an_overflow():
    tx = gradtx.loss_scale(gradtx.sgd(1.0), 0.25)
    _, state = tx.update(times(jnp.inf), tx.init(PARAMS), PARAMS)
    assert float(gradtx.loss_scale_of(state)) == 0.25


def loss(params, x):
    """In float16: its gradient underflows without a scale."""
    return jnp.mean(jnp.square(params["w"] * x)).astype("float32")


def test_small_gradients_of_float16_train_by_the_scale_only():
    x = jnp.full(64, 2.0**-11, "float16")
    params = {"w": jnp.ones(64, "float16")}

    def first_step(tx, scale_of):
        state = tx.init(params)
        grads = jax.grad(lambda p: scale_of(state) * loss(p, x))(params)
        return tx.update(grads, state, params)[0]["w"]

    adam = gradtx.adam(0.125, eps=1e-12)
    assert not np.any(first_step(adam, lambda state: jnp.float32(1.0)))
    tx = gradtx.loss_scale(adam, 2.0**15)
    moved = jax.jit(functools.partial(first_step, tx, gradtx.loss_scale_of))()
    np.testing.assert_allclose(moved, -0.125, rtol=1e-3)


def accumulating(tx):
    return gradtx.accumulate(tx, 2)


def test_around_accumulate_one_bad_gradient_is_left_out_of_the_mean():
    tx = gradtx.loss_scale(accumulating(gradtx.sgd(1.0)), 4.0)
    state = tx.init(PARAMS)
    for number in (4.0, jnp.inf, 4.0):
        scaled = times(number * gradtx.loss_scale_of(state) / 4)
        updates, state = tx.update(scaled, state, PARAMS)
    bitwise(updates, times(-1.0))
    assert float(gradtx.loss_scale_of(state)) == 2.0


def test_inside_accumulate_the_scale_changes_only_between_steps():
    tx = accumulating(gradtx.loss_scale(gradtx.sgd(1.0), 4.0, growth_interval=1))
    state, scales = tx.init(PARAMS), []
    for number in (4.0, 4.0, jnp.inf, 8.0):
        updates, state = tx.update(times(number), state, PARAMS)
        scales.append(float(gradtx.loss_scale_of(state)))
    assert scales == [4.0, 8.0, 8.0, 4.0]
    bitwise(updates, times(0.0))


@pytest.mark.parametrize(
    "around",
    [
        gradtx.editable,
        gradtx.skip,
        lambda tx: gradtx.groups({"**": tx}),
        lambda tx: gradtx.masked(tx, True),
        lambda tx: gradtx.named("amp", tx),
        lambda tx: gradtx.chain(tx, gradtx.reduce_on_plateau()),
        lambda tx: gradtx.average_params(tx, 0.9),
        lambda tx: gradtx.from_config(gradtx.to_config(tx)),
    ],
)
def test_the_scale_is_found_wherever_the_wrapper_is(around):
    tx = around(gradtx.loss_scale(gradtx.sgd(0.1), 8.0))
    state = tx.init(PARAMS)
    assert float(gradtx.loss_scale_of(state)) == 8.0
    assert float(gradtx.loss_scale_of({"step": 0, "opt": (state, PARAMS)})) == 8.0


def test_a_parameter_may_have_the_name_of_the_slot():
    params = {"loss_scale": jnp.ones(3)}
    state = gradtx.loss_scale(gradtx.adam(0.1), 8.0).init(params)
    assert float(gradtx.loss_scale_of(state)) == 8.0


@pytest.mark.parametrize("number", [0, 2])
def test_a_state_of_no_scale_or_several_is_refused(number):
    scaled = [gradtx.loss_scale(gradtx.sgd(0.1))] * number
    state = gradtx.chain(gradtx.adam(0.1), *scaled).init(PARAMS)
    with pytest.raises(ValueError, match="must be that of one loss_scale"):
        gradtx.loss_scale_of(state)


def test_what_is_frozen_inside_skips_no_step():
    inner = gradtx.groups({"w": gradtx.frozen(), "b": gradtx.sgd(1.0)})
    tx = gradtx.loss_scale(inner, 2.0)
    grads = {"w": jnp.full((2, 3), jnp.nan), "b": jnp.full(3, 2.0)}
    updates, state = tx.update(grads, tx.init(PARAMS), PARAMS)
    bitwise(updates, {"w": jnp.zeros((2, 3)), "b": -jnp.ones(3)})
    assert int(state["total_skipped"]) == 0


@pytest.mark.parametrize(
    "argument, value, range_",
    [
        ("initial", 0.0, "positive"),
        ("growth", 0.5, "at least 1"),
        ("backoff", 1.0, r"in \(0, 1\)"),
        ("growth_interval", 0, "whole and at least 1"),
        ("minimum", 0.0, "positive"),
    ],
)
def test_a_number_out_of_its_range_is_refused(argument, value, range_):
    with pytest.raises(ValueError, match=f"loss_scale: {argument} must be {range_}"):
        gradtx.loss_scale(gradtx.sgd(0.1), **{argument: value})
