"""Momenta that are made of several, by their papers."""

import numpy as np


def adan_by_optax(grads, b1=0.98, b2=0.92, b3=0.99, eps=1e-8):
    """Xie et al. 2022, Algorithm 1, but for `1 - b2` where the paper has `b2`."""
    m, v, n, last = 0.0, 0.0, 0.0, grads[0]
    for t, g in enumerate(grads, start=1):
        d, last = g - last, g
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * d
        n = b3 * n + (1 - b3) * np.abs(g + (1 - b2) * d) ** 2
        step = m / (1 - b1**t) + (1 - b2) * v / (1 - b2**t)
        yield step / (np.sqrt(n / (1 - b3**t)) + eps)


def ademamix_by_the_paper(grads, b1=0.9, b2=0.999, b3=0.9999, alpha=6.0, eps=1e-8):
    """Pagliardini et al. 2024, Algorithm 1."""
    m1, m2, v = 0.0, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m1, m2 = b1 * m1 + (1 - b1) * g, b3 * m2 + (1 - b3) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        yield (m1 / (1 - b1**t) + alpha * m2) / (np.sqrt(v / (1 - b2**t)) + eps)


def simplified_ademamix_by_the_paper(grads, b1=0.99, b2=0.95, alpha=0.0, eps=1e-8):
    """Morwani et al. 2025, Algorithm 1."""
    m, n = 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, n = b1 * m + g, b2 * n + (1 - b2) * np.abs(g) ** 2
        yield (m + alpha * g) / (np.sqrt(n / (1 - b2**t)) + eps)


def lion_by_the_paper(grads, b1=0.9, b2=0.99, shape=np.sign):
    """Chen et al. 2023, Algorithm 2, and another shape in the place of the sign."""
    m = 0.0
    for g in grads:
        yield shape(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g


def qhadam_by_the_paper(
    grads, params, b1=0.9, b2=0.999, nu1=1.0, nu2=1.0, eps=1e-8, weight_decay=0.0
):
    """Ma and Yarats 2018, QHAdam; the decay of the weights is in the gradient."""
    m, v = 0.0, 0.0
    for t, (g, p) in enumerate(zip(grads, params, strict=True), start=1):
        d = g + weight_decay * p
        square = np.abs(d) ** 2
        m, v = b1 * m + (1 - b1) * d, b2 * v + (1 - b2) * square
        size = (1 - nu2) * square + nu2 * v / (1 - b2**t)
        yield ((1 - nu1) * d + nu1 * m / (1 - b1**t)) / (np.sqrt(size) + eps)


def aggmo_by_the_paper(grads, params, betas=(0.0, 0.9, 0.99), weight_decay=0.0):
    """Lucas et al. 2018, AggMo; the decay of the weights is in the gradient."""
    velocities = [0.0] * len(betas)
    for g, p in zip(grads, params, strict=True):
        d = g + weight_decay * p
        velocities = [b * v + d for b, v in zip(betas, velocities, strict=True)]
        yield sum(velocities) / len(betas)
