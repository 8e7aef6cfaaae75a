"""Kernels in two parts: a trace serves where it holds, and scalars are made once."""

import gc
import threading

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.experimental import compute_on

import gradtx
from gradtx import Rule, memoryless, transformation
from gradtx.compiler import hoist

AXES = jax.sharding.AxisType


def updates_of(tx, grads):
    return tx.update(grads, tx.init(grads), grads)[0]


def test_scalars_that_no_leaf_is_needed_for_are_made_once_for_all_shapes():
    made = []

    @transformation
    def counted(rate: gradtx.Scalar = 0.5):
        def update(u, leaf):
            made.append(u.shape)
            return u * jnp.cos(rate)

        return memoryless(update)

    grads = [jnp.ones(n) for n in (2, 3, 2, 4)]
    tx = counted()
    program = jax.make_jaxpr(tx.update)(grads, tx.init(grads), grads)
    assert str(program).count(" cos ") == 1
    assert sorted(made) == [(2,), (3,), (4,)]


def test_one_trace_does_not_serve_two_meshes():
    tx = gradtx.adam(0.1)

    def update(grads):
        return updates_of(tx, {"w": grads})["w"]

    for n in (8, 4):
        mesh = jax.make_mesh((n,), ("x",), (AXES.Explicit,), devices=jax.devices()[:n])
        with jax.set_mesh(mesh):
            grads = jax.device_put(jnp.ones((8, 3)), jax.P("x"))
            assert jnp.allclose(jax.jit(update)(grads), -0.1)
    assert jnp.allclose(update(jnp.ones((8, 3))), -0.1)


def test_one_trace_does_not_serve_two_sizes_of_a_named_axis():
    @transformation
    def mean(scale: gradtx.Scalar = 1.0):
        return memoryless(lambda u, leaf: lax.psum(u, "i") * scale)

    def update(grads):
        return updates_of(mean(), {"w": grads})["w"]

    for n in (2, 4):
        grads = jnp.ones((n, 3))
        assert jnp.all(jax.vmap(update, axis_name="i")(grads) == n)


def test_where_a_computation_runs_is_that_of_each_trace():
    tx, grads = gradtx.adam(0.1), {"w": jnp.ones(3)}
    state = tx.init(grads)

    @compute_on.compute_on("device_host")
    def elsewhere(grads, state):
        return tx.update(grads, state)

    there = jax.jit(elsewhere).lower(grads, state).as_text()
    here = jax.jit(tx.update).lower(grads, state).as_text()
    assert "_xla_compute_type" in there and "_xla_compute_type" not in here


def test_scalars_that_depend_on_the_shape_are_not_shared():
    @transformation
    def by_size(rate: gradtx.Scalar = 2.0):
        def update(u, leaf):
            n = u.shape[0]
            out = jax.ShapeDtypeStruct((), jnp.float32)
            return u * jax.pure_callback(lambda x: np.float32(x * n), out, rate)

        return memoryless(update)

    three, four = updates_of(by_size(), [jnp.ones(3), jnp.ones(4)])
    assert jnp.all(three == 6) and jnp.all(four == 8)


def test_without_jit_a_rule_sees_numbers_and_can_be_debugged():
    seen = []

    @transformation
    def looked_at():
        def update(u, slots, leaf):
            seen.append(float(u[0]))
            return u, {"n": jnp.float32(2)}

        return Rule(update, {"n": lambda array: jnp.zeros(())})

    with jax.disable_jit():
        tx, grads = looked_at(), [jnp.full(2, 5.0)]
        _, state = tx.update(grads, tx.init(grads))
    assert seen == [5.0] and isinstance(state["n"][0], jax.Array)


def test_an_error_in_a_rule_names_the_leaf_also_in_a_bucket_of_leaves_alike():
    @transformation
    def failing():
        def update(u, leaf):
            raise ValueError(f"at {leaf.path}")

        return memoryless(update)

    with pytest.raises(ValueError, match="at a/0"):
        updates_of(failing(), {"a": [jnp.ones(3)] * 20})


@pytest.mark.parametrize("n", [1, 7, 8, 9, 23])
def test_buckets_give_each_leaf_its_own_update(n):
    tx = gradtx.adam(0.1)
    grads = [jnp.full((2 + i % 3,), i - 5.5) for i in range(n)]
    eager = updates_of(tx, grads)
    jitted = jax.jit(lambda grads: updates_of(tx, grads))(grads)
    for g, a, b in zip(grads, eager, jitted, strict=True):
        expected = -0.1 * jnp.sign(g)
        assert jnp.allclose(a, expected) and jnp.allclose(b, expected)


def test_threads_may_trace_the_same_kernels():
    tx, outs = gradtx.adam(0.3), {}

    def work(name, size):
        outs[name] = updates_of(tx, [jnp.full(size, 2.0)] * 9)

    threads = [threading.Thread(target=work, args=(i, 5 + i % 2)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outs) == 4
    for leaves in outs.values():
        assert all(jnp.allclose(leaf, -0.3) for leaf in leaves)


def test_a_kernel_forgets_its_traces_when_jax_does():
    kernel, two = hoist.Kernel(lambda number, leaf: leaf * number), jnp.float32(2)
    arrays, treedef = jax.tree.flatten(jnp.ones(3))
    job = hoist.Job(kernel, treedef, arrays, str)

    def run():
        parts = kernel.parts_for(hoist.Operands.of(two), job)
        return parts.run(parts.hoist(two), arrays)

    assert jnp.all(run() == 2) and len(kernel.parts) == 1
    jax.clear_caches()
    gc.collect()
    assert len(kernel.parts) == 0
    assert jnp.all(run() == 2)
