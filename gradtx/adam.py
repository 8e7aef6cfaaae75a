"""Adam and its kin: averages of the gradient over estimates of its size."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.arithmetic import safe_sqrt
from gradtx.averages import (
    Weight,
    at_first,
    bias_correction,
    corrected,
    kept_weights,
    running_maximum,
    scale_by_ema,
    sign_average,
)
from gradtx.combine import add, chain, identity, let, moments, recall
from gradtx.connectives import Fork
from gradtx.divide import (
    atan2_of_root,
    divide_by,
    divide_by_root,
    magnitude,
    second_moment,
    shift,
    square,
)
from gradtx.roles import (
    Decay,
    DType,
    FirstValue,
    Length,
    Member,
    NonNegative,
    Positive,
    Scalar,
)
from gradtx.rule import Leaf, Step, memoryless
from gradtx.transform import transformation


@transformation
def first_moment(decay: Decay, mu_dtype: DType | None = None, nesterov: bool = False):
    """The moving average `mu`, corrected for its bias.

    Args:
        decay: In [0, 1).
        mu_dtype: What it is stored in; at least float32 if None.
        nesterov: Whether it looks one step ahead. Dozat 2016:
            https://openreview.net/pdf?id=OM0jvwB8jIp57ZJjtNEZ.
    """
    return chain(scale_by_ema(decay, "mu", mu_dtype), unbiased(decay, nesterov))


def unbiased(decay: Any, nesterov: bool) -> Any:
    """The correction of a first moment, looking one step ahead or not."""
    return nesterov_correction(decay) if nesterov else bias_correction(decay)


@transformation
def nesterov_correction(decay: Decay):
    """Correct an average for its bias as it will be if the gradient comes again.

    `decay * u / (1 - decay**(t + 1)) + (1 - decay) * grad / (1 - decay**t)`, with the
    gradient of the enclosing `moments`. Dozat 2016.
    """
    weight = Weight(decay)

    def update(u: Any, leaf: Leaf) -> Any:
        ahead = decay * u / weight.at(leaf, 1)
        return ahead + decay.complement * leaf.grad / weight.at(leaf)

    return memoryless(update, **kept_weights(weight), is_of_input=True)


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
        mu_dtype: What the first moment is stored in; at least float32 if None.
        nesterov: Whether the first moment looks one step ahead.

    Keeps `mu` and `nu`, each like the parameter, at least float32.
    """
    return moments(
        first_moment(b1, mu_dtype, nesterov),
        divide_by_root(second_moment(b2), eps, eps_root),
    )


@transformation
def scheduled_nesterov_correction(decay: Decay, momentum_decay: NonNegative = 4e-3):
    """Correct an average as `nesterov_correction`, for a momentum that grows.

    Dozat 2016, Algorithm 2 and section 3.1, as in torch: the momentum of update t is
    `decay * (1 - 0.96**(t * momentum_decay) / 2)`.

    Args:
        decay: Of the average, and the limit of the momentum, in [0, 1).
        momentum_decay: How fast the momentum grows from half of that. At least 0.

    Keeps `mu_product`, the product of all momenta so far.
    """

    def momentum(t: Any) -> Any:
        return decay * (1 - 0.5 * 0.96 ** (t * momentum_decay))

    def settle(total: Any, shared: Any, step: Step) -> Any:
        return {"mu_product": shared["mu_product"] * momentum(step.t)}

    def update(u: Any, leaf: Leaf) -> Any:
        product, following = leaf.shared["mu_product"], momentum(leaf.t + 1)
        ahead = following * u / (1 - product * following)
        return ahead + (1 - momentum(leaf.t)) * leaf.grad / (1 - product)

    one = {"mu_product": lambda arrays: jnp.ones(())}
    return memoryless(update, shared=one, settle=settle)


@transformation
def scale_by_nadam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType | None = None,
    momentum_decay: NonNegative = 4e-3,
):
    """Adam with Nesterov's momentum that grows; see `scheduled_nesterov_correction`.

    As torch's NAdam; arguments as `scale_by_adam`. Keeps `mu`, `nu`, `mu_product`.
    """
    return moments(
        scale_by_ema(b1, "mu", mu_dtype),
        scheduled_nesterov_correction(b1, momentum_decay),
        divide_by_root(second_moment(b2), eps, eps_root),
    )


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
    """Adam that divides by the largest second moment so far.

    Reddi et al. 2018: https://openreview.net/forum?id=ryQu7f-RZ. As optax.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added to the root. At least 0.
        eps_root: Added inside the root. At least 0.
        mu_dtype: What the first moment is stored in; at least float32 if None.
        bias_correction_mu: Whether to correct the first moment (the paper does not).
        bias_correction_nu: Whether to correct the second moment (the paper does not).
        max_before_correction: Whether to correct the maximum (as torch does) and not
            what it is taken of.

    Keeps `mu`, `nu` and `nu_max`, each like the parameter, at least float32.
    """
    raw_maximum = chain(second_moment(b2, "nu", False), running_maximum())
    maximum = chain(second_moment(b2, "nu", bias_correction_nu), running_maximum())
    if max_before_correction:
        maximum = corrected(raw_maximum, b2, bias_correction_nu)
    return moments(
        corrected(scale_by_ema(b1, "mu", mu_dtype), b1, bias_correction_mu),
        divide_by_root(maximum, eps, eps_root),
    )


