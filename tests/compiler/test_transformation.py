from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax import monitoring
from jax import numpy as jnp

import gradtx

PARAMS = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)}
GRADS = {"w": jnp.full((2, 3), 0.5), "b": jnp.array([1.0, -2.0, 0.25])}


def train(tx, steps=3, start=PARAMS):
    """The parameters after some steps on a quadratic."""
    params, state = start, tx.init(start)
    for _ in range(steps):
        grads = jax.tree.map(lambda g, p: g.astype(p.dtype) * (1 + p), GRADS, params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_repr_names_the_numbers():
    assert repr(gradtx.adam(1e-3)) == (
        "adam(learning_rate=0.001, b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0, "
        "mu_dtype=None, nesterov=False)"
    )
    assert repr(gradtx.chain(gradtx.clip(1), gradtx.sgd(jnp.float32(0.5)))) == (
        "chain(clip(max_delta=1.0), sgd(learning_rate=0.5, momentum=None, "
        "nesterov=False, accumulator_dtype=None, dampening=None))"
    )


def test_expand_shows_momentum_bias_correction_rmsprop_and_learning_rate():
    assert repr(gradtx.adam(1e-3).expand()) == (
        "chain(moments("
        "scale_by_ema(decay=0.9, slot='mu', dtype=None, initial_value=0.0, "
        "lagged=False), "
        "bias_correction(decay=0.9, steps_ahead=0), "
        "divide_by_root(estimator=chain(square(), "
        "scale_by_ema(decay=0.999, slot='nu', dtype=None, initial_value=0.0, "
        "lagged=False), "
        "bias_correction(decay=0.999, steps_ahead=0)), eps=1e-08, eps_root=0.0)), "
        "scale_by_learning_rate(learning_rate=0.001, flip_sign=True))"
    )


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.adam(1e-2),
        gradtx.rmsprop(gradtx.linear_schedule(0.1, 0.0, 5), momentum=0.9),
        gradtx.named("a", gradtx.amsgrad(1e-2)),
        gradtx.adamw(1e-2, mask={"w": True, "b": False}),
    ],
)
def test_expand_computes_the_same(tx):
    for step in (None, 0) if not tx.bound.is_scheduled else (None,):
        chex.assert_trees_all_equal(train(tx), train(tx.expand(step)))


def test_expand_with_a_step_shows_the_schedule_there():
    tx = gradtx.sgd(gradtx.linear_schedule(1.0, 0.0, 4)).expand(step=1)
    assert repr(tx) == (
        "chain(scale_by_learning_rate(learning_rate=0.75, flip_sign=True))"
    )


def test_expand_of_a_recipe_that_computes_with_a_schedule_asks_for_a_step():
    @gradtx.transformation
    def half(size: gradtx.Scalar):
        return gradtx.scale(0.5 * size)

    tx = half(gradtx.linear_schedule(1.0, 0.0, 4))
    with pytest.raises(TypeError, match=r"half: .* schedule; expand\(step=...\)"):
        tx.expand()
    assert tx.expand(step=0).arguments == {"step_size": 0.5}
    updates, _ = tx.update(GRADS, tx.init(PARAMS))
    np.testing.assert_allclose(updates["b"], 0.5 * GRADS["b"])


def test_five_learning_rates_through_jit_trace_once():
    traces = 0

    @jax.jit
    def step(tx, params, state):
        nonlocal traces
        traces += 1
        updates, state = tx.update(GRADS, state, params)
        return optax.apply_updates(params, updates), state

    state = gradtx.adam(1e-3).init(PARAMS)
    for rate in (1e-1, 1e-2, 1e-3, 1e-4, 1):
        params, _ = step(gradtx.adam(rate), PARAMS, state)
        change = params["b"] - PARAMS["b"]
        np.testing.assert_allclose(change, -rate * np.sign(GRADS["b"]), rtol=1e-3)
    assert traces == 1


@pytest.fixture
def compilations():
    """The number of compilations so far, as the only element of a list."""
    count = [0]

    def listen(event: str, duration: float, **_: str | int) -> None:
        count[0] += event == "/jax/core/compile/backend_compile_duration"

    listener: Any = listen
    monitoring.register_event_duration_secs_listener(listener)
    yield count
    # jax 0.8 has no way to take one away.
    getattr(monitoring, "unregister_event_duration_listener", bool)(listener)


