"""The laws that every transformation must satisfy.

Each law is a function of a transformation and a case (parameters, gradients), and
raises if the transformation violates it. Foreign transformations must satisfy them too,
except where a law is about values and states that are dicts of slots.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

from gradtx.compiler.lower import programs_in
from gradtx.compiler.steps import whole_flow
from gradtx.compiler.transformation import GradientTransformation
from gradtx.core.call import FactoryValue
from gradtx.interop.configs import from_config, to_config
from gradtx.transforms.combine import chain, identity, only


def gradients(params: Any, seed: int = 0) -> Any:
    """Gradients of about unit size, like the parameters.

    Examples:
        >>> grads = gradtx.testing.gradients({"w": jnp.zeros((2, 3))}, seed=1)
        >>> grads["w"].shape
        (2, 3)
    """
    rng = np.random.default_rng(seed)

    def gradient(p: Any) -> Any:
        noise = rng.normal(size=p.shape)
        if jnp.issubdtype(p.dtype, jnp.complexfloating):
            noise = noise + 1j * rng.normal(size=p.shape)
        return jnp.asarray(noise, p.dtype)

    return jax.tree.map(gradient, params)


@dataclasses.dataclass(frozen=True)
class Case:
    """The inputs to test a transformation with.

    Attributes:
        params: Parameters, a tree of float arrays.
        gradients: `(params, seed) -> gradients`.
        extra: `(params, gradients) -> extra arguments` of `update`.

    Examples:
        >>> case = gradtx.testing.Case({"w": jnp.zeros(2)},
        ...     extra=lambda params, grads: {"value": 2.0})
        >>> updates, state = case.first(gradtx.polyak_sgd(), case.params)
        >>> updates["w"].shape
        (2,)
    """

    params: Any
    gradients: Callable[..., Any] = gradients
    extra: Callable[[Any, Any], dict[str, Any]] = lambda params, grads: {}

    def update(self, tx: Any, grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        """The updates and the state after them."""
        return tx.update(grads, state, params, **self.extra(params, grads))

    def first(self, tx: Any, params: Any, seed: int = 0) -> tuple[Any, Any]:
        """The first updates, and the state after them."""
        return self.update(tx, self.gradients(params, seed), tx.init(params), params)

    def step(self, tx: Any, params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        """The parameters and the state after an update."""
        updates, state = self.update(tx, grads, state, params)
        return optax.apply_updates(params, updates), state


Law = Callable[[GradientTransformation, Case], None]
LAWS: dict[str, Law] = {}


def law(check: Law) -> Law:
    """Add a law to `LAWS`, under its name in words."""
    LAWS[check.__name__.replace("_", " ")] = check
    return check


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class _Closed:
    """A foreign transformation, which is not a pytree of numbers."""

    init: Callable[..., Any]
    update: Callable[..., Any]


def _as_tree(tx: Any) -> Any:
    return tx if isinstance(tx, FactoryValue) else _Closed(tx.init, tx.update)


def _looks(tree: Any) -> Any:
    for x in jax.tree.leaves(tree):
        assert hasattr(x, "dtype"), f"{x!r} is no array"
    return jax.tree.map(lambda x: (x.shape, jnp.dtype(x.dtype), x.weak_type), tree)


def _same_looks(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert _looks(a) == _looks(b), f"{_looks(a)} became {_looks(b)}"


def _bitwise(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.asarray(x).dtype, jnp.inexact)


def _close(a: Any, b: Any) -> None:
    def close(x: Any, y: Any) -> None:
        rounding = 16 * float(jnp.finfo(x.dtype).eps) if _is_float(x) else 0.0
        wide = np.complex128 if jnp.iscomplexobj(x) else np.float64
        x, y = np.asarray(x, wide), np.asarray(y, wide)
        size = float(np.max(np.abs(y), initial=1e-30))
        np.testing.assert_allclose(x, y, rtol=0, atol=rounding * size)

    jax.tree.map(close, a, b)


def _finite(tree: Any) -> None:
    for x in jax.tree.leaves(tree):
        assert bool(jnp.isfinite(jnp.asarray(x)).all()), f"{x} is not finite"


@law
def updates_look_like_parameters(tx: GradientTransformation, case: Case) -> None:
    """Updates have the structure, shapes and dtypes of parameters, strongly typed."""
    updates, _ = case.first(tx, case.params)
    like = jax.tree.map(lambda p: jnp.asarray(p, p.dtype), case.params)
    _same_looks(like, updates)


@law
def state_keeps_its_looks(tx: GradientTransformation, case: Case) -> None:
    """Structure, shapes, dtypes and weak types are the same after an update."""
    _same_looks(tx.init(case.params), case.first(tx, case.params)[1])


@law
def jit_equals_eager(tx: GradientTransformation, case: Case) -> None:
    """Jitted and eager updates are equal over two steps."""

    def update(grads: Any, state: Any) -> tuple[Any, Any]:
        return case.update(tx, grads, state, case.params)

    runs = []
    for run in (update, jax.jit(update)):
        _, state = run(case.gradients(case.params), tx.init(case.params))
        runs.append(run(case.gradients(case.params, 1), state))
    _close(*runs)


@law
def scan_works(tx: GradientTransformation, case: Case) -> None:
    """In a scan the carry keeps its type, and the result equals a loop's."""
    grads = case.gradients(case.params)

    def body(carry: Any, _: None) -> tuple[Any, None]:
        params, state = carry
        return case.step(tx, params, state, grads), None

    start = (case.params, tx.init(case.params))
    scanned, _ = jax.lax.scan(body, start, None, length=2)
    for _ in range(2):
        start = case.step(tx, *start, grads)
    _close(scanned, start)


