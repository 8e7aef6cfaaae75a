"""What modifies gradients, Adam or its decay, by their papers.

Each yields directions u, of `p -= learning_rate * u`, unless it says otherwise.
"""

import numpy as np

from tests.oracles.adam import adam_directions


def cautious_by_the_paper(updates, grads, floor=1e-3, eps=0.0):
    """Liang et al. 2024, Algorithm 1, scaled as in the authors' c_adamw.py.

    The listing of the paper's version 4 is of no floor and an eps; its first version,
    and the authors' c_lion.py, of no floor and an eps of 1 over the size.
    """
    for u, g in zip(updates, grads, strict=True):
        mask = u * g > 0
        yield u * mask / (np.maximum(np.mean(mask), floor) + eps)


def cautious_adamw_by_the_paper(
    grads, params, b1=0.9, b2=0.999, eps=1e-6, weight_decay=0.0, early_eps=True
):
    """Liang et al. 2024, the authors' c_adamw.py, whose decay is outside the mask."""
    updates = adam_directions(grads, b1, b2, eps, early_eps)
    masked = cautious_by_the_paper(updates, grads)
    for u, p in zip(masked, params, strict=True):
        yield u + weight_decay * p


def cautious_weight_decay_by_the_paper(updates, params, weight_decay=0.1):
    """Chen et al. 2025, Algorithm 1, for the updates of any optimizer."""
    for u, p in zip(updates, params, strict=True):
        yield u + weight_decay * (u * p >= 0) * p


def adamw_of_cautious_weight_decay_by_the_paper(
    grads, params, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.1
):
    """Chen et al. 2025, Algorithm 1, where the optimizer is Adam."""
    updates = adam_directions(grads, b1, b2, eps)
    yield from cautious_weight_decay_by_the_paper(updates, params, weight_decay)


def grams_of_updates(updates, grads):
    """Cao et al. 2024: the size of an update, the sign of the gradient."""
    for u, g in zip(updates, grads, strict=True):
        yield np.sign(g) * np.abs(u)


def mars_gradients_by_the_paper(
    grads, params=None, b1=0.95, gamma=0.025, max_norm=1.0, first=0.0, befores=None
):
    """Yuan et al. 2024, equations of c_t and its clipping, for one tensor.

    Approximate: the gradient before is that of the last step, and before the first of
    all the `first`, which is zero in the authors' mars.py. Exact where `befores` are
    given, the gradients of each step's batch at the last step's parameters.
    """
    before = first
    for t, g in enumerate(grads):
        if befores is not None:
            before = befores[t]
        c = g + gamma * b1 / (1 - b1) * (g - before)
        norm = np.sqrt(np.sum(np.abs(c) ** 2))
        yield c * max_norm / norm if norm > max_norm else c
        before = g


def mars_adamw_by_the_paper(
    grads, params, b1=0.95, b2=0.99, eps=1e-8, weight_decay=0.0, **correction
):
    """Yuan et al. 2024, MARS-AdamW: both moments are of the clipped c_t."""
    corrected = mars_gradients_by_the_paper(grads, params, b1, **correction)
    updates = adam_directions(corrected, b1, b2, eps)
    for u, p in zip(updates, params, strict=True):
        yield u + weight_decay * p


def grokfast_by_the_paper(grads, params=None, alpha=0.98, factor=2.0, first=None):
    """Lee et al. 2024, Algorithm 2, gradients; the average starts at the first of them.

    So in the authors' grokfast.py; another start where `first` is given.
    """
    average = grads[0] if first is None else first
    for g in grads:
        average = alpha * average + (1 - alpha) * g
        yield g + factor * average


def orthograd_by_the_paper(grads, params, eps=1e-30, rescale=True):
    """Prieto et al. 2025, the orthogonal gradient, for one tensor.

    Rescaled to the gradient's norm as in the authors' orthograd.py; the paper's
    equation is not, and has no eps.
    """
    for g, p in zip(grads, params, strict=True):
        left = g - np.sum(p * g) / (np.sum(p * p) + eps) * p
        scale = np.linalg.norm(g) / (np.linalg.norm(left) + eps) if rescale else 1.0
        yield scale * left
