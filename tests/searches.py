"""Problems to search along lines on, and runs of either library on them."""

import collections
import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

STEPS = 30


Problem = collections.namedtuple("Problem", "objective start data")


rng = np.random.default_rng(0)


CURVATURES = np.geomspace(1.0, 1e3, 20)


TARGET = rng.normal(size=20)


X = rng.normal(size=(40, 3))


Y = np.sign(X[:, 0] + 0.5 * rng.normal(size=40))


def quadratic(params):
    curvatures, target = (x.astype(params.dtype) for x in (CURVATURES, TARGET))
    return 0.5 * jnp.sum(curvatures * (params - target) ** 2)


def rosenbrock(params):
    here, there = params[:-1], params[1:]
    return jnp.sum(100 * (there - here**2) ** 2 + (1 - here) ** 2)


def logistic(params, x, y):
    hidden = params["scale"][0] * jnp.tanh(x @ params["layers"][0])
    logits = hidden @ params["layers"][1][0] + params["bias"]
    penalty = sum(jnp.sum(p**2) for p in jax.tree.leaves(params))
    return jnp.mean(jnp.logaddexp(0, -y * logits)) + 1e-2 * penalty


MIXED = {
    "layers": [np.eye(3), (np.ones(3), None)],
    "scale": np.ones(1),
    "bias": np.zeros(()),
}


PROBLEMS = {
    "quadratic": Problem(quadratic, np.zeros(20), {}),
    "rosenbrock": Problem(rosenbrock, np.zeros(6), {}),
    "logistic": Problem(logistic, MIXED, {"x": X, "y": Y}),
}


@functools.partial(jax.jit, static_argnums=(0, 1))
def update_once(tx, objective, state, params, data):
    value, grad = jax.value_and_grad(objective)(params, **data)
    extra = {"value": value, "grad": grad, "value_fn": objective, **data}
    return tx.update(grad, state, params, **extra)


def updates_of(tx, objective, params, state=None, **data):
    """One update with the objective and its gradient."""
    state = tx.init(params) if state is None else state
    return update_once(tx, objective, state, params, data)


def run(tx, problem, dtype, nudge=0.0):
    """Of each step: the parameters after it, the step size, the value, the trials."""
    objective, params, data = PROBLEMS[problem]
    params = jax.tree.map(lambda p: jnp.asarray(p + nudge, dtype), params)
    data = jax.tree.map(lambda x: jnp.asarray(x, dtype), data)
    state, seen = tx.init(params), []
    for _ in range(STEPS):
        updates, state = update_once(tx, objective, state, params, data)
        params = optax.apply_updates(params, updates)
        names = "learning_rate", "value", "num_linesearch_steps"
        seen.append((params, *(optax.tree.get(state, name) for name in names)))
    return seen


def distance(ours, theirs):
    """The largest difference, relative to the largest magnitude or 1, at any step."""

    def one(a, b):
        assert a.dtype == b.dtype and a.shape == b.shape
        return float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1.0))

    pairs = zip(ours, theirs, strict=True)
    return max(max(jax.tree.leaves(jax.tree.map(one, a[:3], b[:3]))) for a, b in pairs)


def assert_equal_runs(ours, theirs, problem, dtype):
    """To 1e-12 or 1e-6 over the whole run, or to three times what one ulp does.

    A search is a chain of decisions, and L-BFGS amplifies what they leave: moved by an
    ulp at the start, optax's own run on Rosenbrock's function ends 1e-9 away.
    """
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"):
        mine, its = (run(tx, problem, dtype) for tx in (ours, theirs))
        assert [step[3] for step in mine] == [step[3] for step in its]
        error, ulp = distance(mine, its), float(jnp.finfo(dtype).eps)
        if error > (1e-12 if dtype == "float64" else 1e-6):
            assert error <= 3 * distance(run(theirs, problem, dtype, nudge=ulp), its)


def bowl(params: Any) -> Any:
    return sum(jnp.sum(p**2) for p in jax.tree.leaves(params))


def message(error, call):
    with pytest.raises(error) as raised:
        call()
    return str(raised.value)
