from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.clipping import clip_by_the_paper
from tests.oracles.runs import updates_of


class Pair(NamedTuple):
    left: Any
    right: Any


def nested(dtype: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return {
        "pair": Pair(rng.normal(size=(2, 3)).astype(dtype), None),
        "rest": [dtype(rng.normal()), (), {"bias": rng.normal(size=3).astype(dtype)}],
    }


def update_once(tx, grads, params=None):
    return tx.update(grads, tx.init(grads), params)[0]


CLIPS: dict[str, Callable[[Any], Any]] = {
    "clip": lambda lib: lib.clip(0.5),
    "clip to nothing": lambda lib: lib.clip(0.0),
    "clip_by_global_norm": lambda lib: lib.clip_by_global_norm(0.5),
    "clip_by_global_norm to nothing": lambda lib: lib.clip_by_global_norm(0.0),
    "clip_by_global_norm, loose": lambda lib: lib.clip_by_global_norm(1e6),
    "clip_by_global_norm, open": lambda lib: lib.clip_by_global_norm(np.inf),
    "first and last": lambda lib: lib.chain(
        lib.clip(1.0), lib.trace(0.9), lib.clip_by_global_norm(2.0)
    ),
    "twice": lambda lib: lib.chain(
        lib.clip_by_global_norm(1.0), lib.scale(3.0), lib.clip_by_global_norm(2.0)
    ),
    "after momentum": lambda lib: lib.chain(
        lib.trace(0.9), lib.clip_by_global_norm(1.5), lib.scale(-0.1)
    ),
}


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize("make", CLIPS.values(), ids=CLIPS)
def test_clip_equals_optax(make, dtype, rtol):
    with jax.enable_x64(dtype == np.float64):
        grads = [jax.tree.map(jnp.asarray, nested(dtype, i)) for i in range(3)]
        runs = [updates_of(make(lib), grads) for lib in (gradtx, optax)]
        for mine, theirs in zip(*runs, strict=True):
            assert jax.tree.structure(mine) == jax.tree.structure(theirs)
            for one, other in zip(*map(jax.tree.leaves, (mine, theirs)), strict=True):
                assert one.dtype == other.dtype == dtype
                np.testing.assert_allclose(one, other, rtol=rtol)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_momentum_is_clipped_and_not_the_gradient(dtype):
    rng = np.random.default_rng(0)
    grads = [
        [rng.normal(size=(2, 2)).astype(dtype), rng.normal(size=3).astype(np.float32)]
        for _ in range(4)
    ]
    if dtype == np.complex64:
        grads = [[a * (1 + 2j), b] for a, b in grads]
    traces, trace = [], [np.zeros((2, 2)), np.zeros(3)]
    for grad in grads:
        trace = [g + 0.9 * t for g, t in zip(grad, trace, strict=True)]
        traces.append(trace)
    tx = gradtx.chain(
        gradtx.trace(0.9), gradtx.clip_by_global_norm(1.5), gradtx.scale(-0.1)
    )
    expected = clip_by_the_paper(traces, 1.5)
    for mine, clipped in zip(updates_of(tx, grads), expected, strict=True):
        for one, other in zip(mine, clipped, strict=True):
            assert one.dtype == (np.complex64 if np.iscomplexobj(other) else np.float32)
            np.testing.assert_allclose(one, -0.1 * other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("max_norm", [5.0, 5.1, 1e30])
def test_gradient_within_the_norm_leaves_bit_for_bit(max_norm):
    grads = {"a": jnp.array([3.0]), "b": jnp.array([[0.0, -4.0], [-0.0, 1e-30]])}
    updates = update_once(gradtx.clip_by_global_norm(max_norm), grads)
    for one, other in zip(*map(jax.tree.leaves, (updates, grads)), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize("max_norm", [4.99, 2.5, 1e-3, 1e-30, 0.0])
def test_gradient_beyond_the_norm_is_brought_to_it(max_norm):
    grads = {"a": jnp.array([3.0]), "b": jnp.array([0.0, -4.0])}
    updates = update_once(gradtx.clip_by_global_norm(max_norm), grads)
    np.testing.assert_allclose(updates["a"], [0.6 * max_norm], rtol=1e-6)
    np.testing.assert_allclose(updates["b"], [0.0, -0.8 * max_norm], rtol=1e-6)


def test_norm_is_that_of_all_leaves():
    grads = [jnp.float32(x) for x in np.random.default_rng(0).normal(size=70)]
    (expected,) = clip_by_the_paper([np.array(grads, float)[:, None]], 1.0)
    updates = update_once(gradtx.clip_by_global_norm(1.0), grads)
    np.testing.assert_allclose(updates, np.ravel(expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("grads", "max_norm"),
    [
        ([300.0, 400.0], 5.0),
        ([60000.0] * 4, 100.0),
        ([3e-4, 4e-4], 1e-4),
        ([3e-4, 4e-4], 1e-2),
    ],
    ids=["square overflows", "norm overflows", "square underflows", "not clipped"],
)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_norm_of_half_precision_is_taken_in_single(dtype, grads, max_norm):
    grads = jnp.array(grads, dtype)
    ((expected,),) = clip_by_the_paper([[np.float64(grads)]], max_norm)
    updates = update_once(gradtx.clip_by_global_norm(max_norm), grads)
    assert updates.dtype == dtype
    rounding = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.float64(updates), expected, rtol=rounding)


def test_leaves_of_several_dtypes_share_one_norm():
    grads = [
        jnp.array([300.0], "float16"),
        jnp.array([400.0]),
        jnp.zeros(2, "bfloat16"),
    ]
    updates = update_once(gradtx.clip_by_global_norm(5.0), grads)
    assert [u.dtype for u in updates] == [g.dtype for g in grads]
    np.testing.assert_allclose(np.float64(updates[0]), [3.0], rtol=1e-3)
    np.testing.assert_allclose(updates[1], [4.0], rtol=1e-6)
    np.testing.assert_array_equal(np.float64(updates[2]), 0)


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ([np.inf, 2.0], [[np.nan, 0.0], [0.0, 0.0]]),
        ([-np.inf, 2.0], [[np.nan, 0.0], [0.0, 0.0]]),
        ([1e25, 2.0], [[0.0, 0.0], [0.0, 0.0]]),
        ([np.nan, 2.0], [[np.nan, np.nan], [np.nan, np.nan]]),
        ([np.nan, np.inf], [[np.nan, np.nan], [np.nan, np.nan]]),
    ],
    ids=["inf", "-inf", "overflow", "nan", "nan and inf"],
)
def test_norm_that_is_not_finite_shows_in_the_update(bad, expected, is_jitted):
    tx, grads = gradtx.clip_by_global_norm(1.0), [jnp.array(bad), jnp.array([0.1, 0.2])]
    update = jax.jit(tx.update) if is_jitted else tx.update
    updates, _ = update(grads, tx.init(grads))
    np.testing.assert_array_equal(updates, expected)


def test_clip_by_value_keeps_nan_and_bounds_inf():
    grads = jnp.array([np.nan, np.inf, -np.inf, 0.25])
    updates = update_once(gradtx.clip(0.5), grads)
    np.testing.assert_array_equal(updates, [np.nan, 0.5, -0.5, 0.25])


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
@pytest.mark.parametrize("max_norm", [0.0, 1.0])
def test_zero_gradient_stays_zero(max_norm, dtype):
    grads = {"a": jnp.zeros(2, dtype), "b": jnp.zeros((), dtype)}
    for leaf in jax.tree.leaves(
        update_once(gradtx.clip_by_global_norm(max_norm), grads)
    ):
        np.testing.assert_array_equal(leaf, np.zeros_like(leaf))


@pytest.mark.parametrize("max_norm", [0.0, 1.0])
def test_derivative_at_a_zero_gradient_is_finite(max_norm):
    def total(max_norm, grads):
        updates = update_once(gradtx.clip_by_global_norm(max_norm), grads)
        return sum(map(jnp.sum, updates))

    slopes = jax.grad(total, argnums=(0, 1))(max_norm, [jnp.zeros(2), jnp.zeros(3)])
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))
    if max_norm > 0:
        np.testing.assert_array_equal(np.concatenate(slopes[1]), 1)


