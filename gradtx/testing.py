"""The laws that every transformation keeps: `check(tx, params)`, for anyone's.

Each law is a function of a transformation and parameters (a tree of float arrays), and
raises `AssertionError` where the transformation breaks it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

from gradtx.combine import chain, identity
from gradtx.roles import Member
from gradtx.rule import Masked
from gradtx.transform import GradientTransformation, transformation

Law = Callable[[GradientTransformation, Any], None]
LAWS: dict[str, Law] = {}


def law(check: Law) -> Law:
    """Add a law to `LAWS`, under its name in words."""
    LAWS[check.__name__.replace("_", " ")] = check
    return check


def check(tx: GradientTransformation, params: Any) -> None:
    """Check every law; the first broken one raises `AssertionError` with its name."""
    for name, test in LAWS.items():
        try:
            test(tx, params)
        except AssertionError as error:
            raise AssertionError(f"{tx!r} breaks the law {name!r}: {error}") from error


def gradients(params: Any, seed: int = 0) -> Any:
    """Some gradients of about unit size, like the parameters."""
    rng = np.random.default_rng(seed)

    def gradient(p: Any) -> Any:
        noise = rng.normal(size=p.shape)
        if jnp.issubdtype(p.dtype, jnp.complexfloating):
            noise = noise + 1j * rng.normal(size=p.shape)
        return jnp.asarray(noise, p.dtype)

    return jax.tree.map(gradient, params)


def _step(tx: Any, params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def _looks(tree: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, jnp.dtype(x.dtype), x.weak_type), tree)


def _same_looks(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert _looks(a) == _looks(b), f"{_looks(a)} became {_looks(b)}"


def _bitwise(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def _close(a: Any, b: Any) -> None:
    def close(x: Any, y: Any) -> None:
        is_float = jnp.issubdtype(x.dtype, jnp.inexact)
        rounding = 16 * float(jnp.finfo(x.dtype).eps) if is_float else 0.0
        wide = np.complex128 if jnp.iscomplexobj(x) else np.float64
        x, y = np.asarray(x, wide), np.asarray(y, wide)
        size = float(np.max(np.abs(y), initial=1e-30))
        np.testing.assert_allclose(x, y, rtol=0, atol=rounding * size)

    jax.tree.map(close, a, b)


def _finite(tree: Any) -> None:
    for x in jax.tree.leaves(tree):
        assert bool(jnp.isfinite(jnp.asarray(x)).all()), f"{x} is not finite"


@law
def updates_look_like_parameters(tx: GradientTransformation, params: Any) -> None:
    """In structure, shape, dtype; and they are strongly typed."""
    updates, _ = tx.update(gradients(params), tx.init(params), params)
    _same_looks(jax.tree.map(lambda p: jnp.asarray(p, p.dtype), params), updates)


@law
def state_keeps_its_looks(tx: GradientTransformation, params: Any) -> None:
    """Structure, shapes, dtypes and weak types are the same after an update."""
    state = tx.init(params)
    _same_looks(state, tx.update(gradients(params), state, params)[1])


@law
def jit_equals_eager(tx: GradientTransformation, params: Any) -> None:
    """Over two steps."""
    runs = []
    for update in (tx.update, jax.jit(tx.update)):
        state = tx.init(params)
        _, state = update(gradients(params), state, params)
        runs.append(update(gradients(params, 1), state, params))
    _close(*runs)


@law
def scan_works(tx: GradientTransformation, params: Any) -> None:
    """The carry keeps its type, and equals the loop."""
    grads = gradients(params)

    def body(carry: Any, _: None) -> tuple[Any, None]:
        params, state = carry
        return _step(tx, params, state, grads), None

    start = (params, tx.init(params))
    scanned, _ = jax.lax.scan(body, start, None, length=2)
    for _ in range(2):
        start = _step(tx, *start, grads)
    _close(scanned, start)


@law
def abstract_init_equals_init(tx: GradientTransformation, params: Any) -> None:
    """Shapes in, shapes out; and the same in a jitted init."""
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
    state = tx.init(params)
    abstract = tx.init(shapes)
    assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(abstract))
    _same_looks(state, abstract)
    _bitwise(state, jax.jit(tx.init)(params))


@law
def one_trace_serves_all(tx: GradientTransformation, params: Any) -> None:
    """Neither a second call retraces nor new numbers, all of them traced."""
    traces = 0

    @jax.jit
    def step(tx: Any, params: Any, state: Any, grads: Any) -> Any:
        nonlocal traces
        traces += 1
        return _step(tx, params, state, grads)

    state, grads = tx.init(params), gradients(params)
    first = step(tx, params, state, grads)
    _close(first, _step(tx, params, state, grads))
    step(tx, *first, grads)
    leaves, treedef = jax.tree.flatten(tx)
    step(jax.tree.unflatten(treedef, [0.5 * x for x in leaves]), *first, grads)
    assert traces == 1, f"{traces} traces"


@law
def donation_works(tx: GradientTransformation, params: Any) -> None:
    """No two leaves of a state, or of a state and its parameters, share a buffer."""
    step = jax.jit(lambda p, s, g: _step(tx, p, s, g), donate_argnums=(0, 1))
    for init in (tx.init, jax.jit(tx.init)):
        own = jax.tree.map(lambda p: jnp.array(p, copy=True), params)
        state = init(own)
        grads = gradients(params)
        for _ in range(2):
            own, state = step(own, state, grads)


@law
def zero_gradients_are_fine(tx: GradientTransformation, params: Any) -> None:
    """A zero gradient gives a finite update, at the first step and after another."""
    state = tx.init(params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    for grads in (zeros, gradients(params), zeros):
        updates, state = tx.update(grads, state, params)
        _finite((updates, state))


@law
def derivatives_are_finite(tx: GradientTransformation, params: Any) -> None:
    """With respect to numbers, parameters and gradients, where those are zero."""
    if any(jnp.iscomplexobj(p) for p in jax.tree.leaves(params)):
        return

    def loss(tx: Any, params: Any, grads: Any) -> Any:
        _, state = tx.update(grads, tx.init(params), params)
        updates, _ = tx.update(grads, state, params)
        return sum(jnp.sum(jnp.square(u)) for u in jax.tree.leaves(updates))

    zeros = jax.tree.map(jnp.zeros_like, params)
    _finite(jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(tx, params, zeros))


@law
def empty_trees_are_fine(tx: GradientTransformation, params: Any) -> None:
    """A tree without leaves gives itself."""
    del params
    state = tx.init({})
    updates, after = tx.update({}, state, {})
    assert updates == {}
    _same_looks(state, after)


@law
def absent_leaves_are_fine(tx: GradientTransformation, params: Any) -> None:
    """None beside None is absent; a gradient of None skips a leaf, slots stay."""
    more = {"here": params, "absent": None, "skipped": params}
    state = tx.init(more)
    grads = {"here": gradients(params), "absent": None}
    skipped = jax.tree.map(lambda _: None, params)
    updates, after = tx.update({**grads, "skipped": skipped}, state, more)
    assert updates["absent"] is None
    assert not jax.tree.leaves(updates["skipped"])
    _same_looks(state, after)
    for before, now in zip(state.values(), after.values(), strict=True):
        if isinstance(before, dict):
            _bitwise(before["skipped"], now["skipped"])


@transformation
def _only(transform: Member, mask: Any):
    return Masked(transform, mask)


@law
def masked_leaves_are_untouched(tx: GradientTransformation, params: Any) -> None:
    """And keep no state; the others are as they would be alone."""
    both = {"in": params, "out": params}
    masked, grads = _only(tx, {"in": True, "out": False}), gradients(params)
    state = masked.init(both)
    slots = [slot for slot in state.values() if isinstance(slot, dict)]
    assert not jax.tree.leaves([slot["out"] for slot in slots])
    updates, after = masked.update({"in": grads, "out": grads}, state, both)
    _same_looks(state, after)
    _bitwise(updates["out"], grads)
    _close(updates["in"], tx.update(grads, tx.init(params), params)[0])


@law
def pickling_gives_an_equal(tx: GradientTransformation, params: Any) -> None:
    """Equal, with an equal hash, representation and results."""
    again = pickle.loads(pickle.dumps(tx))
    assert again == tx
    assert hash(again) == hash(tx) and repr(again) == repr(tx)
    _bitwise(
        *(t.update(gradients(params), t.init(params), params) for t in (tx, again))
    )


@law
def chains_nest(tx: GradientTransformation, params: Any) -> None:
    """Nested or not a chain computes and keeps the same; `identity` is its unit."""
    runs = []
    for it in (tx, chain(tx), chain(chain(tx, identity())), chain(identity(), tx)):
        runs.append(it.update(gradients(params), it.init(params), params))
    for run in runs[1:]:
        _bitwise(runs[0], run)
