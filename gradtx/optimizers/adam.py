"""Adam: momentum chained with RMSProp; NAdam, AMSGrad, AdamC."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    Decay,
    DType,
    NonNegative,
    Positive,
    Scalar,
    ScalarOrSchedule,
)
from gradtx.core.context import Leaf, SettleContext
from gradtx.core.docstrings import described_by
from gradtx.core.rule import memoryless
from gradtx.transforms.averages import running_maximum, scale_by_ema
from gradtx.transforms.bias import corrected, first_moment
from gradtx.transforms.combine import chain, moments, only
from gradtx.transforms.divide import divide_by_root
from gradtx.transforms.estimators import second_moment
from gradtx.transforms.scaling import (
    scale_by_learning_rate,
    scale_by_optimistic_gradient,
)
from gradtx.transforms.weight_decay import add_decayed_weights, decayed_step


@transformation
def scale_by_adam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
):
    """Momentum chained with RMSProp, each corrected for its bias towards zero.

    Kingma and Ba 2014, Algorithm 1: https://arxiv.org/abs/1412.6980; with Nesterov's
    momentum Dozat 2016: https://openreview.net/pdf?id=OM0jvwB8jIp57ZJjtNEZ.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added to the root, so in units of the gradient. At least 0.
        eps_root: Added inside the root. At least 0.
        mu_dtype: Storage dtype of the first moment; at least float32 if None.
        nesterov: Whether to use Nesterov momentum.

    Keeps `mu` and `nu`, each like the parameter, at least float32.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_adam(), gradtx.scale(-0.5))
        >>> print(f"{tx.update(jnp.array(30.0), tx.init(jnp.zeros(())))[0]:.2f}")
        -0.50
    """
    return moments(
        first_moment(b1, mu_dtype, nesterov),
        divide_by_root(second_moment(b2), eps, eps_root),
    )


@described_by(scale_by_adam, decayed_step)
@transformation
def adam(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
):
    """Adam: momentum chained with RMSProp.

    Kingma and Ba 2014: https://arxiv.org/abs/1412.6980. Same arguments, defaults and
    numbers as `optax.adam`.

    Examples:
        >>> tx = gradtx.adam(gradtx.cosine_decay_schedule(0.5, 1000), b2=0.95)
        >>> updates, state = tx.update(jnp.array([0.1, -30.0]), tx.init(jnp.zeros(2)))
        >>> print(*(f"{u:.2f}" for u in updates))
        -0.50 0.50
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@described_by(scale_by_adam, decayed_step)
@transformation
def adamw(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
):
    """AdamW: Adam with decoupled weight decay.

    Loshchilov and Hutter 2017: https://arxiv.org/abs/1711.05101. Same arguments,
    defaults and numbers as `optax.adamw`.

    Examples:
        >>> tx = gradtx.adamw(0.1, weight_decay=0.5, mask=gradtx.decay_mask)
        >>> params = {"kernel": jnp.array(2.0), "bias": jnp.array(2.0)}
        >>> grads = jax.tree.map(jnp.ones_like, params)
        >>> updates, _ = tx.update(grads, tx.init(params), params)
        >>> print(f"{updates['kernel']:.2f} {updates['bias']:.2f}")
        -0.20 -0.10
    """
    direction = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@described_by(scale_by_adam, scale_by_optimistic_gradient, decayed_step)
