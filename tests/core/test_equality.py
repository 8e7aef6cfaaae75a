import functools
import types
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from gradtx.core.equality import hash_of, same, with_dicts
from gradtx.core.numbers import DecayValue

partial: Any = functools.partial
EACH, OTHER = lambda x: x, lambda x: x


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        (1.0, 1.0, True),
        (0.0, -0.0, False),
        (float("nan"), float("nan"), True),
        (1, 1.0, False),
        (True, 1, False),
        ("a", "a", True),
        (np.ones(2), np.ones(2), True),
        (np.ones(2), jnp.ones(2, "float32"), False),
        (np.ones(2, "float32"), jnp.ones(2, "float32"), True),
        (np.ones(2), np.ones((1, 2)), False),
        (np.zeros(2), -np.zeros(2), False),
        (np.array([np.nan]), np.array([np.nan]), True),
        (DecayValue.of(0.9), DecayValue.of(0.9), True),
        (DecayValue.of(0.9), DecayValue.of(0.8), False),
        (partial(max, 1.0), partial(max, 1.0), True),
        (partial(max, 1.0), partial(max, 2.0), False),
        (partial(max, 1.0), partial(min, 1.0), False),
        (partial(max, key=abs), partial(max, key=abs), True),
        (partial(max, key=abs), partial(max, key=len), False),
        (EACH, OTHER, False),
        (EACH, EACH, True),
    ],
)
def test_leaves_are_the_same_by_type_and_value(one, other, are_same):
    assert same(one, other) is are_same
    assert same(other, one) is are_same
    if are_same:
        assert hash_of(one) == hash_of(other)


def test_a_tracer_is_the_same_as_itself_only():
    found = []

    @jax.jit
    def compare(x, y):
        found.extend([same(x, x), same(x, y), same(x, 1.0), same(x, x + 0)])
        return x

    compare(1.0, 1.0)
    assert found == [True, False, False, False]


def test_an_object_whose_comparison_fails_is_the_same_as_itself_only():
    class Odd:
        def __eq__(self, other):
            raise RuntimeError

        __hash__ = None  # pyright: ignore

    odd = Odd()
    assert same(odd, odd) and not same(odd, Odd())
    assert hash_of(odd) == hash_of(Odd())


def test_an_object_that_compares_to_no_bool_is_the_same_as_itself_only():
    class Vague:
        def __eq__(self, other) -> Any:
            return np.array([True, True])

        __hash__ = object.__hash__

    assert not same(Vague(), Vague())


def test_the_hash_of_an_array_does_not_fetch_it():
    @jax.jit
    def hashed(x):
        assert hash_of(x) == hash_of(np.ones((2, 3), "float32"))
        return x

    hashed(jnp.zeros((2, 3)))


def test_mappings_of_all_kinds_are_dicts():
    proxy = types.MappingProxyType({"a": 1})
    assert type(with_dicts(proxy)) is dict
    assert with_dicts((proxy, {"b": 2})) == ({"a": 1}, {"b": 2})
    assert type(with_dicts((proxy,))[0]) is dict
    assert with_dicts((1, 2)) == (1, 2) and with_dicts(3) == 3
