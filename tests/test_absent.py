"""A gradient of None for a whole tree of parameters, which are skipped then."""

from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import registry

PARAMS: Any = {
    "disc": {"w": jnp.arange(1.0, 5.0).reshape(2, 2), "b": [jnp.ones(2), jnp.ones(2)]},
    "gen": {"w": jnp.ones((2, 2)), "b": None},
}
GRADS: Any = jax.tree.map(lambda p: jnp.sin(3 * p), PARAMS)
PART: Any = {"disc": None, "gen": GRADS["gen"]}
LEAVES: Any = {
    "disc": jax.tree.map(lambda _: None, GRADS["disc"]),
    "gen": GRADS["gen"],
}


def path(name, grads, with_params):
    """Two updates, the second one by given gradients."""
    tx: Any = registry.TRANSFORMATIONS[name]()
    case: Any = registry.CASES.get(name, {})
    extra = case["extra"](PARAMS, GRADS) if "extra" in case else {}
    state, updates, params = tx.init(PARAMS), None, PARAMS if with_params else None
    for given in (GRADS, grads):
        if case is registry.EXAMPLES_OF:
            given = jax.tree.map(lambda g: jnp.stack([g, 2 * g]), given)
        updates, state = tx.update(given, state, params, **extra)
    return updates, state


@pytest.mark.parametrize("with_params", [True, False])
@pytest.mark.parametrize("name", registry.TRANSFORMATIONS)
def test_none_for_a_tree_is_none_for_each_of_its_leaves(name, with_params):
    """The updates come as the gradients went; what None does for a leaf is known."""
    try:
        expected, its = path(name, LEAVES, with_params)
    except (ValueError, TypeError):
        assert not with_params  # who needs them without None, or for it
        return
    updates, state = path(name, PART, with_params)
    assert jax.tree.structure(state) == jax.tree.structure(its)
    chex.assert_trees_all_equal(state, its)
    assert updates["disc"] is None and jax.tree.leaves(expected["disc"]) == []
    chex.assert_trees_all_equal(updates["gen"], expected["gen"])


def test_state_and_parameters_of_what_is_skipped_are_untouched():
    tx = gradtx.chain(gradtx.clip_by_global_norm(0.5), gradtx.adamw(0.1))
    _, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    updates, after = tx.update(PART, state, PARAMS)
    alone, _ = tx.update(
        {"gen": GRADS["gen"]},
        {"count": state["count"]} | {n: {"gen": state[n]["gen"]} for n in ("mu", "nu")},
        {"gen": PARAMS["gen"]},
    )
    np.testing.assert_allclose(updates["gen"]["w"], alone["gen"]["w"], rtol=1e-6)
    for slot in ("mu", "nu"):
        chex.assert_trees_all_equal(after[slot]["disc"], state[slot]["disc"])
    moved = gradtx.apply_updates(PARAMS, updates)
    assert moved["disc"]["w"] is PARAMS["disc"]["w"]
    np.testing.assert_allclose(
        moved["gen"]["w"], PARAMS["gen"]["w"] + updates["gen"]["w"]
    )


def test_foreign_members_see_none_in_the_places_of_the_leaves():
    tx: Any = gradtx.chain(optax.scale(2.0), gradtx.scale(3.0))
    updates, _ = tx.update(PART, tx.init(PARAMS), PARAMS)
    assert updates["disc"] is None
    np.testing.assert_allclose(updates["gen"]["w"], 6 * GRADS["gen"]["w"], rtol=1e-6)


@pytest.mark.parametrize(
    "grads",
    [{"gen": GRADS["gen"]}, {"disc": None, "gen": None, "other": jnp.ones(2)}],
    ids=["missing", "unexpected"],
)
def test_other_trees_are_still_an_error_with_the_paths(grads):
    tx: Any = gradtx.adam(0.1)
    with pytest.raises(ValueError, match="adam: the updates must have the structure"):
        tx.update(grads, tx.init(PARAMS), PARAMS)


def test_nothing_at_all_is_skipped_too():
    tx: Any = gradtx.adam(0.1)
    updates, state = tx.update(None, tx.init(PARAMS), PARAMS)
    assert updates is None
    chex.assert_trees_all_equal(state["mu"], tx.init(PARAMS)["mu"])
