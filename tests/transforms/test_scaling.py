from collections.abc import Callable
from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.runs import assert_equals_paper, kinds_of_slots, updates_of

rng = np.random.default_rng(0)

PARAMS: Any = {
    "dense": {"kernel": rng.normal(size=(2, 3)), "bias": rng.normal(size=3)},
    "norm": (rng.normal(size=3), None),
}

GRADS = [jax.tree.map(lambda p: rng.normal(size=p.shape), PARAMS) for _ in range(4)]

SCHEDULE = gradtx.linear_schedule(0.5, -0.25, 3)


def assert_equals_optax(mine, theirs, dtype="float32", rtol=1e-6):
    """The same updates at each step, up to the order of an addition."""
    with jax.enable_x64(dtype == "float64"):
        params, *grads = (
            jax.tree.map(lambda x: jnp.asarray(x, dtype), t) for t in (PARAMS, *GRADS)
        )
        runs = [updates_of(tx, grads, params) for tx in (mine, theirs)]
        for one, other in zip(*runs, strict=True):
            assert jax.tree.map(jax.typeof, one) == jax.tree.map(jax.typeof, other)
            chex.assert_trees_all_close(one, other, rtol=rtol, atol=rtol / 10)


def update_once(tx, grads, params=None):
    return tx.update(grads, tx.init(grads if params is None else params), params)[0]


@pytest.mark.parametrize("number", [0.5, -2, 0, np.float32(0.1), jnp.array(3.0)])
@pytest.mark.parametrize(
    ("make", "sign"),
    [
        (gradtx.scale, 1),
        (gradtx.scale_by_learning_rate, -1),
        (lambda rate: gradtx.scale_by_learning_rate(rate, flip_sign=False), 1),
        (gradtx.scale_by_schedule, 1),
    ],
    ids=["scale", "learning rate", "kept sign", "schedule"],
)
def test_scale_multiplies_every_element_by_a_number(make, sign, number):
    updates = np.array([[1.5, -3.25], [0.0, 1e-20]], np.float32)
    scaled = update_once(make(number), jnp.asarray(updates))
    np.testing.assert_array_equal(scaled, np.float32(sign * number) * updates)


def rise(count: Any) -> Any:
    return jnp.sqrt(1.0 + count.astype(float))


SCALES: dict[str, Callable[[Any], Any]] = {
    "number": lambda lib: lib.scale(-0.3),
    "schedule": lambda lib: lib.scale_by_schedule(SCHEDULE),
    "function": lambda lib: lib.scale_by_schedule(rise),
    "learning rate": lambda lib: lib.scale_by_learning_rate(0.1),
    "scheduled rate": lambda lib: lib.scale_by_learning_rate(SCHEDULE),
    "kept sign": lambda lib: lib.scale_by_learning_rate(SCHEDULE, flip_sign=False),
    "sign": lambda lib: lib.scale_by_sign(),
}


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("make", SCALES.values(), ids=SCALES)
def test_scale_equals_optax(make, dtype, rtol):
    assert_equals_optax(make(gradtx), make(optax), dtype, rtol)


def test_scale_takes_a_schedule_as_scale_by_schedule_does():
    mine, theirs = gradtx.scale(SCHEDULE), optax.scale_by_schedule(SCHEDULE)
    assert_equals_optax(mine, theirs)


def test_number_is_exact_in_double_after_use_in_single():
    tx = gradtx.scale(0.1)
    assert update_once(tx, jnp.ones(2)).dtype == jnp.float32
    with jax.enable_x64(True):
        np.testing.assert_array_equal(update_once(tx, jnp.ones(2)), 0.1)


@pytest.mark.parametrize("flip_sign", [True, False])
def test_absent_learning_rate_changes_nothing(flip_sign):
    tx: Any = gradtx.scale_by_learning_rate(flip_sign=flip_sign)
    grads = jnp.array([1.0, -0.0, jnp.nan, jnp.inf])
    np.testing.assert_array_equal(bits(update_once(tx, grads)), bits(grads))
    assert tx.init(grads).keys() == {"count"}


