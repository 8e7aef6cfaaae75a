import pickle
from typing import Any

import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.lower import program_of
from gradtx.core.arguments import MemberRole
from gradtx.core.context import Private
from tests import registry
from tests.oracles.adabelief import belief_by_the_paper
from tests.oracles.averages import trace_by_the_paper
from tests.oracles.runs import REAL, assert_equals_paper, steps_of, updates_of

GRADS = [jnp.asarray(g, "float32") for g in REAL[:5]]


def test_what_is_let_is_recalled_and_the_body_gets_what_the_whole_gets():
    body = gradtx.add(gradtx.identity(), gradtx.recall("double"), weights=(1.0, -1.0))
    tx = gradtx.chain(gradtx.scale(3.0), gradtx.let("double", gradtx.scale(2.0), body))
    for g, u in zip(GRADS, updates_of(tx, GRADS), strict=True):
        np.testing.assert_allclose(u, 3 * g - 6 * g, rtol=1e-6)


def test_what_is_let_is_computed_and_kept_once():
    twice = gradtx.add(gradtx.recall("m"), gradtx.recall("m"))
    tx = gradtx.let("m", gradtx.trace(0.9), twice)
    plain = gradtx.chain(gradtx.trace(0.9), gradtx.scale(2.0))
    runs = [steps_of(it, GRADS) for it in (tx, plain)]
    for (one, state), (other, its) in zip(*runs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
        assert state.keys() == {"count", "trace"}
        np.testing.assert_array_equal(state["trace"], its["trace"])


def test_what_is_let_but_not_recalled_is_kept_nevertheless():
    tx = gradtx.let("m", gradtx.trace(0.9), gradtx.identity())
    traces = trace_by_the_paper(REAL[:5], 0.9)
    for g, (u, state), kept in zip(GRADS, steps_of(tx, GRADS), traces, strict=True):
        np.testing.assert_array_equal(u, g)
        np.testing.assert_allclose(state["trace"], kept, rtol=1e-5)


def test_the_inner_of_two_equal_names_is_recalled():
    inner = gradtx.let("m", gradtx.scale(3.0), gradtx.recall("m"))
    body = gradtx.add(inner, gradtx.recall("m"))
    tx = gradtx.let("m", gradtx.scale(2.0), body)
    for g, u in zip(GRADS, updates_of(tx, GRADS), strict=True):
        np.testing.assert_allclose(u, 5 * g, rtol=1e-6)


def test_a_value_may_recall_what_was_let_outside():
    value = gradtx.chain(gradtx.recall("a"), gradtx.scale(3.0))
    tx = gradtx.let("a", gradtx.scale(2.0), gradtx.let("b", value, gradtx.recall("b")))
    for g, u in zip(GRADS, updates_of(tx, GRADS), strict=True):
        np.testing.assert_allclose(u, 6 * g, rtol=1e-6)


def test_estimators_recall_and_see_the_gradient_of_the_scope():
    """AdaBelief in its parts: one average flows and is measured against."""
    surprise = gradtx.chain(
        gradtx.add(gradtx.identity(), gradtx.recall("mu"), weights=(1.0, -1.0)),
        gradtx.second_moment(0.9),
    )
    body = gradtx.chain(
        gradtx.recall("mu"),
        gradtx.bias_correction(0.8),
        gradtx.divide_by_root(surprise, 1e-3),
    )
    tx = gradtx.moments(gradtx.let("mu", gradtx.scale_by_ema(0.8, "mu"), body))

    def paper(grads, params):
        return belief_by_the_paper(grads, 0.8, 0.9, 1e-3, 0.0)

    assert_equals_paper(tx, paper)
    assert_equals_paper(tx, paper, is_complex=True)


def test_masked_leaves_are_not_let():
    body = gradtx.let("m", gradtx.trace(0.9), gradtx.recall("m"))
    tx: Any = gradtx.only(body, {"a": True, "b": False})
    grads = {"a": jnp.ones(2), "b": jnp.ones(3)}
    for (updates, state), expected in zip(
        steps_of(tx, [grads, grads]), (1, 1.9), strict=True
    ):
        np.testing.assert_allclose(updates["a"], expected)
        np.testing.assert_array_equal(updates["b"], 1)
        assert state["trace"]["b"] is None


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.recall("m"),
        gradtx.let("k", gradtx.scale(2.0), gradtx.recall("m")),
        gradtx.let("m", gradtx.recall("m"), gradtx.identity()),
        gradtx.chain(
            gradtx.let("m", gradtx.scale(2.0), gradtx.identity()), gradtx.recall("m")
        ),
    ],
    ids=["alone", "another name", "its own value", "after the body"],
)
def test_a_name_that_nothing_lets_raises(tx):
    for call in (lambda: tx.init(GRADS[0]), lambda: tx.update(GRADS[0], {"count": 0})):
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value) == "recall: expected a let of 'm' around it, got none"


