import equinox as eqx
import flax.linen as nn
import flax.serialization
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax import numpy as jnp

import gradtx

X = jnp.linspace(-1, 1, 12).reshape(4, 3)
MAKERS = {
    "adamw": lambda m: m.adamw(0.1),
    "clip": lambda m: m.chain(m.clip_by_global_norm(0.5), m.sgd(0.1, momentum=0.9)),
}


@pytest.fixture(autouse=True)
def hosts_run_under_standard_promotion():
    """The hosts, and optax beside ours, are not made for strict promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def close(ours, theirs):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6),
        ours,
        theirs,
    )


@pytest.mark.parametrize("name", MAKERS)
def test_a_flax_train_state_trains_as_with_optax(name):
    model = nn.Dense(2)
    params = model.init(jax.random.key(0), X)["params"]

    def train(library):
        state = TrainState.create(
            apply_fn=model.apply, params=params, tx=MAKERS[name](library)
        )

        @jax.jit
        def step(state):
            def loss(params):
                return jnp.mean(state.apply_fn({"params": params}, X) ** 2)

            return state.apply_gradients(grads=jax.grad(loss)(state.params))

        for _ in range(3):
            state = step(state)
        return state.params

    close(train(gradtx), train(optax))


@pytest.mark.parametrize("name", MAKERS)
def test_an_nnx_optimizer_trains_as_with_optax(name):
    def train(library):
        model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, MAKERS[name](library), wrt=nnx.Param)

        @nnx.jit
        def step(model, optimizer):
            grads = nnx.grad(lambda m: jnp.mean(m(X) ** 2))(model)
            optimizer.update(model, grads)

        for _ in range(3):
            step(model, optimizer)
        return nnx.to_pure_dict(nnx.state(model, nnx.Param))

    close(train(gradtx), train(optax))


@pytest.mark.parametrize("name", MAKERS)
def test_an_equinox_model_trains_as_with_optax(name):
    def train(library):
        model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
        tx = MAKERS[name](library)
        state = tx.init(eqx.filter(model, eqx.is_inexact_array))

        @eqx.filter_jit
        def step(model, state):
            grads = eqx.filter_grad(lambda m: jnp.mean(jax.vmap(m)(X) ** 2))(model)
            params = eqx.filter(model, eqx.is_inexact_array)
            updates, state = tx.update(grads, state, params)
            return eqx.apply_updates(model, updates), state

        for _ in range(3):
            model, state = step(model, state)
        return jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))

    close(train(gradtx), train(optax))


def test_an_equinox_module_of_bools_is_a_mask_and_no_function():
    model = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    params = eqx.filter(model, eqx.is_inexact_array)
    mask = jax.tree.map(lambda p: p.ndim > 1, params)
    tx = gradtx.add_decayed_weights(1.0, mask)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params)
    np.testing.assert_array_equal(updates.weight, params.weight)
    assert not updates.bias.any()


def trained_state():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(0.1))
    return tx, params, tx.update(params, tx.init(params), params)[1]


def test_orbax_restores_a_state_into_shapes(tmp_path):
    tx, params, state = trained_state()
    shapes = jax.eval_shape(lambda: params)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", tx.init(shapes))
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    updates, _ = tx.update(params, restored, params)
    jax.tree.map(
        np.testing.assert_array_equal, updates, tx.update(params, state, params)[0]
    )


def test_flax_serialization_restores_a_state():
    tx, params, state = trained_state()
    data = flax.serialization.to_bytes(state)
    restored = flax.serialization.from_bytes(tx.init(params), data)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    tx.update(params, restored, params)


def test_a_jitted_step_is_exported():
    tx, params, state = trained_state()
    exported = jax.export.export(jax.jit(tx.update))(params, state, params)
    close(exported.call(params, state, params), tx.update(params, state, params))
