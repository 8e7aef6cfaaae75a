import chex
import equinox as eqx
import flax.linen as nn
import flax.serialization
import haiku as hk
import jax
import numpy as np
import numpyro
import optax
import optimistix
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax import numpy as jnp
from numpyro import infer
from numpyro.infer.autoguide import AutoNormal
from safetensors import flax as safetensors

import gradtx

X = jnp.linspace(-1, 1, 12).reshape(4, 3)
MAKERS = {
    "adamw": lambda m: m.adamw(0.1),
    "clip": lambda m: m.chain(m.clip_by_global_norm(0.5), m.sgd(0.1, momentum=0.9)),
}


pytestmark = pytest.mark.usefixtures("standard_promotion")


def close(ours, theirs):
    """But for the error of optax's bias correction in float32, 6e-5."""
    chex.assert_trees_all_close(ours, theirs, rtol=7e-5, atol=1e-6)


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
    chex.assert_trees_all_equal(restored, state)
    updates, _ = tx.update(params, restored, params)
    chex.assert_trees_all_equal(updates, tx.update(params, state, params)[0])


def test_flax_serialization_restores_a_state():
    tx, params, state = trained_state()
    data = flax.serialization.to_bytes(state)
    restored = flax.serialization.from_bytes(tx.init(params), data)
    chex.assert_trees_all_equal(restored, state)
    tx.update(params, restored, params)


def test_a_jitted_step_is_exported():
    tx, params, state = trained_state()
    exported = jax.export.export(jax.jit(tx.update))(params, state, params)
    again = jax.export.deserialize(exported.serialize())
    close(again.call(params, state, params), tx.update(params, state, params))


@pytest.mark.parametrize("name", MAKERS)
def test_a_haiku_network_trains_as_with_optax(name):
    net = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([4, 2])(x)))

    def train(library):
        params = net.init(jax.random.key(0), X)
        tx = MAKERS[name](library)
        state = tx.init(params)

        @jax.jit
        def step(params, state):
            grads = jax.grad(lambda p: jnp.mean(net.apply(p, X) ** 2))(params)
            updates, state = tx.update(grads, state, params)
            return library.apply_updates(params, updates), state

        for _ in range(3):
            params, state = step(params, state)
        return params

    close(train(gradtx), train(optax))


@pytest.mark.parametrize("name", [*MAKERS, "plateau"])
def test_a_numpyro_svi_runs_as_with_optax(name):
    """With the loss as `value`, which is handed through the chain."""

    def model(data):
        mean = numpyro.sample("mean", numpyro.distributions.Normal(0.0, 10.0))
        numpyro.sample("data", numpyro.distributions.Normal(mean, 1.0), obs=data)

    def run(library):
        def plateau(m):
            return m.chain(m.adam(0.1), contrib.reduce_on_plateau(patience=1))

        contrib = library if library is gradtx else optax.contrib
        tx = {**MAKERS, "plateau": plateau}[name](library)
        svi = infer.SVI(model, AutoNormal(model), tx, infer.Trace_ELBO())
        data = jnp.array([3.0, 4.0, 5.0])
        return svi.run(jax.random.key(0), 20, data, progress_bar=False).params

    close(run(gradtx), run(optax))


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_an_optimistix_minimiser_ends_as_with_optax(name):
    makers = {"adam": lambda m: m.adam(0.1), "lbfgs": lambda m: m.lbfgs()}

    def run(library):
        solver = optimistix.OptaxMinimiser(makers[name](library), rtol=1e-5, atol=1e-5)
        return optimistix.minimise(
            lambda y, target: jnp.sum((y - target) ** 2),
            solver,
            jnp.zeros(3),
            jnp.arange(3.0),
            max_steps=500,
        ).value

    close(run(gradtx), run(optax))


def test_a_flat_file_of_safetensors_restores_a_state():
    tx, params, state = trained_state()
    pairs = jax.tree_util.tree_leaves_with_path(state)
    flat = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in pairs
    }
    restored = gradtx.restore(tx, params, safetensors.load(safetensors.save(flat)))
    chex.assert_trees_all_equal(restored.state, state)


@pytest.mark.skipif(not hasattr(nnx, "as_pure"), reason="flax of jax 0.8 has not")
def test_numbers_and_metrics_are_read_in_an_nnx_optimizer():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    tx = gradtx.editable(gradtx.chain(gradtx.sgd(0.1), gradtx.norms()))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    grads = nnx.grad(lambda m: jnp.mean(m(X) ** 2))(model)
    optimizer.opt_state["hyperparams"]["learning_rate"][...] = jnp.float32(0.0)
    before = model.kernel[...]
    optimizer.update(model, grads)
    state = nnx.as_pure(optimizer.opt_state)
    assert float(gradtx.hyperparams(tx, state)["learning_rate"]) == 0
    assert float(gradtx.metrics(state)["update_norm"]) == 0
    np.testing.assert_array_equal(model.kernel[...], before)
