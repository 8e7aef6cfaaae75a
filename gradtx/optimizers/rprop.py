"""Rprop: a step size per element."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Fixed, NonNegative, Scalar
from gradtx.core.context import Leaf
from gradtx.core.docstrings import described_by
from gradtx.core.rule import ZEROS, Rule, Slot
from gradtx.transforms.combine import chain
from gradtx.transforms.scaling import scale


@transformation
def scale_by_rprop(
    learning_rate: Fixed[NonNegative],
    eta_minus: Scalar = 0.5,
    eta_plus: Scalar = 1.2,
    min_step_size: NonNegative = 1e-6,
    max_step_size: NonNegative = 50.0,
    *,
    delayed: bool = True,
):
    """Rprop's steps: a step size per element that grows while the sign stays the same.

    Riedmiller and Braun 1993: https://doi.org/10.1109/ICNN.1993.298623, in the form of
    Igel and Huesken 2000 (iRprop-): an element whose gradient changes sign takes no
    step.

    Args:
        learning_rate: Initial step size. At least 0.
        eta_minus: Factor of a step size where the sign has changed.
        eta_plus: Factor of a step size where the sign has not changed.
        min_step_size: Smallest step size. At least 0.
        max_step_size: Largest step size. At least 0.
        delayed: Whether to return the previous update's step (as optax does) instead of
            the new one (as torch does).

    Keeps `step_sizes` and the last steps, `prev_updates`.

    Examples:
        >>> tx = gradtx.scale_by_rprop(0.5, delayed=False)
        >>> updates, state = tx.update(jnp.array(300.0), tx.init(jnp.zeros(())))
        >>> print(f"{updates:.2f} {tx.update(jnp.array(0.01), state)[0]:.2f}")
        0.50 0.60
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        last, size = slots["prev_updates"], slots["step_sizes"]
        agrees = jnp.real(jnp.conj(u) * last)
        moved = size * jnp.where(agrees > 0, eta_plus, eta_minus)
        moved = jnp.clip(moved, min_step_size, max_step_size)
        size = jnp.where(agrees == 0, size, moved)
        step = jnp.where(agrees < 0, 0, size * jnp.sign(u))
        given = jnp.where(agrees < 0, 0, last)
        new = {"step_sizes": size, "prev_updates": step}
        return (given if delayed else step), new

    return Rule(
        update,
        {
            "step_sizes": Slot(
                lambda array: jnp.full_like(array.real, learning_rate),
                is_elementwise=True,
            ),
            "prev_updates": ZEROS,
        },
        is_step=True,
    )


@described_by(scale_by_rprop)
@transformation
def rprop(
    learning_rate: Fixed[NonNegative],
    eta_minus: Scalar = 0.5,
    eta_plus: Scalar = 1.2,
    min_step_size: NonNegative = 1e-6,
    max_step_size: NonNegative = 50.0,
    *,
    delayed: bool = True,
):
    """Rprop: a step size per element, for full-batch gradients.

    Riedmiller and Braun 1993: https://doi.org/10.1109/ICNN.1993.298623. Steps are one
    update late, as in `optax.rprop`; `delayed=False` gives torch's.

    Examples:
        >>> tx = gradtx.rprop(0.1, delayed=False)
        >>> path = gradtx.trajectory(tx, jnp.abs, jnp.array(0.5), 5)
        >>> print(*(f"{x:.3f}" for x in path.positions))
        0.500 0.400 0.280 0.136 -0.037 -0.037
    """
    sizes = scale_by_rprop(
        learning_rate, eta_minus, eta_plus, min_step_size, max_step_size,
        delayed=delayed,
    )  # fmt: skip
    return chain(sizes, scale(-1.0))
