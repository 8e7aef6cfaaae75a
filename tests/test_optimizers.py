import collections
import functools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import oracles

Pair = collections.namedtuple("Pair", "first second")
STEPS = 50

LINE = gradtx.linear_schedule(0.1, 0.0, 40)

# Both libraries get our schedules, which equal optax's (test_schedules.py): at 1e-12
# optax's own would differ, since with x64 they are float32 for an int32 count.
SETTINGS = {
    "sgd": lambda m: m.sgd(0.1),
    "sgd, momentum": lambda m: m.sgd(0.1, momentum=0.9),
    "sgd, Nesterov": lambda m: m.sgd(LINE, 0.9, nesterov=True),
    "rmsprop": lambda m: m.rmsprop(0.01),
    "rmsprop, momentum": lambda m: m.rmsprop(
        gradtx.exponential_decay(0.01, 10, 0.5), 0.8, 1e-6, 0.1, False, momentum=0.9
    ),
    "rmsprop, corrected": lambda m: m.rmsprop(
        0.01, bias_correction=True, momentum=0.5, nesterov=True
    ),
    "rmsprop, centered": lambda m: m.rmsprop(0.01, 0.9, 1e-3, 1.0, centered=True),
    "rmsprop, centered outside": lambda m: m.rmsprop(
        0.01, 0.9, 1e-3, 1.0, eps_in_sqrt=False, centered=True
    ),
    "adagrad": lambda m: m.adagrad(0.1),
    "adagrad, from one": lambda m: m.adagrad(
        gradtx.piecewise_constant_schedule(0.1, {10: 0.5, 20: 0.1}), 1.0, 1e-3
    ),
    "adam": lambda m: m.adam(0.01),
    "adam, scheduled": lambda m: m.adam(
        gradtx.warmup_cosine_decay_schedule(0.0, 0.1, 10, 40), 0.8, 0.95, 1e-3, 1e-6
    ),
    "adam, Nesterov": lambda m: m.adam(0.01, nesterov=True),
    "adamw": lambda m: m.adamw(0.01),
    "adamw, scheduled": lambda m: m.adamw(
        0.01, weight_decay=gradtx.polynomial_schedule(0.1, 0.0, 2, 30), mask=is_matrix
    ),
    "nadamw": lambda m: m.nadamw(
        gradtx.cosine_decay_schedule(0.01, 40), weight_decay=0.1
    ),
    "amsgrad": lambda m: m.amsgrad(0.01),
    "amsgrad, as the paper": lambda m: m.amsgrad(
        0.01, 0.8, 0.9, bias_correction_mu=False, bias_correction_nu=False
    ),
    "clip and adamw": lambda m: m.chain(m.clip_by_global_norm(1.0), m.adamw(0.01)),
}


def is_matrix(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def mixed_tree(dtype, seed, *lead):
    """Scalars, one element, vectors, matrices, 4-d, None, nested containers."""
    rng = np.random.default_rng(seed)

    def array(*shape):
        values = rng.normal(size=(*lead, *shape))
        values[np.abs(values) < 0.05] = 0  # some gradients vanish
        return jnp.asarray(values, dtype)

    return {
        "scalar": array(),
        "nested": [array(1), (array(7), None), Pair(array(3, 4), {"x": array(2, 3)})],
        "four": array(2, 1, 3, 2),
    }


@functools.partial(jax.jit, static_argnums=0)
def run(tx, params, grads):
    """The updates of all steps, and the last state."""

    def step(carry, grads):
        params, state = carry
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), updates

    carry, updates = jax.lax.scan(step, (params, tx.init(params)), grads)
    return updates, carry[0]


def run_eagerly(tx, params, grads):
    """The same without jit."""
    state, seen = tx.init(params), []
    for i in range(STEPS):
        now = jax.tree.map(lambda g: g[i], grads)  # noqa: B023
        updates, state = tx.update(now, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(updates)
    return jax.tree.map(lambda *u: jnp.stack(u), *seen), params


def distance(ours, theirs):
    """Normwise by leaf and step: the largest difference over the largest magnitude."""

    def one(a, b):
        assert a.dtype == b.dtype and a.shape == b.shape
        a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (a, b))
        size = np.maximum(np.abs(b).max(axis=1), 1e-30)
        return np.max(np.abs(a - b).max(axis=1) / size)

    return max(jax.tree.leaves(jax.tree.map(one, ours, theirs)))


@pytest.mark.parametrize("mode", ["float64", "float32", "float32 in x64 mode"])
@pytest.mark.parametrize("name", SETTINGS)
def test_optimizer_equals_optax_over_fifty_steps(name, mode):
    dtype = mode[:7]
    with jax.enable_x64("64" in mode):
        params = mixed_tree(dtype, 0)
        grads = mixed_tree(dtype, 1, STEPS)
        ours = run(SETTINGS[name](gradtx), params, grads)
        with jax.numpy_dtype_promotion("standard"):  # which most of optax needs
            theirs = run(SETTINGS[name](optax), params, grads)
        tolerance = 1e-12 if dtype == "float64" else 1e-6
        error = distance(ours[0], theirs[0])
        if error > tolerance and dtype == "float32":
            # What optax itself makes of another order of the same roundings.
            with jax.numpy_dtype_promotion("standard"):
                eager = run_eagerly(SETTINGS[name](optax), params, grads)
            tolerance = max(tolerance, 3 * distance(eager[0], theirs[0]))
        assert error <= tolerance


