import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality
from tests.equality import bitwise
from tests.optimizer_table import optimizers
from tests.registry import TRANSFORMATIONS
from tests.settings import OF_EXAMPLES, PLAIN

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}
IN_DOUBLE = {
    "apollo": "elements of its projection are small differences",
    "muon": "products of matrices magnify small singular values",
}
"""Optimizers that magnify the rounding of a mean, each with the reason."""


def gradients(n, seed=0):
    rng = np.random.default_rng(seed)
    return [
        jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), float), PARAMS)
        for _ in range(n)
    ]


@pytest.mark.parametrize("name", optimizers())
def test_accumulating_equals_a_step_on_the_mean(name):
    """Two steps of four gradients each."""
    if name in OF_EXAMPLES:
        pytest.skip("its gradients are of examples, which it averages itself")
    tx = PLAIN[name](gradtx) if name in PLAIN else TRANSFORMATIONS[name]()
    accumulated = gradtx.accumulate(tx, 4)

    @jax.jit
    def update(grads, state, inner, params):
        more = {"value": 2.0, "grad": params}
        more |= {"obj_fn": equality.objective, "value_fn": equality.objective}
        mean = jax.tree.map(lambda *g: sum(g) / 4, *grads)
        updates = None
        for g in grads:
            updates, state = accumulated.update(g, state, params, **more)
        return updates, state, *tx.update(mean, inner, params, **more)

    with jax.enable_x64(name in IN_DOUBLE):
        params = jax.tree.map(lambda p: jnp.asarray(p, float), PARAMS)
        state, inner = accumulated.init(params), tx.init(params)
        for seed in (0, 1):
            mine, state, alone, inner = update(gradients(4, seed), state, inner, params)
            steps = jax.tree.map(lambda x: x[None], (mine, alone))
            assert equality.distance(*steps) < 1e-6
    assert jax.tree.structure(state["inner"]) == jax.tree.structure(inner)
    assert int(state["gradient_step"]) == 2 and int(state["inner"]["count"]) == 2


def test_the_gradients_between_steps_give_zeros_and_leave_the_state():
    tx = gradtx.accumulate(gradtx.adam(0.1), 3)
    state = tx.init(PARAMS)
    for n, grads in enumerate(gradients(2), start=1):
        updates, after = jax.jit(tx.update)(grads, state, PARAMS)
        assert not any(np.any(u) for u in jax.tree.leaves(updates))
        bitwise(after["inner"], state["inner"])
        assert int(after["mini_step"]) == n
        state = after


def test_schedules_inside_count_steps_and_the_schedule_of_every_too():
    seen = []
    tx = gradtx.accumulate(
        gradtx.scale_by_schedule(lambda count: 10.0 + count), lambda step: step + 1
    )
    state = tx.init(jnp.ones(()))
    for _ in range(6):
        updates, state = tx.update(jnp.ones(()), state)
        seen.append(float(updates))
    assert seen == [10, 0, 11, 0, 0, 12]


@pytest.mark.parametrize("mean", [True, False])
def test_what_is_accumulated_is_a_mean_or_a_sum_in_a_chosen_dtype(mean):
    tx = gradtx.accumulate(gradtx.scale(1.0), 2, mean=mean, dtype="bfloat16")
    state = tx.init(PARAMS)
    assert state["acc_grads"]["w"].dtype == jnp.bfloat16
    _, state = tx.update(PARAMS, state)
    updates, _ = tx.update(PARAMS, state)
    np.testing.assert_array_equal(updates["b"], PARAMS["b"] * (1 if mean else 2))


def test_multi_steps_is_a_pair_that_says_when_it_stepped():
    multi = gradtx.MultiSteps(gradtx.sgd(1.0), 2)
    state = multi.init(PARAMS)
    said = [bool(multi.has_updated(state))]
    for _ in range(4):
        _, state = multi.update(PARAMS, state, PARAMS)
        said.append(bool(multi.has_updated(state)))
    assert said == [False, False, True, False, True]
    assert multi.inner_opt == gradtx.sgd(1.0)
    assert state.keys() == {
        "count", "mini_step", "gradient_step", "inner_opt_state", "acc_grads"
    }  # fmt: skip


