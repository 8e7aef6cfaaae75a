import numpy as np
import pytest
from jax import numpy as jnp

import gradtx


def polyak(tx, value, grads=(3.0, 4.0)):
    """The step for gradients whose squared norm is 25."""
    grads = jnp.array(grads)
    return tx.update(grads, tx.init(grads), value=value)[0]


@pytest.mark.parametrize("variant", ["sps", "sps+"])
@pytest.mark.parametrize(
    ("f_min", "longest", "eps", "value", "step"),
    [
        (0.0, 1.0, 0.0, 5.0, 0.2),
        (0.0, 0.1, 0.0, 5.0, 0.1),
        (3.0, 1.0, 0.0, 5.0, 0.08),
        (0.0, 1.0, 25.0, 5.0, 0.1),
        (-5.0, 1.0, 0.0, 5.0, 0.4),
        (6.0, 1.0, 0.0, 5.0, -0.04),
    ],
)
def test_polyak_step_is_the_gap_over_the_squared_norm(
    f_min, longest, eps, value, step, variant
):
    step = max(step, 0) if variant == "sps+" else step
    tx = gradtx.scale_by_polyak(f_min, longest, eps, variant)
    np.testing.assert_allclose(polyak(tx, value), [3 * step, 4 * step], rtol=1e-6)


@pytest.mark.parametrize(
    "value", [5, np.float64(5.0), jnp.float16(5.0), jnp.bfloat16(5.0), jnp.int32(5)]
)
def test_value_of_the_loss_may_have_any_dtype(value):
    step = polyak(gradtx.scale_by_polyak(), value)
    assert step.dtype == "float32"
    np.testing.assert_allclose(step, [0.6, 0.8], rtol=1e-6)


BY_THE_LOSS = {
    "polyak_sgd": lambda: gradtx.polyak_sgd(1e30),
    "polyak_sgd, sps+": lambda: gradtx.polyak_sgd(1e30, variant="sps+"),
    "momo": lambda: gradtx.momo(1e30),
    "momo, bounded": lambda: gradtx.momo(1e30, adapt_lower_bound=True),
    "momo_adam": lambda: gradtx.momo_adam(1e30, eps=0.0),
}


@pytest.mark.parametrize("size", [1e-3, 1e-8, 1e-12, 1e-25])
@pytest.mark.parametrize("name", BY_THE_LOSS)
def test_small_gradients_take_the_step_that_the_loss_asks_for(name, size):
    """The first is `gap * g / |g|**2`, or for Adam's of the sign; or the longest."""
    tx, g = BY_THE_LOSS[name](), jnp.asarray([size, -size / 2])
    params = jnp.zeros(2)
    updates, _ = tx.update(g, tx.init(params), params, value=jnp.asarray(2.0))
    exact = np.asarray([1, -0.5]) * size
    if name == "momo_adam":  # whose step divides by the corrected root, |g|
        expected = -2 * np.sign(exact) / np.sum(np.abs(exact))
    else:
        expected = -exact * min(2 / np.sum(exact**2), 1e30)
    if name != "momo_adam" or size > 1e-15:  # below, g**2 is no number
        np.testing.assert_allclose(updates, expected, rtol=1e-5)
    zero, _ = tx.update(0 * g, tx.init(params), params, value=jnp.asarray(2.0))
    assert not zero.any()


def test_polyak_takes_no_step_where_the_gradient_vanishes():
    np.testing.assert_array_equal(polyak(gradtx.scale_by_polyak(), 5.0, (0, 0.0)), 0)


@pytest.mark.parametrize("name", ["scale_by_polyak", "scale_by_model_step"])
def test_value_of_the_loss_is_needed(name):
    tx = {
        "scale_by_polyak": gradtx.scale_by_polyak(),
        "scale_by_model_step": gradtx.scale_by_model_step(0.1, 0.9),
    }[name]
    with pytest.raises(TypeError) as caught:
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)), jnp.ones(2))
    assert str(caught.value) == (
        f"{name}: missing extra argument 'value'; "
        "call update(updates, state, params, value=...)"
    )


def test_model_step_needs_an_average_that_is_let():
    tx, grads = gradtx.scale_by_model_step(0.1, 0.9), jnp.ones(2)
    with pytest.raises((TypeError, ValueError), match=r"scale_by_model_step.*average"):
        tx.update(grads, tx.init(grads), grads, value=1.0)


@pytest.mark.parametrize("variant", ["sps-", None, "SPS"])
def test_variant_that_polyak_does_not_have_raises(variant):
    with pytest.raises(ValueError) as caught:
        gradtx.scale_by_polyak(variant=variant)
    assert str(caught.value) == (
        f"scale_by_polyak: variant must be 'sps' or 'sps+', got {variant!r}"
    )


def test_model_step_is_polyak_step_of_the_model_without_memory():
    """Without an average the model is the loss's tangent here."""
    grads, params = jnp.array([3.0, 4.0]), jnp.array([7.0, -1.0])
    step = gradtx.scale_by_model_step(1.0, 0.0)
    tx = gradtx.moments(
        gradtx.let(
            "average",
            gradtx.scale_by_ema(0.0),
            gradtx.chain(gradtx.recall("average"), step),
        )
    )
    state = tx.init(params)
    for value in (5.0, 2.0, 100.0):
        updates, state = tx.update(grads, state, params, value=value)
        expected = polyak(gradtx.scale_by_polyak(), value)
        np.testing.assert_allclose(updates, expected, rtol=1e-5)
        np.testing.assert_allclose(state["step_size"], min(value / 25, 1), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.scale_by_polyak(max_learning_rate=-1.0),
            "scale_by_polyak: max_learning_rate must be at least 0, got -1.0",
        ),
    ],
)
def test_number_out_of_its_range_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
