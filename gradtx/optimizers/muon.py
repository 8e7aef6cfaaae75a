"""Muon: momentum, orthogonalized."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import jax

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    Decay,
    DType,
    Member,
    NonNegative,
    Scalar,
    ScalarOrSchedule,
    Size,
)
from gradtx.core.arithmetic import inner
from gradtx.core.context import Leaf
from gradtx.core.docstrings import described_by
from gradtx.core.factory import part
from gradtx.core.nodes import Groups
from gradtx.core.paths import name_of
from gradtx.core.rule import memoryless
from gradtx.core.trees import is_none
from gradtx.matrices.newton_schulz import COEFFICIENTS, KELLER, orthogonalize, table_of
from gradtx.matrices.shapes import matrices_of
from gradtx.optimizers.adam import adamw
from gradtx.transforms.bias import first_moment
from gradtx.transforms.combine import chain, moments
from gradtx.transforms.weight_decay import decayed_step

Preconditioning = Literal["frobenius", "spectral", "aol", "schatten"]
PRESETS = {"standard": COEFFICIENTS["keller"], "dion": COEFFICIENTS["you"]}
"""optax's names of coefficients."""


@part
@transformation
def polar_factor(
    ns_coeffs: Any,
    ns_steps: Size,
    eps: NonNegative,
    adaptive: bool,
    preconditioning: Preconditioning,
    weight_dimension_numbers: Any,
):
    """Replace each matrix by its polar factor, see `matrices.orthogonalize`."""
    rows = _rows_of(ns_coeffs, ns_steps)

    def update(u: Any, leaf: Leaf) -> Any:
        factor = orthogonalize(
            leaf.static.of(u),
            rows,
            len(rows),
            preconditioning=preconditioning,
            eps=eps,
        )
        factor = leaf.static.back(factor, u)
        return inner(u, factor).astype(u.dtype) * factor if adaptive else factor

    only = functools.partial(_only_matrices, weight_dimension_numbers)
    return memoryless(update, static=only)


@part
@transformation
def scale_by_shape(weight_dimension_numbers: Any, consistent_rms: Scalar | None):
    """Scale a matrix by `sqrt(max(1, columns / rows))`, or to a root mean square."""

    def update(u: Any, leaf: Leaf) -> Any:
        rows, columns = leaf.static.of(u).shape[-2:]
        if consistent_rms is None:
            return math.sqrt(max(1, columns / max(1, rows))) * u
        return math.sqrt(max(rows, columns)) * consistent_rms * u

    return memoryless(update, static=_matrices(weight_dimension_numbers))


@transformation
def scale_by_muon(
    ns_coeffs: Any = KELLER,
    ns_steps: Size = 5,
    beta: Decay = 0.95,
    eps: NonNegative = 1e-8,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: Preconditioning = "frobenius",
    weight_dimension_numbers: Any = None,
):
    """Muon's direction: the polar factor of the average gradient.

    Jordan et al. 2024: https://kellerjordan.github.io/posts/muon/. Same arguments,
    defaults and numbers as `optax.contrib.scale_by_muon`.

    Args:
        ns_coeffs: A row (a, b, c) of Newton-Schulz coefficients, a row per step, or a
            name in `matrices.COEFFICIENTS`.
        ns_steps: How many steps, at least 1; as many as rows, if several.
        beta: Decay of the average, in [0, 1).
        eps: Added to the norm that divides the matrix, at most a tenth of it.
        mu_dtype: Storage dtype of the average; at least float32 if None.
        nesterov: Whether to use Nesterov momentum.
        adaptive: Multiply by the inner product of both: https://arxiv.org/abs/2409.20325.
        preconditioning: See `matrices.orthogonalize`.
        weight_dimension_numbers: `MuonDimensionNumbers`, a tree of them, or a function
            from the parameters to one; other axes are batches. Two axes if None.

    Keeps `mu`.

    Examples:
        >>> tx = gradtx.scale_by_muon("deepseek")
        >>> grads = jnp.diag(jnp.array([10.0, 1.0]))
        >>> updates, _ = tx.update(grads, tx.init(grads))
        >>> print(*(f"{u:.2f}" for u in jnp.diag(updates)))
        1.00 1.00
    """
    polar = polar_factor(
        ns_coeffs, ns_steps, eps, adaptive, preconditioning, weight_dimension_numbers
    )
    return moments(first_moment(beta, mu_dtype, nesterov), polar)