def test_five_learning_rates_without_jit_compile_nothing_after_the_first(compilations):
    state = gradtx.adamw(0.5).init(PARAMS)
    gradtx.adamw(0.5).update(GRADS, state, PARAMS)
    before = compilations[0]
    for rate in (1e-1, 1e-2, 1e-3, 1e-4, 1):
        tx = gradtx.adamw(rate, b1=1 - rate / 2, weight_decay=rate)
        _, state = tx.update(GRADS, state, PARAMS)
    assert compilations[0] == before
    gradtx.adamw(0.5).update(
        {"w": jnp.ones(7)},
        gradtx.adamw(0.5).init({"w": jnp.ones(7)}),
        {"w": jnp.ones(7)},
    )
    assert compilations[0] > before, "the counter must count"


@pytest.mark.parametrize(
    # In float32 `1 - b2**t` amplifies the last digit of a power by 1 / (1 - b2), and a
    # batched power rounds differently.
    ("x64", "tolerance"),
    [(False, 1e-5), (True, 1e-12)],
)
def test_vmap_over_stacked_optimizers_equals_the_loop(x64, tolerance):
    with jax.enable_x64(x64):
        start = jax.tree.map(lambda p: jnp.asarray(np.asarray(p), float), PARAMS)
        rates = ((0.1, 0.9), (0.01, 0.99), (1.0, 0.999))
        txs = [gradtx.adamw(rate, b2=b2) for rate, b2 in rates]
        stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *txs)
        together = jax.jit(jax.vmap(lambda tx: train(tx, start=start)))(stacked)
        for i, tx in enumerate(txs):
            one = jax.tree.map(lambda x: x[i], together)  # noqa: B023
            jax.tree.map(
                lambda a, b: close(a, b, tolerance), one, train(tx, start=start)
            )


def close(a, b, tolerance):
    """Normwise: the largest difference over the largest magnitude."""
    assert a.dtype == b.dtype
    assert np.max(np.abs(a - b)) <= tolerance * np.max(np.abs(b))


def loss_after_training(tx):
    start = jax.tree.map(lambda p: jnp.asarray(np.asarray(p), float), PARAMS)
    return sum(jnp.sum(jnp.square(p)) for p in jax.tree.leaves(train(tx, start=start)))


def test_the_derivative_by_each_number_matches_finite_differences():
    with jax.enable_x64(True):
        settings = {"learning_rate": 0.1, "b1": 0.8, "b2": 0.95, "eps": 0.1}

        def loss(values):
            return loss_after_training(gradtx.adamw(**values))

        slopes = jax.grad(loss)(settings)
        for name, value in settings.items():
            ends = [loss({**settings, name: value + h}) for h in (1e-6, -1e-6)]
            finite = (ends[0] - ends[1]) / 2e-6
            np.testing.assert_allclose(slopes[name], finite, rtol=1e-6)


def test_the_derivative_by_a_whole_optimizer_is_one_of_its_kind():
    with jax.enable_x64(True):
        tx = gradtx.adam(0.1, b1=0.8)
        slope = jax.grad(loss_after_training)(tx)
        by_rate = jax.grad(lambda r: loss_after_training(gradtx.adam(r, b1=0.8)))(0.1)
        by_b1 = jax.grad(lambda b: loss_after_training(gradtx.adam(0.1, b1=b)))(0.8)
        np.testing.assert_allclose(slope.arguments["learning_rate"], by_rate)
        np.testing.assert_allclose(slope.arguments["b1"], by_b1)


def test_it_unpacks_and_is_one_of_optax():
    init, update = tx = gradtx.adam(1e-3)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    updates, _ = update(GRADS, init(PARAMS), PARAMS)
    assert jax.tree.structure(updates) == jax.tree.structure(PARAMS)


def test_nnx_takes_an_optimizer_made_from_an_array():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, gradtx.adam(jnp.asarray(1e-3)), wrt=nnx.Param)
    reference = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    theirs = nnx.Optimizer(reference, optax.adam(jnp.asarray(1e-3)), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda m: jnp.sum(m(jnp.ones((1, 3))) ** 2))(model)
        optimizer.update(model, grads)

    with jax.numpy_dtype_promotion("standard"):  # optax needs it
        for _ in range(3):
            step(model, optimizer)
            step(reference, theirs)
    np.testing.assert_allclose(model.kernel[...], reference.kernel[...], rtol=1e-6)
    assert int(optimizer.opt_state["count"][...]) == 3


def test_a_transformation_is_a_static_argument():
    traces = 0

    def step(tx, params):
        nonlocal traces
        traces += 1
        return tx.update(GRADS, tx.init(params), params)[0]

    jitted = jax.jit(step, static_argnums=0)
    for _ in range(3):
        jitted(gradtx.adamw(1e-3, mask={"w": True, "b": False}), PARAMS)
    assert traces == 1


