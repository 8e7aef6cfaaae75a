from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import Rule, memoryless, transformation
from tests.probes import GRADS, PARAMS, new_log, traced_probe

apply_updates: Any = optax.apply_updates


def test_a_rule_is_traced_once_for_each_shape_and_dtype():
    log = new_log()
    tx = gradtx.chain(traced_probe(log), gradtx.adam(1e-3))
    params = {
        "layers": [{"w": jnp.ones((2, 3)), "b": jnp.ones(3)} for _ in range(5)],
        "half": jnp.ones(3, jnp.bfloat16),
    }
    state = tx.init(params)
    jax.jit(tx.update)(params, state, params)
    once = [((2, 3), "float32"), ((3,), "float32"), ((3,), "float32")]
    assert sorted(log.traces) == sorted(once)  # bfloat16 computes in float32
    tx.update(params, state, params)
    jax.jit(tx.update).lower(params, state, params)
    assert len(log.traces) == 3


def test_new_numbers_trace_no_kernel():
    log = new_log()
    for rate in (0.1, 0.2):
        tx = gradtx.chain(traced_probe(log), gradtx.sgd(rate, momentum=rate))
        jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)
    assert len(log.traces) == 2


def test_the_kernel_caches_are_bounded():
    from gradtx.compiler import dispatch, kernels
    from gradtx.core import dtypes

    caches = (
        kernels.update_kernel,
        kernels.measure_kernel,
        dispatch._bucket,
        dtypes.leaf_dtypes_of,
    )
    assert all(cache.cache_info().maxsize for cache in caches)


def test_each_rule_runs_under_its_name():
    tx = gradtx.adam(1e-3)
    lowered = jax.jit(tx.update).lower(GRADS, tx.init(PARAMS), PARAMS)
    text = str(lowered.compile().as_text())
    for name in ("scale_by_ema", "bias_correction", "divide_by_root"):
        assert f"/{name}/" in text


def test_moments_are_in_float32_and_updates_in_the_type_of_gradient_and_parameter():
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    tx = gradtx.adam(1e-3)
    state = tx.init(params)
    assert state["mu"]["w"].dtype == state["nu"]["w"].dtype == jnp.float32
    for dtype, out in ((jnp.bfloat16, jnp.bfloat16), (jnp.float32, jnp.float32)):
        grads = {"w": jnp.ones(3, dtype)}
        updates, after = tx.update(grads, state, params)
        assert updates["w"].dtype == out
        assert after["mu"]["w"].dtype == jnp.float32
        assert tx.update(grads, state)[0]["w"].dtype == dtype


def test_numbers_keep_their_precision_for_leaves_of_every_dtype():
    with jax.enable_x64(True):
        params = {"single": jnp.ones(2, jnp.float32), "double": jnp.ones(2)}
        tx: Any = gradtx.adam(0.1)
        theirs: Any = optax.adam(0.1)
        with jax.numpy_dtype_promotion("standard"):
            expected, _ = theirs.update(params, theirs.init(params), params)
        updates, _ = tx.update(params, tx.init(params), params)
        np.testing.assert_allclose(updates["double"], expected["double"], rtol=1e-14)
        np.testing.assert_allclose(updates["single"], expected["single"], rtol=2e-7)


def test_a_slot_of_another_shape_is_an_error_with_the_path():
    tx = gradtx.adam(0.1)
    state = tx.init({"w": jnp.ones(1)})
    with pytest.raises(ValueError) as raised:
        tx.update({"w": jnp.ones(3)}, state, {"w": jnp.ones(3)})
    assert str(raised.value) == (
        "scale_by_ema: at 'w' slot 'mu' is float32[1] in the state, "
        "but the update makes it float32[3]"
    )


def test_an_error_in_a_rule_shows_the_slots_that_it_saw():
    tx, params = gradtx.adam(0.1), {"w": jnp.ones(3)}
    with pytest.raises(TypeError, match="incompatible shapes") as raised:
        tx.update(params, tx.init({"w": jnp.ones(2)}), params)
    note = "in scale_by_ema, at 'w', where mu is float32[2]"
    assert raised.value.__notes__[0] == note