def bits(array):
    return np.asarray(array).tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("number", [0.1, np.float32(0.1), SCHEDULE])
def test_scale_keeps_the_dtype_of_the_update(dtype, number):
    updates = jnp.array([1.0, -2.0], dtype)
    for tx in (gradtx.scale(number), gradtx.scale_by_learning_rate(number)):
        assert update_once(tx, updates).dtype == dtype


def test_sign_of_a_real_is_minus_one_zero_or_one():
    signs = update_once(gradtx.scale_by_sign(), jnp.array([3.0, -1e-30, 0.0, -np.inf]))
    np.testing.assert_array_equal(signs, [1, -1, 0, -1])
    assert np.isnan(update_once(gradtx.scale_by_sign(), jnp.array([np.nan])))


def test_sign_of_a_complex_is_its_direction():
    grads = jnp.array([3 + 4j, -2j, -5.0, 0.0], jnp.complex64)
    signs = update_once(gradtx.scale_by_sign(), grads)
    np.testing.assert_allclose(signs, [0.6 + 0.8j, -1j, -1, 0], rtol=1e-6)


def norm(x):
    return np.sqrt(np.sum(np.abs(x) ** 2))


def rms(x):
    return np.sqrt(np.mean(np.abs(x) ** 2))


def changes(grads, alpha, beta):
    """Mokhtari et al. 2019, equation 13; nothing has changed at first."""
    for g, last in zip(grads, [grads[0], *grads[:-1]], strict=True):
        yield alpha * g + beta * (g - last)


def sums_of_three(grads):
    for i, g in enumerate(grads, 1):
        yield 0 * g if i % 3 else sum(grads[i - 3 : i])


PAPERS: dict[str, tuple[Any, Any]] = {
    "scale_by_tanh": (gradtx.scale_by_tanh(2.0), lambda g, p: np.tanh(2 * g)),
    "set_to_zero": (gradtx.set_to_zero(), lambda g, p: 0 * g),
    "scale_by_param_block_norm": (
        gradtx.scale_by_param_block_norm(),
        lambda g, p: g * norm(p),
    ),
    "scale_by_param_block_norm, floored": (
        gradtx.scale_by_param_block_norm(2.0),
        lambda g, p: g * max(norm(p), 2.0),
    ),
    "scale_by_param_block_rms": (
        gradtx.scale_by_param_block_rms(1.0),
        lambda g, p: g * max(rms(p), 1.0),
    ),
    "scale_by_trust_ratio": (
        gradtx.scale_by_trust_ratio(0.0, 0.1, 0.5),
        lambda g, p: g * 0.1 * norm(p) / (norm(g) + 0.5),
    ),
    "scale_by_trust_ratio, floored": (
        gradtx.scale_by_trust_ratio(1.5),
        lambda g, p: g * max(norm(p), 1.5) / max(norm(g), 1.5),
    ),
    "normalize": (gradtx.normalize(), lambda g, p: g / norm(g)),
    "normalize_by_update_norm": (
        gradtx.normalize_by_update_norm(-2.0, 0.5),
        lambda g, p: -2 * g / (norm(g) + 0.5),
    ),
}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("tx", "paper"), PAPERS.values(), ids=PAPERS)
def test_scale_equals_its_formula(tx, paper, is_complex):
    assert_equals_paper(tx, lambda g, p: map(paper, g, p), is_complex)


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(
    ("tx", "paper"),
    [
        (
            gradtx.scale_by_optimistic_gradient(0.5, 2.0),
            lambda g, p: changes(g, 0.5, 2.0),
        ),
        (gradtx.apply_every(3), lambda g, p: sums_of_three(g)),
        (gradtx.apply_every(), lambda g, p: g),
    ],
    ids=["optimistic", "every third", "every"],
)
def test_scale_with_a_memory_equals_its_formula(tx, paper, is_complex):
    assert_equals_paper(tx, paper, is_complex)


