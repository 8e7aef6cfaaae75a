"""LARS, LAMB, Fromage, NovoGrad: a step size per layer."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Decay, DType, NonNegative, Scalar, ScalarOrSchedule
from gradtx.core.arithmetic import safe_sqrt
from gradtx.core.context import Leaf
from gradtx.core.docstrings import described_by
from gradtx.core.factory import part
from gradtx.core.rule import ZEROS, Rule, memoryless
from gradtx.optimizers.adam import scale_by_adam
from gradtx.transforms.averages import running_sum, trace
from gradtx.transforms.combine import chain, only
from gradtx.transforms.divide import divide_by
from gradtx.transforms.estimators import shift
from gradtx.transforms.scaling import block_norm, scale_by_learning_rate
from gradtx.transforms.vector_norms import norm, over
from gradtx.transforms.weight_decay import add_decayed_weights, decayed_step


@transformation
def scale_by_trust_ratio(
    min_norm: NonNegative = 0.0,
    trust_coefficient: Scalar = 1.0,
    eps: NonNegative = 0.0,
):
    """Multiply each array by the norm of its parameter over the norm of its update.

    You et al. 2017: https://arxiv.org/abs/1708.03888. Same arguments, defaults and
    numbers as `optax.scale_by_trust_ratio`. Where either norm is 0, the update is
    unchanged.

    Args:
        min_norm: Lower bound of the norms. At least 0.
        trust_coefficient: Factor that multiplies the ratio.
        eps: Added to the update's norm. At least 0.

    Examples:
        >>> tx, params = gradtx.scale_by_trust_ratio(), jnp.array([3.0, 4.0])
        >>> updates, _ = tx.update(jnp.array([0.5, 0.0]), tx.init(params), params)
        >>> print(updates)
        [5. 0.]
    """

    def update(u: Any, leaf: Leaf) -> Any:
        ours, its = norm(u, min_norm), norm(leaf.param, min_norm)
        is_zero = (ours == 0) | (its == 0)
        direction = over(u, jnp.where(is_zero, 1, ours + eps))
        return direction * jnp.where(is_zero, 1, trust_coefficient * its)

    return memoryless(update)


@described_by(scale_by_trust_ratio, trace, decayed_step, weight_decay_mask="mask")
@transformation
def lars(
    learning_rate: ScalarOrSchedule,
    weight_decay: Scalar = 0.0,
    weight_decay_mask: Any = True,
    trust_coefficient: Scalar = 0.001,
    eps: NonNegative = 0.0,
    trust_ratio_mask: Any = True,
    momentum: Scalar = 0.9,
    nesterov: bool = False,
):
    """LARS: SGD with each array's update scaled to the norm of its parameter.

    You et al. 2017: https://arxiv.org/abs/1708.03888. As in `optax.lars`, the momentum
    comes after the learning rate.

    Args:
        weight_decay: `weight_decay * param` is added to the gradient, so that the
            direction is computed with it. At least 0 as a rule; a constant 0 adds
            nothing.
        weight_decay_mask: The parameters that decay, see `only`.
        trust_ratio_mask: The parameters whose steps are scaled, see `only`.
        momentum: Decay of the sum of steps: 0.9 keeps about ten of them.

    Examples:
        >>> tx = gradtx.lars(1.0, trust_ratio_mask={"w": True, "b": False})
        >>> params = {"w": jnp.array([30.0, 40.0]), "b": jnp.ones(1)}
        >>> grads = {"w": jnp.array([0.0, 5.0]), "b": jnp.array([0.5])}
        >>> updates, _ = tx.update(grads, tx.init(params), params)
        >>> print(f"{updates['w'][1]:.2f} {updates['b'][0]:.2f}")
        -0.05 -0.50
    """
    ratio = scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps)
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        only(ratio, trust_ratio_mask),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov),
    )


@described_by(scale_by_adam, decayed_step)
@transformation
def lamb(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    eps_root: NonNegative = 0.0,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """LAMB: Adam with each array's update scaled to the norm of its parameter.

    You et al. 2019: https://arxiv.org/abs/1904.00962. Same arguments, defaults and
    numbers as `optax.lamb`.

    Args:
        weight_decay: `weight_decay * param` is added to Adam's direction before the
            norm of the direction is computed. At least 0 as a rule.

    Examples:
        >>> tx = gradtx.lamb(0.01)
        >>> params = {"large": jnp.full(4, 50.0), "small": jnp.full(4, 0.5)}
        >>> grads = jax.tree.map(jnp.ones_like, params)
        >>> updates, _ = tx.update(grads, tx.init(params), params)
        >>> print(f"{updates['large'][0]:.3f} {updates['small'][0]:.3f}")
        -0.500 -0.005
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )


