"""Gradient descent: momentum, signs, noise, privacy."""

from __future__ import annotations

from typing import Any

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    Decay,
    DType,
    Fraction,
    Key,
    NonNegative,
    Scalar,
    ScalarOrSchedule,
)
from gradtx.core.docstrings import described_by
from gradtx.transforms.averages import scale_by_ema, trace
from gradtx.transforms.bias import ema
from gradtx.transforms.combine import chain, identity
from gradtx.transforms.noise import add_noise
from gradtx.transforms.privacy import differentially_private_aggregate
from gradtx.transforms.scaling import (
    scale_by_learning_rate,
    scale_by_optimistic_gradient,
    scale_by_sign,
)
from gradtx.transforms.weight_decay import decayed_step


@transformation
def sgd(
    learning_rate: ScalarOrSchedule,
    momentum: Scalar | None = None,
    nesterov: bool = False,
    accumulator_dtype: DType | None = None,
    *,
    dampening: Fraction | None = None,
):
    """SGD: gradient descent, optionally with momentum as a decaying sum.

    Sutskever et al. 2013: http://proceedings.mlr.press/v28/sutskever13.pdf. Same
    arguments, defaults and numbers as `optax.sgd`.

    Args:
        learning_rate: A number or a schedule.
        momentum: Decay of the sum, between -1 and 1; None keeps no sum.
        nesterov: Whether to use Nesterov momentum.
        accumulator_dtype: Storage dtype of the sum; at least float32 if None.
        dampening: As in torch, in [0, 1]; see `dampen`. Needs momentum.

    Keeps `trace`, like the parameter, with momentum only.

    Examples:
        >>> tx = gradtx.sgd(1.0, momentum=0.5, nesterov=True)
        >>> state = tx.init(jnp.zeros(2))
        >>> updates, state = tx.update(jnp.array([1.0, -2.0]), state)
        >>> print(updates, state["trace"])
        [-1.5  3. ] [ 1. -2.]
        >>> tx.replace(learning_rate=0.1) == gradtx.sgd(0.1, 0.5, nesterov=True)
        True
    """
    return chain(
        _sum(momentum, nesterov, accumulator_dtype, dampening),
        scale_by_learning_rate(learning_rate),
    )


def _sum(decay: Any, nesterov: bool, dtype: Any = None, dampening: Any = None) -> Any:
    """Momentum, or the identity if the decay is None."""
    if decay is None:
        return identity()
    return trace(decay, nesterov, dtype, dampening=dampening)


@transformation
def momentum(learning_rate: ScalarOrSchedule, decay: Decay = 0.9):
    """Momentum: gradient descent along the average gradient, `v = b v + (1 - b) g`.

    Polyak 1964: https://doi.org/10.1016/0041-5553(64)90137-5. This is the averaging
    form; its steps are `1 - b` times those of `sgd(momentum=b)`.

    Args:
        learning_rate: A number or a schedule.
        decay: b, in [0, 1): the average is over about 1 / (1 - b) gradients.

    Keeps `mu`, like the parameter, at least float32.

    Examples:
        >>> tx = gradtx.momentum(1.0, decay=0.5)
        >>> path = gradtx.trajectory(tx, lambda x: x, jnp.zeros(()), 4)
        >>> print(jnp.diff(path.positions))
        [-0.5    -0.75   -0.875  -0.9375]
    """
    return chain(scale_by_ema(decay, "mu"), scale_by_learning_rate(learning_rate))


@described_by(add_noise, decayed_step)
@transformation
def noisy_sgd(
    learning_rate: ScalarOrSchedule,
    eta: NonNegative = 0.01,
    gamma: Scalar = 0.55,
    key: Key | None = None,
    *,
    seed: Key | None = None,
):
    """Noisy SGD: gradient descent with Gaussian noise of falling variance.

    Neelakantan et al. 2015: https://arxiv.org/abs/1511.06807. Same arguments, defaults
    and numbers as `optax.noisy_sgd`.

    Examples:
        >>> tx = gradtx.noisy_sgd(0.5, eta=0.16, key=42)
        >>> params = jnp.zeros(10_000)
        >>> updates, _ = tx.update(params, tx.init(params))
        >>> print(f"{updates.std():.1f}")  # 0.5 * sqrt(0.16)
        0.2
    """
    return chain(
        add_noise(eta, gamma, key, seed=seed), scale_by_learning_rate(learning_rate)
    )


