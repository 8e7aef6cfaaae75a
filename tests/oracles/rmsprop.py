"""RMSProp, Adagrad and Adadelta, by their papers."""

import numpy as np


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


def adadelta_by_the_paper(grads, rho=0.9, eps=1e-6):
    """Zeiler 2012, Algorithm 1."""
    e_g, e_x = 0.0, 0.0
    for g in grads:
        e_g = rho * e_g + (1 - rho) * np.abs(g) ** 2
        step = np.sqrt(e_x + eps) / np.sqrt(e_g + eps) * g
        e_x = rho * e_x + (1 - rho) * np.abs(step) ** 2
        yield step