@transformation
def fromage(learning_rate: ScalarOrSchedule, min_norm: NonNegative = 1e-6):
    """Fromage: steps relative to each array's norm, then a projection that keeps it.

    Bernstein et al. 2020: https://arxiv.org/abs/2002.03432. Same arguments, defaults
    and numbers as `optax.fromage`.

    Args:
        learning_rate: Norm of the step over the norm of the array.
        min_norm: Lower bound of the norms. At least 0.

    Examples:
        >>> tx = gradtx.fromage(0.1)
        >>> params = jnp.array([3.0, 4.0])
        >>> updates, _ = tx.update(jnp.array([-4.0, 3.0]), tx.init(params), params)
        >>> print(f"{jnp.linalg.norm(params + updates):.2f}")
        5.00
    """
    back = 1 / (1 + learning_rate**2) ** 0.5
    return chain(
        scale_by_trust_ratio(min_norm),
        scale_by_learning_rate(learning_rate * back),
        add_decayed_weights(back - 1),
    )


@part
@transformation
def _moving_norm(decay: Decay, eps_root: NonNegative):
    """Root of the moving average `nu` of squared norms.

    It is computed from the norms, since their squares may be out of range; only `nu` is
    stored as a square.
    """

    def update(u: Any, slots: Any, leaf: Leaf) -> tuple[Any, Any]:
        before = safe_sqrt(decay.value) * safe_sqrt(slots["nu"])
        size = jnp.hypot(jnp.sqrt(decay.complement) * u, before)
        size = jnp.where(leaf.t == 1, u, size)
        most = float(jnp.finfo(size.dtype).max) ** 0.5
        kept = jnp.where(size < jnp.inf, jnp.minimum(size, most), size)
        return jnp.hypot(size, safe_sqrt(eps_root)), {"nu": jnp.square(kept)}

    return Rule(update, {"nu": ZEROS})


@transformation
def scale_by_novograd(
    b1: Decay = 0.9,
    b2: Decay = 0.25,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    weight_decay: Scalar = 0.0,
    mu_dtype: DType | None = None,
):
    """Momentum of gradients, each array divided by the moving average of its norm.

    Ginsburg et al. 2019: https://arxiv.org/abs/1905.11286. Same arguments, defaults and
    numbers as `optax.scale_by_novograd`.

    Args:
        b1: Decay of the sum of normalized gradients, in [0, 1).
        b2: Decay of the average of squared norms, in [0, 1).
        eps: Added to the root. At least 0.
        eps_root: Added inside the root. At least 0.
        weight_decay: `weight_decay * param` is added before the sum.
        mu_dtype: Storage dtype of the sum; at least float32 if None.

    Keeps `mu`, like the parameter, and `nu`, one number per array. A square beyond the
    range of its dtype is stored in `nu` as the largest number of that dtype.

    Examples:
        >>> tx, params = gradtx.scale_by_novograd(), jnp.zeros(2)
        >>> updates, _ = tx.update(jnp.array([30.0, -40.0]), tx.init(params), params)
        >>> print(*(f"{u:.2f}" for u in updates))
        0.60 -0.80
    """
    return chain(
        divide_by(chain(block_norm(), _moving_norm(b2, eps_root), shift(eps))),
        add_decayed_weights(weight_decay),
        running_sum("mu", 0.0, b1, mu_dtype),
    )


@described_by(scale_by_novograd, decayed_step)
@transformation
def novograd(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.25,
    eps: NonNegative = 1e-6,
    eps_root: NonNegative = 0.0,
    weight_decay: Scalar = 0.0,
):
    """NovoGrad: momentum of gradients over one second moment per array.

    Ginsburg et al. 2019: https://arxiv.org/abs/1905.11286. Same arguments, defaults and
    numbers as `optax.novograd`.

    Args:
        weight_decay: `weight_decay * param` is added to the normalized gradient before
            the sum. At least 0 as a rule.

    Examples:
        >>> tx, params = gradtx.novograd(1.0), jnp.zeros(2)
        >>> grads = jnp.array([30.0, -40.0])
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> print(*(f"{u:.2f}" for u in updates), state["nu"])
        -0.60 0.80 2500.0
    """
    return chain(
        scale_by_novograd(b1, b2, eps, eps_root, weight_decay),
        scale_by_learning_rate(learning_rate),
    )
