"""Adam-mini, Adafactor's factors and CAME, by their papers."""

import numpy as np


def adam_mini_by_the_paper(grads, params, axes=None, b1=0.9, b2=0.999, eps=1e-8):
    """Zhang et al. 2024, as adam-mini 1.1: a block is the mean over the axes."""
    m, v = 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        square = np.mean(np.abs(g) ** 2, axis=axes, keepdims=True)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * square
        yield m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)


def factored_by_the_paper(averages, square, decay):
    """Shazeer and Stern 2018, Algorithm 1: the new averages, and what they stand for.

    The averages are of each row and of each column of the last two axes.
    """
    rows, columns = (
        decay * average + (1 - decay) * np.mean(square, axis=axis, keepdims=True)
        for average, axis in zip(averages, (-1, -2), strict=True)
    )
    return (rows, columns), rows * columns / np.mean(rows, axis=-2, keepdims=True)


def came_by_the_paper(
    grads, params, b1=0.9, b2=0.999, b3=0.9999, eps=1e-30, eps_residual=1e-16,
    clip_threshold=1.0,
):  # fmt: skip
    """Luo et al. 2023, CAME; arrays of one axis as in the authors' CAME.py."""
    m, v, squares, residuals = 0.0, 0.0, (0.0, 0.0), (0.0, 0.0)
    for g in grads:
        square = np.abs(g) ** 2 + eps
        if g.ndim >= 2:
            squares, v = factored_by_the_paper(squares, square, b2)
        else:
            v = b2 * v + (1 - b2) * square
        u = g / np.sqrt(v)
        u = u / max(1, np.sqrt(np.mean(np.abs(u) ** 2)) / clip_threshold)
        m = b1 * m + (1 - b1) * u
        if g.ndim >= 2:
            residual = np.abs(u - m) ** 2 + eps_residual
            residuals, s = factored_by_the_paper(residuals, residual, b3)
            yield m / np.sqrt(s)
        else:
            yield m
