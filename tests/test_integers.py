"""Leaves that are no floats: only our own rules refuse them, as they compute."""

from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality, registry

PARAMS: Any = {
    "i": jnp.array([3, -2, 5]),
    "u": jnp.array([1, 200], "uint8"),
    "b": jnp.array([True, False]),
    "w": jnp.array([1.0, -2.0]),
}
GRADS: Any = {
    "i": jnp.array([2, 1, -9]),
    "u": jnp.array([7, 1], "uint8"),
    "b": jnp.array([False, True]),
    "w": jnp.array([0.5, 3.0]),
}
LABELS = {"i": "a", "u": "b", "b": "b", "w": "a"}
IS_FLOAT = {name: name == "w" for name in PARAMS}


def foreign():
    """Members that keep the dtypes, and want the parameters."""

    def update(updates, state, params=None):
        moved = jax.tree.map(lambda u, p: jnp.where(u == p, p, u), updates, params)
        return moved, state

    return optax.chain(
        optax.stateless_with_tree_map(lambda u, p: u),
        optax.GradientTransformation(lambda params: optax.EmptyState(), update),
    )


MADE = {
    "chain": lambda m: m.chain(foreign()),
    "chain of more": lambda m: m.chain(foreign(), optax.scale(0.5), optax.scale(3)),
    "beside ours": lambda m: m.chain(foreign(), m.set_to_zero(), foreign()),
    "partition": lambda m: m.partition({"a": foreign(), "b": optax.scale(2)}, LABELS),
    "partition beside ours": lambda m: m.partition(
        {"a": m.chain(foreign()), "b": m.set_to_zero()}, LABELS
    ),
    "masked": lambda m: m.masked(foreign(), {**IS_FLOAT, "i": True}),
    "masked beside ours": lambda m: m.chain(
        m.masked(m.scale(0.5), IS_FLOAT), foreign()
    ),
    "freeze": lambda m: m.freeze({n: not is_on for n, is_on in IS_FLOAT.items()}),
    "freeze some": lambda m: m.freeze({**IS_FLOAT, "i": True}),
    "set_to_zero": lambda m: m.set_to_zero(),
    "identity": lambda m: m.identity(),
    "selective_transform": lambda m: m.selective_transform(
        m.scale(2.0), freeze_mask={n: not is_on for n, is_on in IS_FLOAT.items()}
    ),
    "named_chain": lambda m: m.named_chain(("one", foreign()), ("two", m.identity())),
    "conditionally_transform": lambda m: m.conditionally_transform(
        foreign(), lambda step: step > 0
    ),
    "conditionally_mask": lambda m: m.conditionally_mask(
        m.set_to_zero(), lambda step: step > 0
    ),
    "apply_if_finite": lambda m: m.apply_if_finite(foreign(), 2),
    "split_real_and_imaginary": lambda m: (
        m if m is gradtx else optax.contrib
    ).split_real_and_imaginary(foreign()),
    "inject_hyperparams": lambda m: m.inject_hyperparams(m.set_to_zero)(),
}


def steps(tx):
    """Two updates by a transformation."""
    state = tx.init(PARAMS)
    one, state = tx.update(GRADS, state, PARAMS)
    two, _ = tx.update(GRADS, state, PARAMS)
    return one, two


@pytest.mark.parametrize("name", MADE)
def test_integers_pass_through_what_does_not_compute_as_in_optax(name):
    with equality.as_optax_needs():
        ours, theirs = (steps(MADE[name](m)) for m in (gradtx, optax))
    for mine, its in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert mine.dtype == its.dtype
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("given", ["int32", "int16", "float32"])
def test_keep_params_nonnegative_takes_integers_as_optax_does(given):
    params: Any = {"i": jnp.array([3, -2, 5]), "w": jnp.array([1.0, -2.0, 3.0])}
    grads: Any = jax.tree.map(lambda p: jnp.array([-9, 1, 2], given), params)
    with equality.as_optax_needs():
        ours, theirs = (
            tx.update(grads, tx.init(params), params)[0]
            for tx in (m.keep_params_nonnegative() for m in (gradtx, optax))
        )
    for name in params:
        assert ours[name].dtype == theirs[name].dtype
        np.testing.assert_array_equal(ours[name], theirs[name])


PASS = {
    "set_to_zero",
    "identity",
    "keep_params_nonnegative",
    "stateless",
    "stateless_with_tree_map",
    "freeze",
    "frozen",
    *("add_decayed_weights", "add_cautious_decay", "scale_by_learning_rate"),
}
"""What does not compute on its updates, leaves that to a function of the user's, or has
nothing to do as its example is given: a decay of 0, no learning rate."""


@pytest.mark.parametrize("name", registry.TRANSFORMATIONS)
def test_what_computes_refuses_integers_and_names_the_leaf(name):
    tx: Any = registry.TRANSFORMATIONS[name]()
    case: Any = registry.CASES.get(name, {})
    params: Any = {"steps": jnp.arange(3), "w": jnp.ones(2)}
    floats = {"w": params["w"]}
    extra = case["extra"](floats, floats) if "extra" in case else {}
    if name in PASS:
        updates, _ = tx.update(params, tx.init(params), params, **extra)
        assert updates["steps"].dtype == params["steps"].dtype
        return
    with pytest.raises(TypeError, match="floats, but the leaf at 'steps' is int"):
        tx.update(params, tx.init(params), params, **extra)