@pytest.mark.parametrize("given", [lambda u: u, lambda u: (u, None)])
def test_a_rule_that_returns_no_slots_is_an_error(given):
    @transformation
    def careless():
        return Rule(lambda u, slots, leaf: given(u))

    message = r"careless: update must give \(update, slots\), got "
    with pytest.raises(TypeError, match=message):
        careless().update(GRADS, careless().init(PARAMS))


def test_a_rule_that_returns_other_slots_is_an_error():
    @transformation
    def forgetful():
        return Rule(lambda u, slots, leaf: (u, {}), {"memory": jnp.zeros_like})

    tx = forgetful()
    with pytest.raises(
        ValueError, match=r"forgetful: keeps \['memory'\], but its update"
    ):
        tx.update(GRADS, tx.init(PARAMS))


def test_rules_run_under_any_promotion_that_the_host_sets():
    @transformation
    def mixed():
        """Mixes dtypes and ranks, as a user's rule may."""
        return memoryless(lambda u, leaf: u * jnp.float16(2) + jnp.ones(3))

    tx = mixed()
    updates, _ = tx.update(GRADS, tx.init(PARAMS))
    np.testing.assert_allclose(updates["w"], 2 * GRADS["w"] + 1)
    assert updates["w"].dtype == jnp.float32


def test_kernels_work_under_vmap_and_grad_and_scan():
    tx = gradtx.chain(gradtx.clip_by_global_norm(0.5), gradtx.adamw(0.1))

    with jax.enable_x64(True):
        start = jax.tree.map(lambda p: jnp.asarray(np.asarray(p), float), PARAMS)
        slopes = jax.tree.map(lambda g: jnp.asarray(np.asarray(g), float), GRADS)

        def run(scale):
            def body(carry, _):
                params, state = carry
                grads = jax.tree.map(lambda g, p: scale * g + p, slopes, params)
                updates, state = tx.update(grads, state, params)
                return (apply_updates(params, updates), state), None

            carry = (start, tx.init(start))
            (params, _), _ = jax.lax.scan(body, carry, None, length=3)
            return jnp.sum(params["b"][0])

        scales = jnp.array([0.5, 1.0, 2.0])
        together = jax.vmap(run)(scales)
        np.testing.assert_allclose(together, [run(s) for s in scales], rtol=1e-12)
        finite = (run(1 + 1e-5) - run(1 - 1e-5)) / 2e-5
        np.testing.assert_allclose(jax.grad(run)(1.0), finite, rtol=1e-6)


def test_an_error_inside_a_rule_says_which_rule_and_where():
    @transformation
    def broken():
        return memoryless(lambda u, leaf: u @ u)

    tx = gradtx.chain(gradtx.scale(1.0), broken())
    with pytest.raises(TypeError) as raised:
        tx.update({"layer": {"w": jnp.ones((2, 3))}}, {"count": jnp.int32(0)})
    assert "in broken, at 'layer/w'" in raised.value.__notes__


def test_settling_into_other_names_is_an_error():
    @transformation
    def misspelled():
        return memoryless(
            lambda u, leaf: u,
            shared={"runs": lambda _: 0.0},
            settle=lambda total, shared, step: {"rusn": shared["runs"] + 1},
        )

    tx = misspelled()
    with pytest.raises(
        ValueError, match=r"misspelled: keeps \['runs'\], but its update"
    ):
        tx.update(GRADS, tx.init(PARAMS))


def test_rebuilding_a_sum_with_a_new_function_traces_no_kernel():
    log = new_log()
    state = {"count": jnp.int32(0)}
    for _ in range(3):
        branch = gradtx.chain(gradtx.scale(lambda count: 0.1), traced_probe(log))
        gradtx.add(gradtx.identity(), branch).update(GRADS, state)
    assert len(log.traces) == 2  # one for each shape
