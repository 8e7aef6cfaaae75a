"""Groups of parameters by pattern, by label, in one state."""

import re
from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx

anything: Any = gradtx  # what mistakes are made with

MODEL = {
    "embed": {"kernel": jnp.ones((4, 3))},
    "dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
    "head": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2), "scale": jnp.ones(2)},
}
SLOPES = jax.tree.map(lambda p: 0.5 * p, MODEL)


def by_module(more=None, embed="embed/**"):
    return gradtx.groups(
        {
            embed: gradtx.frozen(),
            "**/bias|**/scale": gradtx.adamw(0.1, weight_decay=0.0),
            "**": gradtx.adamw(0.2, weight_decay=0.5),
        }
        | (more or {})
    )


def test_each_leaf_gets_the_transformation_of_its_group():
    tx = by_module({"head/kernel": gradtx.sgd(1.0)})
    updates, _ = tx.update(SLOPES, tx.init(MODEL), MODEL)
    found = jax.tree.map(lambda u: round(float(u.ravel()[0]), 4), updates)
    assert found == {
        "embed": {"kernel": 0.0},
        "dense": {"kernel": -0.3, "bias": -0.1},
        "head": {"kernel": -0.5, "bias": -0.1, "scale": -0.1},
    }


def test_slots_of_one_name_are_one_tree_for_all_groups():
    state = by_module({"head/kernel": gradtx.sgd(1.0, momentum=0.9)}).init(MODEL)
    assert state.keys() == {"count", "mu", "nu", "trace"}
    assert jax.tree.map(jnp.shape, state["mu"]) == {
        "embed": {"kernel": None},
        "dense": {"kernel": (2, 3), "bias": (3,)},
        "head": {"kernel": None, "bias": (2,), "scale": (2,)},
    }
    assert jax.tree.map(jnp.shape, state["trace"])["head"]["kernel"] == (3, 2)


def test_renaming_a_pattern_or_moving_a_leaf_changes_no_state():
    tx = by_module()
    _, state = tx.update(SLOPES, tx.init(MODEL), MODEL)
    renamed = by_module({"dense/*": gradtx.adam(0.1)}, embed="embed/kernel|nothing")
    assert jax.tree.structure(renamed.init(MODEL)) == jax.tree.structure(state)
    renamed.update(SLOPES, state, MODEL)


def test_whole_tree_values_of_two_groups_have_the_keys_of_their_patterns():
    tx = gradtx.groups({"embed/**": gradtx.prodigy(), "**": gradtx.prodigy()})
    state = tx.init(MODEL)
    assert {"groups.embed/**.estim_lr", "groups.**.estim_lr"} <= (state.keys())
    updates, after = tx.update(SLOPES, state, MODEL)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    alone, _ = gradtx.prodigy().update(
        {"embed": SLOPES["embed"]},
        gradtx.prodigy().init({"embed": MODEL["embed"]}),
        {"embed": MODEL["embed"]},
    )
    np.testing.assert_allclose(
        updates["embed"]["kernel"], alone["embed"]["kernel"], rtol=1e-6
    )


def test_groups_equal_a_partition_by_labels():
    made: Any = {"decay": gradtx.adamw(0.1), "plain": gradtx.sgd(0.1, momentum=0.9)}

    def label(name, leaf):
        return "decay" if leaf.ndim > 1 and "embed" not in name else "plain"

    labels = jax.tree.map_with_path(
        lambda path, p: "plain" if p.ndim < 2 or path[0].key == "embed" else "decay",
        MODEL,
    )
    runs = []
    for tx in (
        gradtx.groups(made, label),
        gradtx.groups(made, labels),
        gradtx.partition(made, labels),
        gradtx.groups({"dense/kernel|head/kernel": made["decay"], "**": made["plain"]}),
    ):
        params, state = MODEL, tx.init(MODEL)
        for _ in range(3):
            updates, state = jax.jit(tx.update)(SLOPES, state, params)
            params = optax.apply_updates(params, updates)
        runs.append(params)
    for run in runs[1:]:
        chex.assert_trees_all_equal(run, runs[0])


def test_a_group_in_a_group_sees_the_leaves_of_that_group_only():
    inner = gradtx.groups({"**/bias": gradtx.sgd(1.0), "**/scale": gradtx.frozen()})
    tx = gradtx.groups({"**/kernel": gradtx.sgd(0.1), "**": inner})
    updates, _ = tx.update(SLOPES, tx.init(MODEL), MODEL)
    found = jax.tree.map(lambda u: float(u.ravel()[0]), updates)["head"]
    assert found == {"kernel": pytest.approx(-0.05), "bias": -0.5, "scale": 0.0}


def test_a_frozen_leaf_is_in_no_norm_and_may_have_any_dtype():
    params = {"w": jnp.ones(4), "table": jnp.arange(3), "big": jnp.ones(2)}
    grads = {"w": jnp.ones(4), "table": None, "big": jnp.full(2, jnp.inf)}
    tx = gradtx.chain(
        gradtx.clip_by_global_norm(1.0),
        gradtx.groups({"w": gradtx.sgd(1.0, momentum=0.9), "**": gradtx.frozen()}),
    )
    updates, state = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.5)
    assert updates["table"] is None and not updates["big"].any()
    assert state["trace"]["big"] is None and state["trace"]["table"] is None


