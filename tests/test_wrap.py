import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality
from tests.equality import bitwise
from tests.registry import every_second
from tests.settings import INNER, LINE, OF_EXAMPLES, PLAIN

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}
BAD = {"w": jnp.full((2, 3), jnp.nan), "b": jnp.ones(3)}


def is_large(updates, step, params):
    return optax.skip_large_updates(updates, step, params, 60.0)


def multi_steps(m, tx, *args, **more):
    return m.MultiSteps(tx, *args, **more).gradient_transformation()


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
    "three deep": lambda m, tx: m.conditionally_mask(
        m.chain(
            multi_steps(m, m.conditionally_transform(tx, every_second), 2), m.scale(2.0)
        ),
        lambda step: step % 5 != 3,
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("name", WRAPPED)
def test_wrapper_equals_optax_over_thirty_steps(name, inner, dtype):
    equality.assert_wrapped_equals_optax(WRAPPED[name], INNER[inner], dtype)


def gradients(n, seed=0):
    rng = np.random.default_rng(seed)
    return [
        jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), PARAMS)
        for _ in range(n)
    ]


@pytest.mark.parametrize("name", PLAIN)
def test_accumulating_equals_a_step_on_the_mean(name):
    """And so does its state, after two steps of four gradients each."""
    if name in OF_EXAMPLES:
        pytest.skip("its gradients are of examples, which it averages itself")
    tx = PLAIN[name](gradtx)
    accumulated = gradtx.accumulate(tx, 4)
    extra = {"value": 2.0, "obj_fn": equality.objective}

    @functools.partial(jax.jit, compiler_options=equality.QUICK)
    def update(grads, state, inner):
        more = {**extra, "value_fn": equality.objective, "grad": PARAMS}
        mean = jax.tree.map(lambda *g: sum(g) / 4, *grads)
        updates = None
        for g in grads:
            updates, state = accumulated.update(g, state, PARAMS, **more)
        return updates, state, *tx.update(mean, inner, PARAMS, **more)

    state, inner = accumulated.init(PARAMS), tx.init(PARAMS)
    for seed in (0, 1):
        mine, state, alone, inner = update(gradients(4, seed), state, inner)
        assert equality.distance(*jax.tree.map(lambda x: x[None], (mine, alone))) < 1e-6
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


@pytest.mark.parametrize("is_jitted", [False, True])
def test_a_skipped_update_leaves_every_slot_and_count(is_jitted):
    tx = gradtx.skip(gradtx.chain(gradtx.adam(LINE), gradtx.trace(0.9)))
    update: Any = jax.jit(tx.update) if is_jitted else tx.update
    _, state = update(PARAMS, tx.init(PARAMS), PARAMS)
    updates, after = update(BAD, state, PARAMS)
    bitwise(after["inner"], state["inner"])
    bitwise(updates, jax.tree.map(jnp.zeros_like, PARAMS))
    assert int(after["gradient_step"]) == 1 and int(after["total_skipped"]) == 1
    assert int(after["skip_state"]["num_not_finite"]) == 6
    expected, _ = update(PARAMS, state, PARAMS)
    bitwise(update(PARAMS, after, PARAMS)[0], expected)


def test_large_gradients_are_skipped_by_their_squared_norm():
    when = functools.partial(gradtx.skip_large_updates, max_squared_norm=9.0)
    tx = gradtx.skip(gradtx.sgd(1.0), when)
    state = tx.init(PARAMS)
    for scale, is_skipped in ((0.5, False), (1.0, True), (jnp.nan, True)):
        grads = jax.tree.map(lambda p: scale * p, PARAMS)  # noqa: B023
        updates, state = tx.update(grads, state)
        assert np.any(updates["b"]) != is_skipped
        assert bool(state["skip_state"]["should_skip"]) == is_skipped


def test_the_conditions_are_those_of_optax():
    for grads in (PARAMS, BAD):
        for name, more in (("skip_not_finite", ()), ("skip_large_updates", (5.0,))):
            ours, theirs = (
                getattr(m, name)(grads, jnp.int32(0), None, *more)
                for m in (gradtx, optax)
            )
            bitwise(ours, theirs)


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


@pytest.mark.parametrize(
    ("wrap", "trees"), [(lambda tx: gradtx.accumulate(tx, 4), 0), (gradtx.skip, 1)]
)
def test_no_memory_is_taken_but_for_the_updates_that_may_be_skipped(wrap, trees):
    tx, params = wrap(gradtx.adamw(0.1)), {"w": jnp.ones((256, 256))}

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1), compiler_options=equality.FULL)
    compiled: Any = jitted.lower(params, tx.init(params), params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < (trees + 0.01) * 256**2 * 4


@pytest.mark.parametrize("every", [0, 2.5, -1])
def test_a_step_takes_whole_gradients(every):
    with pytest.raises(ValueError) as raised:
        gradtx.accumulate(gradtx.sgd(0.1), every)
    assert str(raised.value) == (
        f"accumulate: every must be whole and at least 1, got {every}"
    )


def test_extra_arguments_reach_what_is_wrapped():
    tx = gradtx.accumulate(gradtx.skip(gradtx.polyak_sgd()), 1)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=1.0)
    expected, _ = gradtx.polyak_sgd().update(PARAMS, {"count": 0}, PARAMS, value=1.0)
    bitwise(updates, expected)
    with pytest.raises(TypeError, match="needs the extra argument 'value'"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)
