import re
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx
from gradtx.optimizers.lbfgs import inverse
from tests.searches import (
    assert_equal_runs,
    bowl,
    message,
    rosenbrock,
    update_once,
    updates_of,
)

SETTINGS = {
    "defaults": ("quadratic", lambda m: m.lbfgs()),
    "a short memory": (
        "logistic",
        lambda m: m.lbfgs(
            memory_size=3,
            scale_init_precond=False,
            linesearch=m.scale_by_backtracking_linesearch(20),
        ),
    ),
    "no line search": (
        "quadratic",
        lambda m: m.lbfgs(
            gradtx.linear_schedule(0.5, 1.0, 10), memory_size=5, linesearch=None
        ),
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_lbfgs_equals_optax_in_float64(name):
    problem, make = SETTINGS[name]
    assert_equal_runs(make(gradtx), make(optax), problem, "float64")


def test_lbfgs_equals_optax_in_float32():
    problem, make = SETTINGS["no line search"]
    assert_equal_runs(make(gradtx), make(optax), problem, "float32")


def state_like(theirs):
    """Our state, of optax's."""
    of_lbfgs, _, (learning_rate, value, grad, info) = theirs
    return {
        **of_lbfgs._asdict(), **info._asdict(),
        "learning_rate": learning_rate, "value": value, "grad": grad,
    }  # fmt: skip


def test_lbfgs_on_rosenbrock_equals_optax_and_step_by_step_to_rounding():
    """The whole run amplifies rounding; so each step also from optax's state."""
    ours, theirs, close = gradtx.lbfgs(), optax.lbfgs(), {"rtol": 1e-11, "atol": 1e-13}
    assert_equal_runs(ours, theirs, "rosenbrock", "float64")
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params = jnp.zeros(6)
        state = theirs.init(params)
        for _ in range(30):
            before = state_like(state)
            mine, mine_after = updates_of(ours, rosenbrock, params, before)
            updates, state = updates_of(theirs, rosenbrock, params, state)
            after = state_like(state)
            np.testing.assert_allclose(mine, updates, **close)  # pyright: ignore
            for name, slot in mine_after.items():
                np.testing.assert_allclose(slot, after[name], **close)  # pyright: ignore
            params = params + updates


def inverse_hessian_by_the_book(steps, changes, scale):
    """Nocedal and Wright, equations 7.16 and 7.17, as a dense matrix."""
    eye = np.eye(5)
    h = scale * eye
    for s, y in zip(steps, changes, strict=True):
        rho = 1 / (y @ s)
        v = eye - rho * np.outer(y, s)
        h = v.T @ h @ v + rho * np.outer(s, s)
    return h


@pytest.mark.parametrize("scales", [True, False])
def test_scale_by_lbfgs_multiplies_by_the_books_matrix(scales):
    rng = np.random.default_rng(0)
    curvature = np.diag(rng.uniform(0.5, 2.0, 5))
    tx, points, grads = gradtx.scale_by_lbfgs(3, scales), [], []
    with jax.enable_x64(True):
        state = tx.init({"a": jnp.zeros(2), "b": [jnp.zeros((3, 1))]})
        for _ in range(8):
            points.append(rng.normal(size=5))
            grads.append(curvature @ points[-1])
            tree, params = (
                {"a": jnp.asarray(x[:2]), "b": [jnp.asarray(x[2:, None])]}
                for x in (grads[-1], points[-1])
            )
            updates, state = tx.update(tree, state, params)
            steps, changes = np.diff(points, axis=0), np.diff(grads, axis=0)
            scale = 1.0
            if scales and len(steps):
                scale = steps[-1] @ changes[-1] / (changes[-1] @ changes[-1])
            elif scales:
                scale = min(1, 1 / np.linalg.norm(grads[-1]))
            h = inverse_hessian_by_the_book(steps[-3:], changes[-3:], scale)
            got = np.concatenate([updates["a"], updates["b"][0][:, 0]])
            np.testing.assert_allclose(got, h @ grads[-1], rtol=1e-12)


@pytest.mark.parametrize("scales", [True, False])
def test_steps_along_which_the_gradient_falls_are_not_remembered(scales):
    """Nor a gradient that is not finite; by the book, with what is left of the last."""
    rng, length = np.random.default_rng(1), 4
    curvature = np.diag([1.0, -2.0, 0.5, -1.0, 3.0])
    tx, points, grads, kept = gradtx.scale_by_lbfgs(length, scales), [], [], []
    with jax.enable_x64(True):
        state = tx.init(jnp.zeros(5))
        for t in range(30):
            points.append(rng.normal(size=5))
            grads.append(curvature @ points[-1] + (np.nan if t == 20 else 0))
            updates, state = tx.update(
                jnp.asarray(grads[-1]), state, jnp.asarray(points[-1])
            )
            if t:
                s, y = points[-1] - points[-2], grads[-1] - grads[-2]
                kept.append((s, y) if s @ y > 0 else None)
            pairs = [pair for pair in kept[-length:] if pair]
            scale = 1.0
            if scales:
                s, y = next(reversed(pairs), (None, None))
                norm = np.linalg.norm(grads[-1])
                scale = min(1, 1 / norm) if y is None else (s @ y) / (y @ y)
            if t != 20:
                steps, changes = ([pair[i] for pair in pairs] for i in range(2))
                h = inverse_hessian_by_the_book(steps, changes, scale)
                np.testing.assert_allclose(updates, h @ grads[-1], rtol=1e-9)
                assert grads[-1] @ updates > 0
    assert any(kept) and not all(kept)


SEARCHED = {
    "backtracking": lambda: gradtx.scale_by_backtracking_linesearch(20),
    "zoom": lambda: gradtx.scale_by_zoom_linesearch(20),
}


@pytest.mark.parametrize("search", SEARCHED)
def test_lbfgs_leaves_a_concave_place_for_a_minimum(search):
    """The first steps from there have `s.y < 0`."""
    tx = gradtx.lbfgs(linesearch=SEARCHED[search]())
    params = jnp.asarray([0.3, -0.5])

    def objective(x):
        return jnp.sum(jnp.cos(x))

    state, values = tx.init(params), []
    for _ in range(60):
        updates, state = update_once(tx, objective, state, params, {})
        params = params + updates
        values.append(float(objective(params)))
    assert values[-1] == pytest.approx(-2, abs=1e-6)
    assert max(np.diff(values)) < 1e-6


def test_weights_below_zero_in_a_state_of_optaxs_are_not_used():
    def objective(x):
        return jnp.sum(jnp.cos(x))

    theirs = optax.scale_by_lbfgs(3)
    state, params = theirs.init(jnp.zeros(1)), jnp.asarray([0.3])
    for _ in range(2):
        grad = jax.grad(objective)(params)
        _, state = theirs.update(grad, state, params)
        params = params - grad
    assert (state.weights_memory < 0).any()  # pyright: ignore[reportAttributeAccessIssue]
    tx = gradtx.scale_by_lbfgs(3)
    ours = gradtx.from_optax(tx, state, params)
    grad = jax.grad(objective)(params)
    assert grad @ tx.update(grad, ours, params)[0] > 0


def test_lbfgs_solves_rosenbrock_from_its_defaults():
    tx = gradtx.lbfgs()
    value_and_grad = gradtx.value_and_grad_from_state(rosenbrock)

    def step(carry, _):
        params, state = carry
        value, grad = value_and_grad(params, state=state)
        extra = {"value": value, "grad": grad, "value_fn": rosenbrock}
        updates, state = tx.update(grad, state, params, **extra)
        return (params + updates, state), value

    with jax.enable_x64(True):
        start = jnp.zeros(6)
        (params, _), values = jax.lax.scan(step, (start, tx.init(start)), length=45)
        assert rosenbrock(params) < 1e-16
    np.testing.assert_allclose(params, 1.0, atol=1e-8)
    assert (np.diff(values) <= 0).all()


def test_steps_too_small_to_divide_by_weigh_nothing():
    weights = inverse(jnp.asarray([2.0, -4.0, 0.0, 1e-39]))
    np.testing.assert_array_equal(weights, [0.5, -0.25, 0.0, 0.0])


def test_updates_and_their_derivatives_are_finite_at_zero_gradients():
    tx, params = gradtx.lbfgs(memory_size=2, linesearch=None), jnp.ones(3)

    def distance(learning_rate, params, grads):
        own, state = tx.replace(learning_rate=learning_rate), tx.init(params)
        for _ in range(3):
            updates, state = own.update(grads, state, params)
            params = params + updates
        return jnp.sum(params**2)

    derivatives = jax.jit(jax.grad(distance, argnums=(0, 1, 2)))
    for grads in (jnp.zeros(3), jnp.full(3, 1e-30)):
        found = derivatives(0.1, params, grads)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))
    assert derivatives(0.1, params, params)[0] < 0