@law
def abstract_init_equals_init(tx: GradientTransformation, case: Case) -> None:
    """`init` of shapes, and jitted `init`, have the shapes of `init` of arrays."""
    params, shapes = case.params, jax.eval_shape(lambda: case.params)
    state = tx.init(params)
    if isinstance(tx, FactoryValue):
        abstract = tx.init(shapes)
        kinds = {type(x) for x in jax.tree.leaves(abstract)}
        assert kinds == {jax.ShapeDtypeStruct}, "init of shapes gave arrays"
    else:
        abstract = jax.eval_shape(tx.init, shapes)
    _same_looks(state, abstract)
    _bitwise(state, jax.jit(tx.init)(params))


@law
def configs_give_an_equal(tx: GradientTransformation, case: Case) -> None:
    """A config gives an equal transformation, also through JSON."""
    try:
        config = to_config(tx)
    except TypeError:
        return  # foreign, or with an unregistered function
    assert from_config(json.loads(json.dumps(config))) == tx


@law
def slots_like_parameters_are_found(tx: GradientTransformation, case: Case) -> None:
    """`optax.tree.map_params` finds them, with a leafless placeholder for `init`."""
    state = tx.init(case.params)
    _bitwise(optax.tree.map_params(tx.init, lambda x: x, state), state)


@law
def one_trace_serves_all(tx: GradientTransformation, case: Case) -> None:
    """Neither a second call nor new numbers, all of them traced, cause a retrace."""
    traces = 0

    @jax.jit
    def step(tx: Any, params: Any, state: Any, grads: Any) -> Any:
        nonlocal traces
        traces += 1
        return case.step(tx, params, state, grads)

    tx = _as_tree(tx)
    start = (case.params, tx.init(case.params), case.gradients(case.params))
    first = step(tx, *start)
    _close(first, case.step(tx, *start))
    step(tx, *first, start[2])
    step(jax.tree.map(lambda x: 0.5 * x if _is_float(x) else x, tx), *first, start[2])
    assert traces == 1, f"{traces} traces"


@law
def donation_works(tx: GradientTransformation, case: Case) -> None:
    """No two leaves of a state, or of a state and its parameters, share a buffer."""
    step = jax.jit(lambda p, s, g: case.step(tx, p, s, g), donate_argnums=(0, 1))
    for init in (tx.init, jax.jit(tx.init)):
        own = jax.tree.map(lambda p: jnp.array(p, copy=True), case.params)
        state = init(own)
        grads = case.gradients(case.params)
        for _ in range(2):
            own, state = step(own, state, grads)


@law
def zero_gradients_are_fine(tx: GradientTransformation, case: Case) -> None:
    """A zero gradient gives a finite update, at the first step and after another."""
    state, some = tx.init(case.params), case.gradients(case.params)
    zeros = jax.tree.map(jnp.zeros_like, some)
    _, later = case.update(tx, some, state, case.params)
    for before in (state, later):
        _finite(case.update(tx, zeros, before, case.params))


@law
def derivatives_are_finite(tx: GradientTransformation, case: Case) -> None:
    """With respect to numbers, parameters and gradients, where those are zero."""
    if any(jnp.iscomplexobj(p) for p in jax.tree.leaves(case.params)):
        return

    def loss(tx: Any, params: Any, grads: Any) -> Any:
        _, state = case.update(tx, grads, tx.init(params), params)
        updates, _ = case.update(tx, grads, state, params)
        return sum(jnp.sum(jnp.square(u)) for u in jax.tree.leaves(updates))

    zeros = jax.tree.map(jnp.zeros_like, case.gradients(case.params))
    slopes = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    _finite(slopes(_as_tree(tx), case.params, zeros))