def test_a_recipe_of_layerwise_decay_is_a_line():
    params = {"layers": [{"w": jnp.ones(2)} for _ in range(3)], "head": jnp.ones(2)}
    layers = {f"layers/{i}/**": gradtx.sgd(0.5 ** (3 - i)) for i in range(3)}
    tx = gradtx.groups({**layers, "**": gradtx.sgd(1.0)})
    updates, _ = tx.update(params, tx.init(params), params)
    found = [-float(u[0]) for u in jax.tree.leaves(updates)]
    assert found == [1.0, 0.125, 0.25, 0.5]


TUNED = gradtx.groups({"embed": gradtx.frozen(), "**": gradtx.adam(0.1)})
AROUND = {
    "accumulate": gradtx.accumulate(TUNED, 1),
    "skip": gradtx.skip(TUNED),
    "skip above a norm": gradtx.skip(TUNED, gradtx.norm_above(9.0)),
    "skip around accumulate": gradtx.skip(gradtx.accumulate(TUNED, 1)),
    "accumulate around editable": gradtx.accumulate(gradtx.editable(TUNED), 1),
    "apply_if_finite": gradtx.apply_if_finite(TUNED, 0),
    "multi steps": gradtx.MultiSteps(
        TUNED, 1, should_skip_update_fn=gradtx.skip_not_finite
    ),
}


@pytest.mark.parametrize("with_params", [True, False])
@pytest.mark.parametrize("name", AROUND)
def test_wrappers_keep_nothing_for_frozen_leaves_and_do_not_look_at_them(
    name, with_params
):
    params = {"embed": jnp.ones(4), "head": jnp.ones(3)}
    grads = {"embed": jnp.full(4, jnp.nan), "head": jnp.ones(3)}
    given = params if with_params else None
    tx, state, plain = AROUND[name], AROUND[name].init(params), TUNED.init(params)
    assert all(x.size < 4 for x in jax.tree.leaves(state))
    for _ in range(2):
        updates, state = tx.update(grads, state, given)
        expected, plain = TUNED.update(grads, plain, given)
        chex.assert_trees_all_equal(updates, expected)


def test_a_frozen_leaf_that_a_clip_sees_is_accumulated():
    """The clip is not inside of `skip`, and does not know what is frozen there."""
    params = {"embed": jnp.ones(4), "head": jnp.ones(3)}
    clip = gradtx.clip_by_global_norm(1.0)
    tx = gradtx.accumulate(gradtx.chain(clip, gradtx.skip(TUNED)), 2)
    assert tx.init(params)["acc_grads"]["embed"].shape == (4,)


TX = gradtx.frozen()


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: gradtx.groups({"embed/**": gradtx.frozen()}),
            ValueError,
            "groups: no pattern matches 'dense/bias', 'dense/kernel', 'head/bias', "
            "'head/kernel', 'head/scale'; '**' matches the rest",
        ),
        (
            lambda: gradtx.groups(
                {"x": gradtx.sgd(1.0)}, lambda name, leaf: name.split("/")[0]
            ),
            ValueError,
            "groups: labels must be among ['x'], got 'dense' at 'dense/bias'",
        ),
        (
            lambda: gradtx.groups({"x": gradtx.sgd(1.0)}, lambda leaf: "x"),
            TypeError,
            "groups: labels must be a function (name, leaf) -> label, got <function",
        ),
        (
            lambda: gradtx.groups({"x": gradtx.sgd(1.0)}, {"dense": "x"}),
            ValueError,
            "groups: the labels must be a tree with the structure of the parameters",
        ),
        (
            lambda: anything.groups({"**": gradtx.frozen}),
            TypeError,
            "groups: transforms must be gradient transformations, got "
            "<function frozen",
        ),
        (
            lambda: anything.groups(dict.fromkeys(("**", re.compile("a")), TX)),
            TypeError,
            "groups: transforms must be a tree, got [\"'**'\", \"re.compile('a')\"]: ",
        ),
        (
            lambda: anything.groups([gradtx.frozen()]),
            TypeError,
            "groups: transforms must be a mapping",
        ),
        (
            lambda: gradtx.groups({}),
            ValueError,
            "groups: transforms must hold at least one group",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_groups_is_an_error_that_lists_the_leaves(make, kind, message):
    with pytest.raises(kind) as error:
        make().init(MODEL)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "labels", [lambda name, leaf: "x" if leaf.ndim > 1 else None, {"w": "x", "b": None}]
)
def test_a_leaf_without_a_label_is_an_error(labels):
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    tx = gradtx.groups({"x": gradtx.sgd(0.1)}, labels)
    message = r"groups: labels must be among \['x'\], got None at 'b'"
    with pytest.raises(ValueError, match=message):
        tx.init(params)
    assert tx.init({"w": params["w"], "b": None})["count"] == 0
