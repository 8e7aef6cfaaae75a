"""AdaBelief and ACProp, by their papers."""

import numpy as np


def belief_by_the_paper(grads, b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16):
    """Zhuang et al. 2020, Algorithm 2."""
    m, s = 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * np.abs(g - m) ** 2 + eps_root
        yield m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + eps)


def acprop_by_optax(grads, b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16):
    """Zhuang et al. 2021, but with the average before the gradient, and corrected."""
    m, s = 0.0, 0.0
    for t, g in enumerate(grads):
        yield g / (np.sqrt(s / (1 - b2**t) if t else 1) + eps)
        s = b2 * s + (1 - b2) * np.abs(g - m) ** 2 + eps_root
        m = b1 * m + (1 - b1) * g