def descend(directions, rate, params, decay=0.0):
    """Parameters after each step along directions, with decoupled weight decay."""
    for direction in directions:
        params = params - rate * (direction + decay * params)
        yield params


def rmsprop_by_the_paper(grads, rate, momentum, **settings):
    """Hinton's lecture 6e, with a sum of steps as its momentum."""
    steps = [-rate * u for u in oracles.rms_by_the_paper(grads, **settings)]
    return oracles.trace_by_the_paper(steps, momentum)


PAPERS = {
    "sgd": (
        lambda: gradtx.sgd(0.1),
        lambda g, p: descend(g, 0.1, p),
    ),
    "sgd, momentum": (
        lambda: gradtx.sgd(0.1, momentum=0.9),
        lambda g, p: descend(oracles.trace_by_the_paper(g, 0.9), 0.1, p),
    ),
    "sgd, Nesterov": (
        lambda: gradtx.sgd(0.1, momentum=0.9, nesterov=True),
        lambda g, p: descend(oracles.trace_by_the_paper(g, 0.9, True), 0.1, p),
    ),
    "momentum": (
        lambda: gradtx.momentum(0.1, decay=0.8),
        lambda g, p: descend(oracles.ema_by_the_paper(g, 0.8, debias=False), 0.1, p),
    ),
    "rmsprop": (
        lambda: gradtx.rmsprop(0.1, momentum=0.9),
        lambda g, p: descend(rmsprop_by_the_paper(g, 0.1, 0.9), -1.0, p),
    ),
    "adagrad": (
        lambda: gradtx.adagrad(0.1),
        lambda g, p: descend(oracles.rss_by_the_paper(g), 0.1, p),
    ),
    "adam": (
        lambda: gradtx.adam(0.1),
        lambda g, p: descend(oracles.adam_by_the_paper(g), 0.1, p),
    ),
    "adamw": (
        lambda: gradtx.adamw(0.1, weight_decay=0.3),
        lambda g, p: descend(oracles.adam_by_the_paper(g), 0.1, p, 0.3),
    ),
    "nadamw": (
        lambda: gradtx.nadamw(0.1, weight_decay=0.3),
        lambda g, p: descend(oracles.adam_by_the_paper(g, nesterov=True), 0.1, p, 0.3),
    ),
    "amsgrad": (
        lambda: gradtx.amsgrad(0.1),
        lambda g, p: descend(oracles.amsgrad_by_the_paper(g), 0.1, p),
    ),
}


@pytest.mark.parametrize("name", PAPERS)
def test_optimizer_equals_its_paper(name):
    make, paper = PAPERS[name]
    rng = np.random.default_rng(0)
    grads, start = list(rng.normal(size=(STEPS, 5))), rng.normal(size=5)
    with jax.enable_x64(True):
        tx, params = make(), jnp.asarray(start)
        state, update = tx.init(params), jax.jit(tx.update)
        for grad, expected in zip(grads, paper(grads, start), strict=True):
            updates, state = update(jnp.asarray(grad), state, params)
            params = params + updates
            np.testing.assert_allclose(params, expected, rtol=1e-12, atol=1e-12)


def test_momentum_is_sgd_with_momentum_at_a_rate_of_one_less_decay():
    rng = np.random.default_rng(0)
    grads = list(rng.normal(size=(5, 3)))
    with jax.enable_x64(True):
        averaged = oracles.updates_of(gradtx.momentum(1.0, decay=0.9), grads)
        summed = oracles.updates_of(gradtx.sgd(0.1, momentum=0.9), grads)
        for a, b in zip(averaged, summed, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_adam_is_momentum_chained_with_rmsprop():
    literally = gradtx.chain(
        gradtx.moments(
            gradtx.scale_by_ema(0.9, slot="mu"),
            gradtx.bias_correction(0.9),
            gradtx.divide_by_root(
                gradtx.chain(
                    gradtx.square(),
                    gradtx.scale_by_ema(0.999, slot="nu"),
                    gradtx.bias_correction(0.999),
                ),
                eps=1e-8,
            ),
        ),
        gradtx.scale_by_learning_rate(0.1),
    )
    params, grads = mixed_tree("float32", 0), mixed_tree("float32", 1, 5)
    composed, named = (run(tx, params, grads) for tx in (literally, gradtx.adam(0.1)))
    jax.tree.map(np.testing.assert_array_equal, composed, named)


def test_bad_numbers_that_reach_an_optimizer_through_its_recipe_are_named_by_it():
    with pytest.raises(
        ValueError, match="amsgrad: eps_root must be at least 0, got -1"
    ):
        gradtx.amsgrad(0.1, eps_root=-1)