def state_of(tx):
    return TrainState.create(apply_fn=print, params=PARAMS, tx=tx)


def test_a_train_state_rebuilt_with_an_equal_optimizer_traces_once():
    traces = 0

    @jax.jit
    def step(state):
        nonlocal traces
        traces += 1
        return state.apply_gradients(grads=GRADS)

    opt_state: Any = None
    for _ in range(3):
        opt_state = step(state_of(gradtx.adam(1e-3))).opt_state
    assert traces == 1
    assert int(opt_state["count"]) == 1


def test_a_train_state_is_rebuilt_from_a_traced_learning_rate():
    @jax.jit
    def run(rate):
        def body(state, _):
            return state.apply_gradients(grads=GRADS), None

        state, _ = jax.lax.scan(body, state_of(gradtx.adam(rate)), None, length=3)
        return state.params

    expected = state_of(gradtx.adam(0.1))
    for _ in range(3):
        expected = expected.apply_gradients(grads=GRADS)
    jax.tree.map(lambda a, b: close(a, b, 1e-6), run(0.1), expected.params)


def test_no_tracer_leaks_from_a_transformation_that_is_used_in_several_traces():
    @gradtx.transformation
    def root(size: gradtx.Scalar):
        return gradtx.scale(jnp.sqrt(size))

    tx = root(4.0)
    grads = jnp.ones(2)

    def body(state, _):
        updates, state = tx.update(grads, state)
        return state, updates

    with jax.checking_leaks():
        for _ in range(2):
            jax.jit(lambda s: jax.lax.scan(body, s, None, length=2))(tx.init(grads))
            jax.jit(tx.update)(grads, tx.init(grads))
    updates, _ = tx.update(grads, tx.init(grads))
    np.testing.assert_allclose(updates, 2 * grads)


def test_a_factory_that_returns_neither_rule_nor_transformation_is_an_error():
    @gradtx.transformation
    def broken():
        return 3

    with pytest.raises(TypeError, match="broken: a factory must return a gradient"):
        broken().init(PARAMS)


def test_arrays_in_a_transformation_leak_no_tracer_into_later_use():
    tx = jax.tree.map(jnp.asarray, gradtx.adam(0.1))
    state = tx.init(PARAMS)
    jitted, _ = jax.jit(tx.update)(GRADS, state, PARAMS)
    eager, _ = tx.update(GRADS, state, PARAMS)
    again, _ = jax.jit(lambda g: tx.update(g, state, PARAMS))(GRADS)
    for updates in (eager, again):
        jax.tree.map(lambda a, b: close(a, b, 1e-6), updates, jitted)


@pytest.mark.parametrize("jitted", [False, True])
def test_a_transformation_whose_leaves_were_mapped_is_the_one_with_those_numbers(
    jitted,
):
    mapped = jax.tree.map(lambda x: 0.5 * x, gradtx.adam(0.1))
    built = gradtx.adam(0.05, b1=0.45, b2=0.4995, eps=0.5e-8)
    assert mapped == built

    def first(tx):
        return tx.update(GRADS, tx.init(PARAMS), PARAMS)[0]

    run = jax.jit(first) if jitted else first
    jax.tree.map(lambda a, b: close(a, b, 1e-6), run(mapped), run(built))


def test_a_scheduled_decay_in_a_recipe_that_computes_with_it_asks_for_a_step():
    tx = gradtx.scale_by_lion(b1=lambda count: 0.9)
    with pytest.raises(TypeError, match=r"schedule; expand\(step=...\)"):
        tx.expand()
    assert tx.expand(step=0) == gradtx.scale_by_lion().expand()


def test_two_functions_make_a_transformation_of_optax():
    tx: Any = gradtx.GradientTransformation  # as optax's programs call it
    pair = tx(lambda params: optax.EmptyState(), lambda u, s, p=None: (u, s))
    updates, _ = gradtx.chain(pair, gradtx.scale(2.0)).update(GRADS, {"count": 0})
    np.testing.assert_array_equal(updates["b"], 2 * GRADS["b"])


def test_an_instance_is_one_of_either_library():
    """As `isinstance(tx, optax.GradientTransformation)` is after the import."""
    pair = gradtx.GradientTransformation(lambda p: (), lambda u, s, p=None: (u, s))
    for tx in (gradtx.adam(0.1), optax.adam(0.1), pair):
        assert isinstance(tx, gradtx.GradientTransformation)
    for other in (gradtx.linear_schedule(1.0, 0.0, 3), (1, 2), None):
        assert not isinstance(other, gradtx.GradientTransformation)
    with pytest.raises(TypeError, match="expected an init and an update function"):
        gradtx.GradientTransformation()
