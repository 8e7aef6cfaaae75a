import jax
import matplotlib
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from matplotlib.figure import Figure

import gradtx

matplotlib.use("Agg")
from gradtx import plot

RNG = np.random.default_rng(0)
TRUE = np.array([1.0, -2.0], np.float32)
BATCHES = [
    (x, x @ TRUE + 0.1 * RNG.standard_normal(8, np.float32))
    for x in RNG.standard_normal((12, 8, 2), np.float32) * np.array([1, 3], np.float32)
]
START = {"w": jnp.zeros(2)}
GRID = {"low": 1e-3, "high": 3.0, "rates": 5}


def loss(params, batch):
    x, y = batch
    return jnp.mean((x @ params["w"] - y) ** 2)


def by_a_loop(make, rate, order, start):
    """The mean loss of the last quarter of a run, one step at a time, and before it."""
    tx, params, seen = make(rate), start, []
    state = tx.init(params)
    for batch in order:
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(value)
    last = max(1, len(order) // 4)
    before = [loss(start, batch) for batch in order[-last:]]
    return np.mean(seen[-last:]), np.mean(before)


def order_of(seed, seeds, steps):
    """The documented order: shuffled once for each seed, and round again."""
    key = jax.random.fold_in(jax.random.split(jax.random.key(0), seeds)[seed], 1)
    shuffled = jax.random.permutation(key, len(BATCHES))
    return [BATCHES[int(shuffled[i % len(BATCHES)])] for i in range(steps)]


@pytest.mark.parametrize(
    ("make", "oracle"), [(gradtx.sgd, optax.sgd), (optax.adam, optax.adam)]
)
@pytest.mark.usefixtures("standard_promotion")
def test_losses_are_those_of_a_grid_trained_one_by_one_with_optax(make, oracle):
    found = gradtx.find_learning_rate(
        make, loss, START, BATCHES, **GRID, seeds=2, steps=18
    )
    assert found.rates == pytest.approx(np.geomspace(1e-3, 3, 5), rel=1e-6)
    for seed in range(2):
        order = order_of(seed, 2, 18)
        for i, rate in enumerate(found.rates):
            after, before = by_a_loop(oracle, rate, order, START)
            if np.isfinite(after) and after < 1e30:
                np.testing.assert_allclose(found.losses[seed, i], after, rtol=1e-4)
                np.testing.assert_allclose(found.at_start[seed], before, rtol=1e-5)
            else:
                assert found.losses[seed, i] > 1e29


def test_the_suggestion_is_the_middle_of_the_good_rates_and_says_so():
    found = gradtx.find_learning_rate(gradtx.sgd, loss, START, BATCHES, rates=25)
    median, start = np.median(found.losses, 0), np.median(found.at_start)
    best = median.min()
    good = found.rates[median <= best + (start - best) / 10]
    middle = np.sqrt(good[0] * good[-1])
    assert abs(np.log(found.suggestion / middle)) <= np.log(1e5) / 24
    assert f"{found.suggestion:.2g} is the middle of" in found.reason
    assert f"{good[0]:.2g} to {good[-1]:.2g}" in found.reason
    assert "a seed does not end below its start" in found.reason


def test_a_best_rate_at_the_end_of_the_range_is_told():
    small = gradtx.find_learning_rate(
        gradtx.sgd, loss, START, BATCHES, low=1e-6, high=1e-4, rates=4
    )
    assert small.suggestion == pytest.approx(1e-4)
    assert small.reason.endswith("the best is the last rate tried: move `high`")
    large = gradtx.find_learning_rate(
        gradtx.sgd, loss, START, BATCHES, low=0.02, high=100, rates=4
    )
    assert large.reason.endswith("the best is the last rate tried: move `low`")


def test_without_a_rate_that_lowers_the_loss_nothing_is_suggested():
    found = gradtx.find_learning_rate(
        lambda rate: gradtx.sgd(-rate), loss, START, BATCHES, rates=3
    )
    assert np.isnan(found.suggestion)
    assert "no rate lowers the loss of" in found.reason


def test_a_loss_that_is_not_finite_is_infinite():
    found = gradtx.find_learning_rate(
        gradtx.sgd, loss, START, BATCHES, low=1e-2, high=1e9, rates=3
    )
    assert found.losses[:, -1].tolist() == [np.inf] * 3
    assert found.suggestion == pytest.approx(0.01)


def test_a_few_at_once_give_the_same_as_all():
    finder = {"rates": 5, "seeds": 2}
    every = gradtx.find_learning_rate(gradtx.adam, loss, START, BATCHES, **finder)
    some = gradtx.find_learning_rate(
        gradtx.adam, loss, START, BATCHES, **finder, at_once=3
    )
    np.testing.assert_allclose(every.losses, some.losses, rtol=1e-5)


def test_a_function_of_a_key_makes_a_start_for_each_seed():
    def init(key):
        return {"w": jax.random.normal(key, (2,))}

    found = gradtx.find_learning_rate(
        gradtx.sgd, loss, init, BATCHES, **GRID, seeds=3, key=7
    )
    for seed, key in enumerate(jax.random.split(jax.random.key(7), 3)):
        order = jax.random.permutation(jax.random.fold_in(key, 1), len(BATCHES))
        last = [BATCHES[int(i)] for i in order[-3:]]
        before = np.mean([loss(init(key), batch) for batch in last])
        np.testing.assert_allclose(found.at_start[seed], before, rtol=1e-5)


def test_seeds_and_keys_give_other_orders():
    one = gradtx.find_learning_rate(gradtx.sgd, loss, START, BATCHES, **GRID)
    same = gradtx.find_learning_rate(
        gradtx.sgd, loss, START, BATCHES, **GRID, key=jax.random.key(0)
    )
    other = gradtx.find_learning_rate(gradtx.sgd, loss, START, BATCHES, **GRID, key=1)
    assert one.losses.tolist() == same.losses.tolist()
    assert len({*one.losses[:, 0].tolist(), *other.losses[:, 0].tolist()}) == 6


class Linear:
    def __init__(self, w):
        self.w = w

    def __call__(self, x):
        return x @ self.w


jax.tree_util.register_pytree_node(
    Linear, lambda linear: ((linear.w,), None), lambda _, leaves: Linear(*leaves)
)


def test_a_module_that_can_be_called_is_a_start_and_no_function_of_a_key():
    def loss_of_module(model, batch):
        return jnp.mean((model(batch[0]) - batch[1]) ** 2)

    found = gradtx.find_learning_rate(
        gradtx.sgd, loss_of_module, Linear(jnp.zeros(2)), BATCHES, **GRID
    )
    same = gradtx.find_learning_rate(gradtx.sgd, loss, START, BATCHES, **GRID)
    assert found.losses.tolist() == same.losses.tolist()


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"low": 0.0}, ValueError, "expected 0 < low < high, got low=0.0, high=1.0"),
        ({"high": 1e-9}, ValueError, "expected 0 < low < high, got low=1e-05"),
        ({"rates": 1}, ValueError, "rates must be at least 2, got 1"),
        ({"seeds": 0}, ValueError, "seeds must be at least 1, got 0"),
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"at_once": 0}, ValueError, "at_once must be at least 1, got 0"),
        ({"batches": []}, ValueError, "batches: expected at least one, got none"),
        ({"batches": {"x": 1}}, TypeError, "batches must be an iterable of them, got"),
        ({"batches": 3}, TypeError, "batches must be an iterable of them, got 3"),
        (
            {"batches": (jnp.zeros((4, 2)), jnp.zeros(4))},
            ValueError,
            r"batches: expected batch 1 of shapes \(4, 2\), .*, got \(4,\); .* zip",
        ),
        ({"make": 1e-3}, TypeError, "make must be a function from a learning rate to"),
        ({"make": lambda rate: gradtx.sgd}, TypeError, "tx must be a transformation"),
        ({"params": {"w": 1}}, TypeError, "w must be floats, got int32"),
    ],
)
def test_an_error_names_the_argument_and_what_was_given(changed, error, message):
    given = {"make": gradtx.sgd, "loss": loss, "params": START, "batches": BATCHES}
    with pytest.raises(error, match=f"find_learning_rate: {message}"):
        gradtx.find_learning_rate(**(given | changed))


def test_the_picture_shows_median_seeds_start_and_suggestion():
    found = gradtx.find_learning_rate(
        gradtx.sgd, loss, START, BATCHES, high=100, rates=8
    )
    ax = plot.plot_rates(found, ax=Figure().subplots())
    labels = ax.get_legend_handles_labels()[1]
    assert labels == [
        "each seed",
        "median",
        "at the start",
        f"suggested: {found.suggestion:.2g}",
    ]
    assert ax.get_xscale() == "log"
    assert len(ax.get_lines()) == 3 + 3
    median = np.asarray(ax.get_lines()[3].get_ydata())
    top = 2 * np.median(found.at_start)
    assert np.all(median <= top) and np.max(median) > np.median(found.at_start)
    kept = np.median(found.losses, 0) < np.median(found.at_start)
    np.testing.assert_allclose(median[kept], np.median(found.losses, 0)[kept])


def test_a_picture_of_one_seed_without_a_suggestion_has_no_mark_for_one():
    found = gradtx.find_learning_rate(
        lambda rate: gradtx.sgd(-rate), loss, START, BATCHES, rates=3, seeds=1
    )
    ax = plot.plot_rates(found, ax=Figure().subplots())
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["median", "at the start"]
