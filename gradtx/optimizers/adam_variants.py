"""Adam with another denominator, warmup or bound: Adamax, Yogi, RAdam, atan2."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    Decay,
    DType,
    Fixed,
    Length,
    Member,
    NonNegative,
    Positive,
    Scalar,
    ScalarOrSchedule,
)
from gradtx.core.arithmetic import safe_sqrt
from gradtx.core.context import Leaf
from gradtx.core.docstrings import described_by
from gradtx.core.nodes import Fork
from gradtx.optimizers.adam import scale_by_adam
from gradtx.transforms.averages import running_maximum, scale_by_ema, sign_average
from gradtx.transforms.bias import Weight, corrected, first_moment, kept_weights
from gradtx.transforms.combine import chain, let, moments, recall
from gradtx.transforms.divide import (
    atan2_of_root,
    clip_by_normalized_rms,
    divide_by,
    divide_by_root,
)
from gradtx.transforms.estimators import magnitude, second_moment, shift, square
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.transforms.weight_decay import add_decayed_weights, decayed_step


@transformation
def scale_by_adamax(b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-8):
    """Adam with the decayed maximum of magnitudes instead of the root mean square.

    Kingma and Ba 2014, Algorithm 2: https://arxiv.org/abs/1412.6980. Same arguments,
    defaults and numbers as `optax.scale_by_adamax`.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the maximum, in [0, 1).
        eps: Added to each magnitude. At least 0.

    Keeps `mu` and `nu`.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_adamax(), gradtx.scale(-0.5))
        >>> print(f"{tx.update(jnp.array(30.0), tx.init(jnp.zeros(())))[0]:.2f}")
        -0.50
    """
    largest = chain(magnitude(), shift(eps), running_maximum("nu", b2))
    return moments(first_moment(b1), divide_by(largest))


@described_by(scale_by_adamax, decayed_step)
@transformation
def adamax(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
):
    """Adamax: Adam with the infinity norm instead of the second moment.

    Kingma and Ba 2014, Algorithm 2: https://arxiv.org/abs/1412.6980. Same arguments,
    defaults and numbers as `optax.adamax`.

    Examples:
        >>> tx = gradtx.adamax(0.1, b2=0.5)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (8.0, 1.0, 3.0):
        ...     _, state = tx.update(jnp.array(gradient), state)
        ...     print(f"{state['nu']:.1f}")
        8.0
        4.0
        3.0
    """
    return chain(scale_by_adamax(b1, b2, eps), scale_by_learning_rate(learning_rate))


@described_by(scale_by_adamax, decayed_step)
@transformation
def adamaxw(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    weight_decay: Scalar = 1e-4,
    mask: Any = None,
):
    """AdamaxW: Adamax with decoupled weight decay.

    Kingma and Ba 2014, Algorithm 2: https://arxiv.org/abs/1412.6980. Same arguments,
    defaults and numbers as `optax.adamaxw`.

    Examples:
        >>> tx = gradtx.adamaxw(0.1, weight_decay=0.5, mask={"w": True, "b": False})
        >>> params = {"w": jnp.array(4.0), "b": jnp.array(4.0)}
        >>> grads = jax.tree.map(jnp.ones_like, params)
        >>> updates, _ = tx.update(grads, tx.init(params), params)
        >>> print(f"{updates['w']:.2f} {updates['b']:.2f}")
        -0.30 -0.10
    """
    direction = scale_by_adamax(b1, b2, eps)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@transformation
def scale_by_yogi(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-3,
    eps_root: NonNegative = 0.0,
    initial_accumulator_value: Fixed[NonNegative] = 1e-6,
):
    """Adam whose second moment changes by at most `(1 - b2) * grad**2` an update.

    Zaheer et al. 2018: see `sign_average`. Same arguments, defaults and numbers as
    `optax.scale_by_yogi`.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added to the root. At least 0.
        eps_root: Added inside the root. At least 0.
        initial_accumulator_value: Initial value of both moments. At least 0.

    Keeps `mu` and `nu`.

    Examples:
        >>> tx = gradtx.scale_by_yogi(initial_accumulator_value=0.0)
        >>> print(f"{tx.update(jnp.array(30.0), tx.init(jnp.zeros(())))[0]:.2f}")
        1.00
    """
    start = initial_accumulator_value
    nu = chain(square(), sign_average(b2, "nu", start))
    return moments(
        corrected(scale_by_ema(b1, "mu", initial_value=start), b1),
        divide_by_root(corrected(nu, b2), eps, eps_root),
    )


@described_by(scale_by_yogi, decayed_step)
@transformation
def yogi(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-3,
):
    """Yogi: Adam with a second moment that falls slowly.

    Zaheer et al. 2018:
    https://papers.nips.cc/paper/8186-adaptive-methods-for-nonconvex-optimization. Same
    arguments, defaults and numbers as `optax.yogi`.

    Examples:
        >>> tx = gradtx.yogi(0.1, b2=0.5)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, 0.0, 0.0):
        ...     _, state = tx.update(jnp.array(gradient), state)
        >>> print(f"{state['nu']:.2f}")  # Adam: 0.12
        0.50
    """
    return chain(scale_by_yogi(b1, b2, eps), scale_by_learning_rate(learning_rate))


@transformation
def rectify(preconditioner: Member, b2: Decay, threshold: Length = 5.0):
    """RAdam's rectification: precondition once the second moment's variance is small.

    Liu et al. 2019, Algorithm 2: https://arxiv.org/abs/1908.03265.

    Args:
        preconditioner: A transformation. Its output times the rectification replaces
            the update once the length of the average reaches the threshold.
        b2: Decay of the preconditioner's second moment, in [0, 1).
        threshold: Least length of the average, in updates. At least 4, as in the paper.

    Examples:
        >>> divide = gradtx.divide_by_root(gradtx.second_moment(0.999))
        >>> tx = gradtx.moments(gradtx.first_moment(0.9), gradtx.rectify(divide, 0.999))
        >>> updates, _ = tx.update(jnp.array(3.0), tx.init(jnp.zeros(())))
        >>> print(f"{updates:.2f}")
        3.00
    """
    weight = Weight(b2, "rectified_weight")

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        longest = 2 / b2.complement - 1
        mine = weight.at(leaf)
        length = longest - 2 * leaf.t * (1 - mine) / mine
        share = (length - 4) * (length - 2) * longest
        whole = (longest - 4) * (longest - 2) * length
        return jnp.where(length >= threshold, safe_sqrt(share / whole) * outputs[0], u)

    return Fork((preconditioner,), join, **kept_weights(weight))


@described_by(scale_by_adam, rectify)
@transformation
def scale_by_radam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    threshold: Length = 5.0,
    *,
    nesterov: bool = False,
):
    """Momentum, and Adam once the second moment's variance is small; see `rectify`.

    Same arguments, defaults and numbers as `optax.scale_by_radam`. Keeps `mu` and `nu`.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_radam(), gradtx.scale(-0.5))
        >>> print(f"{tx.update(jnp.array(30.0), tx.init(jnp.zeros(())))[0]:.2f}")
        -15.00
    """
    adaptive = divide_by_root(second_moment(b2), eps, eps_root)
    return moments(
        first_moment(b1, nesterov=nesterov), rectify(adaptive, b2, threshold)
    )


@described_by(scale_by_radam, decayed_step)
@transformation
def radam(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    threshold: Length = 5.0,
    *,
    nesterov: bool = False,
):
    """RAdam: momentum at first, Adam once the second moment's variance is small.

    Liu et al. 2019: https://arxiv.org/abs/1908.03265. Same arguments, defaults and
    numbers as `optax.radam`.

    Examples:
        >>> tx = gradtx.radam(1.0)
        >>> path = gradtx.trajectory(tx, lambda x: 0.5 * x, jnp.zeros(()), 7)
        >>> print(*(f"{u:.2f}" for u in jnp.diff(path.positions)))
        -0.50 -0.50 -0.50 -0.50 -0.50 -0.03 -0.03
    """
    return chain(
        scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def scale_by_adam_atan2(
    b1: Decay = 0.9,
    b2: Decay = 0.99,
    a: Scalar = 1.27,
    b: Positive = 1.0,
    mu_dtype: DType | None = None,
):
    """Adam with a bounded direction and without `eps`; see `atan2_of_root`.

    Everett et al. 2024: https://arxiv.org/abs/2407.05872.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        a: Factor of the angle.
        b: Factor of the root. Positive.
        mu_dtype: Storage dtype of the first moment; at least float32 if None.

    Keeps `mu` and `nu`.

    Examples:
        >>> tx = gradtx.scale_by_adam_atan2()
        >>> print(f"{tx.update(jnp.array(1e-12), tx.init(jnp.zeros(())))[0]:.2f}")
        1.00
    """
    return moments(first_moment(b1, mu_dtype), atan2_of_root(second_moment(b2), a, b))


@described_by(scale_by_adam_atan2, decayed_step)
@transformation
def adam_atan2(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.99,
    a: Scalar = 1.27,
    b: Positive = 1.0,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """Adam-atan2: Adam with a bounded step and without `eps`.

    Everett et al. 2024: https://arxiv.org/abs/2407.05872. Weight decay as in `adamw`.

    Examples:
        >>> tx = gradtx.adam_atan2(1.0)
        >>> updates, _ = tx.update(jnp.array([1e-12, -1e12]), tx.init(jnp.zeros(2)))
        >>> print(*(f"{u:.2f}" for u in updates))
        -1.00 1.00
    """
    direction = scale_by_adam_atan2(b1, b2, a, b, mu_dtype)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@described_by(scale_by_adam, clip_by_normalized_rms, decayed_step)
@transformation
def stable_adamw(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.99,
    eps: NonNegative = 1e-6,
    threshold: Positive = 1.0,
    weight_decay: Scalar = 1e-2,
    mask: Any = None,
):
    """StableAdamW: AdamW with smaller steps where gradients exceed their second moment.

    Wortsman et al. 2023: https://arxiv.org/abs/2304.13013, Algorithm 2. The weight
    decay is scaled down with the step.

    Keeps `mu` and `nu`.

    Examples:
        >>> tx = gradtx.stable_adamw(1.0, b2=0.9, weight_decay=0.0)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, 100.0):
        ...     updates, state = tx.update(jnp.array(gradient), state, jnp.zeros(()))
        ...     print(f"{updates:.2f}")
        -1.00
        -0.53
    """
    body = chain(
        first_moment(b1),
        divide_by_root(recall("nu"), eps),
        add_decayed_weights(weight_decay, mask),
        clip_by_normalized_rms(recall("nu"), threshold, eps),
    )
    return chain(
        moments(let("nu", second_moment(b2), body)),
        scale_by_learning_rate(learning_rate),
    )
