"""Running a transformation of either library, and how far two runs are apart."""

import collections
import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

import gradtx
from tests.settings import OPTAX

STEPS = 30

Pair = collections.namedtuple("Pair", "first second")


def mixed_tree(dtype: Any, seed: int, *lead: int) -> Any:
    """Scalars, one element, vectors, matrices, 4-d, None, nested containers."""
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> Any:
        values = rng.normal(size=(*lead, *shape))
        values[np.abs(values) < 0.05] = 0  # some gradients vanish
        return jnp.asarray(values, dtype)

    return {
        "scalar": array(),
        "absent": (array(7), None),
        "nested": [array(1), Pair(array(3, 4), {"x": array(2, 3)})],
        "four": array(2, 1, 3, 2),
    }


def losses(dtype: Any, steps: int) -> Any:
    """Values of a loss, for the optimizers that look at it."""
    return jnp.asarray(np.random.default_rng(2).uniform(1, 3, steps), dtype)


def objective(params: Any, obj_fn: Any = None, grad_fn: Any = None) -> Any:
    """A function of the parameters, for those that look at its values or its Hessian.

    optax gives a line search's function every argument that only others know.
    """
    leaves = jax.tree.leaves(params)
    whole = sum(map(jnp.sum, leaves), jnp.zeros((), leaves[0].dtype))
    return jnp.sin(whole) + sum(jnp.sum(jnp.cos(leaf)) for leaf in leaves)


def gradient_at(params: Any, i: Any) -> Any:
    """Some gradients of the parameters, the i-th of a step."""
    return jax.tree.map(lambda p: jnp.cos(3 * p + i), params)


def step(tx: Any, carry: Any, seen: Any) -> Any:
    (params, state), (grads, value) = carry, seen
    update = optax.with_extra_args_support(tx).update
    extra = {"value": value, "grad": grads, "grad_fn": gradient_at}
    extra |= {"value_fn": objective, "obj_fn": objective}
    updates, state = update(grads, state, params, **extra)
    return (optax.apply_updates(params, updates), state), updates


def _run(tx: Any, params: Any, grads: Any, values: Any) -> Any:
    """The updates of all steps, and the last parameters."""
    one = functools.partial(step, tx)
    carry, updates = jax.lax.scan(one, (params, tx.init(params)), (grads, values))
    return updates, carry[0]


Run = Callable[[Any, Any, Any, Any], Any]


def _compiled(options: dict[str, Any]) -> Run:
    return jax.jit(_run, static_argnums=0, compiler_options=options)


FULL: Any = {
    "xla_cpu_use_fusion_emitters": True,
    "xla_backend_optimization_level": 3,
}
"""Compiles as users do: the suite does without the emitters, see `conftest.py`."""
run = _compiled(FULL)
# The first level fuses multiplications with additions, whose roundings float32 shows.
QUICKLY: dict[str, Run] = {
    "float64": _compiled({}),
    "float32": _compiled({"xla_backend_optimization_level": 1}),
}


def run_eagerly(tx: Any, params: Any, grads: Any, values: Any) -> Any:
    """The same without jit."""
    carry, seen = (params, tx.init(params)), []
    for i in range(len(values)):
        now = jax.tree.map(lambda g: g[i], grads)  # noqa: B023
        carry, updates = step(tx, carry, (now, values[i]))
        seen.append(updates)
    return jax.tree.map(lambda *u: jnp.stack(u), *seen), carry[0]


def distance(ours: Any, theirs: Any, by_step: bool = True) -> float:
    """Normwise by leaf: the largest difference over the largest magnitude.

    Of each step, or of all steps together. NaN in either is NaN.
    """

    def one(a: Any, b: Any) -> Any:
        assert a.dtype == b.dtype and a.shape == b.shape
        rows = len(a) if by_step else 1
        a, b = (np.asarray(x, np.float64).reshape(rows, -1) for x in (a, b))
        size = np.maximum(np.abs(b).max(axis=1), 1e-30)
        return np.max(np.abs(a - b).max(axis=1) / size)

    return float(np.max(jax.tree.leaves(jax.tree.map(one, ours, theirs))))


