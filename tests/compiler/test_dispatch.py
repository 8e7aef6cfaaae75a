import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler import dispatch
from gradtx.compiler.dispatch import TRACED, UNJITTED, run_jobs, total
from gradtx.compiler.hoist import Job, Kernel
from gradtx.compiler.stage import Broadcast
from tests.probes import new_log, traced_probe


def kernel_of(log):
    """Adds what all leaves get to what a leaf gets; notes each trace."""

    def add(common, leaf):
        log.append(leaf.shape)
        return [leaf + common.numbers]

    return Kernel(add)


def jobs_of(kernel, arrays):
    treedef = jax.tree.structure(0)
    return [Job(kernel, treedef, [array], lambda: "w") for array in arrays]


COMMON = Broadcast(jnp.float32(10.0), (), None, {}, {}, {}, {}, None)


@pytest.fixture
def buckets(monkeypatch):
    """How many leaves each call updates."""
    sizes, cut = [], dispatch._buckets

    def noted(parts, arrays):
        for chosen in cut(parts, arrays):
            sizes.append(len(chosen))
            yield chosen

    monkeypatch.setattr(dispatch, "_buckets", noted)
    return sizes


@pytest.mark.parametrize("n", [1, 3, UNJITTED, 2 * UNJITTED + 3])
def test_each_leaf_gets_its_own_result_in_its_place(n):
    arrays = [jnp.full(1 + i % 3, float(i)) for i in range(n)]
    outs = run_jobs(COMMON, jobs_of(kernel_of([]), arrays))
    for i, (out,) in enumerate(outs):
        np.testing.assert_array_equal(out, np.full(1 + i % 3, 10.0 + i))


@pytest.mark.parametrize("is_jitted", [False, True])
def test_leaves_alike_share_one_trace(is_jitted):
    log: list[tuple[int, ...]] = []
    kernel = kernel_of(log)
    arrays = [jnp.ones(2 + i % 2) for i in range(20)]

    def run(arrays):
        return run_jobs(COMMON, jobs_of(kernel, arrays))

    (jax.jit(run) if is_jitted else run)(arrays)
    assert sorted(log) == [(2,), (3,)]


def test_un_jitted_buckets_are_full_of_leaves_alike_and_then_of_the_rest(buckets):
    arrays = [jnp.ones(2)] * (UNJITTED + 2) + [jnp.ones(3)] * 5 + [jnp.ones(4)] * 4
    run_jobs(COMMON, jobs_of(kernel_of([]), arrays))
    assert buckets == [UNJITTED, 2 + 5 + 4]


def test_in_a_trace_only_leaves_alike_are_put_together(buckets):
    kernel = kernel_of([])
    arrays = [jnp.ones(2)] * (TRACED + 2) + [jnp.ones(3)] * 3

    @jax.jit
    def run(arrays):
        return run_jobs(COMMON, jobs_of(kernel, arrays))

    run(arrays)
    assert buckets == [TRACED, *[1] * 5]


def test_leaves_of_several_devices_are_in_several_buckets(buckets):
    one, other = jax.devices()[:2]
    arrays = [jax.device_put(jnp.ones(2), one if i % 2 else other) for i in range(6)]
    common = COMMON._replace(numbers=np.float32(10.0))
    outs = run_jobs(common, jobs_of(kernel_of([]), arrays))
    assert buckets == [3, 3]
    for (out,), array in zip(outs, arrays, strict=True):
        assert out.devices() == array.devices()


def test_without_jit_each_kernel_runs_as_it_is_written():
    log: list[tuple[int, ...]] = []
    jobs = jobs_of(kernel_of(log), [jnp.ones(2)] * 3)
    with jax.disable_jit():
        outs = run_jobs(COMMON, jobs)
    assert log == [(2,)] * 3 and [float(out[0][0]) for out in outs] == [11.0] * 3


def test_a_tree_of_leaves_alike_traces_each_rule_once():
    log = new_log()
    tx = gradtx.chain(gradtx.scale(2.0), traced_probe(log))
    grads = [jnp.ones(5) for _ in range(3 * UNJITTED)]
    tx.update(grads, tx.init(grads), grads)
    assert len(log.traces) == 1


def test_totals_are_sums_over_leaves_by_operation():
    measured = [{0: jnp.float32(i), 2: {"size": jnp.float32(1)}} for i in range(5)]
    measured.append({2: {"size": jnp.float32(1)}})  # which operation 0 does not act on
    totals = total(measured)
    assert totals[0] == 0 + 1 + 2 + 3 + 4
    assert totals[2]["size"] == 6


def test_totals_of_leaves_of_several_dtypes_are_in_the_widest():
    with jax.enable_x64(True):
        totals = total([{0: jnp.float32(1)}, {0: jnp.float64(1e-12)}])
        assert totals[0].dtype == "float64" and totals[0] > 1
