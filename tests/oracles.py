"""Papers in float64 NumPy, and what runs a transformation beside them."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

import gradtx


def steps_of(
    tx: Any, grads: Iterable[Any], params: Any = None
) -> Iterator[tuple[Any, Any]]:
    """The updates and states that a transformation, ours or optax's, makes."""
    # optax's moments do not run under strict promotion.
    is_ours = isinstance(tx, gradtx.GradientTransformation)
    promotion = "strict" if is_ours else "standard"
    update, state = jax.jit(tx.update), None
    for grad in grads:
        with jax.numpy_dtype_promotion(promotion):
            if state is None:
                state = tx.init(grad if params is None else params)
            updates, state = update(grad, state, params)
        yield updates, state


def updates_of(tx: Any, grads: Iterable[Any], params: Any = None) -> Iterator[Any]:
    """The updates alone."""
    return (updates for updates, _ in steps_of(tx, grads, params))


def clip_by_the_paper(grads, max_norm):
    """Pascanu et al. 2012, Algorithm 1: a list of arrays a step."""
    for leaves in grads:
        norm = np.sqrt(sum(np.sum(np.abs(g) ** 2) for g in leaves))
        yield [g * (max_norm / norm if norm >= max_norm else 1) for g in leaves]


def stored(slot, dtype):
    """A float64 array as it is after being kept in another dtype, if one is given."""
    return slot.astype(dtype or slot.dtype).astype(slot.dtype)


def trace_by_the_paper(grads, decay, nesterov=False, accumulator_dtype=None):
    """Sutskever et al. 2013, equations 1 to 4, as a sum of gradients."""
    trace = np.zeros_like(grads[0])
    for g in grads:
        trace = g + decay * trace
        yield g + decay * trace if nesterov else trace
        trace = stored(trace, accumulator_dtype)


def ema_by_the_paper(grads, decay, debias=True, accumulator_dtype=None):
    """Kingma and Ba 2014, the first moment of Algorithm 1."""
    m = np.zeros_like(grads[0])
    for t, g in enumerate(grads, start=1):
        m = decay * m + (1 - decay) * g
        yield m / (1 - decay**t) if debias else m
        m = stored(m, accumulator_dtype)


def adam_by_the_paper(
    grads, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, nesterov=False
):
    """Kingma and Ba 2014, Algorithm 1; with Nesterov's momentum Dozat 2016."""
    m, v = np.zeros_like(grads[0]), 0.0
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.abs(g) ** 2
        m_hat = m / (1 - b1**t)
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        yield m_hat / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
        m = stored(m, mu_dtype)


def amsgrad_by_the_paper(
    grads, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None,
    bias_correction_mu=True, bias_correction_nu=True,
):  # fmt: skip
    """Reddi et al. 2018, Algorithm 2, and its moments corrected as in optax."""
    m, v, v_max = np.zeros_like(grads[0]), 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.abs(g) ** 2
        m_hat = m / (1 - b1**t) if bias_correction_mu else m
        v_max = np.maximum(v_max, v / (1 - b2**t) if bias_correction_nu else v)
        yield m_hat / (np.sqrt(v_max + eps_root) + eps)
        m = stored(m, mu_dtype)


def rms_by_the_paper(
    grads, decay=0.9, eps=1e-8, initial_scale=0.0, eps_in_sqrt=True,
    bias_correction=False, is_centered=False,
):  # fmt: skip
    """Hinton et al. 2012, lecture 6e; centered as Graves 2013, equations 38 to 40."""
    m, v = np.zeros_like(grads[0]), np.full(grads[0].shape, initial_scale)
    for t, g in enumerate(grads, start=1):
        m, v = decay * m + (1 - decay) * g, decay * v + (1 - decay) * np.abs(g) ** 2
        left = 1 - decay**t if bias_correction else 1
        size = v / left - (np.abs(m / left) ** 2 if is_centered else 0)
        yield g / (np.sqrt(size + eps) if eps_in_sqrt else np.sqrt(size) + eps)


def rss_by_the_paper(grads, initial_accumulator_value=0.1, eps=1e-7):
    """Duchi et al. 2011, Figure 1, the diagonal form."""
    total = initial_accumulator_value
    for g in grads:
        total = total + np.abs(g) ** 2
        yield g / np.sqrt(total + eps)