def test_norms_of_blocks_are_of_each_array_and_that_of_updates_of_all():
    params = grads = {"a": jnp.array([3.0]), "b": jnp.array([[0.0, 4.0]])}
    for tx, factors in (
        (gradtx.scale_by_param_block_norm(), (3, 4)),
        (gradtx.scale_by_param_block_rms(), (3, 8**0.5)),
        (gradtx.scale_by_trust_ratio(), (1, 1)),
        (gradtx.normalize(), (0.2, 0.2)),
        (gradtx.normalize_by_update_norm(eps=1e-30), (0.2, 0.2)),
    ):
        updates = update_once(tx, grads, params)
        for key, factor in zip("ab", factors, strict=True):
            np.testing.assert_allclose(updates[key], factor * grads[key], rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4)], ids=str)
def test_centralized_updates_have_no_mean_but_in_vectors(shape):
    grads = jnp.asarray(np.random.default_rng(0).normal(size=shape) + 1, "float32")
    updates = update_once(gradtx.centralize(), grads)
    if len(shape) < 2:
        np.testing.assert_array_equal(updates, grads)
        return
    axes = tuple(range(1, len(shape)))
    means = np.mean(grads, axes, keepdims=True)
    np.testing.assert_allclose(updates, grads - means, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("tx", "grads", "params", "expected"),
    [
        (gradtx.scale_by_trust_ratio(), [3.0, 4.0], [0.0, 0.0], [3.0, 4.0]),
        (gradtx.scale_by_trust_ratio(), [0.0, 0.0], [3.0, 4.0], [0.0, 0.0]),
        (gradtx.scale_by_trust_ratio(eps=1.0), [3.0, 4.0], [0.0, 0.0], [3.0, 4.0]),
        (gradtx.scale_by_param_block_norm(), [3.0, 4.0], [0.0, 0.0], [3e-3, 4e-3]),
        (gradtx.normalize(), [0.0, 0.0], None, [0.0, 0.0]),
        (gradtx.normalize_by_update_norm(), [0.0, 0.0], None, [0.0, 0.0]),
        (gradtx.scale_by_tanh(1e30), [0.0, -1.0], None, [0.0, -1.0]),
    ],
)
def test_what_vanishes_is_not_divided_by(tx, grads, params, expected):
    def total(grads, params):
        updates = update_once(tx, grads, params)
        return jnp.sum(updates), updates

    grads = jnp.array(grads)
    params = jnp.ones_like(grads) if params is None else jnp.array(params)
    slopes, updates = jax.grad(total, argnums=(0, 1), has_aux=True)(grads, params)
    np.testing.assert_allclose(updates, expected, rtol=1e-6)
    assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_norms_of_half_precision_are_taken_in_single(dtype):
    grads = jnp.full(4, 2.0**9, dtype)  # whose squares are beyond float16
    tiny = jnp.full(4, 2.0**-13, dtype)
    for tx in (gradtx.normalize(), gradtx.normalize_by_update_norm(eps=1e-30)):
        for some in (grads, tiny):
            np.testing.assert_array_equal(update_once(tx, some), 0.5)
    updates = update_once(gradtx.scale_by_param_block_rms(), jnp.ones(4, dtype), grads)
    np.testing.assert_array_equal(updates, 2.0**9)


@pytest.mark.parametrize(
    "make",
    [
        gradtx.scale_by_param_block_norm,
        gradtx.scale_by_param_block_rms,
        gradtx.scale_by_trust_ratio,
    ],
)
def test_norms_of_parameters_need_them(make):
    tx, grads = make(), jnp.ones(2)
    with pytest.raises(ValueError) as caught:
        tx.update(grads, tx.init(grads))
    assert str(caught.value) == (
        f"{tx.name}: missing parameters; call update(updates, state, params)"
    )


def test_change_of_complex_updates_is_complex():
    tx = gradtx.scale_by_optimistic_gradient()
    assert kinds_of_slots(tx) == {"previous_gradient": "complex64"}
    assert kinds_of_slots(gradtx.apply_every(2)) == {"grad_acc": "complex64"}
