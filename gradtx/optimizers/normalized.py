"""LaProp and ADOPT: momentum of normalized gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    Decay,
    DType,
    NonNegative,
    Positive,
    Scalar,
    ScalarOrSchedule,
)
from gradtx.core.docstrings import described_by
from gradtx.core.stable import stable
from gradtx.transforms.averages import at_first, scale_by_ema
from gradtx.transforms.bias import first_moment
from gradtx.transforms.combine import add, chain, identity
from gradtx.transforms.divide import divide_by, divide_by_root
from gradtx.transforms.estimators import at_least, root, second_moment, square
from gradtx.transforms.gradient_clipping import clip_magnitude
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.transforms.weight_decay import decayed_step


@transformation
def scale_by_laprop(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-15,
    mu_dtype: DType | None = None,
):
    """Momentum of gradients divided by the root of their second moment.

    Ziyin et al. 2020 (LaProp): https://arxiv.org/abs/2002.04839, Algorithm 1.

    Args:
        b1: Decay of the momentum, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added to the root. At least 0.
        mu_dtype: Storage dtype of the momentum; at least float32 if None.

    Keeps `mu` and `nu`.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_laprop(), gradtx.scale(-0.5))
        >>> print(f"{tx.update(jnp.array(30.0), tx.init(jnp.zeros(())))[0]:.2f}")
        -0.50
    """
    normalized = divide_by_root(second_moment(b2), eps)
    return chain(normalized, first_moment(b1, mu_dtype))


@described_by(scale_by_laprop, decayed_step)
@transformation
def laprop(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-15,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """LaProp: momentum of normalized gradients.

    Ziyin et al. 2020: https://arxiv.org/abs/2002.04839. Weight decay as in `adamw`; the
    learning rate multiplies the momentum, as in the paper.

    Examples:
        >>> tx = gradtx.laprop(1.0, weight_decay=0.0)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, 100.0):
        ...     updates, state = tx.update(jnp.array(gradient), state)
        ...     print(f"{updates:.2f}")
        -1.00
        -1.22
    """
    direction = scale_by_laprop(b1, b2, eps, mu_dtype)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@stable
def fourth_root(count: Any) -> Any:
    """ADOPT's bound of the normalized gradient: `count**0.25`, from count 0."""
    return count**0.25


@transformation
def scale_by_adopt(
    b1: Decay = 0.9,
    b2: Decay = 0.9999,
    eps: Positive = 1e-6,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[Any], Any] = fourth_root,
):
    """Momentum of gradients divided by the root of the previous second moment.

    Taniguchi et al. 2024: https://arxiv.org/abs/2411.02853. Same arguments, defaults
    and numbers as `optax.contrib.scale_by_adopt`. The first update is zero: it only
    starts the second moment.

    Args:
        b1: Decay of the momentum, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Lower bound of the root. Positive.
        mu_dtype: Storage dtype of the momentum; at least float32 if None.
        nesterov: Whether to use Nesterov momentum.
        use_clipping: Whether to clip the normalized gradient.
        clip_value_fn: Bound of the clipping, a function of the count.

    Keeps `mu` and `nu`.

    Examples:
        >>> tx = gradtx.scale_by_adopt()
        >>> updates, state = tx.update(jnp.array(30.0), tx.init(jnp.zeros(())))
        >>> print(f"{updates:.2f} {state['nu']:.2f}")
        0.00 900.00
    """
    nu = chain(square(), scale_by_ema(b2, "nu", initial_value=None, lagged=True))
    mu = scale_by_ema(b1, "mu", mu_dtype)
    ahead = add(identity(), mu, weights=(b1.complement, b1))
    return chain(
        divide_by(chain(nu, root(), at_least(eps))),
        clip_magnitude(clip_value_fn) if use_clipping else identity(),
        at_first(0.0),
        ahead if nesterov else mu,
    )


@described_by(scale_by_adopt, decayed_step)
@transformation
def adopt(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.9999,
    eps: Positive = 1e-6,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[Any], Any] = fourth_root,
):
    """ADOPT: Adam that converges for any `b2`; divides by the previous second moment.

    Taniguchi et al. 2024: https://arxiv.org/abs/2411.02853. Same arguments, defaults
    and numbers as `optax.contrib.adopt`.

    Examples:
        >>> tx = gradtx.adopt(1.0)
        >>> path = gradtx.trajectory(tx, lambda x: 2 * x, jnp.zeros(()), 4)
        >>> print(*(f"{u:.2f}" for u in jnp.diff(path.positions)))
        0.00 -0.10 -0.19 -0.27
    """
    momentum = scale_by_adopt(
        b1, b2, eps, mu_dtype, nesterov=nesterov, use_clipping=use_clipping,
        clip_value_fn=clip_value_fn,
    )  # fmt: skip
    return chain(momentum, scale_by_learning_rate(learning_rate))
