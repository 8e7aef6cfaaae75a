import types

import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.core.nodes import Chain, Fork, Groups, Let, Masked, Named, Recall
from gradtx.core.rule import Rule
from tests.probes import empty_leaf

SCALE = gradtx.scale(2.0)


def written(tx):
    """What a factory returned."""
    return tx.bound.call()


@pytest.mark.parametrize(
    ("tx", "kind"),
    [
        (gradtx.chain(SCALE), Chain),
        (gradtx.moments(SCALE), Chain),
        (gradtx.add(SCALE, SCALE), Fork),
        (gradtx.let("x", SCALE, gradtx.recall("x")), Let),
        (gradtx.recall("x"), Recall),
        (gradtx.only(SCALE, True), Masked),
        (gradtx.groups({"**": SCALE}), Groups),
        (gradtx.named("x", SCALE), Named),
        (SCALE, Rule),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_each_connective_is_written_as_its_node(tx, kind):
    assert type(written(tx)) is kind


def test_a_scope_is_a_chain_whose_members_see_what_entered():
    assert written(gradtx.moments(SCALE)).is_scope
    assert not written(gradtx.chain(SCALE)).is_scope


def test_nodes_that_keep_nothing_have_what_the_engine_asks_for():
    join = lambda u, outs, leaf: u  # noqa: E731
    for node in (Fork((), join), Recall("x")):
        assert dict(node.slots) == dict(node.shared) == dict(node.inner) == {}
        assert node.measure is None and node.needs == () and node.key is None
        assert not node.freezes and not node.takes_batch and node.period is None
    assert Recall("x").takes_integers and not Fork((), join).takes_integers


def test_what_all_nodes_share_cannot_be_changed():
    with pytest.raises(TypeError):
        Recall("x").slots["y"] = np.zeros  # pyright: ignore
    assert isinstance(Recall("x").slots, types.MappingProxyType)


def test_what_is_recalled_comes_out_in_the_place_of_the_update():
    leaf = empty_leaf(owner="recall", marks={"x": 5.0})
    slots = {"kept": jnp.ones(2)}
    assert Recall("x").update(1.0, slots, leaf) == (5.0, slots)
    with pytest.raises(
        ValueError, match="recall: expected a let of 'y' around it, got none"
    ):
        Recall("y").update(1.0, slots, leaf)
