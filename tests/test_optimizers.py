import ast
import functools
import inspect
import itertools
import sys
import textwrap

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.transforms.factored import power_decay
from tests import equality, optimizer_table
from tests.oracles.adam import adam_by_the_paper, amsgrad_by_the_paper
from tests.oracles.averages import ema_by_the_paper, trace_by_the_paper
from tests.oracles.rmsprop import rms_by_the_paper, rss_by_the_paper
from tests.oracles.runs import updates_of
from tests.registry import factories
from tests.settings import OF_EXAMPLES, OPTIMIZERS, PLAIN

STEPS = equality.STEPS

# Where optax's own numbers are coarser than the dtype, by how much, and why.
COARSE = {
    ("madgrad", "float64"): (
        1e-4,
        "optax takes the root of an int32 count, in float32",
    ),
    ("madgrad, scheduled", "float64"): (1e-4, "as madgrad"),
    ("adafactor, momentum", "float64"): (1e-5, "its momentum is kept in float32"),
    ("schedule_free_sgd, warm", "float64"): (
        1e-6,
        "optax's warmup is float32 for an int32 count",
    ),
    ("schedule_free_adamw, warm", "float64"): (1e-6, "optax's warmup is float32"),
    **{
        (name, "float64"): (1e-5, "optax finds its subspace in float32")
        for name in ("galore", "galore, of rank 2", "galore, of given axes")
    },
    ("radam", "float64"): (
        1e-11,
        "the rectified length magnifies what optax's 1 - b2**t loses, 7e-13 at t = 10",
    ),
    ("adopt", "float32"): (
        1e-4,
        "optax takes 1 - b2 of an array: in float32 1.7e-4 of it at 0.9999",
    ),
    ("adopt, not clipped", "float32"): (1e-5, "as adopt"),
}
# Where updates nearly vanish at some steps, by cancellation that magnifies whatever
# rounding there was: compared over all steps of a leaf together.
CANCELLING = {
    "rmsprop, momentum": "a sum of steps of both signs",
    "adafactor": "steps of a scalar's own size end near 0",
    "novograd": "a sum of steps of unit size and of both signs",
    "novograd, scheduled": "as novograd",
    "cocob, scheduled": "the reward is a sum of both signs",
    "madgrad, scheduled": "a leaf passes 0, where every rounding is large",
    "momo_adam, scheduled": "the step is the difference of two models of the loss",
}
# Where optax gives the rounded difference of two parameters, the parameters are
# compared; ours are the steps themselves.
BY_PARAMETERS = ("cocob", "madgrad", "schedule_free")
# Parts of the tree that optax fails on.
WITHOUT = {"sm3": "scalar", "galore": "absent"}


@pytest.fixture
def optax_in_float64(monkeypatch):
    """optax, but its Adafactor computes the decay in the default dtype, not float32."""
    plain = optax.scale_by_factored_rms
    exact = functools.partial(plain, decay_rate_fn=power_decay)
    module = sys.modules[plain.__module__]
    monkeypatch.setattr(module, "scale_by_factored_rms", exact)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *itertools.product(OPTIMIZERS, ["float64", "float32"]),
        # What x64 changes is how numbers are promoted: not by the setting.
        *((name, "float32 in x64 mode") for name in OPTIMIZERS if name in PLAIN),
    ],
)
def test_optimizer_equals_optax_over_thirty_steps(name, mode, optax_in_float64):
    dtype, is_plain = mode[:7], mode == "float32" and name in PLAIN
    with jax.enable_x64("64" in mode):
        equality.assert_equals_optax(
            OPTIMIZERS[name],
            dtype,
            tolerance=COARSE.get((name, dtype), (None,))[0],
            by_step=name not in CANCELLING,
            by_parameters=name.startswith(BY_PARAMETERS),
            without=WITHOUT.get(name.split(",")[0], ""),
            examples=OF_EXAMPLES.get(name.split(",")[0], ()),
            run=equality.run if is_plain else equality.QUICKLY[dtype],
        )


def descend(directions, rate, params, decay=0.0):
    """Parameters after each step along directions, with decoupled weight decay."""
    for direction in directions:
        params = params - rate * (direction + decay * params)
        yield params


def rmsprop_by_the_paper(grads, rate, momentum, **settings):
    """Hinton's lecture 6e, with a sum of steps as its momentum."""
    steps = [-rate * u for u in rms_by_the_paper(grads, **settings)]
    return trace_by_the_paper(steps, momentum)


PAPERS = {
    "sgd": (
        lambda: gradtx.sgd(0.1),
        lambda g, p: descend(g, 0.1, p),
    ),
    "sgd, momentum": (
        lambda: gradtx.sgd(0.1, momentum=0.9),
        lambda g, p: descend(trace_by_the_paper(g, 0.9), 0.1, p),
    ),
    "sgd, Nesterov": (
        lambda: gradtx.sgd(0.1, momentum=0.9, nesterov=True),
        lambda g, p: descend(trace_by_the_paper(g, 0.9, True), 0.1, p),
    ),
    "momentum": (
        lambda: gradtx.momentum(0.1, decay=0.8),
        lambda g, p: descend(ema_by_the_paper(g, 0.8, debias=False), 0.1, p),
    ),
    "rmsprop": (
        lambda: gradtx.rmsprop(0.1, momentum=0.9),
        lambda g, p: descend(rmsprop_by_the_paper(g, 0.1, 0.9), -1.0, p),
    ),
    "adagrad": (
        lambda: gradtx.adagrad(0.1),
        lambda g, p: descend(rss_by_the_paper(g), 0.1, p),
    ),
    "adam": (
        lambda: gradtx.adam(0.1),
        lambda g, p: descend(adam_by_the_paper(g), 0.1, p),
    ),
    "adamw": (
        lambda: gradtx.adamw(0.1, weight_decay=0.3),
        lambda g, p: descend(adam_by_the_paper(g), 0.1, p, 0.3),
    ),
    "nadamw": (
        lambda: gradtx.nadamw(0.1, weight_decay=0.3),
        lambda g, p: descend(adam_by_the_paper(g, nesterov=True), 0.1, p, 0.3),
    ),
    "amsgrad": (
        lambda: gradtx.amsgrad(0.1),
        lambda g, p: descend(amsgrad_by_the_paper(g), 0.1, p),
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
        averaged = updates_of(gradtx.momentum(1.0, decay=0.9), grads)
        summed = updates_of(gradtx.sgd(0.1, momentum=0.9), grads)
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
    chex.assert_trees_all_equal(composed, named)


def test_bad_numbers_that_reach_an_optimizer_through_its_recipe_are_named_by_it():
    with pytest.raises(
        ValueError, match="amsgrad: eps_root must be at least 0, got -1"
    ):
        gradtx.amsgrad(0.1, eps_root=-1)


def test_the_body_of_every_recipe_is_under_fifteen_lines_and_has_no_rule():
    for name in optimizer_table.optimizers():
        source = textwrap.dedent(inspect.getsource(factories()[name].function))
        (function,) = ast.parse(source).body
        assert isinstance(function, ast.FunctionDef)
        statements = function.body[1:]  # after the docstring
        lines = (statements[-1].end_lineno or 0) - statements[0].lineno + 1
        assert lines < 15, f"{name}: {lines} lines"
        body = "\n".join(map(ast.unparse, statements))
        assert not any(word in body for word in ("Rule(", "memoryless(", "tree.map"))
