"""The polar factor of a matrix, by Newton-Schulz iterations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from gradtx.core.arithmetic import abs2
from gradtx.core.dtypes import wide
from gradtx.core.errors import short_repr

Row = tuple[float, float, float]

KELLER = (3.4445, -4.7750, 2.0315)
_POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
_PAPER = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
_YOU = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)


def _over(rows: Sequence[Row], factor: float) -> tuple[Row, ...]:
    """The polynomials of x / factor: odd ones, of degrees 1, 3, 5."""
    return tuple((a / factor, b / factor**3, c / factor**5) for a, b, c in rows)


COEFFICIENTS: dict[str, tuple[Row, ...]] = {
    "keller": (KELLER,),
    "polar_express": (*_over(_POLAR_EXPRESS[:1], 1.02), *_POLAR_EXPRESS[1:]),
    "polar_express_safe": _over(_PAPER, 1.05),
    "you": _YOU,
    "deepseek": (*[KELLER] * 8, *[(2.0, -1.5, 0.5)] * 2),
}
"""Coefficients (a, b, c) of `a x + b x**3 + c x**5`, one row a step, by name.

keller: one row for any number of steps (Jordan 2024, https://kellerjordan.github.io/posts/muon/).
polar_express: Amsel et al. 2025, https://arxiv.org/abs/2505.16932, as in
microsoft/dion, which divides the matrix by 1.02 of its norm. polar_express_safe: the
paper's first rows, each for singular values of up to 1.05, as in
Dao-AILab/gram-newton-schulz. you:
YouJiacheng's, optax's preset "dion". deepseek: eight of keller's and two that converge,
as in DeepSeek V4.
"""
PRECONDITIONINGS = ("frobenius", "spectral", "aol", "schatten")
FORMS = ("auto", "plain", "gram")


def orthogonalize(
    x: Any,
    coefficients: Any = "keller",
    steps: int | None = None,
    form: str = "auto",
    *,
    preconditioning: str = "frobenius",
    eps: Any = 1e-7,
    dtype: Any = None,
) -> jax.Array:
    """The polar factor `U V^H` of a matrix `U S V^H`, approximately.

    Odd polynomials bring the singular values near 1, by products of matrices only.

    Args:
        x: A matrix, or a batch of them on leading axes, of any scale.
        coefficients: A name in `COEFFICIENTS`, a row (a, b, c), or a row for each step.
        steps: How many; if None, as many as rows, and 5 for a single row.
        form: "plain"; "gram" iterates on the Gram matrix, which is cheaper for long
            matrices and squares the condition number; "auto" takes the cheaper.
        preconditioning: The bound of singular values that divides x: "frobenius",
            "spectral", by rows "aol" (https://arxiv.org/abs/2512.04632), "schatten"
            of order 4 (https://arxiv.org/abs/2506.10935).
        eps: Added to the norm, at most a tenth of it. At least 0.
        dtype: Dtype of the products; at least float32 if None.

    Raises:
        ValueError: x is no matrix, rows and steps differ, or a name is unknown.

    Examples:
        >>> x = jnp.diag(jnp.array([10.0, 1.0]))
        >>> factor = gradtx.matrices.orthogonalize(x, "deepseek")
        >>> print(*(f"{s:.2f}" for s in jnp.linalg.svd(factor, compute_uv=False)))
        1.00 1.00
    """
    x = jnp.asarray(x)
    if x.ndim < 2:
        raise ValueError(f"orthogonalize: x must be a matrix, got shape {x.shape}")
    for name, value, known in (
        ("form", form, FORMS),
        ("preconditioning", preconditioning, PRECONDITIONINGS),
    ):
        if value not in known:
            raise ValueError(
                f"orthogonalize: {name} must be one of {', '.join(known)}, "
                f"got {value!r}"
            )
    rows = rows_of(coefficients, steps)
    if x.size == 0:
        return x
    is_tall = x.shape[-2] > x.shape[-1]
    matrix = _adjoint(x) if is_tall else x
    matrix = _preconditioned(matrix, preconditioning, eps)
    if dtype is not None:
        matrix = matrix.astype(dtype)
    is_gram = form == "gram" or (form == "auto" and _gram_pays(matrix, len(rows)))
    factor = (_by_gram if is_gram else _plainly)(matrix, rows)
    return (_adjoint(factor) if is_tall else factor).astype(x.dtype)


def rows_of(coefficients: Any, steps: int | None) -> list[Any]:
    """The coefficients of each step; those given may be arrays, also traced.

    Raises:
        ValueError: See `table_of`; steps are not as many as rows.
    """
    if steps is not None and steps < 1:
        raise ValueError(f"orthogonalize: steps must be at least 1, got {steps}")
    rows = table_of(coefficients)
    if len(rows) == 1:
        return rows * (5 if steps is None else steps)
    if steps is not None and steps != len(rows):
        raise ValueError(
            f"orthogonalize: expected {len(rows)} steps for as many rows of "
            f"coefficients, got {steps}"
        )
    return rows


def table_of(coefficients: Any) -> list[Any]:
    """The rows of coefficients, by name or as given.

    Raises:
        ValueError: An unknown name, or rows that are not of three numbers.
    """
    owner = "orthogonalize: coefficients"
    if isinstance(coefficients, str):
        if coefficients not in COEFFICIENTS:
            known = ", ".join(COEFFICIENTS)
            raise ValueError(f"{owner} must be one of {known}, got {coefficients!r}")
        coefficients = COEFFICIENTS[coefficients]
    shape = np.shape(coefficients)
    if len(shape) not in (1, 2) or shape[-1] != 3 or shape[0] == 0:
        raise ValueError(
            f"{owner} must be of shape (3,) or (steps, 3), got "
            f"{short_repr(coefficients)}"
        )
    return [coefficients] if len(shape) == 1 else [*coefficients]


def _adjoint(x: jax.Array) -> jax.Array:
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def _preconditioned(x: jax.Array, kind: str, eps: Any) -> jax.Array:
    """A wide matrix in at least float32, its singular values brought to at most 1."""
    x = wide(x)
    # The result does not depend on this scale, so its derivative is not needed.
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True))
    scale = jnp.where(largest == 0, 1, largest)
    x, eps = x / scale.astype(x.dtype), jnp.asarray(eps, scale.dtype) / scale
    if kind == "aol":
        gram = jnp.abs(x @ _adjoint(x))
        sums = gram.sum(axis=-1, keepdims=True)
        least = jnp.minimum(1e-8 / scale / scale, sums.max(-2, keepdims=True) / 1000)
        factor = lax.rsqrt(jnp.where(largest == 0, 1, jnp.maximum(sums, least)))
        return x * factor.astype(x.dtype)
    if kind == "schatten":  # without eps, as in optax
        return x / jnp.sqrt(_norm(x @ _adjoint(x))).astype(x.dtype)
    if kind == "spectral":
        # With the singular vector as a constant, the derivative is finite where
        # singular values are equal.
        vectors = jnp.linalg.eigh(lax.stop_gradient(x @ _adjoint(x)))[1]
        norm = _norm(_adjoint(vectors[..., -1:]) @ x)
    else:
        norm = _norm(x)
    norm = norm + jnp.minimum(eps, norm / 10)
    return x / jnp.where(largest == 0, 1, norm).astype(x.dtype)


def _norm(x: jax.Array) -> jax.Array:
    """The Frobenius norm of each matrix; its largest element is about 1, or 0."""
    squares = jnp.sum(abs2(x), axis=(-2, -1), keepdims=True)
    return jnp.sqrt(jnp.where(squares == 0, 1, squares))


def _plainly(x: jax.Array, rows: Sequence[Any]) -> jax.Array:
    for row in rows:
        a, b, c = _numbers(row, x)
        square = x @ _adjoint(x)
        x = a * x + (b * square + c * (square @ square)) @ x
    return x


def _by_gram(x: jax.Array, rows: Sequence[Any]) -> jax.Array:
    """The same on `x x^H`: all steps are polynomials of it, which commute."""
    square = x @ _adjoint(x)
    identity = jnp.broadcast_to(jnp.eye(square.shape[-1], dtype=x.dtype), square.shape)
    product = identity
    for i, row in enumerate(rows):
        a, b, c = _numbers(row, x)
        factor = a * identity + b * square + c * (square @ square)
        product = factor @ product if i else factor
        if i + 1 < len(rows):
            square = factor @ square @ factor
    return product @ x


def _gram_pays(x: jax.Array, steps: int) -> bool:
    """Whether the Gram form multiplies less."""
    short, long = x.shape[-2:]
    plain = steps * (2 * short**2 * long + short**3)
    gram = 2 * short**2 * long + (4 * steps - 3) * short**3
    return gram < plain


def _numbers(row: Any, like: jax.Array) -> list[jax.Array]:
    return [jnp.asarray(row[i], like.dtype) for i in range(3)]
