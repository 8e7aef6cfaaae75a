from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality
from tests.equality import bitwise
from tests.registry import every_second, size_of
from tests.settings import INNER
from tests.transforms import test_grouping
from tests.versions import held_figure

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}


def is_large(updates, step, params):
    return optax.skip_large_updates(updates, step, params, 60.0)


def multi_steps(m, tx, *args, **more):
    return m.MultiSteps(tx, *args, **more).gradient_transformation()


def bad_at_times(updates, params):
    is_bad = updates["scalar"] > 1
    return jax.tree.map(lambda u: jnp.where(is_bad, jnp.inf, u), updates)


def plain_lookahead(m, *args, **more):
    """optax's with the slow parameters in its state."""
    tx = m.lookahead(*args, **more)
    if m is gradtx:
        return tx

    def init(params):
        pair = optax.LookaheadParams.init_synced(params)
        return tx.init(pair), jax.tree.map(jnp.copy, params)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        state, slow = state
        pair = optax.LookaheadParams(fast=params, slow=slow)
        updates, state = tx.update(updates, state, pair)
        return updates.fast, (state, optax.apply_updates(slow, updates.slow))

    return optax.GradientTransformation(init, update)


def sam(m, tx, *args, **more):
    """optax's takes no extra argument but one."""
    tx = m.sam(tx, m.chain(m.normalize(), m.sgd(0.05)), *args, **more)
    if m is gradtx:
        return tx

    def update(updates, state, params=None, *, grad_fn=None, **extra):
        return tx.update(updates, state, params, grad_fn=grad_fn)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def monitor(m):
    """optax's starts without measurements, so that scan refuses it."""
    tx = m.monitor({"size": m.measure_with_ema(size_of, 0.9)})
    if m is gradtx:
        return tx

    def init(params):
        return tx.init(params)._replace(measurements={"size": jnp.zeros(())})

    return optax.GradientTransformationExtraArgs(init, tx.update)


WRAPPED = {
    "MultiSteps": lambda m, tx: multi_steps(m, tx, 4),
    "MultiSteps, sum, scheduled": lambda m, tx: multi_steps(
        m, tx, lambda step: 1 + step % 3, use_grad_mean=False
    ),
    "MultiSteps, some skipped": lambda m, tx: multi_steps(
        m, tx, 2, should_skip_update_fn=is_large, accumulator_dtype=None
    ),
    "conditionally_transform": lambda m, tx: m.conditionally_transform(
        tx, every_second
    ),
    "conditionally_mask": lambda m, tx: m.conditionally_mask(tx, every_second, True),
    "apply_if_finite": lambda m, tx: m.chain(
        m.stateless(bad_at_times), m.apply_if_finite(tx, 10)
    ),
    "lookahead": lambda m, tx: plain_lookahead(m, tx, 3, 0.3),
    "lookahead, reset": lambda m, tx: plain_lookahead(m, tx, 4, 0.8, reset_state=True),
    "mechanize": lambda m, tx: m.mechanize(tx),
    "mechanize, with all": lambda m, tx: m.mechanize(tx, 0.1, 1e-3, 1e-2, 4),
    "sam": lambda m, tx: sam(m, tx),
    "sam, keeping its state": lambda m, tx: sam(m, tx, 3, reset_state=False),
    "sam, opaque": lambda m, tx: sam(m, tx, 3, opaque_mode=True),
    "reduce_on_plateau": lambda m, tx: m.chain(tx, m.reduce_on_plateau(patience=2)),
    "reduce_on_plateau, with all": lambda m, tx: m.chain(
        tx, m.reduce_on_plateau(0.5, 1, 0.0, 0.1, 2, 3, 0.2)
    ),
    "flatten": lambda m, tx: m.flatten(tx),
    "split_real_and_imaginary": lambda m, tx: m.split_real_and_imaginary(tx),
    "snapshot": lambda m, tx: m.chain(m.snapshot("size", size_of), tx),
    "monitor": lambda m, tx: m.chain(tx, monitor(m)),
    "three deep": lambda m, tx: m.conditionally_mask(
        m.chain(
            multi_steps(m, m.conditionally_transform(tx, every_second), 2), m.scale(2.0)
        ),
        lambda step: step % 5 != 3,
    ),
    "three deep, in another layout": lambda m, tx: m.apply_if_finite(
        m.flatten(m.conditionally_mask(tx, every_second)), 3
    ),
}


