"""Schedule-free, by its paper."""

import numpy as np


def schedule_free_by_the_paper(steps, rates, start, b1=0.9, power=2.0):
    """Defazio et al. 2024, Algorithm 1: the path of y for steps of z."""
    x = z = y = start
    total = 0.0
    for step, largest in zip(steps, np.maximum.accumulate(rates), strict=True):
        z, weight = z + step, largest**power
        total += weight
        share = weight / total if total else 0.0
        x = (1 - share) * x + share * z
        new = b1 * x + (1 - b1) * z
        yield new - y
        y = new
