import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.core.numbers import DecayValue
from gradtx.transforms.bias import Weight
from tests.oracles.averages import ema_by_the_paper
from tests.oracles.runs import REAL, assert_equals_paper, steps_of


@pytest.mark.parametrize("steps_ahead", [-1, 0, 1, 3])
def test_a_correction_divides_by_what_the_average_falls_short_of(steps_ahead):
    def paper(grads, params):
        for t, g in enumerate(grads, start=1):
            yield g / (1 - 0.8 ** max(t + steps_ahead, 1))

    assert_equals_paper(gradtx.bias_correction(0.8, steps_ahead), paper)


def falling(count):
    return 0.9 - 0.05 * count


@pytest.mark.parametrize("name", ["ema", "first_moment"])
def test_of_a_decay_that_changes_the_average_is_corrected_by_its_weight(name):
    """The weighted mean of the gradients, whose weights have the sum 1."""

    def paper(grads, params):
        average = weight = 0.0
        for t, g in enumerate(grads):
            decay = 0.9 - 0.05 * t
            average = decay * average + (1 - decay) * g
            weight = decay * weight + (1 - decay)
            yield average / weight

    data = REAL[:8], REAL[8:16]
    assert_equals_paper(getattr(gradtx, name)(falling), paper, data=data)


def test_the_weight_is_kept_where_the_decay_changes_and_nowhere_else():
    constant, changing = gradtx.first_moment(0.9), gradtx.first_moment(falling)
    ((_, state),) = steps_of(constant, [jnp.ones(2)])
    assert state.keys() == {"count", "mu"}
    kept = [state["mu_weight"] for _, state in steps_of(changing, [jnp.ones(2)] * 3)]
    expected = 1 - np.cumprod([0.9, 0.85, 0.8])
    np.testing.assert_allclose(kept, expected, rtol=1e-6)


def test_the_mean_of_equal_gradients_is_the_gradient_before_and_after_a_change():
    tx = gradtx.ema(lambda count: jnp.where(count < 3, 0.9, 0.5))
    for updates, _ in steps_of(tx, [jnp.full(2, 3.0)] * 6):
        np.testing.assert_allclose(updates, 3.0, rtol=1e-6)


def test_nesterovs_correction_looks_one_step_ahead():
    """Dozat 2016, for an average that decays by 0.8."""

    def paper(grads, params):
        averages = ema_by_the_paper(grads, 0.8, debias=False)
        for t, (m, g) in enumerate(zip(averages, grads, strict=True), start=1):
            yield 0.8 * m / (1 - 0.8 ** (t + 1)) + 0.2 * g / (1 - 0.8**t)

    average = gradtx.scale_by_ema(0.8, "mu")
    tx = gradtx.moments(average, gradtx.nesterov_correction(0.8))
    assert_equals_paper(tx, paper)
    assert_equals_paper(gradtx.moments(gradtx.first_moment(0.8, nesterov=True)), paper)


def test_a_weight_goes_on_by_the_count_while_it_is_that_of_the_count():
    with jax.enable_x64(True):
        decay = DecayValue(jnp.float64(0.9), jnp.float64(0.1), changes=True)
        weight = Weight(decay)
        np.testing.assert_allclose(weight.recovered(5), 1 - 0.9**5, rtol=1e-15)
        assert weight.recovered(0) == 0
        by_count = decay.weight_after(6)
        assert weight.after(weight.recovered(5), 5) == by_count
        other = weight.after(0.2, 5)
    np.testing.assert_allclose(other, 0.9 * 0.2 + 0.1, rtol=1e-15)
