import functools
import sys

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.factored import power_decay
from tests import equality, oracles
from tests.settings import OPTAX, OPTIMIZERS

STEPS = 30

# Where optax's own numbers are coarser than float64, and why.
COARSE = {
    "madgrad": (1e-4, "optax takes the root of an int32 count, in float32"),
    "madgrad, scheduled": (1e-4, "as madgrad"),
    "adafactor, momentum": (1e-5, "its momentum is kept in float32"),
    "schedule_free_sgd, warm": (1e-6, "optax's warmup is float32 for an int32 count"),
    "schedule_free_adamw, warm": (1e-6, "optax's warmup is float32"),
}
# Where updates nearly vanish at some steps, by cancellation that magnifies whatever
# rounding there was: compared over all steps of a leaf together.
CANCELLING = {
    "adafactor": "steps of a scalar's own size end near 0",
    "novograd": "a sum of steps of unit size and of both signs",
    "novograd, scheduled": "as novograd",
    "cocob, scheduled": "the reward is a sum of both signs",
    "momo_adam, scheduled": "the step is the difference of two models of the loss",
}
# Where optax gives the rounded difference of two parameters, the parameters are
# compared; ours are the steps themselves.
BY_PARAMETERS = ("cocob", "madgrad", "schedule_free")
NO_SCALARS = ("sm3",)


def trees(name, dtype):
    """Parameters, gradients of all steps, values of the loss."""
    trees = [equality.mixed_tree(dtype, 0), equality.mixed_tree(dtype, 1, STEPS)]
    if name.startswith(NO_SCALARS):  # where optax raises an IndexError
        trees = [{k: v for k, v in tree.items() if k != "scalar"} for tree in trees]
    return *trees, equality.losses(dtype, STEPS)


def error(name, ours, theirs, start):
    """How far two runs are apart: in updates, or in parameters."""
    by_step = name not in CANCELLING
    if not name.startswith(BY_PARAMETERS):
        return equality.distance(ours[0], theirs[0], by_step)
    paths = [
        jax.tree.map(
            lambda p, u: np.asarray(p) + np.cumsum(np.asarray(u), axis=0),
            start,
            updates,
        )
        for updates, _ in (ours, theirs)
    ]
    return equality.distance(*paths, by_step)


@pytest.fixture
def optax_in_float64(monkeypatch):
    """optax, but its Adafactor computes the decay in the default dtype, not float32."""
    plain = optax.scale_by_factored_rms
    exact = functools.partial(plain, decay_rate_fn=power_decay)
    module = sys.modules[plain.__module__]
    monkeypatch.setattr(module, "scale_by_factored_rms", exact)


@pytest.mark.parametrize("mode", ["float64", "float32", "float32 in x64 mode"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_equals_optax_over_thirty_steps(name, mode, optax_in_float64):
    dtype = mode[:7]
    with jax.enable_x64("64" in mode):
        start, grads, values = trees(name, dtype)
        ours = equality.run(OPTIMIZERS[name](gradtx), start, grads, values)
        with jax.numpy_dtype_promotion("standard"):  # which most of optax needs
            tx = OPTIMIZERS[name](OPTAX)
            theirs = equality.run(tx, start, grads, values)
        tolerance = 1e-12 if dtype == "float64" else 1e-6
        if dtype == "float64" and name in COARSE:
            tolerance, _ = COARSE[name]
        found = error(name, ours, theirs, start)
        if found > tolerance and dtype == "float32":
            # What optax itself makes of another order of the same roundings.
            with jax.numpy_dtype_promotion("standard"):
                eager = equality.run_eagerly(tx, start, grads, values)
            tolerance = max(tolerance, 3 * error(name, eager, theirs, start))
        assert found <= tolerance


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
    params, grads = (equality.mixed_tree("float32", seed, 5) for seed in (0, 1))
    params, values = jax.tree.map(lambda p: p[0], params), jnp.zeros(5)
    composed, named = (
        equality.run(tx, params, grads, values) for tx in (literally, gradtx.adam(0.1))
    )
    jax.tree.map(np.testing.assert_array_equal, composed, named)


def test_bad_numbers_that_reach_an_optimizer_through_its_recipe_are_named_by_it():
    with pytest.raises(
        ValueError, match="amsgrad: eps_root must be at least 0, got -1"
    ):
        gradtx.amsgrad(0.1, eps_root=-1)
