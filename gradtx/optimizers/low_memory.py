"""Adafactor, SM3, Adam-mini, CAME: second moments in less memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import (
    Decay,
    DType,
    Fraction,
    NonNegative,
    Positive,
    Scalar,
    ScalarOrSchedule,
    Size,
)
from gradtx.core.docstrings import described_by
from gradtx.core.stable import stable
from gradtx.transforms.averages import scale_by_ema
from gradtx.transforms.bias import corrected, ema, first_moment
from gradtx.transforms.combine import (
    add,
    chain,
    identity,
    let,
    moments,
    named,
    only,
    recall,
)
from gradtx.transforms.divide import divide_by_root
from gradtx.transforms.estimators import block_mean, shift, square
from gradtx.transforms.factored import (
    covered_sum,
    factored_average,
    factored_axes,
    factored_ema,
    power_decay,
)
from gradtx.transforms.gradient_clipping import clip_by_block_rms
from gradtx.transforms.scaling import (
    scale,
    scale_by_learning_rate,
    scale_by_param_block_rms,
)
from gradtx.transforms.weight_decay import decay_if_any, decayed_step


@transformation
def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: Scalar = 0.8,
    step_offset: Scalar = 0,
    min_dim_size_to_factor: Size = 128,
    epsilon: Positive = 1e-30,
    decay_rate_fn: Callable[[Any, Any], Any] = power_decay,
):
    """Divide by the root of a factored average of the square; see `factored_average`.

    Same numbers as `optax.scale_by_factored_rms`, which computes the decay in float32
    for parameters of any dtype.

    Args:
        factored: Whether to factor large enough arrays.
        decay_rate: The second argument of `decay_rate_fn`.
        step_offset: Subtracted from the step before `decay_rate_fn`.
        min_dim_size_to_factor: Least size of the smaller of the two longest axes.
        epsilon: Added to the square. Positive.
        decay_rate_fn: `(step, decay_rate) -> decay of this update`, the step from 0.

    Keeps `v_row`, `v_col` for a factored array, `v` for any other.

    Examples:
        >>> tx = gradtx.scale_by_factored_rms(min_dim_size_to_factor=2)
        >>> state = tx.init(jnp.zeros((6, 4)))
        >>> print(state["v_row"].shape, state["v_col"].shape)
        (4,) (6,)
    """
    least = min_dim_size_to_factor if factored else None
    average = factored_average(decay_rate, step_offset, least, decay_rate_fn)
    return divide_by_root(chain(square(), shift(epsilon), average), eps=0.0)


@described_by(scale_by_factored_rms, decayed_step, weight_decay_mask="mask")
@transformation
def adafactor(
    learning_rate: ScalarOrSchedule | None = None,
    min_dim_size_to_factor: Size = 128,
    decay_rate: Scalar = 0.8,
    decay_offset: Scalar = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: Positive | None = 1.0,
    momentum: Decay | None = None,
    dtype_momentum: DType = "float32",
    weight_decay_rate: Scalar | None = None,
    eps: Positive = 1e-30,
    factored: bool = True,
    weight_decay_mask: Any = None,
):
    """Adafactor: divide by the root of a second moment factored into two vectors.

    Shazeer and Stern 2018: https://arxiv.org/abs/1804.04235. Same arguments, defaults
    and numbers as `optax.adafactor`.

    Args:
        learning_rate: A number or a schedule; 1 if None.
        decay_offset: The update at which the schedule of the decay starts, for
            fine-tuning.
        multiply_by_parameter_scale: Whether to multiply the update of each array by the
            root mean square of its parameter.
        clipping_threshold: Largest root mean square of each array's direction, before
            the learning rate. Positive; None clips nothing.
        momentum: Decay of an average of the updates, in [0, 1); no average if None.
        dtype_momentum: Storage dtype of that average.
        weight_decay_rate: `weight_decay_rate * param` is subtracted, without the
            learning rate as a factor; None subtracts nothing.
        eps: Added to the squared gradient. Positive.
        decay_rate: The decay of the second moment at update t is `1 - t**-decay_rate`.
            Usually in (0, 1).

    Examples:
        >>> tx = gradtx.adafactor(1e-3, min_dim_size_to_factor=128)
        >>> params = {"kernel": jnp.zeros((256, 512)), "bias": jnp.zeros(512)}
        >>> state = tx.init(params)
        >>> for slot in ("v_row", "v_col", "v"):
        ...     print(jax.tree.map(jnp.shape, state[slot]))
        {'bias': None, 'kernel': (256,)}
        {'bias': None, 'kernel': (512,)}
        {'bias': (512,), 'kernel': None}
    """
    offset, least = decay_offset, min_dim_size_to_factor
    clipping = clipping_threshold
    return chain(
        scale_by_factored_rms(factored, decay_rate, offset, least, eps),
        identity() if clipping is None else clip_by_block_rms(clipping),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        scale_by_param_block_rms() if multiply_by_parameter_scale else identity(),
        identity() if momentum is None else ema(momentum, False, dtype_momentum),
        decay_if_any(weight_decay_rate, weight_decay_mask),
        scale(-1.0),
    )


@transformation
def scale_by_sm3(b1: Decay = 0.9, b2: Fraction = 1.0, eps: NonNegative = 1e-8):
    """SM3's direction: divide by the root of a covered sum of squares, then average.

    Anil et al. 2019: https://arxiv.org/abs/1901.11150. Same numbers as
    `optax.scale_by_sm3`; also takes scalars and complex numbers.

    Args:
        b1: Decay of the average, in [0, 1).
        b2: Decay of the sum, in [0, 1]; below 1 it is an average.
        eps: Added inside the root. At least 0.

    Keeps `mu`, see `covered_sum`, and the average `nu`, like the parameter.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_sm3(), gradtx.scale(-0.1))
        >>> tx.init(jnp.zeros((300, 400)))["mu"].shape
        (700,)
    """
    total = chain(square(), covered_sum(b2))
    return chain(divide_by_root(total, eps=0.0, eps_root=eps), scale_by_ema(b1, "nu"))


@transformation
def sm3(learning_rate: ScalarOrSchedule, momentum: Decay = 0.9):
    """SM3: Adagrad with one vector per axis instead of the sum of squares.

    Anil et al. 2019: https://arxiv.org/abs/1901.11150. Same numbers as `optax.sm3`.

    Args:
        learning_rate: A number or a schedule.
        momentum: Decay of the average of updates, in [0, 1).

    Examples:
        >>> tx = gradtx.sm3(0.1)
        >>> state = tx.init(jnp.zeros((300, 400)))
        >>> state["mu"].shape  # a row and a column of maxima
        (700,)
    """
    return chain(scale_by_sm3(momentum), scale_by_learning_rate(learning_rate))


@transformation
def scale_by_adam_mini(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    block_axes: Any = None,
    mu_dtype: DType | None = None,
):
    """Adam with one second moment per block of an array.

    Zhang et al. 2024 (Adam-mini): https://arxiv.org/abs/2406.16793. There a block is a
    row of an embedding, a head of queries and keys, an output neuron of another matrix.

    Args:
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added to the root. At least 0.
        block_axes: Axes of one block, see `block_mean`; by default a block is an output
            neuron. Set them for embeddings (`(1,)`, for shape `(tokens, size)`) and
            queries and keys (`(0, 2)`, for shape `(inputs, heads, size)`).
        mu_dtype: Storage dtype of the first moment; at least float32 if None.

    Keeps `mu`, and `nu` with one element per block.

    Examples:
        >>> tx = gradtx.scale_by_adam_mini()
        >>> tx.init(jnp.zeros((5, 3)))["nu"].shape
        (1, 3)
    """
    mean = chain(square(), block_mean(block_axes), scale_by_ema(b2, "nu"))
    return moments(first_moment(b1, mu_dtype), divide_by_root(corrected(mean, b2), eps))


@described_by(scale_by_adam_mini, decayed_step)
@transformation
def adam_mini(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    block_axes: Any = None,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """Adam-mini: Adam with one second moment per block of an array.

    Zhang et al. 2024: https://arxiv.org/abs/2406.16793. Weight decay as in `adamw`.

    Examples:
        >>> tx = gradtx.adam_mini(1e-3, block_axes={"embed": (1,), "kernel": (0,)})
        >>> params = {"embed": jnp.zeros((5, 3)), "kernel": jnp.zeros((3, 2))}
        >>> state = tx.init(params)
        >>> jax.tree.map(jnp.shape, state["nu"])
        {'embed': (5, 1), 'kernel': (1, 2)}
    """
    direction = scale_by_adam_mini(b1, b2, eps, block_axes, mu_dtype)
    return decayed_step(direction, weight_decay, mask, learning_rate)


@stable
def _is_factored(least: int, params: Any) -> Any:
    return jax.tree.map(
        lambda p: factored_axes(jnp.shape(p), least) is not None, params
    )


@transformation
def scale_by_came(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    b3: Decay = 0.9999,
    eps: Positive = 1e-30,
    eps_residual: Positive = 1e-16,
    clipping_threshold: Positive = 1.0,
    min_dim_size_to_factor: Size = 1,
):
    """Adafactor's momentum, divided by the deviation of updates from it.

    Luo et al. 2023 (CAME): https://arxiv.org/abs/2307.02047. No average is
    bias-corrected, so first steps of matrices are long (11 learning rates at first, 50
    where gradients agree): use a warmup. Vectors are only averaged. As in Adafactor,
    the two longest axes are factored (in the authors' code the last two).

    Args:
        b1: Decay of the momentum, in [0, 1).
        b2: Decay of the factored second moment, in [0, 1).
        b3: Decay of the factored squared distance, in [0, 1).
        eps: Added to the square. Positive.
        eps_residual: Added to the squared distance. Positive.
        clipping_threshold: See `clip_by_block_rms`. Positive.
        min_dim_size_to_factor: Least size of the smaller of these axes.

    Keeps `mu`, and the slots of `factored_average` twice.

    Examples:
        >>> tx = gradtx.chain(gradtx.scale_by_came(), gradtx.scale(-1e-4))
        >>> state = tx.init(jnp.zeros((6, 4)))
        >>> print(state["v_row"].shape, state["v_col"].shape)
        (4,) (6,)
    """
    least = min_dim_size_to_factor
    nu = chain(square(), shift(eps), factored_ema(b2, least))
    away = add(identity(), recall("mu"), weights=(1.0, -1.0))
    distance = chain(
        away, square(), shift(eps_residual), named("residual", factored_ema(b3, least))
    )
    confident = divide_by_root(distance, eps=0.0)
    body = chain(recall("mu"), only(confident, functools.partial(_is_factored, least)))
    return chain(
        divide_by_root(nu, eps=0.0),
        clip_by_block_rms(clipping_threshold),
        moments(let("mu", scale_by_ema(b1, "mu"), body)),
    )


@described_by(scale_by_came, decayed_step)
@transformation
def came(
    learning_rate: ScalarOrSchedule,
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    b3: Decay = 0.9999,
    eps: Positive = 1e-30,
    eps_residual: Positive = 1e-16,
    clipping_threshold: Positive = 1.0,
    min_dim_size_to_factor: Size = 1,
    weight_decay: Scalar = 0.0,
    mask: Any = None,
):
    """CAME: Adafactor with larger steps where updates are near their average.

    Luo et al. 2023: https://arxiv.org/abs/2307.02047. See `scale_by_came`; weight decay
    as in `adamw`.

    Examples:
        >>> tx = gradtx.came(gradtx.warmup_constant_schedule(0.0, 2e-4, 1000))
        >>> state = tx.init(jnp.zeros((6, 4)))
        >>> [(key, state[key].shape) for key in ("v_row", "v_col", "residual.v_row")]
        [('v_row', (4,)), ('v_col', (6,)), ('residual.v_row', (4,))]
    """
    direction = scale_by_came(
        b1, b2, b3, eps, eps_residual, clipping_threshold, min_dim_size_to_factor
    )
    return decayed_step(direction, weight_decay, mask, learning_rate)
