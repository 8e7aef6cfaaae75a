from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.equality import as_optax_needs, bitwise
from tests.registry import every_second

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}


def trained(tx, steps=3) -> Any:
    """The parameters after some steps, and the state."""
    params, state = PARAMS, tx.init(PARAMS)
    with as_optax_needs():
        for i in range(steps):
            grads = jax.tree.map(lambda p: p + i, PARAMS)  # noqa: B023
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
    return params, state


def close(a, b):
    chex.assert_trees_all_close(a, b, rtol=1e-6)


AVERAGED = {
    "average": gradtx.average_params(gradtx.sgd(0.1), 0.5),
    "lookahead": gradtx.lookahead(gradtx.sgd(0.1), 2, 0.5),
    "schedule-free": gradtx.schedule_free_sgd(0.1),
}
NESTS = {
    "in a chain": (lambda tx: gradtx.chain(gradtx.clip(9.0), tx), 3),
    "accumulated": (lambda tx: gradtx.accumulate(tx, 1), 3),
    "MultiSteps": (lambda tx: gradtx.MultiSteps(tx, 1).gradient_transformation(), 3),
    "skipped": (gradtx.skip, 3),
    "if finite": (lambda tx: gradtx.apply_if_finite(tx, 1), 3),
    "now and then": (lambda tx: gradtx.conditionally_mask(tx, every_second), 1),
    "flat": (gradtx.flatten, 3),
    "in pairs": (gradtx.split_real_and_imaginary, 3),
    "in a group": (lambda tx: gradtx.partition({"all": tx}, "all"), 3),
    "masked": (lambda tx: gradtx.masked(tx, True), 3),
    "deep": (lambda tx: gradtx.skip(gradtx.accumulate(gradtx.flatten(tx), 1)), 3),
}


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("name", AVERAGED)
def test_what_is_evaluated_is_found_through_any_nesting(name, nest):
    wrap, steps = NESTS[nest]
    tx = AVERAGED[name]
    params, state = trained(tx, steps)
    expected = gradtx.eval_params(tx, state, params)
    outer = wrap(tx)
    params, state = trained(outer, steps)
    found = gradtx.eval_params(outer, state, params)
    close(found, expected)
    close(jax.jit(gradtx.eval_params)(outer, state, params), expected)


def test_the_average_and_the_slow_parameters_are_in_the_state():
    params, state = trained(AVERAGED["average"])
    averaged = gradtx.eval_params(AVERAGED["average"], state, params)
    bitwise(averaged, state["average"])
    assert np.any(averaged["b"] != params["b"])
    params, state = trained(AVERAGED["lookahead"])
    bitwise(gradtx.eval_params(AVERAGED["lookahead"], state, params), state["slow"])


def test_schedule_free_is_evaluated_as_in_optax():
    runs = []
    for m in (gradtx, optax.contrib):
        params, state = trained(m.schedule_free_sgd(0.1))
        runs.append(m.schedule_free_eval_params(state, params))
    close(*runs)
    tx = AVERAGED["schedule-free"]
    params, state = trained(tx)
    close(gradtx.eval_params(tx, state, params), runs[0])
    with pytest.raises(ValueError, match="must be that of a schedule-free optimizer"):
        gradtx.schedule_free_eval_params(gradtx.sgd(0.1).init(PARAMS), PARAMS)


@pytest.mark.parametrize("tx", [gradtx.adam(0.1), optax.adam(0.1), gradtx.identity()])
def test_for_the_rest_they_are_the_parameters(tx):
    params, state = trained(tx)
    bitwise(gradtx.eval_params(tx, state, params), params)


def test_groups_are_evaluated_each_in_their_way_and_the_outermost_decides():
    tx = gradtx.partition(
        {"average": AVERAGED["average"], "plain": gradtx.sgd(0.1)},
        {"w": "average", "b": "plain"},
    )
    params, state = trained(tx)
    found = gradtx.eval_params(tx, state, params)
    bitwise(found["b"], params["b"])
    bitwise(found["w"], state["average.average"]["w"])
    both = gradtx.average_params(AVERAGED["schedule-free"], 0.5)
    params, state = trained(both)
    bitwise(gradtx.eval_params(both, state, params), state["average"])


@pytest.mark.parametrize("is_opaque", [False, True])
def test_an_average_inside_of_sam_is_found(is_opaque):
    average = gradtx.average_params(gradtx.sgd(0.1), 0.5)
    tx = gradtx.sam(average, gradtx.sgd(0.05), 1, opaque_mode=is_opaque)
    _, alone = trained(average)
    state = tx.init(PARAMS)
    params = PARAMS
    for i in range(3):
        grads = jax.tree.map(lambda p: p + i, PARAMS)  # noqa: B023
        updates, state = tx.update(grads, state, params, grad_fn=None)
        params = gradtx.apply_updates(params, updates)
    close(gradtx.eval_params(tx, state, params), alone["average"])


def test_multi_steps_is_evaluated_and_what_is_no_transformation_is_not():
    multi = gradtx.MultiSteps(AVERAGED["average"], 1)
    state, params = multi.init(PARAMS), PARAMS
    updates, state = multi.update(PARAMS, state, params)
    averaged = gradtx.eval_params(multi, state, gradtx.apply_updates(params, updates))
    bitwise(averaged, state["inner_opt_state"]["average"])
    with pytest.raises(TypeError, match="eval_params: tx must be a transformation"):
        gradtx.eval_params("adam", None, PARAMS)


def test_leaves_that_are_no_floats_or_not_trained_stay():
    params = {**PARAMS, "step": jnp.int32(3), "none": None}
    tx = gradtx.masked(
        AVERAGED["average"], {"w": True, "b": True, "step": False, "none": False}
    )
    found = gradtx.eval_params(tx, tx.init(params), params)
    bitwise(found, params)


def test_without_the_state_of_an_average_there_is_nothing_to_evaluate():
    with pytest.raises(ValueError, match="give the state that init makes, not None"):
        gradtx.eval_params(AVERAGED["average"], None, PARAMS)


def test_an_average_inside_of_what_is_injected_is_found():
    def averaged(rate):
        return gradtx.average_params(gradtx.sgd(rate), 0.5)

    tx = gradtx.inject_hyperparams(averaged)(0.1)
    params, state = trained(tx)
    found = gradtx.eval_params(tx, state, params)
    bitwise(found, state["inner_state"]["average"])
