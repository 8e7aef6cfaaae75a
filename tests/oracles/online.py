"""COCOB, MADGRAD, ASGD and FTRL, by their papers."""

import numpy as np


def cocob_by_the_paper(grads, params, alpha=100.0, eps=1e-8):
    """Orabona and Tommasi 2017, Algorithm 2."""
    scale, total, reward, against = eps, 0.0, 0.0, 0.0
    for g, p in zip(grads, params, strict=True):
        scale, total = np.maximum(scale, np.abs(g)), total + np.abs(g)
        against = against - g
        reward = np.maximum(reward - np.real(np.conj(g) * (p - params[0])), 0)
        bet = against / (scale * np.maximum(total + scale, alpha * scale))
        yield params[0] + bet * (scale + reward) - p


def madgrad_by_the_paper(grads, params, rate, momentum=0.9, eps=1e-6):
    """Defazio and Jelassi 2021, Algorithm 1; eps is added to the rate, as in optax."""
    s, v = 0.0, 0.0
    for k, (g, p) in enumerate(zip(grads, params, strict=True)):
        weight = (rate + eps) * np.sqrt(k + 1)
        s, v = s + weight * g, v + weight * np.abs(g) ** 2
        z = params[0] - s / (np.cbrt(v) + eps)
        yield (1 - momentum) * (z - p)


def asgd_path_by_torch(
    grads, start, rate=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0.0
):
    """torch.optim.ASGD: the parameters, which follow, and their average."""
    p, average, eta, mu = start, 0 * start, rate, 1.0
    for t, g in enumerate(grads, start=1):
        d = g + weight_decay * p
        p = p * (1 - lambd * eta) - eta * d
        average = average + mu * (p - average)
        eta, mu = rate / (1 + lambd * rate * t) ** alpha, 1 / max(1, t - t0)
        yield p, average


def asgd_by_torch(grads, start, **numbers):
    """The steps to add in torch.optim.ASGD."""
    for p, _ in asgd_path_by_torch(grads, start, **numbers):
        yield p - start
        start = p


def asgd_average_by_torch(grads, start, **numbers):
    """The averages of the parameters in torch.optim.ASGD."""
    return (average for _, average in asgd_path_by_torch(grads, start, **numbers))


def ftrl_by_the_paper(grads, start, alpha, beta=1.0, l1=0.0, l2=0.0):
    """McMahan et al. 2013, Algorithm 1, which starts at 0: the steps to add."""
    z, n, p = 0.0, 0.0, start
    for g in grads:
        sigma = (np.sqrt(n + g**2) - np.sqrt(n)) / alpha
        z, n = z + g - sigma * p, n + g**2
        far = -(z - np.sign(z) * l1) / ((beta + np.sqrt(n)) / alpha + l2)
        new = np.where(np.abs(z) <= l1, 0.0, far)
        yield new - p
        p = new


def ftrl_by_keras(
    grads, start, rate=1e-3, power=-0.5, initial_accumulator_value=0.1, l1=0.0,
    l2=0.0, l2_shrinkage=0.0, beta=0.0,
):  # fmt: skip
    """keras.optimizers.Ftrl (3.15), whose l2 is half of the paper's: steps to add."""
    linear, n, p = 0.0, initial_accumulator_value, start
    for g in grads:
        root, n = n**-power, n + g**2
        sigma = (n**-power - root) / rate
        linear = linear + g + 2 * l2_shrinkage * p - sigma * p
        quadratic = n**-power / rate + 2 * (l2 + beta / (2 * rate))
        new = (np.clip(linear, -l1, l1) - linear) / quadratic
        yield new - p
        p = new
