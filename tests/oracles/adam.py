"""Adam and its kin, by their papers."""

import numpy as np

from tests.oracles.averages import stored


def adam_by_the_paper(
    grads, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, nesterov=False
):
    """Kingma and Ba 2014, Algorithm 1; with Nesterov's momentum Dozat 2016."""
    m, v = np.zeros_like(grads[0]), 0.0
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.abs(g) ** 2
        m_hat = m / (1 - b1**t)
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        yield m_hat / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
        m = stored(m, mu_dtype)


def amsgrad_by_the_paper(
    grads, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None,
    bias_correction_mu=True, bias_correction_nu=True,
):  # fmt: skip
    """Reddi et al. 2018, Algorithm 2, and its moments corrected as in optax."""
    m, v, v_max = np.zeros_like(grads[0]), 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.abs(g) ** 2
        m_hat = m / (1 - b1**t) if bias_correction_mu else m
        v_max = np.maximum(v_max, v / (1 - b2**t) if bias_correction_nu else v)
        yield m_hat / (np.sqrt(v_max + eps_root) + eps)
        m = stored(m, mu_dtype)


def nadam_by_torch(grads, b1=0.9, b2=0.999, eps=1e-8, momentum_decay=4e-3):
    """Dozat 2016, Algorithm 2, with the momentum of its section 3.1, as in torch."""
    m, v, product = 0.0, 0.0, 1.0
    for t, g in enumerate(grads, start=1):
        now, after = (b1 * (1 - 0.96 ** (k * momentum_decay) / 2) for k in (t, t + 1))
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.abs(g) ** 2
        product *= now
        m_hat = after * m / (1 - product * after) + (1 - now) * g / (1 - product)
        yield m_hat / (np.sqrt(v / (1 - b2**t)) + eps)


def adamc_by_the_paper(
    grads, params, rates, lr_max=None, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.1,
    normalized=True,
):  # fmt: skip
    """Defazio 2025, AdamC: steps to add to the parameters, minus sign and rates inside.

    A layer that is not normalized, the output's, decays as in AdamW.
    """
    lr_max = max(rates) if lr_max is None else lr_max
    updates = adam_directions(grads, b1, b2, eps)
    for u, p, lr in zip(updates, params, rates, strict=True):
        decay = lr / lr_max * weight_decay if normalized else weight_decay
        yield -lr * (u + decay * p)


def adam_directions(grads, b1=0.9, b2=0.999, eps=1e-8, early_eps=False):
    """Kingma and Ba 2014, Algorithm 1; with an early eps as in transformers' AdamW.

    There eps is added to the root before the bias of the root is corrected.
    """
    m, v = 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.abs(g) ** 2
        correction = np.sqrt(1 - b2**t)
        late = eps / correction if early_eps else eps
        yield m / (1 - b1**t) / (np.sqrt(v) / correction + late)
