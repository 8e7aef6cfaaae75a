from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import accumulate_with_noise_scale as accumulate
from tests.equality import bitwise

MEAN = np.linspace(-1.0, 1.0, 24)
SPREAD = np.linspace(0.5, 2.0, 24)
EXPECTED = np.sum(SPREAD**2) / np.sum(MEAN**2)
"""tr(Sigma) / |G|^2 of gradients that are normal around a mean: about 4.7."""


def normal_gradients(number, seed=0):
    noise = np.random.default_rng(seed).normal(size=(number, 24))
    return MEAN + SPREAD * noise


def as_tree(flat):
    return {"w": flat[..., :18].reshape(*flat.shape[:-1], 3, 6), "b": flat[..., 18:]}


PARAMS = as_tree(jnp.zeros(24))


def by_the_paper(steps, decay):
    """McCandlish et al. 2018, appendix A.1, in float64: steps of micro-batches."""
    square = trace = 0.0
    for micro in np.asarray(steps, np.float64):
        n = len(micro)
        small, big = np.mean(np.sum(micro**2, 1)), np.sum(np.mean(micro, 0) ** 2)
        square = decay * square + (1 - decay) * (n * big - small) / (n - 1)
        trace = decay * trace + (1 - decay) * (small - big) / (1 - 1 / n)
    return square, trace, trace / square


def run(tx, grads):
    """The state after some gradients."""

    def step(state, grad):
        return tx.update(grad, state, PARAMS)[1], None

    grads = as_tree(jnp.asarray(grads, jnp.float32))
    return jax.lax.scan(step, tx.init(PARAMS), grads)[0]


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("every", [2, 5])
def test_the_noise_scale_is_that_of_the_paper(every, mean):
    tx = accumulate(gradtx.sgd(0.1), every, 0.9, mean=mean)
    grads = normal_gradients(20 * every)
    state = run(tx, grads)
    expected = by_the_paper(grads.reshape(20, every, 24), 0.9)
    names = ("grad_square", "noise_trace", "metrics.noise_scale")
    np.testing.assert_allclose([state[name] for name in names], expected, rtol=1e-4)
    assert gradtx.metrics(state)["noise_scale"] == state["metrics.noise_scale"]


@pytest.mark.parametrize("every", [2, 8])
def test_it_converges_to_the_trace_over_the_squared_mean(every):
    """Within 5 % after 4000 steps, in micro-batches however many make a step."""
    tx = accumulate(gradtx.sgd(0.1), every, 0.999)
    state = run(tx, normal_gradients(4000 * every, seed=1))
    np.testing.assert_allclose(gradtx.metrics(state)["noise_scale"], EXPECTED, 0.05)


@pytest.mark.parametrize("is_jitted", [False, True])
def test_measuring_changes_no_update_and_nothing_else_in_the_state(is_jitted):
    plain = gradtx.accumulate(gradtx.adam(0.1), 2)
    tx = accumulate(gradtx.adam(0.1), 2)
    states: Any = [plain.init(PARAMS), tx.init(PARAMS)]
    for flat in normal_gradients(4):
        grads, updates = as_tree(jnp.asarray(flat, jnp.float32)), [None, None]
        for i, each in enumerate((plain, tx)):
            update: Any = jax.jit(each.update) if is_jitted else each.update
            updates[i], states[i] = update(grads, states[i], PARAMS)
        bitwise(*updates)
    bitwise({name: states[1][name] for name in states[0]}, {**states[0]})


def test_the_noise_scale_changes_only_when_a_step_is_complete():
    tx = accumulate(gradtx.sgd(0.1), 3, 0.9)
    state, seen = tx.init(PARAMS), []
    for flat in normal_gradients(6):
        _, state = tx.update(as_tree(jnp.asarray(flat, jnp.float32)), state, PARAMS)
        seen.append(float(gradtx.metrics(state)["noise_scale"]))
    assert seen[0] == seen[1] == 0 and seen[2] == seen[3] == seen[4]
    assert 0 != seen[2] != seen[5]


def test_one_micro_batch_a_step_tells_nothing():
    tx = accumulate(gradtx.sgd(0.1), lambda step: 1 + step % 2, 0.0)
    grads = normal_gradients(4)  # steps of one, two, and one
    assert gradtx.metrics(run(tx, grads[:1]))["noise_scale"] == 0
    expected = by_the_paper(grads[None, 1:3], 0.0)[2]
    for end in (3, 4):
        found = gradtx.metrics(run(tx, grads[:end]))["noise_scale"]
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e30])
def test_a_step_whose_squares_are_not_finite_is_left_out(bad):
    tx = accumulate(gradtx.sgd(0.1), 2, 0.9)
    grads = normal_gradients(6)
    with_bad = np.concatenate([grads[:4], [grads[0], np.full(24, bad)], grads[4:]])
    names = ("grad_square", "noise_trace", "micro_square")
    ours, theirs = run(tx, with_bad), run(tx, grads)
    bitwise(*({name: state[name] for name in names} for state in (ours, theirs)))


def test_a_gradient_that_is_skipped_does_not_count():
    tx = gradtx.skip(accumulate(gradtx.sgd(0.1), 2, 0.9))
    grads = normal_gradients(4)
    with_bad = np.concatenate([grads[:3], np.full((1, 24), np.nan), grads[3:]])
    bitwise(run(tx, with_bad)["inner"], run(tx, grads)["inner"])


def test_what_is_frozen_is_not_measured():
    inner = gradtx.groups({"w": gradtx.frozen(), "b": gradtx.sgd(0.1)})
    tx = accumulate(inner, 2, 0.9)
    grads = normal_gradients(4)
    expected = by_the_paper(grads.reshape(2, 2, 24)[..., 18:], 0.9)[2]
    found = gradtx.metrics(run(tx, grads))["noise_scale"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_of_16_bits_are_squared_in_float32(dtype):
    """Of some hundreds: their squares overflow in float16."""
    tx = accumulate(gradtx.sgd(0.1), 2, 0.9)
    flat = jnp.asarray(300 * normal_gradients(4), dtype)
    state = tx.init(PARAMS)
    for each in flat:
        _, state = tx.update(as_tree(each), state, PARAMS)
    expected = by_the_paper(np.asarray(flat, float).reshape(2, 2, 24), 0.9)[2]
    np.testing.assert_allclose(state["metrics.noise_scale"], expected, rtol=1e-4)


def test_a_schedule_of_the_decay_counts_steps():
    decays = jnp.asarray([0.0, 0.5, 0.25])
    tx = accumulate(gradtx.sgd(0.1), 2, lambda step: decays[step])
    grads = normal_gradients(6)
    trace = 0.0
    for decay, step in zip(decays, grads.reshape(3, 1, 2, 24), strict=True):
        trace = float(decay) * trace + (1 - float(decay)) * by_the_paper(step, 0.0)[1]
    np.testing.assert_allclose(run(tx, grads)["noise_trace"], trace, rtol=1e-4)
