"""What the tests of the engine watch it with."""

import types

from jax import numpy as jnp

from gradtx import Leaf, memoryless, transformation

PARAMS = {"w": jnp.full((2, 3), 2.0), "b": [jnp.ones(3)]}
GRADS = {"w": jnp.full((2, 3), 0.5), "b": [jnp.array([1.0, -2.0, 0.25])]}


@transformation
def traced_probe(log: types.SimpleNamespace):
    """Changes nothing; logs each trace of its rule as (shape, dtype)."""

    def update(u, leaf):
        log.traces.append((u.shape, u.dtype.name))
        log.leaf = leaf
        return u

    return memoryless(update)


def empty_leaf(**given):
    """What a rule looks at, with nothing in it but what is given."""
    empty = {"grad": 0.0, "flowing": 0.0, "marks": {}, "clock": None, "total": None}
    empty |= {"shared": {}, "before": {}, "key": None, "extra": {}, "static": None}
    return Leaf(**{"owner": "probe", "array": None} | empty | given)


def new_log():
    return types.SimpleNamespace(traces=[], leaf=None)


@transformation
def scale_by_value():
    return memoryless(lambda u, leaf: leaf.extra["value"] * u, needs=("value",))