@pytest.mark.parametrize("name", ["grad", "flowing"])
def test_names_that_mean_something_already_raise(name):
    with pytest.raises(ValueError) as caught:
        gradtx.let(name, gradtx.scale(2.0), gradtx.identity())
    assert str(caught.value) == (
        f"let: name must be neither 'grad' nor 'flowing', got {name!r}"
    )


def names_that_recipes_let():
    """Every name that the recipe of a public transformation lets."""
    names = set()
    for label, make in registry.TRANSFORMATIONS.items():
        tx: Any = make()
        for op in program_of(tx.bound, jnp.zeros([], jnp.int32)).ops:
            if label != "let":  # whose example has a name of its own
                names |= {str(name) for name, _ in op.marks}
    return sorted(names - {"grad", "flowing", "entered"})


def members_of_factories():
    """Each factory and each of its arguments that is a single transformation."""
    for name, factory in registry.factories().items():
        pairs = zip(factory.signature.parameters.items(), factory.roles, strict=True)
        for (argument, parameter), role in pairs:
            is_variadic = parameter.kind is parameter.VAR_POSITIONAL
            is_one = isinstance(role, MemberRole) and "transforms" not in argument
            if is_one and not is_variadic and name not in registry.PARTS:
                yield name, argument


def outcome(factory, argument, name):
    """What a transformation makes, in a `let`, of a member that recalls the name."""
    case: Any = registry.CASES.get(factory.name, {})
    params = {"w": jnp.arange(1.0, 10.0).reshape(3, 3)}
    try:
        inside = registry.example(factory).replace(**{argument: gradtx.recall(name)})
        tx = gradtx.let(name, gradtx.scale(10.0), inside)
        grads = {"w": jnp.sin(params["w"])}
        extra = case["extra"](params, grads) if "extra" in case else {}
        return tx.update(grads, tx.init(params), params, **extra)[0]["w"]
    except ValueError as error:
        return str(error).replace(name, "NAME")


@pytest.mark.parametrize(("name", "argument"), [*members_of_factories()])
def test_names_that_recipes_let_are_not_seen_by_their_members(name, argument):
    factory = registry.factories()[name]
    expected = outcome(factory, argument, "a name of nobody")
    for let in NAMES:
        np.testing.assert_array_equal(outcome(factory, argument, let), expected)


NAMES = names_that_recipes_let()


def test_there_are_names_that_recipes_let():
    assert {"unclipped", "gradient", "projector", "mu", "average"} <= {*NAMES}


def test_what_is_expanded_keeps_its_names_to_itself():
    tx = gradtx.let(
        "unclipped", gradtx.scale(10.0), gradtx.clipping(gradtx.recall("unclipped"))
    )
    for same in (tx, tx.expand(), pickle.loads(pickle.dumps(tx.expand()))):
        updates, state = same.update(GRADS[0], same.init(GRADS[0]))
        np.testing.assert_array_equal(updates, 10 * GRADS[0])
        assert gradtx.metrics(state)["clipped_share"] == 1
    private = gradtx.let(Private("m"), gradtx.scale(2.0), gradtx.recall(Private("m")))
    assert gradtx.from_config(gradtx.to_config(private)) == private
    assert private != gradtx.let("m", gradtx.scale(2.0), gradtx.recall("m"))
