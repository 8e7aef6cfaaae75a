"""Transformations run beside papers, and what both are given."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

import gradtx
from tests.equality import as_optax_needs

_rng = np.random.default_rng(0)
REAL = [_rng.normal(size=4) * [1, 1, 1e-3, 0] for _ in range(20)]
COMPLEX = [g + 1j * _rng.normal(size=4) * [1, 0, 1e-3, 0] for g in REAL]
PARAMS = list(_rng.normal(size=(20, 4)))
"""Gradients, one of which is always zero, and the parameters that each is of."""


def assert_equals_paper(
    tx: Any,
    paper: Callable[[list[Any], list[Any]], Iterable[Any]],
    is_complex: bool = False,
    data: tuple[list[Any], list[Any]] | None = None,
    **extra: Any,
) -> None:
    """The updates of all steps, beside what a paper makes of the same.

    The parameters are given and do not follow the updates. Others than the usual
    gradients and parameters may be given as `data`.
    """
    grads, params = data or (COMPLEX if is_complex else REAL, PARAMS)
    with jax.enable_x64(True):
        params = [jnp.asarray(p, grads[0].dtype) for p in params]
        state, update = tx.init(params[0]), jax.jit(tx.update)
        expected = paper(grads, [np.asarray(p) for p in params])
        for g, p, other in zip(grads, params, expected, strict=True):
            updates, state = update(jnp.asarray(g), state, p, **extra)
            assert updates.dtype == g.dtype
            np.testing.assert_allclose(updates, other, rtol=1e-11, atol=1e-13)


def assert_slots_equal_optax(name: str, arguments: dict[str, Any]) -> None:
    """The updates of a tree with a complex leaf, and the slots under their names."""
    grads = [
        (jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.complex64))
        for a, b in zip(REAL, COMPLEX, strict=True)
    ]
    runs = [steps_of(getattr(lib, name)(**arguments), grads) for lib in (gradtx, optax)]
    mine, theirs = map(list, runs)
    with jax.enable_x64(True):  # what optax's powers of float32 are near to
        wide = [(a.astype("float64"), b.astype("complex128")) for a, b in grads]
        exact = [u for u, _ in steps_of(getattr(optax, name)(**arguments), wide)]
    for (one, _), (other, _), double in zip(mine, theirs, exact, strict=True):
        for a, b, c in zip(one, other, double, strict=True):
            assert a.dtype == b.dtype
            a, b, c = (np.asarray(x) for x in (a, b, c))
            nearer = np.where(abs(a - b) < abs(a - c), b, c)  # of both precisions
            np.testing.assert_allclose(a, nearer, rtol=2e-6)
    (_, slots), (_, named_slots) = mine[-1], theirs[-1]
    assert {"count", *slots} == {"count", *named_slots._fields}
    for key in slots.keys() - {"count"}:
        for a, b in zip(slots[key], getattr(named_slots, key), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6)


def assert_kept_in_single(name: str, paper: Any, dtype: str, **arguments: Any) -> None:
    """In half precision 0.999 is 1, and the square of a float16 of 1e-4 is 0."""
    grads = [jnp.asarray(1e-4 * g[:2], dtype) for g in REAL]
    expected = paper([np.float64(g) for g in grads], **arguments)
    runs = steps_of(getattr(gradtx, name)(**arguments), grads)
    for (updates, state), by_the_paper in zip(runs, expected, strict=True):
        assert updates.dtype == dtype
        assert {state[key].dtype.name for key in state} == {"int32", "float32"}
        rounding = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(
            np.float64(updates), by_the_paper, rtol=rounding, atol=1e-7
        )


def assert_stored(
    name: str, paper: Any, slot: str, dtype: str, **arguments: Any
) -> None:
    """A slot is stored in its dtype, and computed with in double."""
    with jax.enable_x64(True):
        tx = getattr(gradtx, name)(**arguments)
        mine = list(steps_of(tx, map(jnp.asarray, REAL)))
        with as_optax_needs():
            their_state = getattr(optax, name)(**arguments).init(jnp.asarray(REAL[0]))
    expected = paper(REAL, **arguments)
    for (updates, state), by_the_paper in zip(mine, expected, strict=True):
        for key in state.keys() - {"count"}:
            assert state[key].dtype == getattr(their_state, key).dtype
        assert state[slot].dtype == dtype
        np.testing.assert_allclose(updates, by_the_paper, rtol=1e-12)


def kinds_of_slots(tx: Any) -> dict[str, str]:
    """The dtype of each slot, of complex parameters and after their first update."""
    params = jnp.ones(2, jnp.complex64)
    state = tx.init(params)
    after = tx.update(1j * params, state, params)[1]
    kinds = {key: slot.dtype.name for key, slot in state.items() if key != "count"}
    assert kinds == {key: after[key].dtype.name for key in kinds}
    return kinds


def assert_same_updates(named: Any, composed: Any) -> None:
    """A name and the composition of its parts."""
    grads = [jnp.asarray(g, jnp.float32) for g in REAL[:5]]
    runs = [updates_of(tx, grads) for tx in (named, composed)]
    for one, other in zip(*runs, strict=True):
        np.testing.assert_allclose(one, other, rtol=5e-7)


def steps_of(
    tx: Any, grads: Iterable[Any], params: Any = None
) -> Iterator[tuple[Any, Any]]:
    """The updates and states that a transformation, ours or optax's, makes."""
    # optax's moments do not run under strict promotion.
    is_ours = type(tx) is gradtx.GradientTransformation
    promotion = "strict" if is_ours else "standard"
    update, state = jax.jit(tx.update), None
    for grad in grads:
        with jax.numpy_dtype_promotion(promotion):
            if state is None:
                state = tx.init(grad if params is None else params)
            updates, state = update(grad, state, params)
        yield updates, state


def updates_of(tx: Any, grads: Iterable[Any], params: Any = None) -> Iterator[Any]:
    """The updates alone."""
    return (updates for updates, _ in steps_of(tx, grads, params))


def descent(tx: Any, rate: float = 1.0) -> Any:
    """The direction of a step: turned around, without its learning rate."""
    return gradtx.chain(tx, gradtx.scale(-1 / rate))


def same(one: Any, other: Any, grads: Any = REAL, rtol: float = 1e-6) -> None:
    """The updates of two transformations, in single."""
    grads = [jnp.asarray(g, jnp.float32) for g in grads]
    for a, b in zip(updates_of(one, grads), updates_of(other, grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-9)
