import jax
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.probes import GRADS, PARAMS
from tests.stages import opened, run_all


def test_what_a_tree_rule_is_given_has_none_where_it_does_not_act():
    seen = []

    def update(updates, state, params=None):
        seen.append((updates, params))
        return updates, state

    foreign = optax.GradientTransformation(lambda params: (), update)
    tx = gradtx.only(gradtx.chain(foreign), {"w": True, "b": False})
    run_all(*opened(tx))
    ((updates, params),) = seen
    assert updates["b"] == [None] and params["b"] == [None]
    assert updates["w"].shape == params["w"].shape == (2, 3)


def test_a_foreign_member_gets_the_dtypes_that_it_would_get_in_optax():
    seen = []

    def update(updates, state, params=None):
        seen.append(updates["w"].dtype)
        return updates, state

    foreign = optax.GradientTransformation(lambda params: (), update)
    half = jax.tree.map(lambda x: x.astype("bfloat16"), PARAMS)
    tx = gradtx.chain(gradtx.scale(2.0), foreign, gradtx.scale(2.0))
    run_all(*opened(tx, half, half))
    assert seen == [jnp.bfloat16]


def test_a_tree_rule_that_waits_is_run_and_told_that_it_is_skipped():
    seen = []

    @gradtx.transformation
    def waiting(waits: bool):
        def update(updates, slots, tree):
            seen.append(bool(tree.is_skipped))
            return updates, slots

        return gradtx.TreeRule(update, waits=waits)

    run_all(*opened(waiting(True), is_due=jnp.asarray(False)))
    run_all(*opened(waiting(True), is_due=jnp.asarray(True)))
    assert seen == [True, False]


def test_the_extra_arguments_behind_a_mask_are_masked_where_that_is_asked_for():
    seen = []

    def update(updates, state, params=None, *, other=None, **rest):
        seen.append(other)
        return updates, state

    foreign = optax.GradientTransformationExtraArgs(lambda params: (), update)
    mask = {"w": True, "b": False}
    for split in (True, False):
        tx = gradtx.masked(foreign, mask, mask_compatible_extra_args=split)
        tx.update(GRADS, tx.init(PARAMS), PARAMS, other=PARAMS)
    assert seen[0]["b"] == [None] and seen[1]["b"] is PARAMS["b"]


def test_a_tree_rule_that_forgets_a_slot_is_told_which():
    @gradtx.transformation
    def forgetful():
        slots = {"kept": lambda params: jnp.zeros(())}
        return gradtx.TreeRule(lambda updates, slots, tree: (updates, {}), slots)

    tx, params = forgetful(), {"w": jnp.ones(2)}
    message = r"forgetful: keeps \['kept'\], but its update returned \[\]"
    with pytest.raises(ValueError, match=message):
        tx.update(params, tx.init(params), params)
