import chex
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx

PARAMS = {"a": jnp.ones(2), "b": jnp.ones(2)}
GRADS = {"a": jnp.ones(2), "b": jnp.full(2, 2.0)}
BEFORE = gradtx.partition(
    {"one": gradtx.adam(0.1), "two": gradtx.adam(0.1)}, {"a": "one", "b": "two"}
)
AFTER = gradtx.partition(
    {"left": gradtx.adam(0.1), "right": gradtx.adam(0.1)}, {"a": "right", "b": "left"}
)
TOLD = {
    "right.mu": "one.mu",
    "right.nu": "one.nu",
    "left.mu": "two.mu",
    "left.nu": "two.nu",
}


def saved(tx=BEFORE):
    return tx.update(GRADS, tx.init(PARAMS), PARAMS)[1]


def test_keys_that_are_told_are_not_guessed():
    restored = gradtx.restore(AFTER, PARAMS, saved(), renamed=TOLD)
    assert restored.renamed == TOLD and restored.new == restored.dropped == []
    for new, old in TOLD.items():
        chex.assert_trees_all_equal(restored.state[new], saved()[old])


def test_what_is_told_may_be_a_path_into_the_state_of_a_wrapper():
    wrapped = gradtx.skip(AFTER)
    told = {f"inner/{new}": old for new, old in TOLD.items()}
    restored = gradtx.restore(wrapped, PARAMS, saved(), renamed=told, new=True)
    np.testing.assert_array_equal(
        restored.state["inner"]["left.mu"]["b"], saved()["two.mu"]["b"]
    )
    assert int(restored.state["inner"]["count"]) == 1


def test_what_restore_says_that_it_renamed_can_be_told_to_it():
    once = gradtx.restore(gradtx.skip(BEFORE), PARAMS, saved(), new=True)
    again = gradtx.restore(
        gradtx.skip(BEFORE), PARAMS, saved(), new=True, renamed=once.renamed
    )
    assert again.renamed == once.renamed
    chex.assert_trees_all_equal(again.state, once.state)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            {"rihgt.mu": "one.mu"},
            "the state has no 'rihgt.mu'; did you mean 'right.mu'",
        ),
        ({"right.mu": "three.mu"}, "nothing was saved as 'three.mu'"),
        ({"right.mu": "two.mu"}, "'two.mu' for 'right.mu': missing: '/a'; unexpected"),
    ],
)
def test_a_name_that_is_unknown_is_an_error(told, message):
    with pytest.raises(ValueError, match=f"restore: renamed: {message}"):
        gradtx.restore(AFTER, PARAMS, saved(), renamed=told)
