"""DoG and DoWG, by their papers."""

import numpy as np


def dog_by_the_paper(grads, params, first, eps=1e-8):
    """Ivgi et al. 2023, equations 1 and 2, for a first distance."""
    farthest, total = first, eps
    for g, p in zip(grads, params, strict=True):
        farthest = max(farthest, np.linalg.norm(p - params[0]))
        total += np.sum(np.abs(g) ** 2)
        yield farthest / np.sqrt(total) * g


def dowg_by_the_paper(grads, params, first=1e-4, eps=1e-4):
    """Khaled et al. 2023, Algorithm 1, for a first squared distance."""
    farthest, total = first, 0.0
    for g, p in zip(grads, params, strict=True):
        farthest = max(farthest, np.sum(np.abs(p - params[0]) ** 2))
        total += farthest * np.sum(np.abs(g) ** 2)
        yield farthest / (np.sqrt(total) + eps) * g
