"""Averages and sums of the updates, by their papers."""

import numpy as np


def stored(slot, dtype):
    """A float64 array as it is after being kept in another dtype, if one is given."""
    return slot.astype(dtype or slot.dtype).astype(slot.dtype)


def trace_by_the_paper(grads, decay, nesterov=False, accumulator_dtype=None):
    """Sutskever et al. 2013, equations 1 to 4, as a sum of gradients."""
    trace = np.zeros_like(grads[0])
    for g in grads:
        trace = g + decay * trace
        yield g + decay * trace if nesterov else trace
        trace = stored(trace, accumulator_dtype)


def ema_by_the_paper(grads, decay, debias=True, accumulator_dtype=None):
    """Kingma and Ba 2014, the first moment of Algorithm 1."""
    m = np.zeros_like(grads[0])
    for t, g in enumerate(grads, start=1):
        m = decay * m + (1 - decay) * g
        yield m / (1 - decay**t) if debias else m
        m = stored(m, accumulator_dtype)


def polyak_by_the_paper(points):
    """Polyak and Juditsky 1992: the mean of all points so far."""
    total = 0.0
    for count, point in enumerate(points, start=1):
        total = total + point
        yield total / count
