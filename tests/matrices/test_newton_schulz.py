import pathlib

import chex
import jax
import numpy as np
import pytest
from jax import numpy as jnp
from optax.contrib import _muon as optax_muon

from gradtx.matrices.newton_schulz import (
    COEFFICIENTS,
    PRECONDITIONINGS,
    orthogonalize,
    rows_of,
)

GOLDEN = np.load(
    pathlib.Path(__file__).parents[1] / "data" / "matrix" / "newton_schulz.npz"
)
MATRICES = sorted(name.split(".")[0] for name in GOLDEN if name.endswith(".input"))
SETTINGS = {
    "keller5": {"coefficients": "keller"},
    "keller10": {"coefficients": "keller", "steps": 10},
    "polar_express": {"coefficients": "polar_express", "eps": 1e-6 / 1.02},
    "standard_polar105": {"coefficients": "polar_express_safe", "form": "plain"},
    "gram_polar105": {"coefficients": "polar_express_safe", "form": "gram"},
    "standard_you": {"coefficients": "you", "form": "plain"},
    "gram_you": {"coefficients": "you", "form": "gram"},
}
SHAPES = [(8, 8), (16, 4), (4, 16), (1, 5), (5, 1), (32, 3)]
# The largest distance of a singular value from 1, for values from a tenth of the norm.
BOUNDS = {
    "keller": 0.35,
    "polar_express": 0.2,
    "polar_express_safe": 0.2,
    "you": 0.25,
    "deepseek": 1e-3,
}


