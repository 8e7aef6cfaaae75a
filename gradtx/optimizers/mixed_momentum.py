"""Adan, AdEMAMix, Lion, QHAdam, AggMo: momentum as a sum of several averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    Decay,
    DType,
    Fraction,
    NonNegative,
    Scalar,
    ScalarOrSchedule,
)
from gradtx.core.docstrings import described_by
from gradtx.transforms.averages import difference, running_sum, scale_by_ema
from gradtx.transforms.bias import corrected, first_moment
from gradtx.transforms.combine import add, chain, identity, let, moments, recall
from gradtx.transforms.divide import divide_by_root
from gradtx.transforms.estimators import second_moment, square
from gradtx.transforms.gradient_clipping import clip_magnitude
from gradtx.transforms.scaling import (
    scale_by_learning_rate,
    scale_by_sign,
    scale_by_tanh,
)
from gradtx.transforms.weight_decay import decayed_step


@transformation
def scale_by_adan(
    b1: Decay = 0.98,
    b2: Decay = 0.92,
    b3: Decay = 0.99,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
):
    """Momentum of gradients and of their differences, over their root mean square.

    Xie et al. 2022: https://arxiv.org/abs/2208.06677; a decay b here is 1 - b in the
    paper. Same arguments, defaults and numbers as `optax.scale_by_adan`.

    Args:
        b1: Decay of the average of gradients, in [0, 1).
        b2: Decay of the average of differences, in [0, 1).
        b3: Decay of the second moment, in [0, 1).
        eps: Added to the root. At least 0.
        eps_root: Added inside the root. At least 0.

    Keeps `m`, `v`, `n` and the last gradient `g`.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_adan(), gradtx.scale(-0.5))
        >>> sorted(tx.init(jnp.zeros(2)))
        ['count', 'g', 'm', 'n', 'v']
    """
    weights = (1.0, b2.complement)
    m = corrected(scale_by_ema(b1, "m"), b1)
    v = corrected(chain(recall("difference"), scale_by_ema(b2, "v")), b2)
    ahead = add(identity(), recall("difference"), weights=weights)
    n = chain(ahead, second_moment(b3, "n"))
    body = chain(add(m, v, weights=weights), divide_by_root(n, eps, eps_root))
    return moments(let("difference", difference("g"), body))


@described_by(scale_by_adan, decayed_step)
@transformation
def adan(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.98,
    b2: Decay = 0.92,
    b3: Decay = 0.99,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """Adan: adaptive Nesterov momentum, from gradients and their differences.

    Xie et al. 2022: https://arxiv.org/abs/2208.06677. Same arguments, defaults and
    numbers as `optax.adan`.

    Examples:
        >>> tx = gradtx.adan(1.0)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, 2.0, 3.0):
        ...     updates, state = tx.update(jnp.array(gradient), state)
        ...     print(f"{updates:.2f} {state['v']:.2f}")
        -1.00 0.00
        -0.95 0.08
        -0.93 0.15
    """
    direction = scale_by_adan(b1, b2, b3, eps, eps_root)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@transformation
def scale_by_ademamix(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    b3: Decay = 0.9999,
    alpha: Scalar = 6.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
):
    """Adam with a second, slower average of gradients added to the first moment.

    Pagliardini et al. 2024: https://arxiv.org/abs/2409.03137. Same arguments, defaults
    and numbers as `optax.contrib.scale_by_ademamix`.

    Args:
        b1: Decay of the fast average, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        b3: Decay of the slow average, in [0, 1); it is not bias-corrected.
        alpha: Weight of the slow average.
        eps: Added to the root. At least 0.
        eps_root: Added inside the root. At least 0.
        mu_dtype: Storage dtype of both averages; at least float32 if None.

    Keeps `m1`, `m2` and `nu`.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_ademamix(alpha=5.0), gradtx.scale(-0.5))
        >>> sorted(tx.init(jnp.zeros(2)))
        ['count', 'm1', 'm2', 'nu']
    """
    fast = corrected(scale_by_ema(b1, "m1", mu_dtype), b1)
    slow = scale_by_ema(b3, "m2", mu_dtype)
    return moments(
        add(fast, slow, weights=(1.0, alpha)),
        divide_by_root(second_moment(b2), eps, eps_root),
    )


@described_by(scale_by_ademamix, decayed_step)
@transformation
def ademamix(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    b3: Decay = 0.9999,
    alpha: Scalar = 5.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """AdEMAMix: Adam with a fast and a slow average as first moment.

    Pagliardini et al. 2024: https://arxiv.org/abs/2409.03137. Same arguments, defaults
    and numbers as `optax.contrib.ademamix`.

    Examples:
        >>> tx = gradtx.ademamix(1e-3, b3=0.9999, alpha=5.0)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, 0.0):
        ...     _, state = tx.update(jnp.array(gradient), state)
        ...     print(f"{state['m1']:.4f} {state['m2']:.4f}")
        0.1000 0.0001
        0.0900 0.0001
    """
    direction = scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root, mu_dtype)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@transformation
def scale_by_simplified_ademamix(
    b1: Decay = 0.99,
    b2: Decay = 0.95,
    alpha: Scalar = 0.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
):
    """Adam with a decaying sum of gradients plus `alpha` times the gradient.

    Morwani et al. 2025: https://arxiv.org/abs/2502.02431. Same arguments, defaults and
    numbers as `optax.contrib.scale_by_simplified_ademamix`.

    Args:
        b1: Decay of the sum, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        alpha: Weight of the gradient.
        eps: Added to the root. At least 0.
        eps_root: Added inside the root. At least 0.

    Keeps `m` and `n`.

    Examples:
        >>> tx = gradtx.scale_by_simplified_ademamix(alpha=2.0)
        >>> print(f"{tx.update(jnp.array(30.0), tx.init(jnp.zeros(())))[0]:.2f}")
        3.00
    """
    return moments(
        add(running_sum("m", 0.0, b1), identity(), weights=(1.0, alpha)),
        divide_by_root(second_moment(b2, "n"), eps, eps_root),
    )


@described_by(scale_by_simplified_ademamix, decayed_step)
@transformation
def simplified_ademamix(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.99,
    b2: Decay = 0.95,
    alpha: Scalar = 0.0,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """Simplified AdEMAMix: Adam with a decaying sum plus the current gradient.

    Morwani et al. 2025: https://arxiv.org/abs/2502.02431. Same arguments, defaults and
    numbers as `optax.contrib.simplified_ademamix`.

    Examples:
        >>> tx = gradtx.simplified_ademamix(0.1, b1=0.9, alpha=2.0)
        >>> path = gradtx.trajectory(tx, lambda x: x, jnp.zeros(()), 3)
        >>> print(*(f"{u:.2f}" for u in jnp.diff(path.positions)))
        -0.30 -0.39 -0.47
    """
    direction = scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@transformation
def scale_by_lion(
    b1: Decay = 0.9,
    b2: Decay = 0.99,
    mu_dtype: DType | None = None,
    *,
    mode: Literal["hard", "smooth", "refined"] = "hard",
    smooth_beta: Scalar = 1.0,
):
    """The sign of a weighted mean of the gradient and the previous average.

    Chen et al. 2023: https://arxiv.org/abs/2302.06675. Same arguments, defaults and
    numbers as `optax.scale_by_lion`.

    Args:
        b1: Weight of the average in the mean, in [0, 1).
        b2: Decay of the average, in [0, 1).
        mu_dtype: Storage dtype of the average; at least float32 if None.
        mode: "hard" is the sign, "smooth" the hyperbolic tangent of the mean times
            `smooth_beta`, "refined" the mean clipped to magnitude 1.
        smooth_beta: Factor of the mean in mode "smooth".

    Keeps `mu`.

    Examples:
        >>> tx = gradtx.scale_by_lion(mode="refined")
        >>> updates, _ = tx.update(jnp.array([30.0, -0.5]), tx.init(jnp.zeros(2)))
        >>> print(*(f"{u:.2f}" for u in updates))
        1.00 -0.05
    """
    past = scale_by_ema(b2, "mu", mu_dtype, lagged=True)
    kinds = {
        "hard": scale_by_sign(),
        "smooth": scale_by_tanh(smooth_beta),
        "refined": clip_magnitude(1.0),
    }
    return chain(add(identity(), past, weights=(b1.complement, b1)), kinds[mode])


@described_by(scale_by_lion, decayed_step)
@transformation
def lion(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.99,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 1e-3,
    mask: Any = None,
):
    """Lion: the sign of a mean of the gradient and the average of past ones.

    Chen et al. 2023: https://arxiv.org/abs/2302.06675. Same arguments, defaults and
    numbers as `optax.lion`.

    Examples:
        >>> tx, params = gradtx.lion(0.1, weight_decay=0.5), jnp.array(4.0)
        >>> updates, state = tx.update(jnp.array(1e-6), tx.init(params), params)
        >>> print(f"{updates:.1f}")  # -0.1 * (sign + 0.5 * 4)
        -0.3
        >>> sorted(state)
        ['count', 'mu']
    """
    direction = scale_by_lion(b1, b2, mu_dtype)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@transformation
def scale_by_qhadam(
    b1: Decay = 0.995,
    b2: Decay = 0.999,
    nu1: Fraction = 0.7,
    nu2: Fraction = 1.0,
    eps: NonNegative = 1e-8,
):
    """Adam with moments averaged with the current gradient and its square.

    Ma and Yarats 2018 (QHAdam): https://arxiv.org/abs/1810.06801. The defaults are
    those that the authors recommend.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        nu1: Weight of the first moment; the gradient has `1 - nu1`. Adam has 1.
        nu2: Weight of the second moment; the square has `1 - nu2`. Adam has 1.
        eps: Added to the root. At least 0.

    Keeps `mu` and `nu`.

    Examples:
        >>> tx = gradtx.scale_by_qhadam(nu1=0.5)
        >>> sorted(tx.init(jnp.zeros(2)))
        ['count', 'mu', 'nu']
    """
    size = add(square(), second_moment(b2), weights=(1 - nu2, nu2))
    return moments(
        add(identity(), first_moment(b1), weights=(1 - nu1, nu1)),
        divide_by_root(size, eps),
    )


@described_by(scale_by_qhadam, decayed_step)
@transformation
def qhadam(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.995,
    b2: Decay = 0.999,
    nu1: Fraction = 0.7,
    nu2: Fraction = 1.0,
    eps: NonNegative = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """QHAdam: Adam with its momentum averaged with the current gradient.

    Ma and Yarats 2018: https://arxiv.org/abs/1810.06801. Weight decay as in `adamw`.

    Examples:
        >>> tx = gradtx.qhadam(1.0, nu1=0.5)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, -1.0):
        ...     updates, state = tx.update(jnp.array(gradient), state)
        ...     print(f"{updates:.2f}")
        -1.00
        0.50
    """
    direction = scale_by_qhadam(b1, b2, nu1, nu2, eps)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@transformation
def scale_by_aggmo(betas: Sequence[NonNegative] = (0.0, 0.9, 0.99)):
    """The mean of several decaying sums of gradients.

    Lucas et al. 2018 (AggMo): https://arxiv.org/abs/1804.00325.

    Args:
        betas: Decay of each sum, at least 0; the sums stay bounded below 1.

    Keeps `trace_0`, `trace_1`, ...

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_aggmo((0.0, 0.5)), gradtx.scale(-1.0))
        >>> sorted(tx.init(jnp.zeros(2)))
        ['count', 'trace_0', 'trace_1']
    """
    sums = [running_sum(f"trace_{i}", 0.0, beta) for i, beta in enumerate(betas)]
    return add(*sums, weights=[1 / max(len(sums), 1)] * len(sums))


@described_by(scale_by_aggmo, decayed_step)
@transformation
def aggmo(
    learning_rate: ScalarOrSchedule, betas: Sequence[NonNegative] = (0.0, 0.9, 0.99)
):
    """AggMo: descent along the mean of several momenta.

    Lucas et al. 2018: https://arxiv.org/abs/1804.00325.

    Examples:
        >>> tx = gradtx.aggmo(1.0, betas=(0.0, 0.5))
        >>> path = gradtx.trajectory(tx, lambda x: x, jnp.zeros(()), 4)
        >>> print(jnp.diff(path.positions))
        [-1.     -1.25   -1.375  -1.4375]
    """
    return chain(scale_by_aggmo(betas), scale_by_learning_rate(learning_rate))
