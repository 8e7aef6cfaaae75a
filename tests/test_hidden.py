"""What a mask or a label hides from a transformation, as in optax.

Functions that give masks see the leaves that are left, and these are numbered anew for
random draws: so a transformation does on some leaves what it does on them alone.
"""

from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality, registry

PARAMS: Any = {
    "a": jnp.array([1.0, -2.0]),
    "b": jnp.arange(6.0).reshape(2, 3),
    "c": jnp.array([0.5, 3.0, 1.0]),
    "d": jnp.ones((3, 3)),
}
KEPT = {"b": True, "d": True, "a": False, "c": False}
LABELS = {name: "kept" if is_kept else "other" for name, is_kept in KEPT.items()}
GRADS: Any = jax.tree.map(lambda p: jnp.sin(p) + 0.1, PARAMS)
MINE = {name: PARAMS[name] for name in ("b", "d")}


def masked_around(m, tx):
    return m.masked(tx, KEPT)


HIDING = {
    "masked": masked_around,
    "masked by a function": lambda m, tx: m.masked(
        tx, lambda p: {n: KEPT[n] for n in p}
    ),
    "partition": lambda m, tx: m.partition({"kept": tx, "other": m.identity()}, LABELS),
    "partition by a function": lambda m, tx: m.partition(
        {"kept": tx, "other": m.set_to_zero()}, lambda p: {n: LABELS[n] for n in p}
    ),
    "selective_transform": lambda m, tx: m.selective_transform(
        tx, freeze_mask={n: not is_on for n, is_on in KEPT.items()}
    ),
    "masked in a partition": lambda m, tx: m.partition(
        {
            "all": m.masked(tx, KEPT),
            "none": m.identity(),
        },
        {n: "none" if n == "a" else "all" for n in KEPT},
    ),
}


def path(tx, params, grads, extra):
    state, found = tx.init(params), []
    for _ in range(3):
        updates, state = tx.update(grads, state, params, **extra)
        found.append({name: updates[name] for name in MINE})
    return found


def examples(tree):
    return jax.tree.map(lambda x: jnp.stack([x, 2 * x]), tree)


DRAW = {
    "add_noise": lambda m: m.add_noise(0.1, 0.5, 3),
    "noisy_sgd": lambda m: m.noisy_sgd(0.1),
    "twice": lambda m: m.chain(m.add_noise(0.1, 0.5, 3), m.add_noise(0.2, 0.5, 4)),
    "dpsgd": lambda m: (m if m is gradtx else optax.contrib).dpsgd(0.1, 1.0, 0.5, 3),
    "differentially_private_aggregate": lambda m: (
        m if m is gradtx else optax.contrib
    ).differentially_private_aggregate(1.0, 0.5, 3),
}


@pytest.mark.parametrize("around", HIDING)
@pytest.mark.parametrize("name", DRAW)
def test_noise_is_that_of_optax_behind_masks_and_labels(name, around):
    grads = GRADS
    if name in ("dpsgd", "differentially_private_aggregate"):
        grads = {n: examples(g) if n in MINE else g for n, g in GRADS.items()}
    with equality.as_optax_needs():
        ours, theirs = (
            path(HIDING[around](m, DRAW[name](m)), PARAMS, grads, {})
            for m in (gradtx, optax)
        )
    for mine, its in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(mine, its, rtol=2e-5, atol=1e-6)


def test_under_groups_and_only_leaves_keep_their_numbers():
    """So that two groups of one seed do not draw the same noise."""
    noise = gradtx.add_noise(0.1, 0.0, 3)
    whole, _ = noise.update(GRADS, noise.init(PARAMS), PARAMS)
    apart = gradtx.groups({"a|b": noise, "**": gradtx.add_noise(0.1, 0.0, 3)})
    for tx in (apart, gradtx.only(noise, KEPT)):
        updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
        for name in MINE:
            np.testing.assert_array_equal(updates[name], whole[name])


@pytest.mark.parametrize("name", registry.TRANSFORMATIONS)
def test_every_transformation_does_behind_masks_what_it_does_alone(name):
    tx: Any = registry.TRANSFORMATIONS[name]()
    case: Any = registry.CASES.get(name, {})
    is_of_examples = case is registry.EXAMPLES_OF
    mine: Any = {n: GRADS[n] for n in MINE}
    if "extra" in case and "value_fn" in case["extra"](MINE, mine):
        pytest.skip("a line search searches along the updates of all parameters")
    if name in ("freeze", "masked", "selective_transform"):
        return  # their own masks are whole
    grads = {
        n: examples(g) if is_of_examples and n in MINE else g for n, g in GRADS.items()
    }
    mine = {n: grads[n] for n in MINE}
    extra = case["extra"](MINE, mine) if "extra" in case else {}
    if "obj_fn" in extra:
        extra = {"obj_fn": lambda p: registry.loss({n: p[n] for n in MINE})}
    hidden = path(HIDING["masked in a partition"](gradtx, tx), PARAMS, grads, extra)
    alone = path(tx, MINE, mine, extra)
    for one, other in zip(jax.tree.leaves(hidden), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-7)


def seen_by(make, m):
    """The names of the leaves that a function for a mask is shown."""
    seen = []

    def mask(params):
        paths = jax.tree_util.tree_leaves_with_path(params)
        seen.append([jax.tree_util.keystr(path) for path, _ in paths])
        return jax.tree.map(lambda p: p.ndim > 1, params)

    tx = m.partition({"kept": make(m, mask), "other": m.scale(2.0)}, LABELS)
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    return updates, {tuple(names) for names in seen}


MASKS = {
    "masked": lambda m, mask: m.masked(m.scale(3.0), mask),
    "adamw": lambda m, mask: m.adamw(0.1, weight_decay=0.5, mask=mask),
    "add_decayed_weights": lambda m, mask: m.add_decayed_weights(0.5, mask),
    "freeze": lambda m, mask: m.freeze(mask),
    "lars": lambda m, mask: m.lars(0.1, 0.5, mask, trust_ratio_mask=mask),
    "adafactor": lambda m, mask: m.adafactor(
        0.1, weight_decay_rate=0.5, weight_decay_mask=mask
    ),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_function_for_a_mask_sees_the_leaves_of_its_label_as_in_optax(name):
    with equality.as_optax_needs():
        (ours, mine), (theirs, its) = (seen_by(MASKS[name], m) for m in (gradtx, optax))
    assert mine == its == {("['b']", "['d']")}
    for name in PARAMS:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-5, atol=1e-6)


def test_one_function_may_be_the_mask_in_several_labels():
    def mask(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    made = [
        m.partition(
            {
                "kept": m.add_decayed_weights(0.5, mask),
                "other": m.add_decayed_weights(0.25, mask),
            },
            LABELS,
        )
        for m in (gradtx, optax)
    ]
    ours, theirs = (tx.update(GRADS, tx.init(PARAMS), PARAMS)[0] for tx in made)
    for name in PARAMS:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)