def matrix(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def of_singular_values(values, columns):
    rows = len(values)
    u, _ = np.linalg.qr(matrix(rows, rows, dtype="float64"))
    v, _ = np.linalg.qr(matrix(columns, rows, seed=1, dtype="float64"))
    return u @ np.diag(values) @ v.T, u @ v.T


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", MATRICES)
def test_it_gives_the_numbers_of_the_authors_code(name, setting):
    with jax.enable_x64(True):
        found = orthogonalize(GOLDEN[f"{name}.input"], **SETTINGS[setting])
    # keller10 magnifies roundings in directions of rank 0 by 3.4**10.
    np.testing.assert_allclose(found, GOLDEN[f"{name}.{setting}"], rtol=0, atol=1e-11)


@pytest.mark.parametrize("form", ["plain", "gram"])
@pytest.mark.parametrize("name", COEFFICIENTS)
def test_singular_values_are_near_1_and_singular_vectors_stay(name, form):
    values = np.geomspace(1, 0.1, 6)
    x, factor = of_singular_values(values, 20)
    found = np.asarray(orthogonalize(jnp.asarray(x, jnp.float32), name, form=form))
    inside = factor @ found.T  # diagonal in the bases of x
    size = np.linalg.svd(found, compute_uv=False)
    assert np.abs(size - 1).max() <= BOUNDS[name]
    np.testing.assert_allclose(inside, inside.T, atol=1e-4)
    if BOUNDS[name] < 0.01:
        np.testing.assert_allclose(found, factor, atol=1e-3)


@pytest.mark.parametrize("preconditioning", PRECONDITIONINGS)
@pytest.mark.parametrize("coefficients", ["keller", "you"])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_optaxs_in_float64(shape, coefficients, preconditioning):
    rows = COEFFICIENTS[coefficients]
    with jax.enable_x64(True):
        x = jnp.asarray(matrix(*shape, dtype="float64"))
        theirs = optax_muon.orthogonalize_via_newton_schulz(
            x, jnp.asarray(rows * 5 if len(rows) == 1 else rows), 5, preconditioning
        )
        for form in ("plain", "gram"):
            ours = orthogonalize(
                x, coefficients, form=form, preconditioning=preconditioning, eps=1e-8
            )
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("preconditioning", PRECONDITIONINGS)
@pytest.mark.parametrize("scale", [1e-35, 1e-30, 1e-10, 1.0, 1e20, 1e37])
def test_a_matrix_of_any_size_has_the_same_factor(scale, preconditioning):
    x = matrix(6, 9)
    expected = orthogonalize(x, "deepseek", preconditioning=preconditioning)
    scaled = (x.astype("float64") * scale).astype("float32")
    found = orthogonalize(scaled, "deepseek", preconditioning=preconditioning)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    x = jnp.asarray(100 * matrix(64, 64), dtype)  # its squares overflow float16
    found = orthogonalize(x)
    assert found.dtype == x.dtype
    expected = orthogonalize(x.astype("float32"))
    np.testing.assert_allclose(
        found.astype("float32"), expected, atol=float(jnp.finfo(dtype).eps)
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_products_may_be_of_half_precision(dtype):
    x = matrix(16, 48)
    found = orthogonalize(x, "polar_express", dtype=dtype)
    assert found.dtype == jnp.float32
    expected = orthogonalize(x, "polar_express")
    difference = np.linalg.norm(found - expected, 2)
    assert 0 < difference < 30 * float(jnp.finfo(dtype).eps)
    text = str(jax.make_jaxpr(lambda x: orthogonalize(x, dtype=dtype))(x))
    kind = {"float16": "f16", "bfloat16": "bf16"}[dtype]
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products and all(f":{kind}[" in line for line in products)


@pytest.mark.parametrize("preconditioning", PRECONDITIONINGS)
@pytest.mark.parametrize("form", ["plain", "gram"])
def test_zeros_stay_zeros_and_have_finite_derivatives(form, preconditioning):
    def total(x):
        return orthogonalize(x, form=form, preconditioning=preconditioning).sum()

    zeros = jnp.zeros((3, 5))
    value, derivative = jax.value_and_grad(total)(zeros)
    assert value == 0 and np.isfinite(derivative).all()
    assert np.isfinite(jax.grad(total)(jnp.asarray(matrix(3, 5)))).all()


def test_the_derivative_is_that_of_differences():
    with jax.enable_x64(True):
        x, d = (jnp.asarray(matrix(3, 5, seed=s, dtype="float64")) for s in (0, 1))

        def along(t):
            return orthogonalize(x + t * d)

        _, tangent = jax.jvp(along, (0.0,), (1.0,))
        difference = (along(1e-6) - along(-1e-6)) / 2e-6
        np.testing.assert_allclose(tangent, difference, atol=1e-6)


@pytest.mark.parametrize("form", ["plain", "gram"])
def test_a_batch_is_each_of_its_matrices_and_nan_stays_in_its_own(form):
    batch = matrix(2, 3, 5, 8)
    batch[0, 1] = 0
    batch[1, 2, 0, 0] = np.nan
    found = np.asarray(orthogonalize(batch, form=form))
    for i, j in np.ndindex(2, 3):
        alone = np.asarray(orthogonalize(batch[i, j], form=form))
        np.testing.assert_allclose(found[i, j], alone, atol=1e-6)
    assert np.isnan(found[1, 2]).all()
    assert np.isfinite(np.delete(found.reshape(6, 5, 8), 5, 0)).all()


def test_one_matrix_is_multiplied_without_axes_of_batches():
    text = str(jax.make_jaxpr(orthogonalize)(jnp.ones((4, 6))))
    assert "dot_general" in text and "vmap" not in text
    assert "dimension_numbers=(([1], [0]), ([], []))" in text
    assert text.count("], [0]), ([0]") == 0


@pytest.mark.parametrize(
    ("shape", "is_gram"), [((64, 64), False), ((64, 512), True), ((512, 64), True)]
)
def test_auto_takes_the_form_that_multiplies_less(shape, is_gram):
    def multiplications(form):
        lowered = jax.jit(lambda x: orthogonalize(x, form=form)).lower(jnp.ones(shape))
        cost = lowered.compile().cost_analysis()
        assert cost is not None
        return cost["flops"]

    plain, gram, auto = map(multiplications, ("plain", "gram", "auto"))
    assert (gram < plain) == is_gram
    assert auto == min(plain, gram)


def test_complex_matrices_have_a_unitary_factor():
    x = matrix(4, 7) + 1j * matrix(4, 7, seed=1)
    found = orthogonalize(x.astype("complex64"), "deepseek")
    np.testing.assert_allclose(found @ np.conj(found.T), np.eye(4), atol=1e-3)
    turned = orthogonalize((1j * x).astype("complex64"), "deepseek")
    np.testing.assert_allclose(turned, 1j * found, atol=1e-4)


def test_matrices_without_elements_come_back():
    for shape in ((0, 3), (3, 0), (0, 2, 2)):
        assert orthogonalize(jnp.zeros(shape)).shape == shape


def test_coefficients_may_be_traced_and_in_any_container():
    x = jnp.asarray(matrix(4, 6))
    table = COEFFICIENTS["you"]
    expected = orthogonalize(x, "you")
    for given in (table, [list(row) for row in table], np.array(table, np.float32)):
        chex.assert_trees_all_close(orthogonalize(x, given), expected, rtol=1e-5)
    traced = jax.jit(orthogonalize)(x, jnp.array(table))
    chex.assert_trees_all_close(traced, expected, rtol=1e-5, atol=1e-6)


def test_a_single_row_is_taken_for_every_step():
    assert rows_of("keller", None) == [COEFFICIENTS["keller"][0]] * 5
    assert rows_of((1.5, -0.5, 0.0), 3) == [(1.5, -0.5, 0.0)] * 3
    assert len(rows_of("deepseek", None)) == len(rows_of("deepseek", 10)) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": jnp.ones(3)}, r"x must be a matrix, got shape \(3,\)"),
        ({"coefficients": "kelle"}, "coefficients must be one of keller, .* 'kelle'"),
        ({"coefficients": (1.0, 2.0)}, r"must be of shape \(3,\) or \(steps, 3\), got"),
        ({"coefficients": ()}, r"must be of shape \(3,\) or \(steps, 3\), got"),
        ({"coefficients": "you", "steps": 8}, "expected 5 steps for as many rows .* 8"),
        ({"coefficients": "you", "steps": 3}, "expected 5 steps for as many rows .* 3"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"form": "fast"}, "form must be one of auto, plain, gram, got 'fast'"),
        (
            {"preconditioning": "l1"},
            "preconditioning must be one of frobenius, .* 'l1'",
        ),
    ],
)
def test_an_error_names_the_argument_and_what_was_given(arguments, message):
    with pytest.raises(ValueError, match=f"orthogonalize: .*{message}"):
        orthogonalize(**({"x": jnp.ones((2, 3))} | arguments))
