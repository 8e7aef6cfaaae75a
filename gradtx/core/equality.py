"""Equality and hashes of the arguments of transformations.

Mappings of all types are equal containers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from gradtx.core.internals import Tracer
from gradtx.core.numbers import DecayValue


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | jax.Array)


def same(a: Any, b: Any) -> bool:
    """Whether two leaves are interchangeable, by type and value.

    Arrays compare by dtype, shape and bytes, tracers by identity, floats so that NaN
    equals itself and -0.0 is not 0.0, a partial function by its parts, other objects by
    `==` where that gives a bool.
    """
    if a is b:
        return True
    if isinstance(a, Tracer) or isinstance(b, Tracer):
        return False
    if isinstance(a, DecayValue) and isinstance(b, DecayValue):
        return same(a.value, b.value)
    if _is_array(a) and _is_array(b):
        a, b = np.asarray(a), np.asarray(b)
        alike = a.dtype == b.dtype and a.shape == b.shape
        return alike and a.tobytes() == b.tobytes()
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return a.hex() == b.hex()
    if isinstance(a, functools.partial):
        mine, theirs = _parts(a), _parts(b)
        return len(mine) == len(theirs) and all(map(same, mine, theirs))
    try:
        return (a == b) is True
    except Exception:  # an object whose comparison fails is equal only to itself
        return False


def _parts(function: functools.partial) -> tuple[Any, ...]:
    """The function and arguments of a partial function."""
    keywords = (x for pair in sorted(function.keywords.items()) for x in pair)
    return function.func, *function.args, *keywords


def hash_of(leaf: Any) -> int:
    """A hash consistent with `same`, which never reads the values of an array."""
    if isinstance(leaf, DecayValue):
        leaf = leaf.value
    if isinstance(leaf, functools.partial):
        return hash(tuple(map(hash_of, _parts(leaf))))
    if hasattr(leaf, "dtype") and hasattr(leaf, "shape"):
        return hash((str(leaf.dtype), leaf.shape))
    try:
        return hash(leaf.hex() if isinstance(leaf, float) else leaf)
    except TypeError:
        return hash(type(leaf))


def with_dicts(value: Any) -> Any:
    """Convert mappings of other types, which JAX treats as leaves, to dicts."""
    if isinstance(value, tuple) and any(isinstance(x, Mapping) for x in value):
        return tuple(map(with_dicts, value))
    return dict(value) if isinstance(value, Mapping) else value
