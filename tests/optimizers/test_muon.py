import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from optax.contrib import MuonDimensionNumbers

import gradtx

RNG = np.random.default_rng(0)
PARAMS = {
    "w": RNG.normal(size=(6, 4)).astype("float32"),
    "b": RNG.normal(size=4).astype("float32"),
    "heads": RNG.normal(size=(5, 3, 7)).astype("float32"),
}
GRADS = jax.tree.map(lambda p: np.sin(3 * p), PARAMS)
HEADS = {
    "w": MuonDimensionNumbers(1, 0),
    "b": None,
    "heads": MuonDimensionNumbers(0, 2),
}


def first_update(tx, grads=GRADS, params=PARAMS):
    return tx.update(grads, tx.init(params), params)


def singular_values(x):
    return np.linalg.svd(np.asarray(x, np.float32), compute_uv=False)


def test_matrices_are_orthogonalized_and_others_get_adamw():
    updates, state = first_update(gradtx.muon(1.0, "deepseek", adam_learning_rate=0.5))
    np.testing.assert_allclose(singular_values(updates["w"]), 1, atol=1e-3)
    for name in ("b", "heads"):
        adamw = gradtx.adamw(0.5, weight_decay=0.0, nesterov=True)
        alone, _ = adamw.update(GRADS[name], adamw.init(PARAMS[name]), PARAMS[name])
        np.testing.assert_allclose(updates[name], alone, rtol=1e-6)
    assert state["muon.mu"]["b"] is None and state["adam.mu"]["w"] is None


def test_other_axes_are_batches_and_scales_are_those_of_a_matrix():
    tx = gradtx.muon(1.0, "deepseek", muon_weight_dimension_numbers=HEADS)
    updates, _ = first_update(tx)
    size = singular_values(np.moveaxis(updates["heads"], 1, 0))
    np.testing.assert_allclose(size, np.sqrt(7 / 5), rtol=1e-3)
    np.testing.assert_allclose(singular_values(updates["w"]), np.sqrt(6 / 4), rtol=1e-3)


def test_dimension_numbers_may_be_one_a_prefix_or_a_function():
    nested = {"matrices": {"w": PARAMS["w"], "v": PARAMS["w"].T}, "b": PARAMS["b"]}
    turned = MuonDimensionNumbers(1, 0)
    whole = {"matrices": {"w": turned, "v": turned}, "b": None}
    prefix = {"matrices": turned, "b": None}
    grads = jax.tree.map(np.cos, nested)
    runs = [
        first_update(
            gradtx.muon(0.1, muon_weight_dimension_numbers=given), grads, nested
        )[0]
        for given in (whole, prefix, lambda params: whole)
    ]
    chex.assert_trees_all_equal(*runs)
    one, _ = first_update(
        gradtx.muon(0.1, muon_weight_dimension_numbers=turned),
        grads["matrices"],
        nested["matrices"],
    )
    chex.assert_trees_all_equal(one, runs[0]["matrices"])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("scale", [1e-30, 1e-7, 1.0, 1e4, 3e37])
def test_gradients_of_any_size_have_the_same_direction(scale, dtype):
    limits = jnp.finfo(dtype)
    if not 50 * float(limits.tiny) < scale < float(limits.max) / 5:
        pytest.skip("out of its range")
    w = {"w": PARAMS["w"].astype(dtype)}
    grads = {"w": (GRADS["w"].astype("float64") * scale).astype(dtype)}
    updates, _ = first_update(gradtx.muon(1.0, "deepseek"), grads, w)
    assert updates["w"].dtype == dtype
    expected, _ = first_update(gradtx.muon(1.0, "deepseek"), GRADS, PARAMS)
    atol = 0.02 if dtype == "float16" else 2e-3
    np.testing.assert_allclose(updates["w"], expected["w"], atol=atol)


def test_zero_gradients_give_zero_updates():
    zeros = jax.tree.map(np.zeros_like, GRADS)
    updates, _ = first_update(gradtx.muon(0.1), zeros)
    chex.assert_trees_all_equal(updates, zeros)


@pytest.mark.usefixtures("standard_promotion")
def test_a_table_of_coefficients_has_as_many_steps_as_rows():
    three = ((4.0, -6.0, 2.5), (3.0, -4.0, 1.5), (2.0, -1.5, 0.5))
    default, _ = first_update(gradtx.muon(0.1, three))
    given, _ = first_update(gradtx.muon(0.1, three, ns_steps=3))
    chex.assert_trees_all_equal(default, given)
    theirs, _ = first_update(optax.contrib.muon(0.1, three, ns_steps=3))
    chex.assert_trees_all_close(default, theirs, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"ns_steps must be 3, as many as rows .* 8"):
        first_update(gradtx.muon(0.1, three, ns_steps=8))


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_single_row_is_taken_for_as_many_steps_as_asked(steps):
    updates, _ = first_update(gradtx.muon(0.1, ns_steps=steps))
    theirs, _ = first_update(optax.contrib.muon(0.1, ns_steps=steps))
    chex.assert_trees_all_close(updates, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "theirs"), [("standard", "standard"), ("you", "dion")]
)
def test_optaxs_presets_are_known(name, theirs):
    ours, _ = first_update(gradtx.muon(0.1, theirs))
    named, _ = first_update(gradtx.muon(0.1, name))
    chex.assert_trees_all_equal(ours, named)


def test_what_is_no_matrix_is_named():
    with pytest.raises(
        ValueError, match="scale_by_muon: 'b' must have two axes or dim"
    ):
        gradtx.scale_by_muon().init(PARAMS)
    numbers = MuonDimensionNumbers(0, 0)
    with pytest.raises(
        ValueError, match=r"scale_by_muon: .* must name each axis of an"
    ):
        gradtx.muon(0.1, muon_weight_dimension_numbers=numbers).init(PARAMS)


@pytest.mark.usefixtures("standard_promotion")
def test_a_half_finished_run_of_optax_continues_and_goes_back():
    ours, theirs = gradtx.muon(0.1), optax.contrib.muon(0.1)
    _, half = first_update(theirs)
    state = gradtx.from_optax(ours, half)
    updates, after = ours.update(GRADS, state, PARAMS)
    expected, full = theirs.update(GRADS, half, PARAMS)
    chex.assert_trees_all_close(updates, expected, rtol=2e-4, atol=1e-6)
    again = gradtx.to_optax(ours, after, like=half)
    chex.assert_trees_all_close(again, full, rtol=2e-4, atol=1e-6)


def test_a_change_of_basis_goes_through():
    def rotation(n, seed):
        return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]

    u, v = rotation(6, 0), rotation(4, 1)
    with jax.enable_x64(True):
        grads = jnp.asarray(GRADS["w"], jnp.float64)
        tx = gradtx.scale_by_muon()
        turned, _ = tx.update(u @ grads @ v, tx.init(grads))
        plain, _ = tx.update(grads, tx.init(grads))
        np.testing.assert_allclose(turned, u @ plain @ v, atol=1e-12)