@transformation
def optimistic_adam_v2(
    learning_rate: ScalarOrSchedule,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 1.0,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    nesterov: bool = True,
):
    """Optimistic Adam: Adam's update plus its difference from the last one.

    For games. Daskalakis et al. 2017: https://arxiv.org/abs/1711.00141. Same arguments,
    defaults and numbers as `optax.optimistic_adam_v2`.

    Examples:
        >>> tx = gradtx.optimistic_adam_v2(0.1, b1=0.0, b2=0.0)
        >>> first, state = tx.update(jnp.array(5.0), tx.init(jnp.zeros(())))
        >>> second, _ = tx.update(jnp.array(-3.0), state)
        >>> print(f"{first:.1f} {second:.1f}")
        -0.1 0.3
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_optimistic_gradient(alpha, beta),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def scheduled_nesterov_correction(decay: Decay, momentum_decay: NonNegative = 4e-3):
    """Correct an average as `nesterov_correction` does, for a growing momentum.

    Dozat 2016, Algorithm 2 and section 3.1, as in torch: the momentum of update t is
    `decay * (1 - 0.96**(t * momentum_decay) / 2)`.

    Args:
        decay: Decay of the average and limit of the momentum, in [0, 1).
        momentum_decay: Rate at which the momentum grows from `decay / 2`. At least 0.

    Keeps `mu_product`, the product of all momenta so far.

    Examples:
        >>> correction = gradtx.scheduled_nesterov_correction(0.9)
        >>> tx = gradtx.moments(gradtx.scale_by_ema(0.9, "mu"), correction)
        >>> updates, state = tx.update(jnp.array(3.0), tx.init(jnp.zeros(())))
        >>> print(f"{updates:.2f} {state['mu_product']:.2f}")
        3.17 0.45
    """

    def momentum(t: Any) -> Any:
        return decay * (1 - 0.5 * 0.96 ** (t * momentum_decay))

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
        return {"mu_product": shared["mu_product"] * momentum(step.t)}

    def update(u: Any, leaf: Leaf) -> Any:
        product, following = leaf.shared["mu_product"], momentum(leaf.t + 1)
        ahead = following * u / (1 - product * following)
        return ahead + (1 - momentum(leaf.t)) * leaf.grad / (1 - product)

    one = {"mu_product": lambda arrays: jnp.ones(())}
    return memoryless(update, shared=one, settle=settle)


@described_by(scale_by_adam, scheduled_nesterov_correction)
@transformation
def scale_by_nadam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    momentum_decay: NonNegative = 4e-3,
):
    """Adam with growing Nesterov momentum; see `scheduled_nesterov_correction`.

    Same numbers as `torch.optim.NAdam`. Keeps `mu`, `nu`, `mu_product`.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_nadam(), gradtx.scale(-1.0))
        >>> print(f"{tx.update(jnp.array(30.0), tx.init(jnp.zeros(())))[0]:.2f}")
        -1.06
    """
    return moments(
        scale_by_ema(b1, "mu", mu_dtype),
        scheduled_nesterov_correction(b1, momentum_decay),
        divide_by_root(second_moment(b2), eps, eps_root),
    )


@described_by(scale_by_nadam, scale_by_adam, decayed_step)
@transformation
def nadam(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = True,
    momentum_decay: NonNegative | None = None,
):
    """NAdam: Adam with Nesterov momentum.

    Dozat 2016: https://openreview.net/pdf?id=OM0jvwB8jIp57ZJjtNEZ. By default the
    momentum is constant, as in `optax.nadam`. With `momentum_decay` (4e-3 in torch) it
    grows as in the paper, see `scale_by_nadam`.

    Examples:
        >>> tx = gradtx.nadam(1.0, momentum_decay=4e-3)
        >>> updates, state = tx.update(jnp.array(3.0), tx.init(jnp.zeros(())))
        >>> print(f"{updates:.2f} {state['mu_product']:.2f}")
        -1.06 0.45
    """
    if momentum_decay is None:
        direction = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    else:
        direction = scale_by_nadam(b1, b2, eps, eps_root, mu_dtype, momentum_decay)
    return chain(direction, scale_by_learning_rate(learning_rate))


@described_by(adamw)
@transformation
def nadamw(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = True,
):
    """NAdamW: AdamW with Nesterov momentum.

    Dozat 2016: https://openreview.net/pdf?id=OM0jvwB8jIp57ZJjtNEZ. Same arguments,
    defaults and numbers as `optax.nadamw`.

    Examples:
        >>> tx = gradtx.nadamw(1e-3, weight_decay=0.1)
        >>> tx.expand() == gradtx.adamw(1e-3, weight_decay=0.1, nesterov=True).expand()
        True
    """
    return adamw(
        learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask,
        nesterov=nesterov,
    )  # fmt: skip


@described_by(scale_by_adam)
@transformation
def scale_by_amsgrad(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
    *,
    max_before_correction: bool = False,
):
    """Adam that divides by the root of the largest second moment so far.

    Reddi et al. 2018: https://openreview.net/forum?id=ryQu7f-RZ. Same arguments,
    defaults and numbers as `optax.scale_by_amsgrad`.

    Args:
        bias_correction_mu: Whether to correct the first moment (the paper does not).
        bias_correction_nu: Whether to correct the second moment (the paper does not).
        max_before_correction: Whether to correct the maximum (as torch does) instead of
            the second moment before its maximum is taken.

    Keeps `mu`, `nu` and `nu_max`, each like the parameter, at least float32.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_amsgrad(), gradtx.scale(-0.1))
        >>> sorted(tx.init(jnp.zeros(2)))
        ['count', 'mu', 'nu', 'nu_max']
    """
    raw_maximum = chain(second_moment(b2, "nu", False), running_maximum())
    maximum = chain(second_moment(b2, "nu", bias_correction_nu), running_maximum())
    if max_before_correction:
        maximum = corrected(raw_maximum, b2, bias_correction_nu)
    return moments(
        corrected(scale_by_ema(b1, "mu", mu_dtype), b1, bias_correction_mu),
        divide_by_root(maximum, eps, eps_root),
    )


@described_by(scale_by_amsgrad, decayed_step)
@transformation
def amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
    *,
    max_before_correction: bool = False,
):
    """AMSGrad: Adam that divides by the root of the largest second moment so far.

    Reddi et al. 2018: https://openreview.net/forum?id=ryQu7f-RZ. Same numbers as
    `optax.amsgrad`; `max_before_correction=True` gives torch's.

    Examples:
        >>> tx = gradtx.amsgrad(0.1, b2=0.5)
        >>> _, state = tx.update(jnp.array(4.0), tx.init(jnp.zeros(())))
        >>> _, state = tx.update(jnp.array(1.0), state)
        >>> print(f"{state['nu']:.1f} {state['nu_max']:.1f}")
        4.5 16.0
    """
    largest = scale_by_amsgrad(
        b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu,
        max_before_correction=max_before_correction,
    )  # fmt: skip
    return chain(largest, scale_by_learning_rate(learning_rate))


@described_by(scale_by_adam, decayed_step)
@transformation
def adamc(
    learning_rate: ScalarOrSchedule,
    max_learning_rate: Positive,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 1e-2,
    mask: Any = None,
    normalized: Any = True,
):
    """AdamC: AdamW whose weight decay falls with the square of the learning rate.

    Defazio 2025: https://arxiv.org/abs/2506.02285. The gradients of layers followed by
    normalization then do not grow while the learning rate falls.

    Args:
        max_learning_rate: The largest value of the learning rate. Positive.
        normalized: A mask, see `only`, of the layers followed by normalization: usually
            all but the output layer. The others decay as in AdamW.

    Examples:
        >>> tx = gradtx.adamc(0.1, max_learning_rate=0.2, weight_decay=0.5,
        ...     normalized={"w": True, "head": False})
        >>> params, grads = {"w": 1.0, "head": 1.0}, {"w": 0.0, "head": 0.0}
        >>> params, grads = jax.tree.map(jnp.array, (params, grads))
        >>> updates, _ = tx.update(grads, tx.init(params), params)
        >>> print(f"{updates['w']:.3f} {updates['head']:.3f}")
        -0.025 -0.050
    """
    less = weight_decay * (learning_rate / max_learning_rate - 1)
    return chain(
        scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype),
        add_decayed_weights(weight_decay, mask),
        only(add_decayed_weights(less, mask), normalized),
        scale_by_learning_rate(learning_rate),
    )