@transformation
def scale_by_adamax(b1: Decay = 0.9, b2: Decay = 0.999, eps: NonNegative = 1e-8):
    """Adam with the largest decayed magnitude in the place of the root mean square.

    Kingma and Ba 2014, Algorithm 2: https://arxiv.org/abs/1412.6980. As optax.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the maximum, in [0, 1).
        eps: Added to each magnitude. At least 0.

    Keeps `mu` and `nu`.
    """
    largest = chain(magnitude(), shift(eps), running_maximum("nu", b2))
    return moments(first_moment(b1), divide_by(largest))


def _surprise(average: Any, b2: Any, eps_root: Any, lagged: bool = False) -> Any:
    """The moving average of the squared distance of the gradient from its average.

    `eps_root` is added to the kept average at each update, as in the paper.
    """
    return chain(
        add(identity(), average, weights=(1.0, -1.0)),
        square(),
        shift(eps_root / b2.complement),
        scale_by_ema(b2, "nu", lagged=lagged),
    )


@transformation
def scale_by_belief(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    *,
    nesterov: bool = False,
):
    """Adam that divides by how far gradients are from their average.

    Zhuang et al. 2020 (AdaBelief): https://arxiv.org/abs/2010.07468. As optax.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the average of squared surprises, in [0, 1).
        eps: Added to the root. At least 0.
        eps_root: Added to the average at each update. At least 0.
        nesterov: Whether the first moment looks one step ahead.

    Keeps `mu` and `nu`.
    """
    surprise = _surprise(recall("mu"), b2, eps_root)
    body = chain(
        recall("mu"),
        unbiased(b1, nesterov),
        divide_by_root(corrected(surprise, b2), eps),
    )
    return moments(let("mu", scale_by_ema(b1, "mu"), body))


@transformation
def scale_by_acprop(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
):
    """Divide by the surprise of all gradients before this one.

    Zhuang et al. 2021 (ACProp): https://arxiv.org/abs/2110.05454. As optax; arguments
    as `scale_by_belief`. The first gradient is not divided. Keeps `mu` and `nu`.
    """
    past = scale_by_ema(b1, "mu", lagged=True)
    return divide_by_root(
        chain(
            _surprise(past, b2, eps_root, lagged=True),
            bias_correction(b2, -1),
            at_first(1.0),
        ),
        eps,
    )


@transformation
def scale_by_yogi(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-3,
    eps_root: NonNegative = 0.0,
    initial_accumulator_value: FirstValue = 1e-6,
):
    """Adam whose second moment moves by the size of the square only, not the gap.

    Zaheer et al. 2018: see `sign_average`. As optax.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added to the root. At least 0.
        eps_root: Added inside the root. At least 0.
        initial_accumulator_value: What both moments start at. At least 0.

    Keeps `mu` and `nu`.
    """
    start = initial_accumulator_value
    nu = chain(square(), sign_average(b2, "nu", start))
    return moments(
        corrected(scale_by_ema(b1, "mu", initial_value=start), b1),
        divide_by_root(corrected(nu, b2), eps, eps_root),
    )


@transformation
def rectify(preconditioner: Member, b2: Decay, threshold: Length = 5.0):
    """Precondition the update once the second moment's variance can be trusted.

    Liu et al. 2019 (RAdam), Algorithm 2: https://arxiv.org/abs/1908.03265.

    Args:
        preconditioner: What is applied, times the rectification, from the update on
            where the length of the average reaches the threshold; before, nothing is.
        b2: Decay of the second moment in it, in [0, 1).
        threshold: Of the length of the average, in updates. At least 4, the paper's.
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
    """Adam that is momentum until its second moment can be trusted; see `rectify`.

    As optax; arguments as `scale_by_adam`. Keeps `mu` and `nu`.
    """
    adaptive = divide_by_root(second_moment(b2), eps, eps_root)
    return moments(
        first_moment(b1, nesterov=nesterov), rectify(adaptive, b2, threshold)
    )


@transformation
def scale_by_adam_atan2(
    b1: Decay = 0.9,
    b2: Decay = 0.99,
    a: Scalar = 1.27,
    b: Positive = 1.0,
    mu_dtype: DType | None = None,
):
    """Adam without an eps, its direction bounded; see `atan2_of_root`.

    Everett et al. 2024: https://arxiv.org/abs/2407.05872.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        a: What the angle is multiplied by.
        b: What the root is multiplied by. Positive.
        mu_dtype: What the first moment is stored in; at least float32 if None.

    Keeps `mu` and `nu`.
    """
    return moments(first_moment(b1, mu_dtype), atan2_of_root(second_moment(b2), a, b))
