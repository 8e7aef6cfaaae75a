"""Whether gradtx works on the device that is there: rows that pass or say why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

import gradtx
from gradtx import testing
from tests.settings import OPTAX, PLAIN

PARITY = (
    "sgd", "rmsprop", "adam", "adamw", "nadam", "adabelief", "lion", "adafactor",
    "lars", "lamb", "prodigy", "schedule_free_adamw",
)  # fmt: skip
LAWS: dict[str, Callable[[], Any]] = {
    "adamw": lambda: gradtx.adamw(1e-2),
    "sgd, momentum": lambda: gradtx.sgd(0.1, 0.9),
    "clip + adamw": lambda: _clipped(),
    "adafactor": lambda: gradtx.adafactor(1e-2),
    "lion": lambda: gradtx.lion(1e-3),
    "lamb": lambda: gradtx.lamb(1e-2),
    "prodigy": lambda: gradtx.prodigy(),
    "noisy_sgd": lambda: gradtx.noisy_sgd(0.1, key=0),
}
STEPS = 20


def _clipped(rate: Any = 1e-2) -> Any:
    return gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(rate))


def _tree(seed: int) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    shapes = {"w": (256, 384), "b": (384,), "scale": ()}
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


def _steps(tx: Any, count: int = STEPS) -> Any:
    """Parameters after some steps, compiled, each on other gradients."""
    params = _tree(0)
    grads = jax.tree.map(lambda *g: jnp.stack(g), *map(_tree, range(1, count + 1)))
    update = optax.with_extra_args_support(tx).update

    def step(carry: Any, grad: Any) -> Any:
        params, state = carry
        updates, state = update(grad, state, params)
        return (optax.apply_updates(params, updates), state), None

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, grads)[0])
    return run((params, tx.init(params)))[0]


def _distance(ours: Any, theirs: Any) -> float:
    """The largest difference over the largest magnitude, of the worst leaf."""

    def one(a: Any, b: Any) -> float:
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))

    return max(jax.tree.leaves(jax.tree.map(one, ours, theirs)))


def _near(ours: Any, theirs: Any, most: float = 2e-5) -> dict[str, Any]:
    found = _distance(ours, theirs)
    if not found <= most:
        raise AssertionError(f"{found:.2g} apart, {most:.2g} at most")
    return {"passes": True, "distance": found}


def _parity(name: str) -> Callable[[], dict[str, Any]]:
    return lambda: _near(_steps(PLAIN[name](gradtx)), _steps(PLAIN[name](OPTAX)))


def _laws(make: Callable[[], Any]) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        testing.check(make())
        return {"passes": True}

    return run


def _donation() -> dict[str, Any]:
    """A donated step frees the state that it was given."""
    tx, params = gradtx.adamw(1e-2), _tree(0)
    state, grads = tx.init(params), _tree(1)
    step = jax.jit(tx.update, donate_argnums=1)
    step(grads, state, params)
    if not all(x.is_deleted() for x in jax.tree.leaves(state["mu"])):
        raise AssertionError("the moments that were given are still there")
    return {"passes": True}


def _vmap() -> dict[str, Any]:
    """Several learning rates at once are each alone."""
    rates = jnp.array([1e-3, 1e-2, 1e-1])
    together = jax.vmap(lambda rate: _steps(gradtx.adamw(rate)))(rates)
    alone = [_steps(gradtx.adamw(float(rate))) for rate in rates]
    return _near(together, jax.tree.map(lambda *x: jnp.stack(x), *alone))


def _schedule() -> dict[str, Any]:
    def run(lib: Any) -> Any:
        return _steps(lib.adamw(lib.warmup_cosine_decay_schedule(0.0, 0.1, 5, STEPS)))

    return _near(run(gradtx), run(optax))


def _groups() -> dict[str, Any]:
    """Groups by pattern are optax's partition by labels."""
    labels = {"w": "all", "b": "some", "scale": "some"}
    ours = gradtx.groups({"w": gradtx.adamw(1e-2), "**": gradtx.sgd(0.1, 0.9)})
    parts: Any = {"all": optax.adamw(1e-2), "some": optax.sgd(0.1, 0.9)}
    return _near(_steps(ours), _steps(optax.partition(parts, labels)))


def _accumulate() -> dict[str, Any]:
    theirs = optax.MultiSteps(optax.adamw(1e-2), 4).gradient_transformation()
    return _near(_steps(gradtx.accumulate(gradtx.adamw(1e-2), 4)), _steps(theirs))


def _skip() -> dict[str, Any]:
    """A gradient that is NaN changes neither parameters nor moments."""
    tx, params = gradtx.skip(gradtx.adamw(1e-2)), _tree(0)
    state = tx.init(params)
    bad = jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), params)
    updates, after = jax.jit(tx.update)(bad, state, params)
    still = [*jax.tree.leaves(updates), *jax.tree.leaves(after["inner"]["mu"])]
    if not all(bool(jnp.all(x == 0)) for x in still):
        raise AssertionError("a gradient of NaN moved something")
    return _near(_steps(tx), _steps(optax.adamw(1e-2)))


ROWS: dict[str, dict[str, Callable[[], dict[str, Any]]]] = {
    "works": {
        "donation": _donation,
        "vmap over optimizers": _vmap,
        "a schedule": _schedule,
        "groups": _groups,
        "accumulate": _accumulate,
        "skip": _skip,
    },
    "parity": {name: _parity(name) for name in PARITY},
    "laws": {name: _laws(make) for name, make in LAWS.items()},
}
"""By section and name: what returns figures, or raises."""
