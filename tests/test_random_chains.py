import hypothesis
import hypothesis.strategies as st
import jax
import pytest

import gradtx
from tests import random_chains
from tests.random_chains import Node

few = hypothesis.settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=random_chains.MAY_BE_SLOW,
)


@few
@hypothesis.given(**random_chains.EXAMPLES)
def test_a_random_transformation_is_optaxs_in_numbers_and_on_every_way_in_and_out(
    node, shapes, seed
):
    """A few of those that `python -m tests.random_chains 60` tries for an hour."""
    with jax.enable_x64(True):
        random_chains.check(node, shapes, seed)


@pytest.mark.parametrize("kind", ["setting", "masked", "flatten"])
def test_a_transformation_that_is_off_by_a_millionth_is_found(monkeypatch, kind):
    def off(library):
        return library.sgd(0.1 + 1e-7 * (library is gradtx))

    monkeypatch.setitem(random_chains.STEPPING, "off", off)
    inside = Node("setting", ("off",))
    nodes = {
        "masked": Node("masked", (inside, 1)),
        "flatten": Node("flatten", (inside,)),
    }

    @few
    @hypothesis.given(st.just(nodes.get(kind, inside)))
    def check(node):
        random_chains.check(node, {"a": (3,)}, 0)

    with jax.enable_x64(True), pytest.raises(AssertionError, match="tolerance"):
        check()
