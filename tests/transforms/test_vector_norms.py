"""Norms that are divided by, and the scales at which every transformation is right."""

import functools

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import gradtx
from gradtx import testing
from gradtx.transforms.vector_norms import norm, norm_of_all, norm_over, over
from tests.registry import CASES, TRANSFORMATIONS

RANGE = np.finfo(np.float32)
SCALES = [1e-37, 1e-25, 1e-19, 1e-10, 1.0, 1e10, 1e18, 1e19, 1e20, 1e30, 1e37]
EXAMPLE = np.asarray([[3.0, -4.0, 1.0], [1.5, 2.0, -1.25]])


def both(x):
    """An array as float32 or complex64 has it, and the same numbers in float64."""
    x = np.asarray(x, np.complex64 if np.iscomplexobj(x) else np.float32)
    return jnp.asarray(x), x.astype(np.complex128 if np.iscomplexobj(x) else float)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("turn", [1.0, 0.6 + 0.8j])
@pytest.mark.parametrize("scale", SCALES)
def test_a_norm_is_right_at_every_scale(scale, turn, jit):
    x, exact = both(EXAMPLE * turn * scale)
    of_rows = functools.partial(norm_over, axes=(1,))
    of_rows = jax.jit(of_rows) if jit else of_rows
    expected = np.linalg.norm(exact, axis=1, keepdims=True)
    np.testing.assert_allclose(of_rows(x), expected, rtol=3e-7)
    np.testing.assert_allclose(norm(x), np.linalg.norm(exact), rtol=3e-7)
    np.testing.assert_allclose(jax.vmap(norm)(x), expected[:, 0], rtol=3e-7)


@pytest.mark.parametrize("scale", SCALES)
def test_a_norm_off_the_cpu_is_the_same(scale, monkeypatch):
    """It is read at all scales at once."""
    monkeypatch.setattr(lax, "platform_dependent", lambda *x, cpu, default: default(*x))
    x, exact = both(EXAMPLE * scale)
    found, derivative = jax.jit(jax.value_and_grad(norm))(x)
    expected = np.linalg.norm(exact)
    np.testing.assert_allclose(found, expected, rtol=3e-7)
    np.testing.assert_allclose(derivative, exact / expected, rtol=1e-6)


def test_rows_of_several_scales_have_each_their_own_norm():
    x, exact = both(EXAMPLE[0] * np.asarray([*SCALES, 0.0])[:, None])
    expected = np.linalg.norm(exact, axis=1)
    np.testing.assert_allclose(norm_over(x, (1,))[:, 0], expected, rtol=3e-7)


@pytest.mark.parametrize("scale", [1e-305, 1e-160, 1e-155, 1.0, 1e155, 1e305])
def test_a_norm_in_float64_is_right_to_the_last_digits(scale):
    with jax.enable_x64(True):
        expected = np.linalg.norm(EXAMPLE) * scale
        np.testing.assert_allclose(norm(jnp.asarray(EXAMPLE * scale)), expected, 1e-14)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_norm_of_narrow_numbers_is_taken_in_float32(dtype):
    x = jnp.full((4,), 300, dtype)  # its square is infinite in float16
    found = norm(x)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype(float), 600.0, rtol=1e-2)


def test_a_norm_of_what_is_not_finite_is_not_finite():
    assert norm(jnp.asarray([1.0, -jnp.inf])) == jnp.inf
    assert jnp.isnan(norm(jnp.asarray([1.0, jnp.nan])))
    assert jnp.isnan(norm(jnp.asarray([jnp.inf, jnp.nan])))


def test_the_norm_of_nothing_is_0():
    assert norm(jnp.zeros((0, 3))) == 0
    assert norm_over(jnp.zeros((3, 0)), (1,)).shape == (3, 1)
    assert norm_of_all([]) == 0
    assert norm_of_all([jnp.zeros(0), jnp.full(4, 1e25)]) == jnp.float32(2e25)


@pytest.mark.parametrize("scale", [0.0, *SCALES[:-1]])
def test_the_derivative_of_a_norm_is_its_direction_and_0_at_0(scale):
    x, exact = both(EXAMPLE * scale)
    expected = exact / max(np.linalg.norm(exact), RANGE.tiny)
    for derivative in (jax.grad(norm), jax.jacfwd(norm), jax.jit(jax.grad(norm))):
        np.testing.assert_allclose(derivative(x), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [2.5e-38, 1e-20, 1.0, 1e30, 3.4e38])
def test_division_by_a_norm_is_right_at_the_ends_of_the_range(size):
    u = jnp.asarray([1.0, 0.5], jnp.float32) * jnp.float32(size)
    found = jax.jit(over)(u, jnp.float32(size))
    np.testing.assert_allclose(found, [1.0, 0.5], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-37, 1e-25, 1e20, 1e37])
def test_what_is_normalized_has_a_norm_of_1(scale):
    grads = {"a": jnp.full(2, scale), "b": jnp.full((1, 2), scale)}
    updates, _ = gradtx.normalize().update(grads, gradtx.normalize().init(grads))
    for leaf in jax.tree.leaves(updates):
        np.testing.assert_allclose(leaf, 0.5, rtol=1e-6)


def test_adamax_without_eps_takes_steps_of_small_gradients():
    tx, grads = gradtx.adamax(0.1, eps=0.0), jnp.full(3, 1e-25)
    updates, _ = tx.update(grads, tx.init(grads), grads)
    np.testing.assert_allclose(updates, -0.1, rtol=1e-6)


