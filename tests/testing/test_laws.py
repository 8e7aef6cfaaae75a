import math

import jax
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import testing
from gradtx.core.arguments import NumberRole
from tests import equality
from tests.registry import (
    CASES,
    EXAMPLES,
    PARTS,
    REAL_ONLY,
    TRANSFORMATIONS,
    WITHOUT_DERIVATIVE,
    factories,
)

DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64"]
DTYPES_OF = {
    "updates look like parameters": DTYPES,
    "state keeps its looks": DTYPES,
    "jit equals eager": ["float16", "float32", "float64", "complex64"],
    "zero gradients are fine": DTYPES,
    # Computed in float32 and given in the least range: finite there is finite in both.
    "derivatives are finite": ["float16"],
}


def parameters(dtype):
    return {"w": jnp.full((2, 3), 0.5, dtype), "b": [jnp.ones((), dtype)]}


def cases():
    for name in TRANSFORMATIONS:
        for law in testing.LAWS:
            for dtype in DTYPES_OF.get(law, ["float32"]):
                is_refused = dtype == "complex64" and name in REAL_ONLY
                has_none = (
                    law == "derivatives are finite" and name in WITHOUT_DERIVATIVE
                )
                if not (is_refused or has_none):
                    yield name, law, dtype


@pytest.mark.parametrize(
    ("name", "law", "dtype"),
    # One worker tries all laws on a transformation: it has the kernels already.
    [pytest.param(*case, marks=pytest.mark.xdist_group(case[0])) for case in cases()],
)
def test_a_transformation_keeps_the_law(name, law, dtype):
    with jax.enable_x64(dtype == "float64"):
        case = testing.Case(parameters(dtype), **CASES.get(name, {}))
        testing.LAWS[law](TRANSFORMATIONS[name](), case)


@pytest.mark.parametrize("name", factories())
def test_the_registry_knows_an_example_of_every_required_argument(name):
    parameters = factories()[name].signature.parameters.values()
    required = {
        p.name
        for p in parameters
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    }
    assert all(f"{name}.{it}" in EXAMPLES or it in EXAMPLES for it in required)


def ranged_numbers():
    """Every number with a range, and a value outside of it."""
    for name, factory in factories().items():
        if name in PARTS:
            continue
        parameters = factory.signature.parameters
        for argument, role in zip(parameters, factory.roles, strict=True):
            if isinstance(role, NumberRole) and role.low > -math.inf:
                outside = [role.low if role.is_open else role.low - 0.5]
                outside += [role.high, role.high + 0.5] if role.is_decay else []
                for value in outside:
                    yield name, argument, role.words, float(value)


@pytest.mark.parametrize(("name", "argument", "words", "value"), [*ranged_numbers()])
def test_a_number_out_of_its_range_is_named(name, argument, words, value):
    tx = TRANSFORMATIONS[name]()
    for bad in (value, math.nan):
        given = tx.arguments[argument]
        if isinstance(given, tuple):
            given = tuple(x if isinstance(x, str) else bad for x in given)
        else:
            given = bad
        with pytest.raises(ValueError) as raised:
            tx.replace(**{argument: given})
        assert str(raised.value) == f"{name}: {argument} must be {words}, got {bad}"


@pytest.mark.parametrize("name", REAL_ONLY)
def test_a_transformation_of_reals_refuses_complex_updates(name):
    tx, params = TRANSFORMATIONS[name](), parameters("complex64")
    with pytest.raises((TypeError, ValueError)):
        tx.update(params, tx.init(params), params)


def test_check_names_the_broken_law_and_the_transformation():
    @gradtx.transformation
    def forgetful():
        def update(u, slots, leaf):
            return u / jnp.abs(u), slots

        return gradtx.Rule(update)

    message = r"forgetful\(\) breaks 3 of 18 laws:\n  'zero gradients are fine', 'der"
    with pytest.raises(AssertionError, match=message):
        testing.check(forgetful(), parameters("float32"))


def test_check_finds_a_step_that_no_rule_declares():
    @gradtx.transformation
    def undeclared(size: gradtx.Scalar):
        return gradtx.memoryless(lambda u, leaf: -size * u)

    found = testing.broken(undeclared(0.1), parameters("float32"))
    assert {*found} == {"steps are declared", "pickling gives an equal"}  # it is local
    assert "no rule in it has is_step=True" in str(found["steps are declared"])


def test_check_tells_one_mistake_once():
    with pytest.raises(AssertionError) as raised:
        testing.check(gradtx.adam(0.1), extra=lambda params, grads: {"valu": 1.0})
    first, most, masked = str(raised.value).splitlines()
    assert first.endswith("breaks 15 of 18 laws:") and most.count("TypeError") == 1
    assert masked.startswith("  'masked leaves are untouched': TypeError: only: unexp")


@pytest.mark.parametrize(
    ("make", "dtype", "laws"),
    [
        (lambda: optax.adam(0.1), "float32", {"derivatives are finite"}),
        (
            lambda: optax.adam(0.1),
            "float16",
            {"zero gradients are fine", "derivatives are finite"},
        ),
        (lambda: optax.sgd(0.1), "float32", set()),
        (lambda: optax.contrib.cocob(), "float32", {"donation works"}),
        (
            lambda: optax.contrib.prodigy(),
            "float32",
            {"donation works", "zero gradients are fine", "derivatives are finite"},
        ),
        (lambda: optax.adagrad(0.1), "float32", set()),
    ],
)
def test_the_laws_find_what_is_known_of_optax(make, dtype, laws):
    """Half-precision zeros, buffers in a state twice, derivatives at zero."""
    params = {"w": jnp.ones((3, 2), dtype), "b": jnp.ones(2, dtype)}
    with equality.as_optax_needs():
        found = {*testing.broken(make(), params)}
    assert found == laws


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.groups({"w": gradtx.adam(0.1), "b": gradtx.sgd(0.1)}),
        gradtx.adamw(0.1, mask={"w": True, "b": False}),
        gradtx.accumulate(
            gradtx.groups({"w": gradtx.sgd(0.1), "b": gradtx.frozen()}), 2
        ),
    ],
)
def test_what_is_made_for_one_tree_is_tried_on_that(tx):
    testing.check(tx)


def test_a_state_that_holds_no_array_is_named():
    def update(updates, state, params=None):
        return updates, state + 1

    tx = optax.GradientTransformation(lambda params: 0, update)
    assert str(testing.broken(tx)["state keeps its looks"]) == "0 is no array"
