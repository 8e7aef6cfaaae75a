"""Averages whose decay changes: their mean of equal gradients is the gradient."""

import itertools
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import testing
from gradtx.core.arguments import NumberRole
from tests import registry
from tests.equality import as_optax_needs

STEPS = 25
PARAMS = {"w": jnp.linspace(0.5, 2.0, 6).reshape(2, 3)}
GRADS = {"w": jnp.linspace(-1.0, 3.0, 6).reshape(2, 3)}


def rising(low, high):
    """A decay that rises from one number to another, and stays."""
    return gradtx.linear_schedule(low, high, 15)


@jax.jit
def updates_of(tx, state=None):
    """The last state, and the updates of all steps, of one gradient at one place."""
    case = testing.Case(PARAMS, **registry.CASES.get(tx.name, {}))

    def step(state, _):
        updates, state = case.update(tx, GRADS, state, PARAMS)
        return state, updates["w"]

    first = tx.init(PARAMS) if state is None else state
    return jax.lax.scan(step, first, length=STEPS)


def decays_of(factory):
    """The arguments of a factory that are one decay each."""
    names = factory.signature.parameters
    return [
        name
        for name, role in zip(names, factory.roles, strict=True)
        if isinstance(role, NumberRole)
        and role.is_decay
        and role.takes_schedule
        and not role.is_container
    ]


def places():
    """Every decay of every transformation that takes gradients like parameters."""
    for name, factory in registry.factories().items():
        if name in registry.PARTS or "gradients" in registry.CASES.get(name, {}):
            continue
        yield from ((name, decay) for decay in decays_of(factory))


def forgets(tx, name):
    """Whether a constant decay leaves updates of one gradient as they are."""
    try:
        runs = [updates_of(tx.replace(**{name: b}))[1] for b in (0.5, 0.9)]
    except ValueError:
        return False
    return np.allclose(*runs, rtol=1e-5, atol=1e-7) and bool(jnp.any(runs[0] != 0))


@pytest.mark.parametrize("name, decay", [*places()])
def test_what_a_constant_decay_leaves_alone_a_changing_one_does_too(name, decay):
    """So that the mean of equal gradients is the gradient, at every step."""
    tx = registry.example(registry.factories()[name])
    if not forgets(tx, decay):
        assert name not in CORRECTED
        return
    _, constant = updates_of(tx.replace(**{decay: 0.9}))
    for low, high in ((0.5, 0.99), (0.99, 0.5)):
        _, changing = updates_of(tx.replace(**{decay: rising(low, high)}))
        np.testing.assert_allclose(changing, constant, rtol=2e-5, atol=1e-7)


CORRECTED = {"adam", "adamw", "lamb", "adan", "amsgrad", "sophia", "laprop", "ema"}
"""Some of those whose corrected averages leave no trace of any of their decays."""


def mean_by_the_book(grads, decays):
    """The average from zero over the weight of what it is of, in float64 NumPy."""
    average, left = np.zeros_like(grads[0]), 1.0
    for g, b in zip(grads, decays, strict=True):
        average, left = b * average + (1 - b) * g, left * b
        yield average / (1 - left)


