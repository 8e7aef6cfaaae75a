"""APOLLO, by its paper."""

import numpy as np


def norm_of(array, axis=None):
    """The Euclidean norm, which is kept as an array of as many axes."""
    return np.sqrt(np.sum(np.abs(array) ** 2, axis=axis, keepdims=True))


def apollo_by_the_paper(
    grads, params, projections, b1=0.9, b2=0.999, eps=1e-6, scale=1.0,
    is_tensorwise=False, limit=1.01, scale_front=False, is_debiased_within=False,
):  # fmt: skip
    """Zhu et al. 2024, Algorithm 1, with the order of apollo_torch, of matrices.

    Each projection is of the shape (rank, the shorter side of the gradient). Of
    APOLLO-Mini the rank is 1 and the scale 128, and it is tensorwise.
    """
    m, v, last = 0.0, 0.0, None
    for t, (g, projection) in enumerate(zip(grads, projections, strict=True), start=1):
        is_tall = g.shape[0] >= g.shape[1]
        low = g @ projection.T if is_tall else projection @ g
        axis = None if is_tensorwise else int(is_tall)
        m, v = b1 * m + (1 - b1) * low, b2 * v + (1 - b2) * np.abs(low) ** 2
        left1, left2 = 1 - b1**t, np.sqrt(1 - b2**t)
        if is_debiased_within:
            adam, after = m / left1 / (np.sqrt(v) / left2 + eps), 1.0
        else:
            adam, after = m / (np.sqrt(v) + eps), left2 / left1
        u = g * norm_of(adam, axis) / (norm_of(low, axis) + 1e-8)
        u = u * np.sqrt(scale) if scale_front else u
        if limit is not None and last is not None:
            u = u / (np.maximum(norm_of(u) / (last + 1e-8), limit) / limit)
        last = norm_of(u)
        yield u * after * (1 if scale_front else np.sqrt(scale))
