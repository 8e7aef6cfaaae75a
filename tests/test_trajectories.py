import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.test_convergence import SETTINGS

START = {"w": np.array([1, -2], np.float32), "b": 0.5}


def bowl(at):
    return jnp.sum(jnp.array([1.0, 10.0]) * at["w"] ** 2) + at["b"] ** 2


def test_a_trajectory_is_what_a_loop_of_updates_gives():
    tx = gradtx.adam(0.1)
    params = jax.tree.map(jnp.float32, START)
    state = tx.init(params)
    seen = [params]
    for _ in range(3):
        updates, state = tx.update(jax.grad(bowl)(params), state, params)
        params = gradtx.apply_updates(params, updates)
        seen.append(params)
    positions, values = gradtx.trajectory(tx, bowl, START, 3)
    for i, each in enumerate(seen):
        np.testing.assert_allclose(positions["w"][i], each["w"], rtol=1e-5)
        np.testing.assert_allclose(positions["b"][i], each["b"], rtol=1e-5)
        np.testing.assert_allclose(values[i], bowl(each), rtol=1e-5)


def test_no_steps_leave_the_start():
    positions, values = gradtx.trajectory(gradtx.sgd(0.1), bowl, START, 0)
    np.testing.assert_array_equal(positions["w"], START["w"][None])
    assert values.shape == (1,) and values[0] == bowl(START)


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - {"dpsgd"}))
def test_every_optimizer_has_a_trajectory(name):
    tx = SETTINGS[name].make(name, SETTINGS[name].quadratic)
    _, values = gradtx.trajectory(tx, bowl, START, 20)
    assert values.shape == (21,) and np.isfinite(values).all()


def test_optimizers_of_optax_have_the_same_trajectories():
    for make in ("adam", "sgd"):
        ours = gradtx.trajectory(getattr(gradtx, make)(0.01), bowl, START, 5)
        theirs = gradtx.trajectory(getattr(optax, make)(0.01), bowl, START, 5)
        np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-6)
    search = gradtx.trajectory(optax.lbfgs(), bowl, START, 5).values
    assert search[-1] < 1e-3 * search[0]


def test_new_numbers_compile_nothing():
    traces = []

    def f(x):
        traces.append(1)
        return x**2

    gradtx.trajectory(gradtx.sgd(0.1), f, 1.0, 3)
    first = len(traces)
    gradtx.trajectory(gradtx.sgd(0.2), f, 2.0, 3)
    assert len(traces) == first


def test_many_learning_rates_run_at_once():
    rates = np.array([0.01, 0.02], np.float32)
    values = jax.vmap(
        lambda rate: gradtx.trajectory(gradtx.sgd(rate), bowl, START, 3).values
    )(rates)
    for rate, each in zip(rates, values, strict=True):
        alone = gradtx.trajectory(gradtx.sgd(rate), bowl, START, 3).values
        np.testing.assert_allclose(each, alone, rtol=1e-5)


def test_complex_parameters_go_down():
    values = gradtx.trajectory(
        gradtx.sgd(0.1), lambda z: jnp.abs(z - 1j) ** 2, jnp.complex64(2), 20
    ).values
    assert values[-1] < 1e-2 * values[0] and (np.diff(values) < 0).all()


def test_what_is_no_transformation_is_named():
    with pytest.raises(TypeError, match="trajectory: tx must be a transformation, got"):
        gradtx.trajectory(gradtx.sgd, bowl, START, 3)  # pyright: ignore[reportArgumentType]


def test_a_start_that_is_no_float_is_named():
    with pytest.raises(TypeError, match="trajectory: b must be floats, got int32"):
        gradtx.trajectory(gradtx.sgd(0.1), bowl, {**START, "b": 1}, 3)


def test_a_negative_number_of_steps_is_named():
    with pytest.raises(
        ValueError, match="trajectory: steps must be at least 0, got -1"
    ):
        gradtx.trajectory(gradtx.sgd(0.1), bowl, START, -1)