class Told(NamedTuple):
    should_skip: Any


SKIPPING = {
    "not finite": gradtx.skip_not_finite,
    "large": functools.partial(gradtx.skip_large_updates, max_squared_norm=1e6),
    "of one's own": lambda updates, step, params: (
        jnp.isnan(updates["b"]).any(),
        Told(jnp.isnan(updates["b"]).any()),
    ),
}


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("name", SKIPPING)
def test_multi_steps_has_not_updated_after_a_skipped_gradient(name, every):
    multi = gradtx.MultiSteps(gradtx.sgd(1.0), every, True, SKIPPING[name])
    state, taken = multi.init(PARAMS), 0
    bad = jax.tree.map(lambda p: p * jnp.nan, PARAMS)
    for grads in (bad, PARAMS, PARAMS, bad, PARAMS, bad, PARAMS):
        updates, state = jax.jit(multi.update)(grads, state, PARAMS)
        has_stepped = any(bool(u.any()) for u in jax.tree.leaves(updates))
        assert bool(multi.has_updated(state)) == has_stepped
        taken += has_stepped
    assert taken == 4 // every


@pytest.mark.parametrize("every", [0, 2.5, -1])
def test_a_step_takes_whole_gradients(every):
    with pytest.raises(ValueError) as raised:
        gradtx.accumulate(gradtx.sgd(0.1), every)
    assert str(raised.value) == (
        f"accumulate: every must be whole and at least 1, got {every}"
    )


@pytest.mark.parametrize(
    ("mean", "grads", "steps"),
    [
        (False, [1, None, 1, 1], [0, None, 0, -2]),
        (True, [100, None, None, 1], [0, None, None, -0.5]),
        (False, [None, 2, 3, None], [None, -2, 0, None]),
    ],
)
def test_a_gradient_of_none_counts_as_zero_and_is_not_remembered(mean, grads, steps):
    tx = gradtx.accumulate(gradtx.sgd(1.0), 2, mean=mean)
    params = {"here": jnp.ones(()), "at times": jnp.ones(())}
    state = tx.init(params)
    for grad, step in zip(grads, steps, strict=True):
        given = None if grad is None else jnp.float32(grad)
        updates, state = tx.update(params | {"at times": given}, state, params)
        assert updates["at times"] == step


def test_complex_gradients_are_accumulated_whole():
    """Also in a real dtype, as by default in MultiSteps; optax's lose a part."""
    params = jnp.array([1 + 2j])
    for tx in (
        gradtx.accumulate(gradtx.sgd(1.0), 2, dtype="bfloat16"),
        gradtx.MultiSteps(gradtx.sgd(1.0), 2),
    ):
        _, state = tx.update(params, tx.init(params), params)
        updates, _ = tx.update(params, state, params)
        np.testing.assert_array_equal(updates, -params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_foreign_transformations_keep_the_dtypes_of_their_state(dtype):
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    for tx in (
        gradtx.accumulate(optax.adam(0.1), 1),
        gradtx.skip(optax.adam(0.1)),
        gradtx.conditionally_mask(optax.adam(0.1), lambda step: step >= 0),
        gradtx.sam(optax.adam(0.1), optax.sgd(0.1), 1),
        gradtx.lookahead(optax.adam(0.1), 2, 0.5, reset_state=True),
        gradtx.inject_hyperparams(optax.adam)(0.1),
    ):
        state = tx.init(params)
        with equality.as_optax_needs():
            _, after = tx.update(params, state, params)
        jax.tree.map(
            lambda a, b: np.testing.assert_equal(a.dtype, b.dtype), state, after
        )