@pytest.mark.parametrize(
    "make",
    [
        gradtx.clip,
        gradtx.clip_by_global_norm,
        lambda limit: gradtx.chain(
            gradtx.scale(2.0), gradtx.clip_by_global_norm(limit), gradtx.clip(limit / 2)
        ),
    ],
    ids=["clip", "clip_by_global_norm", "chain"],
)
@pytest.mark.parametrize("limit", [0.7, 100.0])
def test_derivative_matches_finite_differences(make, limit):
    with jax.enable_x64(True):
        grads = jnp.array([0.3, -1.2, 0.9, 2.0])
        weights = jnp.array([1.0, 2.0, -3.0, 0.5])

        @jax.jit
        def loss(limit, grads):
            updates = update_once(make(limit), [grads[:1], grads[1:]])
            return jnp.sum(weights * jnp.concatenate(updates))

        by_limit, by_grads = jax.grad(loss, argnums=(0, 1))(limit, grads)
        h = 1e-6
        np.testing.assert_allclose(
            by_limit,
            (loss(limit + h, grads) - loss(limit - h, grads)) / (2 * h),
            rtol=1e-8,
            atol=1e-8,
        )
        for i, step in enumerate(h * jnp.eye(4)):
            slope = (loss(limit, grads + step) - loss(limit, grads - step)) / (2 * h)
            np.testing.assert_allclose(by_grads[i], slope, rtol=1e-8, atol=1e-8)


def test_limit_takes_a_schedule():
    grads = [jnp.array([3.0, 4.0])] * 4
    limits = [5.0, 2.5, 2.5, 10.0]
    schedule = gradtx.piecewise_constant_schedule(5.0, {1: 0.5, 3: 4.0})
    updates = updates_of(gradtx.clip_by_global_norm(schedule), grads)
    for limit, update in zip(limits, updates, strict=True):
        np.testing.assert_allclose(
            update, min(limit, 5) * np.array([0.6, 0.8]), rtol=1e-6
        )


def test_clip_keeps_nothing_but_the_count():
    grads = [jnp.ones(2)]
    for make in CLIPS["clip"], CLIPS["clip_by_global_norm"]:
        tx = make(gradtx)
        state = tx.init(grads)
        assert state.keys() == tx.update(grads, state)[1].keys() == {"count"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.clip_by_global_norm(-1.0),
            "clip_by_global_norm: max_norm must be at least 0, got -1.0",
        ),
        (
            lambda: gradtx.clip_by_global_norm(np.float32(-0.5)),
            "clip_by_global_norm: max_norm must be at least 0, got -0.5",
        ),
        (
            lambda: gradtx.clip_by_global_norm(np.nan),
            "clip_by_global_norm: max_norm must be at least 0, got nan",
        ),
        (
            lambda: gradtx.clip_by_global_norm(1.0).replace(max_norm=-2),
            "clip_by_global_norm: max_norm must be at least 0, got -2",
        ),
        (lambda: gradtx.clip(-0.1), "clip: max_delta must be at least 0, got -0.1"),
    ],
)
def test_negative_limit_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_clip_by_value_refuses_complex_updates():
    with pytest.raises((TypeError, ValueError), match="complex"):
        update_once(gradtx.clip(1.0), jnp.ones(2, jnp.complex64))
