import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.equality import as_optax_needs
from tests.registry import size_of

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}


def test_a_snapshot_is_found_by_its_name_and_changes_nothing():
    tx = gradtx.chain(
        gradtx.snapshot("before", size_of),
        gradtx.clip_by_global_norm(1.0),
        gradtx.snapshot("after", size_of),
    )
    state = tx.init(PARAMS)
    assert float(state["before"]) == 11
    updates, state = jax.jit(tx.update)(PARAMS, state)
    np.testing.assert_allclose(size_of(updates), 1, rtol=1e-6)
    np.testing.assert_allclose([state["before"], state["after"]], [11, 1], rtol=1e-6)
    assert float(optax.tree.get(state, "before")) == 11


@pytest.mark.parametrize("debias", [True, False])
def test_measurements_are_monitored_and_averaged_as_in_optax(debias):
    seen = []
    for m in (gradtx, optax):
        average = m.measure_with_ema(size_of, 0.9, debias)
        tx = m.monitor({"size": size_of, "average": average, "trace": m.trace(0.5)})
        state = tx.init(PARAMS)
        with as_optax_needs():
            for i in range(3):
                grads = jax.tree.map(lambda p: p * i, PARAMS)  # noqa: B023
                _, state = tx.update(grads, state, PARAMS)
        seen.append(state if m is gradtx else state.measurements)
    for name in ("size", "average", "trace"):
        chex.assert_trees_all_close(*(it[name] for it in seen), rtol=1e-6)


def test_a_state_of_measurements_goes_through_scan_from_the_start():
    tx = gradtx.monitor({"size": size_of, "shape": lambda u: jax.tree.map(jnp.max, u)})
    state = tx.init(PARAMS)
    assert float(state["size"]) == 0

    def step(state, _):
        return tx.update(PARAMS, state)[1], None

    state, _ = jax.lax.scan(step, state, length=2)
    assert float(state["size"]) == 11 and float(state["shape"]["b"]) == 2


def test_sixteen_bit_updates_are_measured_in_float32():
    small = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    tx = gradtx.snapshot("size", size_of)
    _, state = tx.update(small, tx.init(small))
    assert state["size"].dtype == jnp.float32
