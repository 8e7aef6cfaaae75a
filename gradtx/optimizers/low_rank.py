"""GaLore and APOLLO: Adam's moments in a low-rank projection."""

from __future__ import annotations

import functools
from typing import Any, Literal

import jax
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    Decay,
    Key,
    Member,
    NonNegative,
    Positive,
    PositiveInt,
    Scalar,
    ScalarOrSchedule,
    Size,
)
from gradtx.core.arithmetic import is_first_of, safe_ratio
from gradtx.core.context import Leaf
from gradtx.core.docstrings import described_by
from gradtx.core.factory import part
from gradtx.core.nodes import Fork
from gradtx.core.rule import Rule, memoryless
from gradtx.core.stable import stable
from gradtx.matrices.shapes import Matrix, is_tall, matrices_of
from gradtx.matrices.subspace import in_subspace
from gradtx.optimizers.adam import scale_by_adam
from gradtx.transforms.combine import chain, let, only
from gradtx.transforms.past_norms import limit_norm_growth
from gradtx.transforms.scaling import scale as multiply
from gradtx.transforms.vector_norms import norm_over
from gradtx.transforms.weight_decay import decayed_step


@described_by(in_subspace)
@transformation
def scale_by_galore(
    rank: Size = 128,
    update_proj_gap: PositiveInt = 200,
    scale: Scalar = 1.0,
    base_optimizer: Member | None = None,
    weight_dimension_numbers: Any = None,
):
    """GaLore's direction: Adam, or another transformation, `in_subspace`.

    Same arguments, defaults and numbers as `optax.contrib.scale_by_galore`.

    optax computes the directions in float32 for parameters of any dtype.

    Args:
        update_proj_gap: Number of updates between computations of the directions, at
            least 1.
        base_optimizer: Transformation of the projected gradient; `scale_by_adam()` if
            None.
        weight_dimension_numbers: Selects the matrices, as `dimension_numbers` of
            `in_subspace`.

    Examples:
        >>> tx = gradtx.scale_by_galore(rank=4, base_optimizer=gradtx.scale_by_lion())
        >>> tx.init(jnp.zeros((64, 16)))["mu"].shape
        (4, 16)
    """
    base = scale_by_adam() if base_optimizer is None else base_optimizer
    return in_subspace(base, rank, update_proj_gap, scale, weight_dimension_numbers)


@described_by(scale_by_galore, decayed_step)
@transformation
def galore(
    learning_rate: ScalarOrSchedule,
    rank: Size = 128,
    update_proj_gap: PositiveInt = 200,
    scale: Scalar = 1.0,
    base_optimizer: Member | None = None,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
    weight_dimension_numbers: Any = None,
):
    """GaLore: Adam, or another transformation, in the gradients' top singular vectors.

    Zhao et al. 2024: https://arxiv.org/abs/2403.03507. Same arguments, defaults and
    numbers as `optax.contrib.galore`.

    Examples:
        >>> tx = gradtx.galore(1e-3, rank=4, update_proj_gap=200)
        >>> params = {"kernel": jnp.zeros((64, 16)), "bias": jnp.zeros(16)}
        >>> state = tx.init(params)
        >>> jax.tree.map(jnp.shape, state["mu"])
        {'bias': (16,), 'kernel': (4, 16)}
    """
    numbers = weight_dimension_numbers
    direction = scale_by_galore(rank, update_proj_gap, scale, base_optimizer, numbers)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@part
@transformation
def _random_directions(rank: Size, every: PositiveInt, numbers: Any, key: Key):
    """Replace a matrix by random vectors of its shorter side, redrawn periodically."""

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        if leaf.static is None:
            return u, slots
        old = slots["projector"]

        def draw() -> Any:
            normal = jax.random.normal(leaf.key, old.shape, old.real.dtype)
            return (normal / old.shape[1] ** 0.5).astype(old.dtype)

        new = lax.cond(is_first_of(leaf.count, every), draw, lambda: old)
        return new, {"projector": new}

    def first(array: Any, static: Matrix | None) -> Any:
        if static is None:
            return None
        shape = static.of(array).shape
        return jnp.zeros((min(shape), min(rank, *shape)), array.real.dtype)

    static = functools.partial(matrices_of, numbers)
    return Rule(update, {"projector": first}, key=key, static=static, period=every)