def test_the_corrected_mean_of_any_gradients_is_the_book_s():
    rng = np.random.default_rng(0)
    grads = rng.normal(size=(STEPS, 4))
    decays = [float(rising(0.5, 0.999)(i)) for i in range(STEPS)]
    tx = gradtx.ema(rising(0.5, 0.999))
    state: Any = tx.init(jnp.zeros(4))
    for g, expected in zip(grads, mean_by_the_book(grads, decays), strict=True):
        u, state = tx.update(jnp.asarray(g, jnp.float32), state)
        np.testing.assert_allclose(u, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("ahead", [-1, 0, 1, 2])
def test_a_correction_may_look_ahead(ahead):
    tx = gradtx.bias_correction(rising(0.5, 0.9), ahead)
    state: Any = tx.init(PARAMS)
    decays = [float(rising(0.5, 0.9)(i)) for i in range(6)]
    for t in range(1, 7):
        u, state = tx.update(PARAMS, state)
        used = decays[:t] + [decays[t - 1]] * max(ahead, 0)
        used = used[:-1] if ahead < 0 and t > 1 else used
        expected = np.asarray(PARAMS["w"]) / (1 - np.prod(used))
        np.testing.assert_allclose(u["w"], expected, rtol=1e-5)


def test_a_constant_decay_keeps_nothing_for_its_correction():
    constant = gradtx.adam(0.1).init(PARAMS)
    assert constant.keys() == {"count", "mu", "nu"}
    both = gradtx.adam(0.1, b1=rising(0.5, 0.9), b2=rising(0.9, 0.99)).init(PARAMS)
    assert both.keys() == constant.keys() | {"mu_weight", "nu_weight"}
    assert both["mu_weight"].shape == () and both["mu_weight"].dtype == jnp.float32


@pytest.mark.parametrize("wrap", [gradtx.editable, lambda tx: tx])
def test_an_edited_decay_corrects_for_what_was_averaged(wrap):
    """From .9 to .99 at step 50: a correction by count alone steps 2.5 times as far."""
    tx = gradtx.editable(gradtx.adam(1.0, b1=0.9, eps=0.0))
    state: Any = tx.init(PARAMS)
    for i in range(60):
        if i == 50:
            state["hyperparams"]["b1"] = jnp.float32(0.99)
        updates, state = tx.update(GRADS, state, PARAMS)
        expected = -np.sign(GRADS["w"])
        np.testing.assert_allclose(updates["w"], expected, rtol=2e-5)


def test_an_injected_decay_corrects_for_what_was_averaged():
    tx = gradtx.inject_hyperparams(gradtx.adam)(1.0, b1=0.9, eps=0.0)
    state: Any = tx.init(PARAMS)
    for i in range(60):
        if i == 50:
            state["hyperparams"]["b1"] = jnp.float32(0.99)
        updates, state = tx.update(GRADS, state, PARAMS)
        np.testing.assert_allclose(updates["w"], -np.sign(GRADS["w"]), rtol=2e-5)


MADE = {
    "constant": lambda b: gradtx.adam(0.1, b1=b, b2=0.99),
    "scheduled": lambda b: gradtx.adam(0.1, b1=lambda count: b + 0 * count, b2=0.99),
    "editable": lambda b: gradtx.editable(gradtx.adam(0.1, b1=b, b2=0.99)),
}


@pytest.mark.parametrize("old, new", [*itertools.permutations(MADE, 2)])
def test_a_checkpoint_goes_from_a_constant_decay_to_a_changing_one_and_back(old, new):
    """The weight is then that of the constant decay and the count: nothing is lost."""
    before, after = MADE[old](0.9), MADE[new](0.9)
    state, _ = updates_of(before)
    restored = gradtx.restore(after, PARAMS, state)
    assert not restored.dropped or "editable" in (old, new)
    _, there = updates_of(after, restored.state)
    _, expected = updates_of(before, state)
    np.testing.assert_allclose(there, expected, rtol=2e-5)


@pytest.mark.parametrize("steps", [0, 1, 3, 12])
def test_a_scheduled_run_of_optax_has_the_weight_of_all_its_decays(steps):
    b1, b2 = rising(0.1, 0.95), rising(0.5, 0.999)
    theirs = optax.inject_hyperparams(optax.adam)(1.0, b1=b1, b2=b2)
    with as_optax_needs():
        half = theirs.init(PARAMS)
        for _ in range(steps):
            _, half = theirs.update(GRADS, half, PARAMS)
    tx = gradtx.adam(1.0, b1=b1, b2=b2)
    state = gradtx.from_optax(tx, half, PARAMS)
    for key, decay in (("mu_weight", b1), ("nu_weight", b2)):
        left = np.prod([float(decay(i)) for i in range(steps)])
        np.testing.assert_allclose(state[key], 1 - left, rtol=2e-6, atol=1e-7)
    _, updates = updates_of(tx, state)
    np.testing.assert_allclose(abs(updates), 1, rtol=2e-5)