@law
def empty_trees_are_fine(tx: GradientTransformation, case: Case) -> None:
    """A tree without leaves gives a tree without leaves."""
    state = tx.init({})
    updates, after = case.update(tx, {}, state, {})
    assert updates == {}
    _same_looks(state, after)


@law
def a_leaf_without_a_gradient_is_skipped(
    tx: GradientTransformation, case: Case
) -> None:
    """The update of such a leaf is None, and its slots do not change."""
    if not isinstance(tx, FactoryValue):
        return  # not supported by optax
    grads, treedef = jax.tree.flatten(case.gradients(case.params))
    state = tx.init(case.params)
    skipped = treedef.unflatten([None, *grads[1:]])
    updates, after = case.update(tx, skipped, state, case.params)
    assert len(jax.tree.leaves(updates)) == len(grads) - 1
    _same_looks(state, after)
    for key, slot in state.items():
        if jax.tree.structure(slot) == treedef:
            first, later = jax.tree.leaves(slot)[0], jax.tree.leaves(after[key])[0]
            np.testing.assert_array_equal(first, later)


@law
def absent_leaves_are_fine(tx: GradientTransformation, case: Case) -> None:
    """A leaf of None in parameters and gradients is absent."""
    more = {"here": case.params, "absent": None}
    if not _fits(tx, more):
        return
    state = tx.init(more)
    grads = {"here": case.gradients(case.params), "absent": None}
    updates, after = case.update(tx, grads, state, more)
    assert updates["absent"] is None
    _same_looks(state, after)


@law
def masked_leaves_are_untouched(tx: GradientTransformation, case: Case) -> None:
    """Masked leaves keep no state; other leaves are as without them."""
    both = {"in": case.params, "out": case.params}
    if not _fits(tx, both):
        return
    masked, grads = only(tx, {"in": True, "out": False}), case.gradients(case.params)
    state = masked.init(both)
    slots = [slot for slot in state.values() if isinstance(slot, dict)]
    assert not jax.tree.leaves([slot.get("out") for slot in slots])
    updates, after = case.update(masked, {"in": grads, "out": grads}, state, both)
    _same_looks(state, after)
    _bitwise(updates["out"], grads)
    _close(updates["in"], case.first(tx, case.params)[0])


def _fits(tx: Any, params: Any) -> bool:
    """Whether masks and patterns of the transformation fit such parameters."""
    try:
        tx.init(params)
    except ValueError:
        if not any(program.masks for program in programs_in(tx)):
            raise
        return False
    return True


@law
def steps_are_declared(tx: GradientTransformation, case: Case) -> None:
    """A transformation whose updates oppose the gradient declares a step."""
    if not isinstance(tx, FactoryValue):
        return
    grads, (updates, _) = case.gradients(case.params), case.first(tx, case.params)
    pairs = zip(jax.tree.leaves(grads), jax.tree.leaves(updates), strict=True)
    alike = [(np.ravel(g), np.ravel(u)) for g, u in pairs if g.shape == u.shape]
    if not alike:  # per-example gradients
        return
    g, u = map(np.concatenate, zip(*alike, strict=True))
    goes_against = np.vdot(g, u).real < -0.5 * np.linalg.norm(g) * np.linalg.norm(u)
    whole, *_ = programs_in(tx)
    assert not (goes_against and whole_flow(whole).is_direction), (
        "no rule in it has is_step=True, so a mask around it hands leaves that it "
        "keeps from it their gradient as their update"
    )


@law
def pickling_gives_an_equal(tx: GradientTransformation, case: Case) -> None:
    """A pickle gives an equal value, with equal hash, representation and results."""
    if not isinstance(tx, FactoryValue):
        return  # made of functions, which may be local
    again = pickle.loads(pickle.dumps(tx))
    assert again == tx
    assert hash(again) == hash(tx) and repr(again) == repr(tx)
    _bitwise(*(case.first(it, case.params) for it in (tx, again)))


@law
def chains_nest(tx: GradientTransformation, case: Case) -> None:
    """Nested or not, chains have equal updates and states; `identity` is the unit."""
    first = case.first(tx, case.params)
    if not isinstance(tx, FactoryValue):  # foreign: kept as a whole
        first = case.first(chain(tx), case.params)
    for it in (chain(tx), chain(chain(tx, identity())), chain(identity(), tx)):
        _bitwise(first, case.first(it, case.params))