@part
@transformation
def _project_at_random(rank: Size, numbers: Any):
    """Project the shorter side of a matrix on the vectors named "projector"."""

    def update(u: Any, leaf: Leaf) -> Any:
        if leaf.static is None:
            return u
        matrix, vectors = leaf.static.of(u), leaf.recall("projector").astype(u.dtype)
        return matrix @ vectors if is_tall(matrix) else vectors.T @ matrix

    def out(array: Any, static: Matrix | None) -> Any:
        if static is None:
            return array
        matrix = static.of(array)
        least = min(rank, *matrix.shape)
        return matrix[:, :least] if is_tall(matrix) else matrix[:least]

    return memoryless(update, out=out, static=functools.partial(matrices_of, numbers))


@part
@transformation
def _scale_as(projected: Member, transform: Member, tensorwise: bool, numbers: Any):
    """Scale by the ratio of norms of the transformed and the plain projection."""

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        low, step = outputs
        if leaf.static is None:
            return step
        matrix = leaf.static.of(u)
        size = functools.partial(
            norm_over, axes=(0, 1) if tensorwise else (int(is_tall(matrix)),)
        )

        return leaf.static.back(matrix * safe_ratio(size(step), size(low)), u)

    static = functools.partial(matrices_of, numbers)
    return Fork((projected, transform), join, static=static)


@stable
def _is_projected(numbers: Any, params: Any) -> Any:
    matrices = matrices_of(numbers, params)
    return jax.tree.map(
        lambda matrix: matrix is not None,
        matrices,
        is_leaf=lambda x: x is None or isinstance(x, Matrix),
    )


@transformation
def scale_by_apollo(
    rank: Size = 128,
    every: PositiveInt = 200,
    scale: Positive = 1.0,
    granularity: Literal["channel", "tensor"] = "channel",
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    growth: Positive = 1.01,
    dimension_numbers: Any = None,
    *,
    seed: Key = 0,
):
    """Scale each channel of a matrix as Adam scales it in a random projection.

    Zhu et al. 2024 (APOLLO), Algorithm 1: https://arxiv.org/abs/2412.05270; its
    APOLLO-Mini has rank 1, "tensor" and scale 128. Norm growth is limited after Adam's
    bias corrections (in the authors' code before them, so first steps are smaller).

    Args:
        rank: Number of directions that the shorter side is projected on. At least 1; a
            larger rank than its size counts as its size.
        every: Number of updates between draws of the directions, at least 1.
        scale: `scale**0.5` multiplies the update, as in the authors' code.
        granularity: Whether to scale per channel of the longer side, or per array.
        b1: Decay of Adam's first moment, in [0, 1).
        b2: Decay of Adam's second moment, in [0, 1).
        eps: Added to Adam's root. At least 0.
        growth: Largest growth factor of an array's norm, see `limit_norm_growth`.
        dimension_numbers: Selects the matrices, see `in_subspace`; the rest gets Adam.
        seed: Seed or key of the random directions.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_apollo(rank=2), gradtx.scale(-0.1))
        >>> tx.init(jnp.zeros((64, 16)))["nu"].shape
        (64, 2)
    """
    numbers = dimension_numbers
    project = _project_at_random(rank, numbers)
    adam = chain(project, scale_by_adam(b1, b2, eps))
    scaled = _scale_as(project, adam, granularity == "tensor", numbers)
    paced = chain(limit_norm_growth(growth), multiply(scale**0.5))
    return chain(
        let("projector", _random_directions(rank, every, numbers, seed), scaled),
        only(paced, functools.partial(_is_projected, numbers)),
    )


@described_by(scale_by_apollo, decayed_step)
@transformation
def apollo(
    learning_rate: ScalarOrSchedule,
    rank: Size = 128,
    every: PositiveInt = 200,
    scale: Positive = 1.0,
    granularity: Literal["channel", "tensor"] = "channel",
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    growth: Positive = 1.01,
    dimension_numbers: Any = None,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
    *,
    seed: Key = 0,
):
    """APOLLO: scale each channel as Adam scales it in a random projection.

    Zhu et al. 2024: https://arxiv.org/abs/2412.05270. See `scale_by_apollo`; weight
    decay as in `adamw`.

    Examples:
        >>> tx = gradtx.apollo(1e-3, rank=1, scale=128.0, granularity="tensor")
        >>> params = {"kernel": jnp.zeros((64, 16)), "bias": jnp.zeros(16)}
        >>> state = tx.init(params)
        >>> jax.tree.map(jnp.shape, state["nu"])
        {'bias': (16,), 'kernel': (64, 1)}
    """
    direction = scale_by_apollo(
        rank, every, scale, granularity, b1, b2, eps, growth, dimension_numbers,
        seed=seed,
    )  # fmt: skip
    return decayed_step(direction, weight_decay, mask, learning_rate)
