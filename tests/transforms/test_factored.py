import math
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.transforms.factored import factored_axes, power_decay
from tests.oracles.runs import steps_of


@pytest.mark.parametrize(
    ("shape", "least", "axes"),
    [
        ((), 2, None),
        ((9,), 2, None),
        ((3, 4), 2, (0, 1)),
        ((4, 3), 2, (1, 0)),
        ((3, 3), 2, (0, 1)),
        ((3, 4), 3, (0, 1)),
        ((3, 4), 4, None),
        ((1, 9), 2, None),
        ((5, 2, 4), 2, (2, 0)),
        ((2, 5, 5), 2, (1, 2)),
        ((7, 1, 3, 6), 2, (3, 0)),
        ((4, 3, 2, 3), 2, (3, 0)),
    ],
)
def test_factored_axes_are_the_two_longest(shape, least, axes):
    assert factored_axes(shape, least) == axes


def factored_by_the_paper(squares, axes, decays):
    """Shazeer and Stern 2018, Algorithm 4: the product of means over their mean."""
    short, long = axes
    row = col = 0.0
    for square, decay in zip(squares, decays, strict=True):
        row = decay * row + (1 - decay) * square.mean(long, keepdims=True)
        col = decay * col + (1 - decay) * square.mean(short, keepdims=True)
        yield row * col / row.mean(short, keepdims=True)


def decays(exponent=0.8, offset=0):
    return [1 - (t - offset) ** -exponent for t in range(1, 7)]


SHAPES = [(3, 4), (4, 3), (3, 3), (5, 2, 4), (2, 4, 4), (2, 1, 3, 4)]


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_factored_rms_equals_the_paper(shape, is_complex):
    grads = np.random.default_rng(0).normal(size=(6, *shape))
    grads = grads * (1 + 2j) if is_complex else grads
    squares = np.abs(grads) ** 2 + 1e-3
    axes = factored_axes(shape, 2)
    assert axes is not None
    sizes = factored_by_the_paper(squares, axes, decays())
    with jax.enable_x64(True):
        tx = gradtx.scale_by_factored_rms(min_dim_size_to_factor=2, epsilon=1e-3)
        runs = steps_of(tx, map(jnp.asarray, grads))
        for g, size, (updates, state) in zip(grads, sizes, runs, strict=True):
            np.testing.assert_allclose(updates, g / np.sqrt(size), rtol=1e-12)
            assert state["v"] is None
            short, long = axes
            assert state["v_row"].shape == tuple(np.delete(shape, long))
            assert state["v_col"].shape == tuple(np.delete(shape, short))


@pytest.mark.parametrize("arguments", [{}, {"factored": False}], ids=str)
def test_small_or_not_factored_arrays_are_averaged_whole(arguments):
    if arguments:
        arguments |= {"min_dim_size_to_factor": 1}
    grads, average = np.random.default_rng(0).normal(size=(6, 3, 4)), 0.0
    with jax.enable_x64(True):
        runs = steps_of(
            gradtx.scale_by_factored_rms(**arguments), map(jnp.asarray, grads)
        )
        for g, decay, (updates, state) in zip(grads, decays(), runs, strict=True):
            average = decay * average + (1 - decay) * (g**2 + 1e-30)
            np.testing.assert_allclose(updates, g / np.sqrt(average), rtol=1e-12)
            np.testing.assert_allclose(state["v"], average, rtol=1e-12)
            assert state["v_row"] is None and state["v_col"] is None


def test_each_leaf_keeps_what_it_is_factored_into():
    params = {"w": jnp.ones((3, 5)), "bias": jnp.ones(5), "scalar": jnp.ones(())}
    tx = gradtx.scale_by_factored_rms(min_dim_size_to_factor=2)
    for _, state in steps_of(tx, [params, params]):
        shapes = {key: jax.tree.map(jnp.shape, state[key]) for key in state}
        assert shapes == {
            "count": (),
            "v_row": {"w": (3,), "bias": None, "scalar": None},
            "v_col": {"w": (5,), "bias": None, "scalar": None},
            "v": {"w": None, "bias": (5,), "scalar": ()},
        }
        assert state["v_row"]["bias"] is None


