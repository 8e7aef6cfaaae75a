"""Rprop, by its paper."""

import numpy as np


def rprop_by_the_paper(grads, first, down=0.5, up=1.2, least=1e-6, most=50.0):
    """Riedmiller and Braun 1993: no step where the sign has turned, as in torch."""
    size, last = np.full(grads[0].shape, first), np.zeros_like(grads[0])
    for g in grads:
        agrees = np.sign(g * last)
        size = size * np.select([agrees > 0, agrees < 0], [up, down], 1.0)
        size = np.where(agrees == 0, size, np.clip(size, least, most))
        last = np.where(agrees < 0, 0, g)
        yield size * np.sign(last)
