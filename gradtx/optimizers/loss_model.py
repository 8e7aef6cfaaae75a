"""Polyak's step size and MoMo: step sizes from a model of the loss."""

from __future__ import annotations

from typing import Any, Literal

from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Decay, NonNegative, Scalar, ScalarOrSchedule
from gradtx.core.arithmetic import inner
from gradtx.core.context import Leaf, SettleContext
from gradtx.core.docstrings import described_by
from gradtx.core.rule import Slot, memoryless, squared_norm, zero
from gradtx.optimizers.adam import scale_by_adam
from gradtx.optimizers.sgd import sgd
from gradtx.transforms.averages import scale_by_ema
from gradtx.transforms.bias import Weight
from gradtx.transforms.combine import chain, let, moments, recall
from gradtx.transforms.divide import divide_by_root
from gradtx.transforms.estimators import second_moment
from gradtx.transforms.scaling import scale
from gradtx.transforms.weight_decay import decayed_step


@transformation
def scale_by_polyak(
    f_min: Scalar = 0.0,
    max_learning_rate: NonNegative = 1.0,
    eps: NonNegative = 0.0,
    variant: Literal["sps", "sps+"] = "sps",
):
    """Scale by Polyak's step size, `(value - f_min) / (squared norm + eps)`.

    Loizou et al. 2020: https://arxiv.org/abs/2002.10542. Same numbers as
    `optax.scale_by_polyak`. Call `update(updates, state, params, value=loss)`.

    Args:
        f_min: Lower bound of the loss.
        max_learning_rate: Upper bound of the step size. At least 0.
        eps: Added to the squared global norm of the updates. At least 0.
        variant: Where the loss is below `f_min`, "sps+" takes no step, "sps" ascends.

    Examples:
        >>> tx, params = gradtx.scale_by_polyak(max_learning_rate=9.0), jnp.array(3.0)
        >>> value, grads = jax.value_and_grad(jnp.square)(params)
        >>> updates, _ = tx.update(grads, tx.init(params), params, value=value)
        >>> print(f"{updates:.2f}")
        1.50
    """

    def update(u: Any, leaf: Leaf) -> Any:
        value = jnp.asarray(leaf.extra["value"])
        if value.shape:
            raise ValueError(
                f"{leaf.owner}: value must be a scalar, got shape {value.shape}"
            )
        gap = value.astype(u.real.dtype) - f_min
        gap = jnp.maximum(gap, 0) if variant == "sps+" else gap
        size = leaf.total + eps
        # The square may underflow where the gradient is not 0: then the bound counts.
        is_flat = size == 0
        step = jnp.minimum(gap / jnp.where(is_flat, 1, size), max_learning_rate)
        return u * jnp.where(is_flat, jnp.where(gap > 0, max_learning_rate, 0), step)

    return memoryless(update, measure=squared_norm, needs=("value",))


@described_by(scale_by_polyak)
@transformation
def polyak_sgd(
    max_learning_rate: NonNegative = 1.0,
    scaling: ScalarOrSchedule = 1.0,
    f_min: Scalar = 0.0,
    eps: NonNegative = 0.0,
    variant: Literal["sps", "sps+"] = "sps",
):
    """SGD with Polyak's step size, computed from the loss.

    Loizou et al. 2020: https://arxiv.org/abs/2002.10542. Same arguments, defaults and
    numbers as `optax.polyak_sgd`. Call `update(updates, state, params, value=...)`.

    Args:
        scaling: A number or a schedule that multiplies the gradient first.

    Examples:
        >>> tx, params = gradtx.polyak_sgd(10.0, f_min=0.0), jnp.array([3.0, 4.0])
        >>> value, grads = jax.value_and_grad(jnp.linalg.norm)(params)
        >>> updates, _ = tx.update(grads, tx.init(params), params, value=value)
        >>> print(f"{value:.2f} {jnp.linalg.norm(params + updates):.2f}")
        5.00 0.00
    """
    return chain(sgd(scaling), scale_by_polyak(f_min, max_learning_rate, eps, variant))


