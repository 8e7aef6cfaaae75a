import functools
import operator

import jax
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import compiled, registry
from tests.introspect.test_describe import PARAMS


def nbytes(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "name", sorted({*registry.factories()} - {"recall", "scale_by_muon"})
)
def test_memory_is_that_of_the_state_to_the_byte(name):
    tx = registry.example(registry.factories()[name])
    params = {"w": jnp.ones((4, 3)), "b": jnp.ones(3, "bfloat16")}
    state, told = tx.init(params), gradtx.memory(tx, params)
    for key, number in told.slots.items():  # `inner/mu` of a wrapper
        path = [key] if key in state else key.split("/")
        assert number == nbytes(functools.reduce(operator.getitem, path, state))
    assert told.total == nbytes(state) == sum(told.slots.values())
    assert told.temporary is None
    assert gradtx.memory(tx, jax.eval_shape(lambda: params)) == told


def test_memory_of_a_foreign_state_and_of_the_compiled_update():
    assert gradtx.memory(optax.adam(0.1), PARAMS).slots == {
        "state": nbytes(optax.adam(0.1).init(PARAMS))
    }
    told = gradtx.memory(gradtx.adam(0.1), PARAMS, compiled=True)
    update = jax.jit(gradtx.adam(0.1).update, donate_argnums=(0, 1))
    shapes = jax.eval_shape(lambda: PARAMS)
    state = jax.eval_shape(gradtx.adam(0.1).init, shapes)
    program = update.lower(shapes, state, shapes).compile()
    assert told.temporary == compiled.temporary_bytes(program)


def test_memory_of_a_compiled_update_takes_functions_as_arguments():
    tx, grads = gradtx.lbfgs(), PARAMS
    value_fn = lambda p: sum(jnp.sum(x**2) for x in jax.tree.leaves(p))  # noqa: E731
    told = gradtx.memory(
        tx, PARAMS, compiled=True, value=jnp.ones(()), grad=grads, value_fn=value_fn
    )
    assert told.temporary is not None


@pytest.mark.parametrize("name", registry.TRANSFORMATIONS)
def test_memory_asks_once_for_leaves_that_look_alike(name, monkeypatch):
    """A tree of 70,000 leaves took minutes, of an `eval_shape` a leaf."""
    tx, asked = registry.TRANSFORMATIONS[name](), []
    real = jax.eval_shape

    def counted(*args, **more):
        asked[-1] += 1
        return real(*args, **more)

    monkeypatch.setattr(jax, "eval_shape", counted)
    for n in (2, 40):
        asked.append(0)
        params = {f"{i:02}": jnp.ones((3, 2) if i % 2 else 4) for i in range(n)}
        gradtx.memory(tx, params)
    assert asked[0] == asked[1] < 40