@described_by(differentially_private_aggregate, trace, decayed_step)
@transformation
def dpsgd(
    learning_rate: ScalarOrSchedule,
    l2_norm_clip: NonNegative,
    noise_multiplier: NonNegative,
    seed: Key,
    momentum: Scalar | None = None,
    nesterov: bool = False,
):
    """DP-SGD: differentially private descent on per-example gradients.

    Abadi et al. 2016: https://arxiv.org/abs/1607.00133. Same arguments, defaults and
    numbers as `optax.contrib.dpsgd`.

    Args:
        momentum: Decay of the sum of updates, see `trace`; no sum if None.

    Examples:
        >>> tx = gradtx.dpsgd(0.5, l2_norm_clip=5.0, noise_multiplier=0.0, seed=0)
        >>> params, batch = jnp.zeros(2), jnp.array([[30.0, 40.0], [0.0, 1.0]])
        >>> grads = jax.vmap(jax.grad(jnp.dot), (None, 0))(params, batch)
        >>> print(*(f"{u:.2f}" for u in tx.update(grads, tx.init(params))[0]))
        -0.75 -1.25
    """
    return chain(
        differentially_private_aggregate(l2_norm_clip, noise_multiplier, seed),
        _sum(momentum, nesterov),
        scale_by_learning_rate(learning_rate),
    )


@described_by(decayed_step)
@transformation
def sign_sgd(learning_rate: ScalarOrSchedule):
    """SignSGD: descent along the sign of the gradient.

    Bernstein et al. 2018: https://arxiv.org/abs/1802.04434. Same arguments, defaults
    and numbers as `optax.sign_sgd`.

    Examples:
        >>> tx = gradtx.sign_sgd(gradtx.inverse_sqrt_decay(0.5))
        >>> updates, _ = tx.update(jnp.array([1e-6, -300.0]), tx.init(jnp.zeros(2)))
        >>> print(updates)
        [-0.5  0.5]
    """
    return chain(scale_by_sign(), scale_by_learning_rate(learning_rate))


@transformation
def signum(
    learning_rate: ScalarOrSchedule,
    beta: Decay = 0.9,
    accumulator_dtype: DType | None = None,
):
    """Signum: descent along the sign of the average gradient.

    Bernstein et al. 2018: https://arxiv.org/abs/1802.04434. Same arguments, defaults
    and numbers as `optax.signum`.

    Args:
        learning_rate: A number or a schedule.
        beta: Decay of the average, in [0, 1).
        accumulator_dtype: Storage dtype of the average; at least float32 if None.

    Examples:
        >>> tx = gradtx.signum(0.1, beta=0.9)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, 1.0, -1.0):
        ...     updates, state = tx.update(jnp.array(gradient), state)
        ...     print(f"{updates:.1f} {state['ema']:.2f}")
        -0.1 0.10
        -0.1 0.19
        -0.1 0.07
    """
    return chain(
        ema(beta, False, accumulator_dtype),
        scale_by_sign(),
        scale_by_learning_rate(learning_rate),
    )


@described_by(scale_by_optimistic_gradient, decayed_step)
@transformation
def optimistic_gradient_descent(
    learning_rate: ScalarOrSchedule, alpha: Scalar = 1.0, beta: Scalar = 1.0
):
    """Optimistic gradient descent: add the gradient's change since the last update.

    For games. Mokhtari et al. 2019: https://arxiv.org/abs/1901.08511v2. Same arguments,
    defaults and numbers as `optax.optimistic_gradient_descent`.

    Examples:
        >>> def game(x, fixed=jax.lax.stop_gradient):  # min over x[0], max over x[1]
        ...     return x[0] * fixed(x[1]) - x[1] * fixed(x[0])
        >>> tx = gradtx.optimistic_gradient_descent(0.3)
        >>> path = gradtx.trajectory(tx, game, jnp.ones(2), 200)
        >>> print(f"{jnp.linalg.norm(path.positions[-1]):.2f}")
        0.00
    """
    return chain(
        scale_by_optimistic_gradient(alpha, beta), scale_by_learning_rate(learning_rate)
    )