def test_memories_of_bfloat16_are_float32_and_own_their_buffers():
    params = {"w": jnp.full((2, 3), 0.5, "bfloat16"), "b": jnp.ones((), "bfloat16")}
    tx = gradtx.lbfgs(0.5, memory_size=2, linesearch=None)
    state, grads = tx.init(params), jax.tree.map(jnp.copy, params)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(state) if x.ndim)
    assert state["diff_params_memory"]["w"].shape == (2, 2, 3)
    own = {**params, "b": jnp.ones(())}  # a float32 leaf needs no conversion
    for update in (tx.update, jax.jit(tx.update)):
        updates, after = update(own, tx.init(own), own)
        pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((own, after))]
        assert len(set(pointers)) == len(pointers)
    updates, after = tx.update(grads, state, params)
    assert updates["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(after["params"]["w"], 0.5)


def test_a_leaf_without_a_gradient_keeps_its_memory():
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    tx = gradtx.scale_by_lbfgs(2)
    _, state = tx.update(params, tx.init(params), params)
    grads = {"a": jnp.full(2, 0.5), "b": None}
    updates, after = tx.update(grads, state, jax.tree.map(lambda p: p / 2, params))
    alone, state_alone = tx.init({"a": params["a"]}), None
    _, state_alone = tx.update({"a": params["a"]}, alone, {"a": params["a"]})
    expected, _ = tx.update({"a": grads["a"]}, state_alone, {"a": params["a"] / 2})
    assert updates["b"] is None
    np.testing.assert_array_equal(updates["a"], expected["a"])
    for name in ("params", "updates", "diff_params_memory", "diff_updates_memory"):
        np.testing.assert_array_equal(after[name]["b"], state[name]["b"])
        assert (after[name]["a"] != state[name]["a"]).any()


def test_one_trace_of_the_whole_in_mixed_precision():
    tx, traces = gradtx.lbfgs(), 0
    value_and_grad = gradtx.value_and_grad_from_state(bowl)

    @jax.jit
    def step(params, state):
        nonlocal traces
        traces += 1
        value, grad = value_and_grad(params, state=state)
        extra = {"value": value, "grad": grad, "value_fn": bowl}
        grad = grad.astype("float32")
        updates, state = tx.update(grad, state, params, **extra)
        return params + updates.astype(params.dtype), state

    params = jnp.linspace(-1, 1, 6, dtype="bfloat16")
    state = tx.init(params)
    for _ in range(4):
        params, state = step(params, state)
    assert traces == 1
    assert bowl(params) == 0


def test_on_a_mesh_nothing_is_gathered():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    tx = gradtx.lbfgs(memory_size=2)
    with jax.set_mesh(mesh):
        params = jax.device_put(jnp.ones((16, 3)), sharding)
        state = tx.init(params)
        lowered = update_once.lower(tx, bowl, state, params, {})
        text = str(lowered.compile().as_text())
        assert "all-reduce" in text
        assert not re.search("all-gather|all-to-all|collective-permute", text)
        updates, state = update_once(tx, bowl, state, params, {})
        ring = state["diff_params_memory"]
        np.testing.assert_allclose(params + updates, 1 - 1 / 48**0.5, rtol=1e-6)
        assert updates.sharding.is_equivalent_to(sharding, 2)
        spec = PartitionSpec(None, "data")
        assert ring.sharding.is_equivalent_to(NamedSharding(mesh, spec), 3)


@pytest.mark.parametrize(
    ("size", "error", "problem"),
    [
        (0, ValueError, "must be at least 1, got 0"),
        (2.5, TypeError, "must be an int, got 2.5"),
        (None, TypeError, "must be an int, got None"),
        (bowl, TypeError, f"must be an int, not a schedule, got {bowl!r}"),
    ],
    ids=["zero", "half", "None", "a schedule"],
)
def test_a_memory_size_is_an_int(size, error, problem):
    for name in ("lbfgs", "scale_by_lbfgs"):
        make = getattr(gradtx, name)
        found = message(error, lambda make=make: make(memory_size=size))
        assert found == f"{name}: memory_size {problem}"
    ten: Any = np.int64(10)
    assert gradtx.lbfgs(memory_size=ten) == gradtx.lbfgs()


def test_lbfgs_needs_the_parameters():
    tx = gradtx.scale_by_lbfgs()
    found = message(ValueError, lambda: tx.update(jnp.ones(2), tx.init(jnp.ones(2))))
    call = "call update(updates, state, params)"
    assert found == f"scale_by_lbfgs: missing parameters; {call}"