@transformation
def scale_by_model_step(
    learning_rate: Scalar,
    decay: Decay,
    lower_bound: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    adapt_lower_bound: bool = False,
    is_corrected: bool = False,
):
    """MoMo's step size: the model of the loss along the average reaches its bound.

    Schaipp et al. 2023: https://arxiv.org/abs/2305.07583, Algorithms 1 and 2. Use it
    inside `let("average", ...)` and `moments`, on the average gradient or its
    preconditioned form. Call `update(updates, state, params, value=loss)`.

    Args:
        learning_rate: Upper bound of the step size.
        decay: Decay of the average, in [0, 1).
        lower_bound: Lower bound of the loss.
        weight_decay: Decoupled weight decay.
        adapt_lower_bound: Whether to raise the bound where it proves too low.
        is_corrected: Whether the average starts at zero, not at the first gradient.

    Keeps the averages `barf` of the loss and `gamma` of gradient times parameter, the
    bound `lb`, and `step_size`, the factor of the last direction. It is at most the
    learning rate, or if `is_corrected` that over `1 - decay**t` (the bias correction).

    Examples:
        >>> average = gradtx.scale_by_ema(0.9, initial_value=None)
        >>> step = gradtx.scale_by_model_step(1.0, decay=0.9)
        >>> body = gradtx.chain(gradtx.recall("average"), step, gradtx.scale(-1.0))
        >>> tx, x = gradtx.moments(gradtx.let("average", average, body)), jnp.array(3.0)
        >>> updates, _ = tx.update(2 * x, tx.init(x), x, value=x**2)
        >>> print(f"{updates:.2f}")
        -1.50
    """
    grown = 1 + learning_rate * weight_decay
    weight = Weight(decay, "barf_weight")

    def measure(u: Any, slots: Any, leaf: Leaf) -> Any:
        average = leaf.recall("average")
        return {
            "norm": inner(average, u),
            "now": inner(leaf.grad, leaf.param),
            "slope": inner(average, leaf.param),
        }

    def settle(total: Any, shared: Any, step: SettleContext) -> Any:
        value = jnp.asarray(step.extra["value"]).astype(float)
        kept, new = decay, decay.complement
        share, weights = weight.settle(shared, step) if is_corrected else (1.0, {})
        if not is_corrected:
            kept, new = jnp.where(step.t == 1, 0, kept), jnp.where(step.t == 1, 1, new)
        barf = kept * shared["barf"] + new * value
        gamma = kept * shared["gamma"] + new * total["now"]
        lb = shared["lb"] if adapt_lower_bound else jnp.asarray(lower_bound, float)
        if adapt_lower_bound:
            cap = grown * (barf - gamma) + total["slope"]
            least = jnp.maximum(cap / (2 * share * grown), lower_bound)
            lb = jnp.where(cap < grown * share * lb, least, lb)
        gap = jnp.maximum(grown * (barf - share * lb - gamma) + total["slope"], 0)
        is_flat, longest = total["norm"] <= 0, learning_rate / share
        size = jnp.minimum(longest, gap / jnp.where(is_flat, 1, total["norm"]))
        # The norm may underflow where the gradient is not 0: then the bound counts.
        size = jnp.where(is_flat, jnp.where(gap > 0, longest, 0), size)
        if adapt_lower_bound:
            model = barf + total["slope"] - gamma - size * total["norm"] / 2
            lb = jnp.maximum(model / share, lower_bound)
        return {"barf": barf, "gamma": gamma, "lb": lb, "step_size": size, **weights}

    def update(u: Any, leaf: Leaf) -> Any:
        decayed = learning_rate * weight_decay / grown * leaf.param
        return leaf.shared["step_size"] * u + decayed

    shared = {
        "barf": zero,
        "gamma": zero,
        "lb": lambda arrays: jnp.asarray(lower_bound, float),
        "step_size": Slot(zero, is_only_here=True),
        **(weight.shared if is_corrected else {}),
    }
    return memoryless(
        update,
        measure=measure,
        shared=shared,
        settle=settle,
        needs=("value",),
        is_step=True,
        recovered={weight.slot: weight} if is_corrected else {},
    )


@described_by(scale_by_model_step, decayed_step)
@transformation
def momo(
    learning_rate: ScalarOrSchedule = 1.0,
    beta: Decay = 0.9,
    lower_bound: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    adapt_lower_bound: bool = False,
):
    """MoMo: momentum with a step size from a model of the loss.

    Schaipp et al. 2023: https://arxiv.org/abs/2305.07583. Same arguments, defaults and
    numbers as `optax.contrib.momo`. Call `update(updates, state, params, value=...)`.

    Args:
        beta: Decay of the averages of gradients and losses, in [0, 1).

    Examples:
        >>> tx = gradtx.momo(learning_rate=1.0, lower_bound=0.0)
        >>> params = jnp.array(3.0)
        >>> value, grads = jax.value_and_grad(jnp.square)(params)
        >>> updates, state = tx.update(grads, tx.init(params), params, value=value)
        >>> print(f"{updates:.2f} {state['step_size']:.2f}")
        -1.50 0.25
    """
    step = scale_by_model_step(
        learning_rate, beta, lower_bound, weight_decay, adapt_lower_bound
    )
    average = scale_by_ema(beta, "exp_avg", initial_value=None)
    body = chain(recall("average"), step, scale(-1.0))
    return moments(let("average", average, body))


@described_by(scale_by_adam, scale_by_model_step, decayed_step)
@transformation
def momo_adam(
    learning_rate: ScalarOrSchedule = 1e-2,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    lower_bound: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    adapt_lower_bound: bool = False,
):
    """MoMo-Adam: Adam with a step size from a model of the loss.

    Schaipp et al. 2023: https://arxiv.org/abs/2305.07583. Same arguments, defaults and
    numbers as `optax.contrib.momo_adam`.

    Examples:
        >>> tx = gradtx.momo_adam(learning_rate=1.0)
        >>> params = jnp.array(3.0)
        >>> value, grads = jax.value_and_grad(jnp.square)(params)
        >>> updates, _ = tx.update(grads, tx.init(params), params, value=value)
        >>> print(f"{updates:.2f}")
        -1.00
    """
    step = scale_by_model_step(
        learning_rate, b1, lower_bound, weight_decay, adapt_lower_bound, True
    )
    adaptive = divide_by_root(second_moment(b2, "exp_avg_sq"), eps)
    body = chain(recall("average"), adaptive, step, scale(-1.0))
    return moments(let("average", scale_by_ema(b1, "exp_avg"), body))
