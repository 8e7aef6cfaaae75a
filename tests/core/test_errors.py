import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.core.errors import (
    did_you_mean,
    dtype_and_shape,
    first_few,
    hint_for,
    set_difference,
    short_repr,
)


def test_the_first_few_names_are_listed():
    assert first_few(["a", "b"]) == "'a', 'b'"
    assert first_few([*"abcdefg"]) == "'a', 'b', 'c', 'd', 'e' and 2 more"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["a", "b"], ""),
        (["a"], "missing: 'b'"),
        (["a", "b", "c"], "unexpected: 'c'"),
        ([], "missing: 'a', 'b'"),
        (["b", "c"], "missing: 'a'; unexpected: 'c'"),
    ],
)
def test_names_that_differ_are_named(given, words):
    assert set_difference(given, ["a", "b"]) == words


def test_a_near_miss_is_suggested():
    assert did_you_mean("adamv", ["sgd", "adamw"]) == "; did you mean 'adamw'?"
    assert did_you_mean("muon", ["sgd", "adamw"]) == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "3"),
        ("word", "'word'"),
        ({"w": 1}, "{'w': 1}"),
        (dict.fromkeys(range(99)), "a dict of 99"),
        ([*range(99)], "a list of 99"),
        (np.ones((2, 3)), "an array float64[2, 3]"),
        (jnp.ones((3, 3), "bfloat16"), "an array bfloat16[3, 3]"),
        (jax.random.key(0), "an array key<fry>[]"),
        ({"x" * 99: 1}.keys(), "dict_keys"),
    ],
)
def test_a_value_is_told_in_a_few_words(value, words):
    assert short_repr(value) == words


def test_an_array_is_told_by_dtype_and_shape():
    assert dtype_and_shape(jax.ShapeDtypeStruct((2, 3), jnp.float16)) == "float16[2, 3]"


def test_what_is_nearly_a_transformation_is_told_how_to_be_one():
    tx = gradtx.sgd(0.1)
    assert hint_for(gradtx.sgd) == "; call it to make one"
    assert hint_for([tx]) == hint_for((tx, tx)) == "; give them one by one"
    assert hint_for(3) == ""
