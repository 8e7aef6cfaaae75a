"""Clipping and skipping, by their papers."""

import numpy as np


def clip_by_the_paper(grads, max_norm):
    """Pascanu et al. 2012, Algorithm 1: a list of arrays a step."""
    for leaves in grads:
        norm = np.sqrt(sum(np.sum(np.abs(g) ** 2) for g in leaves))
        yield [g * (max_norm / norm if norm >= max_norm else 1) for g in leaves]


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
