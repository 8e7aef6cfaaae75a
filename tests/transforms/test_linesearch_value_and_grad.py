"""`value_and_grad_from_state`."""

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.searches import bowl, message
from tests.transforms.test_linesearch import BACKTRACKING, SEARCHES, ZOOM


@SEARCHES
def test_value_and_grad_from_state_computes_nothing_twice(search):
    calls = []

    def objective(params, target):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sum((params - target) ** 4)

    tx, target = gradtx.chain(gradtx.sgd(0.3), search), jnp.linspace(-1.0, 1.0, 4)
    from_state = gradtx.value_and_grad_from_state(objective)
    traces = 0

    @jax.jit
    def step(params, state):
        nonlocal traces
        traces += 1
        value, grad = from_state(params, target, state=state)
        updates, state = tx.update(
            grad, state, params,
            value=value, grad=grad, value_fn=objective, target=target,
        )  # fmt: skip
        return params + updates, state, value, grad

    params, trials = jnp.zeros(4), 0
    state = tx.init(params)
    for _ in range(4):
        expected = jax.value_and_grad(objective)(params, target)
        jax.effects_barrier()
        calls.clear() if trials == 0 else calls.pop()
        params, state, *seen = step(params, state)
        chex.assert_trees_all_equal(tuple(seen), expected)
        trials += int(state["num_linesearch_steps"])
    jax.effects_barrier()
    assert len(calls) == 1 + trials
    assert traces == 1


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.chain(gradtx.adam(0.1), BACKTRACKING),
        gradtx.chain(gradtx.adam(0.1), gradtx.named("line", ZOOM)),
        gradtx.chain(gradtx.sgd(0.1), optax.scale_by_zoom_linesearch(20)),
        optax.chain(optax.sgd(0.1), ZOOM),
    ],
)
def test_value_and_grad_from_state_finds_the_line_search_wherever_it_is(tx):
    params = {"value": jnp.ones(2), "grad": jnp.ones(())}
    state = jax.tree.map(lambda x: jnp.nan_to_num(x, posinf=3.0), tx.init(params))
    from_state = gradtx.value_and_grad_from_state(bowl)
    for place in (state, {"host": (state, 7)}):
        value, grad = from_state(params, state=place)
        assert value == 3
        jax.tree.map(lambda p, g: np.testing.assert_array_equal(g, 0 * p), params, grad)


def test_value_and_grad_from_state_computes_what_is_not_finite():
    from_state = gradtx.value_and_grad_from_state(bowl)
    params = jnp.ones(2, jnp.bfloat16)
    state = gradtx.chain(gradtx.sgd(1.0), ZOOM).init(params)
    expected = jax.value_and_grad(bowl)(params)
    for value in (jnp.inf, -jnp.inf, jnp.nan):
        found = from_state(params, state={**state, "value": jnp.float32(value)})
        chex.assert_trees_all_equal(found, expected)
    value, grad = from_state(params, state={**state, "value": jnp.float32(3)})
    assert value.dtype == grad.dtype == jnp.bfloat16
    assert value == 3


@pytest.mark.parametrize(
    ("tx", "name", "keys"),
    [
        (gradtx.adam(0.1), "value", "none"),
        (gradtx.scale_by_backtracking_linesearch(5), "grad", "none"),
        (
            gradtx.chain(ZOOM, ZOOM),
            "value",
            "several: ['scale_by_zoom_linesearch.value.1of2', "
            "'scale_by_zoom_linesearch.value.2of2']",
        ),
    ],
)
def test_value_and_grad_from_state_says_what_is_missing(tx, name, keys):
    params = jnp.ones(2)
    from_state = gradtx.value_and_grad_from_state(bowl)
    assert message(ValueError, lambda: from_state(params, state=tx.init(params))) == (
        f"value_and_grad_from_state: the state must keep one {name!r}, as a line "
        f"search does (backtracking: with store_grad=True); it keeps {keys}"
    )