PARAMS = {"w": np.arange(1.0, 7.0).reshape(2, 3) / 7, "b": np.ones(2)}
PAIRS = [
    (1e22, 1.0), (1e30, 1.0), (1e-25, 1.0), (1e-33, 1.0), (1.0, 1.0), (1.0, 1e20),
    (1.0, 1e-25), (1e22, 1e20), (1e-25, 1e-25),
]  # fmt: skip
"""Scales of gradients and parameters."""

CLIPS = "a clip: beyond float32's range of squares it gives zeros, as documented"
RANDOM = "draws other numbers in float64"
PRODUCTS = "takes the inner product of gradients and parameters, or of averages"
ROOTS = "multiplies by a root mean square, that of parameters of 1e20 is infinite"
STEPS = "divides by a squared norm: from 1e19 on it takes no step, less than 1e-19"
CURVATURES = "takes inner products of gradients, none of 1e19 and more is remembered"
ELSEWHERE = {
    **dict.fromkeys(
        (
            "clip_by_block_norm", "clip_by_block_rms", "clip_by_global_norm", "mars",
            "momentum, then clip", "clip and scheduled adamw",
        ),
        CLIPS,
    ),
    **dict.fromkeys(
        (
            "add_noise", "noisy_sgd", "dpsgd", "differentially_private_aggregate",
            "apollo", "scale_by_apollo",
        ),
        RANDOM,
    ),
    **dict.fromkeys(("adafactor", "scale_by_param_block_rms"), ROOTS),
    **dict.fromkeys(("polyak_sgd", "scale_by_polyak"), STEPS),
    **dict.fromkeys(("lbfgs", "scale_by_lbfgs"), CURVATURES),
    "skip of spikes": "skips what it cannot square",
    "dog": "a distance of 1e19 and more has no square",
    "scale_by_dog": "a distance of 1e19 and more has no square",
    **dict.fromkeys(("momo", "momo_adam", "prodigy", "scale_by_prodigy"), PRODUCTS),
}  # fmt: skip
"""Transformations that are not right at every scale, each with the reason."""


def is_ordinary(leaf):
    """Whether float32 has all numbers of an array: normal ones, and 0."""
    size = np.abs(leaf)
    return np.all((size == 0) | ((size >= RANGE.tiny) & (size <= RANGE.max)))


def is_key(leaf):
    """Whether a leaf of a state is a key of random numbers."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def flat(tree):
    """The numbers of a tree in float64."""
    return [
        np.asarray(leaf, float) for leaf in jax.tree.leaves(tree) if not is_key(leaf)
    ]


def runner(name):
    """Two updates of a transformation, the second far from the first."""
    tx, extra = TRANSFORMATIONS[name](), CASES.get(name, {}).get("extra")

    def run(params, grads):
        state, made = tx.init(params), []
        for g in grads:
            more = extra(params, g) if extra else {}
            updates, state = tx.update(g, state, params, **more)
            params = jax.tree.map(lambda p: 1.5 * p, params)
            made.append((updates, state))
        return made

    return jax.jit(run)


def wrong_scales(name):
    """Scales at which float32 is far from float64, on the same numbers.

    Only of updates that float32 can hold, and while it can hold what is kept.
    """
    run = runner(name)
    make = CASES.get(name, {}).get("gradients", testing.gradients)
    first = [make(jax.tree.map(jnp.float32, PARAMS), seed) for seed in range(2)]

    def at(scale, tree, dtype):
        def one(x):
            rounded = np.float32(scale * np.asarray(x, float))
            return jnp.asarray(rounded, dtype)

        return jax.tree.map(one, tree)

    for of_grads, of_params in PAIRS:
        runs = []
        for dtype in ("float64", "float32"):
            with jax.enable_x64(dtype == "float64"):
                arguments = at(of_params, PARAMS, dtype), at(of_grads, first, dtype)
                runs.append([(flat(u), flat(s)) for u, s in run(*arguments)])
        for (expected, kept), (found, _) in zip(*runs, strict=True):
            if not all(map(is_ordinary, expected + kept)):
                break
            for one, other in zip(expected, found, strict=True):
                most = np.abs(one).max(initial=0)
                if not np.all(np.abs(one - other) <= 1e-4 * most):
                    yield of_grads, of_params


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_a_transformation_is_as_right_at_every_scale_as_in_float64(name):
    wrong = sorted(set(wrong_scales(name)))
    if name in ELSEWHERE:
        assert wrong, "it is right by now: take it from ELSEWHERE"
    else:
        assert wrong == []


@pytest.mark.parametrize("size", [1e-25, 1.0, 1e20])
def test_novograd_keeps_squares_and_divides_by_norms(size):
    """The first step is right at any scale; later ones lack what no square tells."""
    grads = {"w": jnp.full(4, size, jnp.float32)}
    tx = gradtx.scale_by_novograd(b1=0.0, eps=0.0)
    state, found = tx.init(grads), []
    for _ in range(4):
        updates, state = tx.update(grads, state, grads)
        found.append(float(updates["w"][0]))
    assert found[0] == pytest.approx(0.5, rel=1e-6)
    assert found[1:] == pytest.approx([0.5] * 3, rel=1e-6 if size == 1 else 1 / 6)
