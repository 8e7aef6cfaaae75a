"""AdaBelief and ACProp: divide by the deviation of gradients from their average."""

from __future__ import annotations

from typing import Any

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Decay, NonNegative, Scalar, ScalarOrSchedule
from gradtx.core.docstrings import described_by
from gradtx.transforms.averages import at_first, scale_by_ema
from gradtx.transforms.bias import bias_correction, corrected, unbiased
from gradtx.transforms.combine import add, chain, identity, let, moments, recall
from gradtx.transforms.divide import divide_by_root
from gradtx.transforms.estimators import shift, square
from gradtx.transforms.scaling import scale_by_learning_rate
from gradtx.transforms.weight_decay import decayed_step


def _surprise(average: Any, b2: Any, eps_root: Any, lagged: bool = False) -> Any:
    """Moving average of the squared deviation of the gradient from its average.

    `eps_root` is added to the stored average at each update, as in the paper.
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
    """AdaBelief's direction: momentum over the root of squared deviations from it.

    Zhuang et al. 2020: https://arxiv.org/abs/2010.07468. Same arguments,
    defaults and numbers as `optax.scale_by_belief`.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the average of squared deviations, in [0, 1).
        eps: Added to the root. At least 0.
        eps_root: Added to the average at each update. At least 0.
        nesterov: Whether to use Nesterov momentum.

    Keeps `mu` and `nu`.

    Examples:
        >>> tx = gradtx.scale_by_belief(b1=0.5, b2=0.5)
        >>> print(f"{tx.update(jnp.array(30.0), tx.init(jnp.zeros(())))[0]:.2f}")
        2.00
    """
    surprise = _surprise(recall("mu"), b2, eps_root)
    body = chain(
        recall("mu"),
        unbiased(b1, nesterov),
        divide_by_root(corrected(surprise, b2), eps),
    )
    return moments(let("mu", scale_by_ema(b1, "mu"), body))


@described_by(scale_by_belief, decayed_step)
@transformation
def adabelief(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    *,
    nesterov: bool = False,
):
    """AdaBelief: Adam with squared deviations from the momentum as second moment.

    Zhuang et al. 2020: https://arxiv.org/abs/2010.07468. Same arguments, defaults and
    numbers as `optax.adabelief`.

    Examples:
        >>> tx = gradtx.adabelief(1.0, b1=0.5, b2=0.5)
        >>> path = gradtx.trajectory(tx, lambda x: x, jnp.zeros(()), 4)
        >>> print(*(f"{u:.1f}" for u in jnp.diff(path.positions)))  # Adam: -1 each
        -2.0 -2.8 -4.0 -5.7
    """
    return chain(
        scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@described_by(scale_by_belief)
@transformation
def scale_by_acprop(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
):
    """Divide by the root of the previous step's centered second moment.

    Zhuang et al. 2021 (ACProp): https://arxiv.org/abs/2110.05454. Same arguments,
    defaults and numbers as `optax.contrib.scale_by_acprop`. The first gradient is
    returned undivided.

    Keeps `mu` and `nu`.

    Examples:
        >>> tx = gradtx.scale_by_acprop(b1=0.5)
        >>> print(tx.update(jnp.array(30.0), tx.init(jnp.zeros(())))[0])
        30.0
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


@described_by(scale_by_acprop, decayed_step)
@transformation
def acprop(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative = 1e-16,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """ACProp: divide by the root of the previous step's centered second moment.

    Zhuang et al. 2021: https://arxiv.org/abs/2110.05454. Same arguments, defaults and
    numbers as `optax.contrib.acprop`.

    Examples:
        >>> tx = gradtx.acprop(1.0, b1=0.5, b2=0.5)
        >>> state = tx.init(jnp.zeros(()))
        >>> for gradient in (1.0, 4.0, 4.0):
        ...     updates, state = tx.update(jnp.array(gradient), state)
        ...     print(f"{updates:.1f}")
        -1.0
        -4.0
        -1.4
    """
    direction = scale_by_acprop(b1, b2, eps, eps_root)
    return decayed_step(direction, weight_decay, mask, learning_rate)
