"""Rules that optax does not have, from their papers and authors, in float64 NumPy."""

import numpy as np


def norm_of(array, axis=None):
    """The Euclidean norm, which is kept as an array of as many axes."""
    return np.sqrt(np.sum(np.abs(array) ** 2, axis=axis, keepdims=True))


def adagc_by_the_paper(
    grads, params, ratio=1.04, decay=0.99, max_norm=1.0, warmup=100, eps=1e-6
):
    """Wang et al. 2025, Algorithm 1, of a list of arrays a step; its eps is 0."""
    usual = np.inf
    for t, leaves in enumerate(grads, start=1):
        norms = np.array([np.sqrt(np.sum(np.abs(g) ** 2)) for g in leaves])
        usual = norms if t == 1 else usual
        if t <= warmup:
            total = np.sqrt(np.sum(norms**2))
            factors = np.full(len(norms), min(1, max_norm / (total + eps)))
            usual = np.minimum(usual, factors * norms)
        else:
            most = ratio * usual
            factors = np.where(norms > most, most / (norms + eps), 1)
            usual = decay * usual + (1 - decay) * np.minimum(norms, most)
        yield [factor * g for factor, g in zip(factors, leaves, strict=True)]


def adam_atan2_by_the_paper(grads, params, b1=0.9, b2=0.99, a=1.27, b=1.0):
    """Everett et al. 2024, Adam-atan2, with the numbers of adam-atan2-pytorch."""
    m, v = 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        yield a * np.arctan2(m / (1 - b1**t), b * np.sqrt(v / (1 - b2**t)))


def adam_mini_by_the_paper(grads, params, axes=None, b1=0.9, b2=0.999, eps=1e-8):
    """Zhang et al. 2024, as adam-mini 1.1: a block is the mean over the axes."""
    m, v = 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        square = np.mean(np.abs(g) ** 2, axis=axes, keepdims=True)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * square
        yield m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)


def qhadam_by_the_paper(
    grads, params, b1=0.9, b2=0.999, nu1=1.0, nu2=1.0, eps=1e-8, weight_decay=0.0
):
    """Ma and Yarats 2018, QHAdam; the decay of the weights is in the gradient."""
    m, v = 0.0, 0.0
    for t, (g, p) in enumerate(zip(grads, params, strict=True), start=1):
        d = g + weight_decay * p
        square = np.abs(d) ** 2
        m, v = b1 * m + (1 - b1) * d, b2 * v + (1 - b2) * square
        size = (1 - nu2) * square + nu2 * v / (1 - b2**t)
        yield ((1 - nu1) * d + nu1 * m / (1 - b1**t)) / (np.sqrt(size) + eps)


def aggmo_by_the_paper(grads, params, betas=(0.0, 0.9, 0.99), weight_decay=0.0):
    """Lucas et al. 2018, AggMo; the decay of the weights is in the gradient."""
    velocities = [0.0] * len(betas)
    for g, p in zip(grads, params, strict=True):
        d = g + weight_decay * p
        velocities = [b * v + d for b, v in zip(betas, velocities, strict=True)]
        yield sum(velocities) / len(betas)


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


def polyak_by_the_paper(points):
    """Polyak and Juditsky 1992: the mean of all points so far."""
    total = 0.0
    for count, point in enumerate(points, start=1):
        total = total + point
        yield total / count


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


def zclip_by_the_paper(
    norms, decay=0.97, threshold=2.5, warmup=25, max_norm=None, eps=1e-6,
    factor=1.0, skips_spikes=False, clips_to_mean=False,
):  # fmt: skip
    """Kumar et al. 2025, Algorithm 1, whose eps is 0 and which has no max_norm.

    Of each norm the mean and the variance after it, if it is a spike, and the norm
    after clipping. While warming up these are of all norms so far.
    """
    mean = variance = 0.0
    for count, norm in enumerate(norms, start=1):
        is_spike, most = False, norm
        if count <= warmup:
            mean, variance = np.mean(norms[:count]), np.var(norms[:count])
        else:
            deviation = np.sqrt(variance)
            z = (norm - mean) / (deviation + eps)
            is_spike = bool(z > threshold)
            if is_spike:
                most = (mean + threshold**2 / z * deviation) * factor
                most = mean if clips_to_mean else most
            if not (is_spike and skips_spikes):
                mean = decay * mean + (1 - decay) * most
                variance = decay * variance + (1 - decay) * (most - mean) ** 2
        least = most if max_norm is None else min(most, max_norm)
        clipped = norm * least / (norm + eps) if norm > least else norm
        yield mean, variance, is_spike, clipped


def skip_step_by_olmo(norms, length=128, factor=6.0):
    """OLMo-core, SkipStepOptimizer, of the norms alone: if the step is taken."""
    for count, norm in enumerate(norms, start=1):
        before = norms[max(0, count - 1 - length) : count - 1]
        if count < max(20, length // 2):
            yield True
        else:
            z = np.abs(norm - np.mean(before)) / np.std(before, ddof=1)
            yield bool(z <= factor)
