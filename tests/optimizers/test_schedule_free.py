import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.adam import adam_directions
from tests.oracles.runs import PARAMS, REAL
from tests.oracles.schedule_free import schedule_free_by_the_paper

STEPS = 8
GRADS, START = REAL[:STEPS], 1 + PARAMS[0]


def path_of(tx):
    """The gradients' places, y, after each update, in double, and the last state."""
    places = []
    with jax.enable_x64(True):
        y = jnp.asarray(START)
        state, update = tx.init(y), jax.jit(tx.update)
        for g in GRADS:
            updates, state = update(jnp.asarray(g), state, y)
            y = y + updates
            places.append(np.asarray(y))
    return places, y, state


def path_by_the_paper(directions, rates, decay, b1=0.9, power=2.0):
    """Defazio et al. 2024, where the decay is that of y, the gradient's place.

    As in optax, the weight of an iterate is of the rate one step ahead.
    """
    y, path, steps = START, [], []
    for t, (direction, rate) in enumerate(zip(directions, rates, strict=True)):
        steps.append(-rate * (direction + decay * y))
        ahead = [*rates[1:], rates[-1]][: t + 1]
        given = schedule_free_by_the_paper(steps, ahead, START, b1, power)
        y = START + np.sum(list(given), axis=0)
        path.append(y)
    return path


def warmed(rate, warmup):
    """The rate at each count, which stays where it is after the warmup."""
    return [rate * min(t / warmup, 1) if warmup else rate for t in range(STEPS)]


@pytest.mark.parametrize(("warmup", "decay"), [(None, None), (None, 0.1), (4, 0.1)])
def test_schedule_free_sgd_equals_the_paper(warmup, decay):
    tx = gradtx.schedule_free_sgd(0.3, warmup, 0.8, decay, 1.5)
    rates = warmed(0.3, warmup)
    expected = path_by_the_paper(GRADS, rates, decay or 0.0, 0.8, 1.5)
    for mine, theirs in zip(path_of(tx)[0], expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-11)


@pytest.mark.parametrize(("warmup", "decay"), [(None, 0.0), (4, 0.1)])
def test_schedule_free_adamw_equals_the_paper(warmup, decay):
    """The base has no momentum, only the second moment of Adam."""
    tx = gradtx.schedule_free_adamw(0.3, warmup, b2=0.95, weight_decay=decay)
    directions = adam_directions(GRADS, b1=0.0, b2=0.95)
    expected = path_by_the_paper(directions, warmed(0.3, warmup), decay)
    for mine, theirs in zip(path_of(tx)[0], expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10)


def test_the_mean_of_the_iterates_is_to_evaluate_with():
    """With a power of 0 all iterates weigh the same."""
    tx = gradtx.schedule_free_sgd(0.3, weight_lr_power=0.0)
    _, y, state = path_of(tx)
    iterates = START - 0.3 * np.cumsum(GRADS, axis=0)
    mean = np.mean(iterates, axis=0)
    with jax.enable_x64(True):
        found = gradtx.eval_params(tx, state, y)
        again = gradtx.schedule_free_eval_params(state, y)
    np.testing.assert_allclose(found, mean, rtol=1e-10)
    np.testing.assert_allclose(again, mean, rtol=1e-10)


def test_a_rate_that_is_a_schedule_is_refused():
    with pytest.raises(
        TypeError, match="schedule_free_sgd: learning_rate must be a num"
    ):
        gradtx.schedule_free_sgd(gradtx.constant_schedule(0.1))
