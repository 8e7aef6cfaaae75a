import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.searches import assert_equal_runs, bowl, rosenbrock, updates_of

SETTINGS = {
    "backtracking": (
        "quadratic",
        lambda m: m.chain(m.sgd(1.0), m.scale_by_backtracking_linesearch(40)),
    ),
    "backtracking, stored": (
        "quadratic",
        lambda m: m.chain(
            m.sgd(1.0), m.scale_by_backtracking_linesearch(15, store_grad=True)
        ),
    ),
    "backtracking, other numbers": (
        "rosenbrock",
        lambda m: m.chain(
            m.sgd(1.0),
            m.scale_by_backtracking_linesearch(
                30, 0.3, 0.5, float("inf"), 2.0, 1e-3, 1e-2, store_grad=True
            ),
        ),
    ),
    "backtracking, too few steps": (
        "rosenbrock",
        lambda m: m.chain(
            m.sgd(1e-2), m.scale_by_backtracking_linesearch(1, 0.9, 0.5, 1.0)
        ),
    ),
    "zoom": (
        "quadratic",
        lambda m: m.chain(m.sgd(1.0), m.scale_by_zoom_linesearch(20)),
    ),
    "zoom, scheduled": (
        "logistic",
        lambda m: m.chain(
            m.sgd(gradtx.linear_schedule(2.0, 0.1, 20)),
            m.scale_by_zoom_linesearch(15, curv_rtol=0.1),
        ),
    ),
    "zoom, other numbers": (
        "rosenbrock",
        lambda m: m.chain(
            m.sgd(1.0),
            m.scale_by_zoom_linesearch(
                4, 0.01, 1e-4, 3.0, 0.1, 0.2, None, 1e-3, initial_guess_strategy="one"
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_line_search_equals_optax_in_float64(name):
    problem, make = SETTINGS[name]
    assert_equal_runs(make(gradtx), make(optax), problem, "float64")


@pytest.mark.parametrize("name", ["backtracking", "zoom"])
def test_line_search_equals_optax_in_float32(name):
    problem, make = SETTINGS[name]
    assert_equal_runs(make(gradtx), make(optax), problem, "float32")


BACKTRACKING = gradtx.scale_by_backtracking_linesearch(20, store_grad=True)

ZOOM = gradtx.scale_by_zoom_linesearch(20)

SEARCHES = pytest.mark.parametrize("search", [BACKTRACKING, ZOOM])


def test_what_backtracking_takes_satisfies_armijos_condition():
    settings = dict.fromkeys(("atol", "rtol"), 0.0)
    tx = gradtx.scale_by_backtracking_linesearch(50, slope_rtol=0.5, **settings)
    with jax.enable_x64(True):
        x = jnp.linspace(-2, 2, 7)
        updates, state = updates_of(gradtx.chain(gradtx.sgd(1.0), tx), rosenbrock, x)
        slope = jnp.sum(updates * jax.grad(rosenbrock)(x))
        assert slope < 0
        assert rosenbrock(x + updates) <= rosenbrock(x) + 0.5 * slope
        longer = x + updates / 0.8
        assert rosenbrock(longer) > rosenbrock(x) + 0.5 * slope / 0.8
        np.testing.assert_allclose(state["value"], rosenbrock(x + updates))


@pytest.mark.parametrize(
    ("search", "param", "value", "grad", "x64"),
    [
        (ZOOM, "bfloat16", "bfloat16", "float32", False),
        (BACKTRACKING, "float16", "float32", "float16", False),
        (ZOOM, "float32", "float64", "float64", True),
        (BACKTRACKING, "float32", "float32", "float32", True),
    ],
)
def test_one_trace_and_one_kind_of_state_in_any_precision(
    search, param, value, grad, x64
):
    def objective(params):
        assert params["w"].dtype == param
        return bowl(params).astype(value)

    traces = 0

    @jax.jit
    def step(params, state):
        nonlocal traces
        traces += 1
        grads = jax.tree.map(lambda g: g.astype(grad), jax.grad(objective)(params))
        extra = {"value": objective(params), "grad": grads, "value_fn": objective}
        updates, state = tx.update(grads, state, params, **extra)
        with jax.numpy_dtype_promotion("standard"):
            return optax.apply_updates(params, updates), state

    with jax.enable_x64(x64):
        tx = gradtx.chain(gradtx.sgd(0.45), search)
        params = {"w": jnp.full((2, 3), 0.75, param), "b": [jnp.ones((), param)]}
        state = tx.init(params)
        looks = jax.tree.map(lambda x: (x.dtype, x.shape, x.weak_type), state)
        assert looks["value"][0] == looks["grad"]["w"][0] == jnp.float32
        for _ in range(3):
            params, state = step(params, state)
        after = jax.tree.map(lambda x: (x.dtype, x.shape, x.weak_type), state)
        assert after == looks
        assert traces == 1
        assert bowl(params) < 0.01


def test_optax_cannot_store_gradients_of_float32_parameters_in_x64_mode():
    """Why ours brings the cotangent to the objective's dtype."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params = jnp.ones(2, jnp.float32)
        theirs = optax.scale_by_backtracking_linesearch(5, store_grad=True)
        with pytest.raises(TypeError, match="cotangent"):
            updates_of(optax.chain(optax.sgd(0.5), theirs), bowl, params)
        ours = gradtx.scale_by_backtracking_linesearch(5, store_grad=True)
        updates, _ = updates_of(gradtx.chain(gradtx.sgd(0.5), ours), bowl, params)
        np.testing.assert_array_equal(updates, -params)


def test_without_stored_gradients_the_objective_needs_no_derivative():
    def objective(params):
        return jax.lax.while_loop(lambda x: x > 2, lambda x: x / 2, jnp.sum(params**2))

    tx = gradtx.scale_by_backtracking_linesearch(5)
    params, grad = jnp.full(3, 0.5), jnp.ones(3)
    extra = {"value": objective(params), "grad": grad, "value_fn": objective}
    updates, state = tx.update(-0.5 * grad, tx.init(params), params, **extra)
    np.testing.assert_array_equal(updates, -0.5 * grad)
    assert state.keys() == {
        "count", "learning_rate", "value", "num_linesearch_steps", "decrease_error"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        (
            "backtracking",
            {
                "max_backtracking_steps": (2.0, 9.0), "slope_rtol": (0.9, 0.1),
                "decrease_factor": (0.5, 0.8), "increase_factor": (1.0, 1.5),
                "max_learning_rate": (0.7, 2.0), "atol": (0.0, 1e-3),
                "rtol": (0.0, 1e-2),
            },
        ),
        (
            "zoom",
            {
                "max_linesearch_steps": (2.0, 9.0), "max_learning_rate": (0.7, 2.0),
                "tol": (0.0, 1e-3), "increase_factor": (2.0, 3.0),
                "slope_rtol": (1e-4, 0.2), "curv_rtol": (0.1, 0.5),
                "approx_dec_rtol": (1e-6, 1e-2), "stepsize_precision": (1e-5, 1e-2),
            },
        ),
    ],
)  # fmt: skip
def test_every_number_takes_a_schedule(name, numbers):
    make = getattr(gradtx, f"scale_by_{name}_linesearch")

    def switch(before, after):
        return lambda count: jnp.where(count < 1, before, after)

    scheduled = make(**{name: switch(*pair) for name, pair in numbers.items()})
    first, second = (
        make(**{name: pair[i] for name, pair in numbers.items()}) for i in range(2)
    )
    params = jnp.linspace(-2.0, 2.0, 7)
    runs = []
    for searches in ((first, second), (scheduled, scheduled)):
        state, at = None, params
        for search in searches:
            tx = gradtx.chain(gradtx.scale(-0.01), search)
            updates, state = updates_of(tx, rosenbrock, at, state)
            at = at + updates
            runs.append((at, state))
    chex.assert_trees_all_equal(runs[:2], runs[2:])


@SEARCHES
def test_zero_gradients_give_zero_updates(search):
    params = jnp.zeros(3, "float16")
    updates, state = updates_of(gradtx.chain(gradtx.sgd(1.0), search), bowl, params)
    assert not updates.any()
    assert np.isfinite(state["learning_rate"]) and state["value"] == 0


@SEARCHES
def test_outside_the_domain_the_step_is_shortened(search):
    def objective(x):
        return x - jnp.log(x)

    tx = gradtx.chain(gradtx.scale(1.0), search)
    x = jnp.asarray(0.05)
    value, grad = jax.value_and_grad(objective)(x)
    extra = {"value": value, "grad": grad, "value_fn": objective}
    for direction in (8.0, -8.0):  # downhill, and uphill out of the domain
        update, _ = tx.update(jnp.asarray(direction), tx.init(x), x, **extra)
        assert jnp.isfinite(objective(x + update))
        assert (objective(x + update) < value) == (direction > 0)


def test_backtracking_starts_anew_at_the_largest_step_after_a_failure():
    """Where optax's step is 0 ever after: its guess is infinity times the failed 0."""

    def hole(x):
        return jnp.where(x == 1, x**2, jnp.inf)

    steps = {}
    for m in (gradtx, optax):
        search = m.scale_by_backtracking_linesearch(3, increase_factor=float("inf"))
        tx, x = m.chain(m.sgd(0.25), search), jnp.asarray(1.0)
        update, state = updates_of(tx, hole, x)
        assert update == 0
        steps[m], _ = updates_of(tx, jnp.square, x, state)
    assert steps[gradtx] == -0.5
    assert steps[optax] == 0


STARTS = {
    "backtracking": lambda: gradtx.scale_by_backtracking_linesearch(3),
    "backtracking, short": lambda: gradtx.scale_by_backtracking_linesearch(
        3, max_learning_rate=0.25
    ),
    "backtracking, stored": lambda: gradtx.scale_by_backtracking_linesearch(
        3, store_grad=True
    ),
    "zoom": lambda: gradtx.scale_by_zoom_linesearch(3),
    "zoom, from one": lambda: gradtx.scale_by_zoom_linesearch(
        3, initial_guess_strategy="one"
    ),
}


@pytest.mark.parametrize("name", STARTS)
def test_after_a_failure_a_search_starts_as_the_first(name):
    """From 0, which is kept then, every later step would be 0."""
    failures = {
        "a hole": lambda x: jnp.where(jnp.all(x == 1), jnp.sum(x), jnp.inf),
        "no number": lambda x: jnp.where(jnp.all(x == 1), jnp.sum(x), jnp.nan),
        "no value here": lambda x: jnp.sum(x) * jnp.nan,
    }
    tx, x = gradtx.chain(gradtx.sgd(0.25), STARTS[name]()), jnp.ones(2)
    first, state = updates_of(tx, bowl, x)
    for failure in failures.values():
        _, failed = updates_of(tx, failure, x, state)
        assert failed["learning_rate"] == 0
        again, after = updates_of(tx, bowl, x, failed)
        np.testing.assert_array_equal(again, first)
        assert after["learning_rate"] == state["learning_rate"] > 0


@pytest.mark.parametrize("name", ["backtracking", "zoom"])
def test_complex_parameters_are_pairs_of_real_ones(name):
    """With gradients conjugated, as for any descent. (Of optax's two searches the
    zoom takes `grad` so, and backtracking as `jax.grad` gives it.)"""
    matrix = np.asarray([[1, -2], [3, 4], [-4 + 2j, 5 - 3j], [-2 - 2j, 6]])
    search = getattr(gradtx, f"scale_by_{name}_linesearch")(20, slope_rtol=0.4)
    tx = gradtx.chain(gradtx.sgd(1.0), search)

    def objective(z):
        return jnp.sum(jnp.abs(matrix @ z) ** 1.5)

    def objective_of_pair(pair):
        return objective(jax.lax.complex(*pair))

    def descend(objective, params):
        @jax.jit
        def step(params, state):
            value, grad = jax.value_and_grad(objective)(params)
            grad = jax.tree.map(jnp.conj, grad)
            extra = {"value": value, "grad": grad, "value_fn": objective}
            updates, state = tx.update(grad, state, params, **extra)
            return optax.apply_updates(params, updates), state

        state = tx.init(params)
        for _ in range(4):
            params, state = step(params, state)
            yield params, state["num_linesearch_steps"]

    with jax.enable_x64(True):
        z = jnp.asarray([1 - 1j, 0.2 + 1j])
        runs = descend(objective, z), descend(objective_of_pair, (z.real, z.imag))
        for (z, trials), (pair, trials_of_pair) in zip(*runs, strict=True):
            np.testing.assert_allclose(z, jax.lax.complex(*pair), rtol=1e-10)
            assert trials == trials_of_pair


@SEARCHES
def test_a_frozen_leaf_stays_while_the_objective_sees_it(search):
    def objective(params):
        return jnp.sum((params["w"] - params["frozen"]) ** 2) + params["steps"].astype(
            "float32"
        )

    params = {"w": jnp.zeros(3), "frozen": jnp.ones(3), "steps": jnp.int32(7)}
    grads = {"w": jnp.full(3, -2.0), "frozen": None, "steps": None}
    extra = {"value": objective(params), "grad": grads, "value_fn": objective}
    tx = gradtx.chain(gradtx.sgd(0.5), search)
    updates, state = tx.update(grads, tx.init(params), params, **extra)
    np.testing.assert_array_equal(updates["w"], 1.0)
    assert updates["frozen"] is None and state["value"] == 7


def test_value_fn_may_take_any_arguments_by_name():
    def objective(params, /, scale, *, shift=0.0):
        return scale * jnp.sum((params - shift) ** 2)

    def takes_all(params, **data):
        return objective(params, **data)

    tx, params = gradtx.chain(gradtx.sgd(0.1), BACKTRACKING), jnp.ones(3)
    data = {"scale": 2.0, "shift": 0.5}
    expected, _ = updates_of(tx, objective, params, **data)
    for same in (takes_all, jax.jit(objective)):
        np.testing.assert_array_equal(updates_of(tx, same, params, **data)[0], expected)
