"""A state restores into its own transformation as it is."""

import itertools

import jax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.core.arguments import MemberRole
from tests import registry
from tests.interop.test_checkpoints import equal
from tests.settings import LINE


def numbered(state):
    """The state with another number in each leaf."""
    leaves, treedef = jax.tree.flatten(state)
    pairs = enumerate(leaves, start=1)
    return treedef.unflatten([jnp.full(x.shape, i).astype(x.dtype) for i, x in pairs])


def is_itself(tx, params):
    state = numbered(tx.init(params))
    restored = gradtx.restore(tx, params, state)
    equal(restored.state, state)
    assert not (restored.renamed or restored.new or restored.dropped)


LAYERS = {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}
SPLIT = {"w": jnp.ones((4, 3), "complex64"), "b": jnp.ones(3)}


@pytest.mark.parametrize("name", registry.TRANSFORMATIONS)
def test_a_state_restores_into_its_own_transformation_as_it_is(name):
    tx = registry.TRANSFORMATIONS[name]()
    is_itself(tx, LAYERS)
    if name not in registry.REAL_ONLY:
        is_itself(tx, SPLIT)


def around(factory, tx):
    """What a factory makes around a transformation."""
    given = zip(factory.signature.parameters, factory.roles, strict=True)
    members = [name for name, role in given if isinstance(role, MemberRole)]
    return registry.example(factory).replace(**dict.fromkeys(members, tx))


WHOLE = {
    "sgd": lambda: gradtx.sgd(LINE),
    "flatten": lambda: gradtx.flatten(gradtx.sgd(LINE)),
    "flatten adam": lambda: gradtx.flatten(gradtx.adam(0.1)),
    "accumulate": lambda: gradtx.accumulate(gradtx.adam(0.1), 2),
}
OUTER = (
    "accumulate", "accumulate_with_noise_scale", "editable", "flatten", "loss_scale",
    "skip", "split_real_and_imaginary",
)  # fmt: skip


@pytest.mark.parametrize("name", OUTER)
def test_a_state_restores_as_it_is_in_any_nest(name):
    """Every wrapper's own count is its own, also of one that keeps nothing else."""
    made = registry.factories()
    for middle, inner in itertools.product((*OUTER, "named", "lookahead"), WHOLE):
        if name == middle == "editable":
            continue  # refused
        tx = around(made[middle], WHOLE[inner]())
        is_itself(around(made[name], tx), LAYERS)
