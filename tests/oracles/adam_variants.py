"""Adam with another denominator, another warmup, another bound, by their papers."""

import numpy as np


def adamax_by_the_paper(grads, b1=0.9, b2=0.999, eps=1e-8):
    """Kingma and Ba 2014, Algorithm 2; eps is added to each magnitude, as in optax."""
    m, u = 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, u = b1 * m + (1 - b1) * g, np.maximum(b2 * u, np.abs(g) + eps)
        yield m / (1 - b1**t) / u


def yogi_by_the_paper(grads, b1=0.9, b2=0.999, eps=1e-3, start=1e-6):
    """Zaheer et al. 2018, Algorithm 2, corrected for its bias as in optax."""
    m = v = start
    for t, g in enumerate(grads, start=1):
        m, square = b1 * m + (1 - b1) * g, np.abs(g) ** 2
        v = v - (1 - b2) * np.sign(v - square) * square
        yield m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)


def radam_by_the_paper(grads, b1=0.9, b2=0.999, eps=1e-8, threshold=5.0):
    """Liu et al. 2019, Algorithm 2, whose threshold is 4."""
    m, v, longest = 0.0, 0.0, 2 / (1 - b2) - 1
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.abs(g) ** 2
        u, rho = m / (1 - b1**t), longest - 2 * t * b2**t / (1 - b2**t)
        if rho >= threshold:
            r = (rho - 4) * (rho - 2) * longest / (longest - 4) / (longest - 2) / rho
            u = np.sqrt(r) * u / (np.sqrt(v / (1 - b2**t)) + eps)
        yield u


def adam_atan2_by_the_paper(grads, params, b1=0.9, b2=0.99, a=1.27, b=1.0):
    """Everett et al. 2024, Adam-atan2, with the numbers of adam-atan2-pytorch."""
    m, v = 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        yield a * np.arctan2(m / (1 - b1**t), b * np.sqrt(v / (1 - b2**t)))


def stable_adamw_by_the_paper(
    grads, params, b1=0.9, b2=0.99, eps=1e-6, weight_decay=0.2, threshold=1.0,
    scales_decay=True,
):  # fmt: skip
    """Wortsman et al. 2023, Algorithm 2, for one tensor.

    The authors' stableadamwunfused.py does not scale the decay.
    """
    m, u = 0.0, 0.0
    for t, (g, p) in enumerate(zip(grads, params, strict=True), start=1):
        b1_hat = b1 * (1 - b1 ** (t - 1)) / (1 - b1**t)
        b2_hat = b2 * (1 - b2 ** (t - 1)) / (1 - b2**t)
        square = np.abs(g) ** 2
        m, u = b1_hat * m + (1 - b1_hat) * g, b2_hat * u + (1 - b2_hat) * square
        rms = np.sqrt(np.mean(square / np.maximum(u, eps**2)))
        scale = 1 / max(1.0, rms / threshold)
        decay = weight_decay * (scale if scales_decay else 1.0) * p
        yield scale * m / (np.sqrt(u) + eps) + decay