def test_decay_of_a_factored_average_is_a_function_of_step_and_number():
    squares = np.random.default_rng(0).uniform(size=(6, 3, 4))
    seen = [0.5 / (t + 3) for t in range(6)]
    with jax.enable_x64(True):
        tx = gradtx.factored_average(0.5, -2, 2, lambda step, decay: decay / (step + 1))
        expected = factored_by_the_paper(squares, (0, 1), seen)
        for (mine, _), size in zip(
            steps_of(tx, map(jnp.asarray, squares)), expected, strict=True
        ):
            np.testing.assert_allclose(mine, size, rtol=1e-12)


@pytest.mark.parametrize("exponent", [0.8, 1.0, 0.0])
def test_decay_of_adafactor_is_a_power(exponent):
    for step in range(4):
        expected = 1 - (step + 1) ** -exponent
        assert math.isclose(power_decay(step, exponent), expected)


def covered_by_the_paper(squares, decay):
    """Anil et al. 2019, SM3-II, entry by entry, over the covers of each axis."""
    shape = squares[0].shape
    covers = [np.zeros(n) for n in shape]
    weight = 1 - decay if decay < 1 else 1
    for square in squares:
        total, new = np.empty(shape), [np.zeros(n) for n in shape]
        for place in np.ndindex(shape):
            least = min(cover[i] for cover, i in zip(covers, place, strict=True))
            total[place] = decay * least + weight * square[place]
            for cover, i in zip(new, place, strict=True):
                cover[i] = max(cover[i], total[place])
        covers = new
        yield total, np.concatenate(covers)


@pytest.mark.parametrize("decay", [1.0, 0.8])
@pytest.mark.parametrize("shape", [(4,), (3, 2), (2, 3, 2), (2, 1, 3, 2)], ids=str)
def test_covered_sum_equals_the_paper(shape, decay):
    squares = np.random.default_rng(0).uniform(size=(5, *shape))
    with jax.enable_x64(True):
        runs = steps_of(gradtx.covered_sum(decay), map(jnp.asarray, squares))
        expected = covered_by_the_paper(squares, decay)
        for (mine, state), (total, maxima) in zip(runs, expected, strict=True):
            np.testing.assert_allclose(mine, total, rtol=1e-12)
            np.testing.assert_allclose(state["mu"], maxima, rtol=1e-12)


def test_covered_sum_of_a_scalar_is_its_sum():
    squares = [jnp.float32(x) for x in (1.0, 0.0, 4.0)]
    runs = steps_of(gradtx.covered_sum(), squares)
    for expected, (total, state) in zip((1, 1, 5), runs, strict=True):
        assert total.shape == () and total == expected
        assert state["mu"].shape == (1,)


@pytest.mark.parametrize("is_complex", [False, True])
def test_sm3_divides_by_the_root_of_a_covered_sum_then_averages(is_complex):
    grads = np.random.default_rng(0).normal(size=(5, 2, 3))
    grads = grads * (2 - 1j) if is_complex else grads
    sums = covered_by_the_paper(np.abs(grads) ** 2, 1.0)
    average: Any = 0.0
    with jax.enable_x64(True):
        runs = steps_of(gradtx.scale_by_sm3(0.8, eps=1e-3), map(jnp.asarray, grads))
        for g, (total, _), (updates, state) in zip(grads, sums, runs, strict=True):
            average = 0.8 * average + 0.2 * g / np.sqrt(total + 1e-3)
            np.testing.assert_allclose(updates, average, rtol=1e-12)
            np.testing.assert_allclose(state["nu"], average, rtol=1e-12)


def test_sm3_works_on_scalars():
    grads = [jnp.float32(x) for x in (3.0, 4.0)]
    updates = [u for u, _ in steps_of(gradtx.scale_by_sm3(0.0, eps=0.0), grads)]
    np.testing.assert_allclose(updates, [1.0, 0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.scale_by_factored_rms(epsilon=0.0),
            "scale_by_factored_rms: epsilon must be positive, got 0.0",
        ),
        (
            lambda: gradtx.scale_by_sm3(b2=1.5),
            "scale_by_sm3: b2 must be in [0, 1], got 1.5",
        ),
        (
            lambda: gradtx.covered_sum(-0.5),
            "covered_sum: decay must be in [0, 1], got -0.5",
        ),
    ],
)
def test_number_out_of_its_range_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