@contextlib.contextmanager
def as_optax_needs() -> Iterator[None]:
    """What optax does and gradtx does not: it promotes, and warns about seeds."""
    standard = jax.numpy_dtype_promotion("standard")
    with standard, jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def in_double(make: Any, start: Any, grads: Any, values: Any, run: Run) -> Any:
    """The updates of optax in float64, from float32 numbers, rounded at last."""
    with jax.enable_x64(True), as_optax_needs():
        wide = jax.tree.map(
            lambda x: jnp.asarray(np.asarray(x), jnp.float64), (start, grads, values)
        )
        updates, _ = run(make(OPTAX), *wide)
    return jax.tree.map(lambda u: np.asarray(u, np.float32), updates)


def assert_equals_optax(
    make: Callable[[Any], Any],
    dtype: str,
    *,
    tolerance: float | None = None,
    by_step: bool = True,
    by_parameters: bool = False,
    without: str = "",
    examples: tuple[int, ...] = (),
    run: Run = run,
) -> float:
    """Hold a setting in gradtx against the same in optax, over thirty steps.

    Args:
        make: Makes the transformation from a module.
        dtype: Of parameters and gradients.
        tolerance: If None, 1e-12 in float64 and 1e-6 in float32, or there three times
            optax's own error, if ours is not further from optax in float64, or what
            optax makes of another order of the same roundings, without jit.
        by_step: Whether each step is compared by itself, see `distance`.
        by_parameters: Whether the parameters are compared and not the updates.
        without: A part of the tree that optax fails on.
        examples: How many examples gradients are of, if they are.
        run: How.

    Returns:
        How far the two are apart.
    """
    start, grads = mixed_tree(dtype, 0), mixed_tree(dtype, 1, STEPS, *examples)
    start, grads = (
        {k: v for k, v in tree.items() if k != without} for tree in (start, grads)
    )
    values = losses(dtype, STEPS)

    def path(updates: Any) -> Any:
        return jax.tree.map(
            lambda p, u: np.asarray(p) + np.cumsum(np.asarray(u), axis=0),
            start,
            updates,
        )

    def error(one: Any, other: Any) -> float:
        one, other = (path(it) if by_parameters else it for it in (one, other))
        return distance(one, other, by_step)

    ours, _ = run(make(gradtx), start, grads, values)
    with as_optax_needs():
        tx = make(OPTAX)
        theirs, _ = run(tx, start, grads, values)
    found = error(ours, theirs)
    if tolerance is None:
        tolerance = 1e-12 if dtype == "float64" else 1e-6
        if found > tolerance and dtype == "float32":
            exact = in_double(make, start, grads, values, run)
            own = error(theirs, exact)
            if error(ours, exact) <= max(tolerance, 1.05 * own):
                tolerance = max(tolerance, 3 * own)
        if found > tolerance and dtype == "float32":
            with as_optax_needs():
                eager, _ = run_eagerly(tx, start, grads, values)
            tolerance = max(tolerance, 3 * error(eager, theirs))
    assert found <= tolerance, f"{found:.2g} apart, {tolerance:.2g} at most"
    return found


def assert_wrapped_equals_optax(
    wrap: Callable[[Any, Any], Any],
    settings: dict[str, Callable[[Any], Any]],
    dtype: str,
    **more: Any,
) -> None:
    """The same for a wrapper `(module, transformation)`, around each of some."""
    with jax.enable_x64(dtype == "float64"):
        for make in settings.values():
            assert_equals_optax(
                lambda m, make=make: wrap(m, make(m)),
                dtype,
                run=QUICKLY[dtype],
                **more,
            )


def bitwise(a: Any, b: Any) -> None:
    """Equal in structure, dtypes, shapes and every bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = (jax.random.key_data(key) for key in (x, y))
        np.testing.assert_array_equal(x, y)


def traced_update(tx, params):
    """A jitted `(grads, state) -> (updates, state)`, and a list of its traces."""
    traces = []

    @jax.jit
    def update(grads, state):
        traces.append(tx)
        return tx.update(grads, state, params)

    return update, traces
