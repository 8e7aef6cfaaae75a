"""NovoGrad, by its paper."""

import numpy as np


def novograd_by_the_paper(grads, params, b1=0.9, b2=0.25, eps=1e-8, weight_decay=0.0):
    """Ginsburg et al. 2019, Algorithm 1, for one layer."""
    m, v = 0.0, None
    for g, p in zip(grads, params, strict=True):
        square = np.sum(np.abs(g) ** 2)
        v = square if v is None else b2 * v + (1 - b2) * square
        m = b1 * m + g / (np.sqrt(v) + eps) + weight_decay * p
        yield m
