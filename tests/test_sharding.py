import functools
import re
from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx


def mesh_of(axis_type):
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)


SPECS = {"w": PartitionSpec("data", "model"), "b": PartitionSpec("model")}
apply_updates: Any = optax.apply_updates
TX = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(0.1))


def tree(seed):
    rng = np.random.default_rng(seed)
    return {
        "w": jnp.asarray(rng.normal(size=(8, 4)), jnp.float32),
        "b": jnp.asarray(rng.normal(size=4), jnp.float32),
    }


def step(params, state, grads):
    updates, state = TX.update(grads, state, params)
    return apply_updates(params, updates), state


def placed(mesh, values):
    return {
        k: jax.device_put(v, NamedSharding(mesh, SPECS[k])) for k, v in values.items()
    }


def test_vectors_of_different_layouts_are_put_together():
    """SM3 keeps the maxima along all axes of an array as one vector."""
    tx = gradtx.sm3(0.1)

    def run(params, grads):
        state = tx.init(params)
        update = jax.jit(tx.update)
        _, state = update(grads, state, params)
        return update(grads, state, params)

    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        there = run(placed(mesh, tree(0)), placed(mesh, tree(1)))
    for ours, expected in zip(
        jax.tree.leaves(there), jax.tree.leaves(run(tree(0), tree(1))), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


@functools.cache
def on_one_device():
    params, grads = tree(0), tree(1)
    return jax.jit(step)(params, TX.init(params), grads)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("jitted", [False, True])
def test_an_update_on_a_mesh_equals_the_one_on_a_device(axis_type, jitted):
    mesh = mesh_of(axis_type)
    with jax.set_mesh(mesh):
        params, grads = placed(mesh, tree(0)), placed(mesh, tree(1))
        state = TX.init(params)
        after, state = (jax.jit(step) if jitted else step)(params, state, grads)
    expected, expected_state = on_one_device()
    for key, spec in SPECS.items():
        for ours, theirs in (
            (after[key], expected[key]),
            (state["nu"][key], expected_state["nu"][key]),
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
            assert ours.sharding.is_equivalent_to(NamedSharding(mesh, spec), ours.ndim)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_clip_and_adamw_on_a_sharded_tree_compiles_without_an_all_gather(axis_type):
    mesh = mesh_of(axis_type)
    with jax.set_mesh(mesh):
        params, grads = placed(mesh, tree(0)), placed(mesh, tree(1))
        state = TX.init(params)
        text = jax.jit(step).lower(params, state, grads).compile().as_text()
    assert text is not None and "all-reduce" in text  # of the norm
    assert not re.search("all-gather|all-to-all|collective-permute", text)


def test_an_update_works_inside_shard_map():
    mesh = mesh_of(AxisType.Auto)
    tx = gradtx.adamw(0.1)

    def local(params, grads):
        return tx.update(grads, tx.init(params), params)[0]

    sharded = jax.shard_map(local, mesh=mesh, in_specs=(SPECS, SPECS), out_specs=SPECS)
    params, grads = tree(0), tree(1)
    updates = jax.jit(sharded)(params, grads)
    expected, _ = tx.update(grads, tx.init(params), params)
    chex.assert_trees_all_close(updates, expected, rtol=1e-5)


def test_the_same_seed_draws_the_same_numbers_on_any_number_of_devices():
    @gradtx.transformation
    def noise():
        return gradtx.memoryless(
            lambda u, leaf: u + jax.random.normal(leaf.key, u.shape), key=7
        )

    tx = noise()
    mesh = mesh_of(AxisType.Auto)
    alone, _ = jax.jit(tx.update)(tree(0), tx.init(tree(0)))
    values = placed(mesh, tree(0))
    together, _ = jax.jit(tx.update)(values, tx.init(values))
    chex.assert_trees_all_close(alone, together, rtol=1e-6)
