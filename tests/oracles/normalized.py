"""ADOPT and LaProp, by their papers."""

import numpy as np


def adopt_by_the_paper(grads, b1=0.9, b2=0.9999, eps=1e-6, nesterov=False, clip=True):
    """Taniguchi et al. 2024, Algorithm 2, clipped to the fourth root of the count."""
    m, v = 0.0, np.abs(grads[0]) ** 2
    yield 0 * grads[0]
    for t, g in enumerate(grads[1:], start=1):
        u = g / np.maximum(np.sqrt(v), eps)
        if clip:
            u = u / np.maximum(1, np.abs(u) / t**0.25)
        m, v = b1 * m + (1 - b1) * u, b2 * v + (1 - b2) * np.abs(g) ** 2
        yield b1 * m + (1 - b1) * u if nesterov else m


def laprop_by_the_paper(grads, params=None, b1=0.9, b2=0.999, eps=1e-15, rates=None):
    """Ziyin et al. 2020, Algorithm 1; with learning rates as in the authors' laprop.py.

    There each normalized gradient is weighed by the learning rate of its own step;
    where they are all the same, they have no effect.
    """
    m, v, total = 0.0, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        rate = 1.0 if rates is None else rates[t - 1]
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        normalized = g / (np.sqrt(v / (1 - b2**t)) + eps)
        m = b1 * m + (1 - b1) * rate * normalized
        total = b1 * total + (1 - b1) * rate
        yield m / total