@described_by(
    scale_by_muon,
    decayed_step,
    muon_weight_dimension_numbers="weight_dimension_numbers",
    weight_decay_mask="mask",
)
@transformation
def muon(
    learning_rate: ScalarOrSchedule,
    ns_coeffs: Any = KELLER,
    ns_steps: Size = 5,
    beta: Decay = 0.95,
    eps: NonNegative = 1e-8,
    weight_decay: Scalar = 0.0,
    weight_decay_mask: Any = None,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: Preconditioning = "frobenius",
    adam_b1: Decay = 0.9,
    adam_b2: Decay = 0.999,
    adam_eps_root: NonNegative = 0.0,
    adam_weight_decay: Scalar = 0.0,
    adam_learning_rate: ScalarOrSchedule | None = None,
    muon_weight_dimension_numbers: Any = None,
    consistent_rms: Scalar | None = None,
):
    """Muon: momentum orthogonalized by Newton-Schulz; other parameters get AdamW.

    Jordan et al. 2024: https://kellerjordan.github.io/posts/muon/. Same arguments,
    defaults and numbers as `optax.contrib.muon`: AdamW has Nesterov's momentum, too.

    Args:
        adam_b1: Decay of AdamW's first moment, in [0, 1).
        adam_b2: Decay of AdamW's second moment, in [0, 1).
        adam_eps_root: Added inside AdamW's root. At least 0.
        adam_weight_decay: The same for AdamW.
        adam_learning_rate: AdamW's learning rate; the same if None.
        muon_weight_dimension_numbers: `MuonDimensionNumbers`, a tree of them and None
            (for AdamW), or a function from the parameters to one. If None, arrays of
            two axes are matrices, and all others get AdamW.
        consistent_rms: Root mean square of updates (0.2 is about AdamW's,
            https://arxiv.org/abs/2502.16982); if None, they are scaled by
            `sqrt(max(1, columns / rows))`.

    Keeps `muon.mu`, `adam.mu`, `adam.nu`.

    Examples:
        >>> tx = gradtx.muon(0.02, adam_learning_rate=3e-4, weight_decay=0.01)
        >>> params = {"kernel": jnp.ones((4, 8)), "bias": jnp.zeros(8)}
        >>> sorted(tx.init(params))
        ['adam.mu', 'adam.nu', 'count', 'muon.mu']
    """
    numbers = muon_weight_dimension_numbers
    first = ns_coeffs, ns_steps, beta, eps, mu_dtype
    more = {"preconditioning": preconditioning, "weight_dimension_numbers": numbers}
    polar = scale_by_muon(*first, nesterov=nesterov, adaptive=adaptive, **more)
    direction = chain(polar, scale_by_shape(numbers, consistent_rms))
    rate = learning_rate if adam_learning_rate is None else adam_learning_rate
    adam = adam_b1, adam_b2, eps, adam_eps_root, mu_dtype, adam_weight_decay
    return _muon_or_adam(
        decayed_step(direction, weight_decay, weight_decay_mask, learning_rate),
        adamw(rate, *adam, nesterov=nesterov),
        numbers,
    )


@part
@transformation
def _muon_or_adam(muon: Member, adam: Member, numbers: Any):
    """One transformation for matrices, another for all other parameters."""
    labels = functools.partial(_labels, numbers)
    return Groups({"muon": muon, "adam": adam}, labels, pins=True, hides=True)


def _matrices(numbers: Any) -> Any:
    return functools.partial(
        matrices_of, numbers, owner="scale_by_muon", has_batches=True
    )


def _only_matrices(numbers: Any, params: Any) -> Any:
    """How each array is a matrix; an array that is none is an error."""
    matrices = _matrices(numbers)(params)

    def check(path: Any, p: Any, matrix: Any) -> None:
        if p is not None and matrix is None:
            raise ValueError(
                f"scale_by_muon: {name_of(path)!r} must have two axes or dimension "
                f"numbers, got shape {p.shape}"
            )

    jax.tree.map_with_path(check, params, matrices, is_leaf=is_none)
    return matrices


def _labels(numbers: Any, params: Any) -> Any:
    """Muon for matrices, AdamW for all other parameters."""
    return jax.tree.map(
        lambda p, matrix: "adam" if matrix is None else "muon",
        params,
        _matrices(numbers)(params),
    )


def _rows_of(coefficients: Any, steps: int) -> list[Any]:
    """A row for each step; 5 steps, the default, stand for as many as rows."""
    if isinstance(coefficients, str):
        coefficients = PRESETS.get(coefficients, coefficients)
    rows = table_of(coefficients)
    if len(rows) == 1:
        return rows * steps
    if steps not in (5, len(rows)):
        raise ValueError(
            f"scale_by_muon: ns_steps must be {len(rows)}, as many as rows of "
            f"ns_coeffs, got {steps}"
        )
    return rows