TO_PARAMETERS = (
    "lookahead", "lookahead, reset", "mechanize", "mechanize, with all",
)  # fmt: skip
"""Whose updates lead to other parameters, and are small differences of them."""


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", WRAPPED)
def test_wrapper_equals_optax_over_thirty_steps(name, dtype):
    """Around each of the inner settings."""
    equality.assert_wrapped_equals_optax(
        WRAPPED[name], INNER, dtype, by_parameters=name in TO_PARAMETERS
    )


EACH = {**WRAPPED, **test_grouping.WRAPPED}
EXTRA = {"value": 1.0, "grad_fn": equality.gradient_at}


@pytest.mark.parametrize("name", EACH)
def test_extra_arguments_reach_what_is_wrapped(name):
    tx = EACH[name](gradtx, gradtx.polyak_sgd())
    with jax.numpy_dtype_promotion("standard"):
        params = equality.mixed_tree("float32", 0)
        state = tx.init(params)
        _, state = tx.update(params, state, params, **EXTRA)
        with pytest.raises(TypeError, match="missing extra argument 'value'"):
            tx.update(params, state, params, grad_fn=equality.gradient_at)


@pytest.mark.parametrize("name", EACH)
def test_wrapper_works_under_vmap(name):
    """As one by one, over three steps."""
    params = equality.mixed_tree("float32", 0, 2)
    tx = EACH[name](gradtx, gradtx.adam(0.1))

    def train(params):
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(params, state, params, **EXTRA)
            params = optax.apply_updates(params, updates)
        return params

    with jax.numpy_dtype_promotion("standard"):
        both: Any = jax.jit(jax.vmap(train))(params)
        alone: Any = jax.jit(train)
        for i in range(2):
            one = alone(jax.tree.map(lambda p: p[i], params))  # noqa: B023
            for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(one), strict=True):
                np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6)


MEMORY = {
    "accumulate": (lambda tx: gradtx.accumulate(tx, 4), 0),
    "MultiSteps": (lambda tx: multi_steps(gradtx, tx, 4), 0),
    "skip": (gradtx.skip, 0),
    "skip and accumulate": (lambda tx: gradtx.skip(gradtx.accumulate(tx, 4)), 0),
    "skip above": (lambda tx: gradtx.skip(tx, gradtx.norm_above(1.0)), 0),
    "skip spikes": (lambda tx: gradtx.skip(tx, gradtx.norm_spikes()), 0),
    "apply_if_finite": (lambda tx: gradtx.apply_if_finite(tx, 3), 0),
    "lookahead": (lambda tx: gradtx.lookahead(tx, 4, 0.5), 0),
    "average_params": (gradtx.average_params, 0),
    "mechanize": (gradtx.mechanize, 0),
    "monitor": (lambda tx: gradtx.chain(gradtx.monitor({"size": size_of}), tx), 0),
    # What is measured is written out.
    "snapshot at the end": (
        lambda tx: gradtx.chain(tx, gradtx.snapshot("size", size_of)),
        2,
    ),
    "split": (gradtx.split_real_and_imaginary, 0),
    # A condition with something to do in both branches: the updates that leave it.
    "conditionally_mask": (lambda tx: gradtx.conditionally_mask(tx, every_second), 1),
    "sam": (lambda tx: gradtx.sam(tx, gradtx.sgd(0.1)), 1),
    # The vectors of gradients and parameters.
    "flatten": (gradtx.flatten, 2),
}


@held_figure
@pytest.mark.parametrize("name", MEMORY)
def test_no_more_trees_of_memory_are_taken_than_documented(name):
    wrap, trees = MEMORY[name]
    tx, params = wrap(gradtx.adamw(0.1)), {"w": jnp.ones((256, 256))}

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1), compiler_options=equality.FULL)
    compiled: Any = jitted.lower(params, tx.init(params), params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < (trees + 0.01) * 256**2 * 4


def test_what_wrappers_do_is_seen_in_their_slots():
    tx = gradtx.conditionally_transform(gradtx.trace(0.9), every_second)
    state = tx.init(PARAMS)
    _, first = tx.update(PARAMS, state, PARAMS)
    updates, second = tx.update(PARAMS, first, PARAMS)
    bitwise(updates, PARAMS)
    bitwise(second["inner_state"], first["inner_state"])
    assert int(second["step"]) == 2 and int(second["inner_state"]["count"]) == 1
