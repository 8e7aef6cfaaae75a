from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from gradtx.core import trees

ONE: Any = {"w": jnp.ones(2), "b": None}
TWO: Any = {"w": jnp.full(2, 2.0), "b": jnp.full(3, 3.0)}


def test_a_function_is_told_of_none():
    seen = trees.map_with_none(lambda a, b: (a is None, b is None), ONE, TWO)
    assert seen == {"w": (False, False), "b": (True, False)}


@pytest.mark.parametrize("is_chosen", [True, False])
def test_where_one_tree_has_none_it_is_what_the_other_has(is_chosen):
    for chosen, other in ((ONE, TWO), (TWO, ONE)):
        mixed = trees.where(is_chosen, chosen, other)
        np.testing.assert_array_equal(mixed["b"], 3)
        np.testing.assert_array_equal(mixed["w"], (chosen if is_chosen else other)["w"])
    assert trees.where(is_chosen, ONE, ONE)["b"] is None


def test_zeros_are_alike_and_wide_zeros_are_single_at_least():
    tree = {"h": jnp.ones(2, "bfloat16"), "z": jnp.ones(2, "complex64"), "s": 1.0}
    plain, wide = trees.zeros(tree), trees.wide_zeros(tree)
    assert [plain["h"].dtype, wide["h"].dtype] == ["bfloat16", "float32"]
    assert [plain["z"].dtype, wide["z"].dtype] == ["complex64", "complex64"]
    assert wide["s"].dtype == "float32" and wide["s"].shape == ()
    assert not any(leaf.any() for leaf in jax.tree.leaves((plain, wide)))


def test_a_tree_like_another_has_its_dtypes_and_its_places_of_none():
    old: Any = {"a": jnp.zeros(2, "bfloat16"), "b": None, "c": jnp.full(2, 7.0)}
    new: Any = {"a": jnp.ones(2), "b": jnp.ones(2), "c": None}
    made = trees.like(new, old)
    assert made["a"].dtype == "bfloat16" and made["a"][0] == 1
    assert made["b"] is None
    np.testing.assert_array_equal(made["c"], 7)
    same = jnp.ones(2)
    assert trees.like(same, jnp.zeros(2)) is same


def test_a_count_begins_at_the_zero_of_an_int32():
    count = trees.zero_count(TWO)
    assert count == 0 and count.dtype == "int32" and count.shape == ()
