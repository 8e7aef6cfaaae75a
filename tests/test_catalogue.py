import inspect
import typing

import jax
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.core.arguments import (
    BoolRole,
    NumberRole,
    Role,
    ScheduleRole,
    WordRole,
)
from gradtx.core.call import FactoryValue
from tests import catalogue
from tests.registry import example, factories

MODULES = (optax, optax.contrib, optax.transforms, optax.schedules)


def public(module):
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }


OPTAX = {name: value for module in MODULES for name, value in public(module).items()}
OURS = public(gradtx)
SHARED = sorted(
    name
    for name in OPTAX.keys() & OURS.keys()
    if callable(OPTAX[name]) and not typing.get_origin(OPTAX[name])
)


def words(table):
    """All names of a table of names by reason."""
    return [word for names in table.values() for word in names.split()]


def pairs(table):
    """A table of arguments by reason, as pairs of transformation and argument."""
    return {
        (name, argument)
        for arguments in table.values()
        for argument, names in arguments.items()
        for name in names.split()
    }


def test_every_public_name_of_optax_is_ours_or_listed_with_a_reason():
    listed = [*words(catalogue.NOT_OURS)]
    assert len(listed) == len(set(listed))
    assert sorted(OPTAX.keys() - OURS.keys() - set(listed)) == []


def test_no_name_is_listed_that_optax_has_no_more_or_that_gradtx_has():
    listed = {*words(catalogue.NOT_OURS)}
    assert sorted(listed - OPTAX.keys()) == []
    assert sorted(listed & OURS.keys()) == []


def is_plain(value):
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def shown(parameter):
    """What a caller may rely on: name, kind, and the default where it is plain."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        return "", parameter.kind, None  # nobody sees its name
    default = parameter.default
    if default is jnp.float32:
        default = "float32"
    is_shown = is_plain(default) or default is parameter.empty
    is_bool = isinstance(default, bool)
    return parameter.name, parameter.kind, (default, is_bool) if is_shown else "some"


def signature(function):
    """Its parameters as a caller sees them, by name."""
    parameters = inspect.signature(function).parameters
    return {name: shown(parameter) for name, parameter in parameters.items()}


MORE = pairs(catalogue.MORE_ARGUMENTS)


@pytest.mark.parametrize("name", sorted(set(SHARED) - set(catalogue.OTHER_SIGNATURES)))
def test_a_shared_name_has_the_signature_of_optax(name):
    ours, theirs = signature(OURS[name]), signature(OPTAX[name])
    for argument in {argument for argument in ours if (name, argument) in MORE}:
        more = inspect.signature(OURS[name]).parameters[argument]
        assert more.kind is more.KEYWORD_ONLY and more.default is not more.empty
        del ours[argument]
    assert [*ours.values()] == [*theirs.values()]


def test_no_difference_of_signatures_is_listed_that_is_none():
    for name in catalogue.OTHER_SIGNATURES:
        assert [*signature(OURS[name])] != [*signature(OPTAX[name])]
    for name, argument in MORE:
        assert argument in signature(OURS[name])


@pytest.mark.parametrize("how", ["by position", "by name"])
def test_a_pair_of_functions_is_a_transformation_as_in_optax(how):
    pair = optax.identity()
    for library in (optax, gradtx):
        if how == "by position":
            tx = library.GradientTransformation(*pair)
        else:
            tx = library.GradientTransformation(init=pair.init, update=pair.update)
        assert tx == tuple(pair) and isinstance(tx, optax.GradientTransformation)


REFUSES = pairs(catalogue.REFUSES_SCHEDULES)
SCHEDULES = {
    name: value.factory
    for name, value in OURS.items()
    if hasattr(value, "factory") and name not in factories()
}


def roles(factory):
    """The role of each argument."""
    return dict(zip(factory.signature.parameters, factory.roles, strict=True))


def numbers_of(name, takes_schedule=True):
    """The arguments that are numbers, and that take a schedule or do not.

    Without those whose schedules count otherwise: `tests/wrappers` has them.
    """
    return {
        argument: role
        for argument, role in roles(factories()[name]).items()
        if isinstance(role, NumberRole)
        and role.takes_schedule == takes_schedule
        and not role.keeps_schedule
    }


@pytest.mark.parametrize("name", factories())
def test_every_number_is_annotated(name):
    """Else nothing checks it, and JAX sees a constant in the place of it."""
    tx, mine = example(factories()[name]), roles(factories()[name])
    constants = pairs(catalogue.NO_NUMBERS) | pairs(catalogue.TABLES)
    left_out = {a for factory, a in constants if factory == name}
    for argument, value in tx.arguments.items():
        is_plain = type(mine[argument]) is Role and argument not in left_out
        parts = jax.tree.leaves(value, is_leaf=lambda x: isinstance(x, FactoryValue))
        has_number = any(isinstance(x, float) for x in parts)
        assert not (is_plain and has_number), f"{name}: annotate {argument}"


def test_the_numbers_that_take_no_schedule_are_listed_with_a_reason():
    found = {(name, a) for name in factories() for a in numbers_of(name, False)}
    assert found == REFUSES


@pytest.mark.parametrize(
    ("name", "argument"), sorted(REFUSES | pairs(catalogue.NO_NUMBERS))
)
def test_a_number_that_takes_no_schedule_refuses_one_by_name(name, argument):
    tx = example(factories()[name])
    value = tx.arguments[argument]
    schedule = (value[0], abs) if isinstance(value, tuple) else abs
    with pytest.raises(TypeError) as raised:
        tx.replace(**{argument: schedule})
    assert str(raised.value).startswith(f"{name}: {argument} must be a")


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_numbers_of_a_schedule_take_no_schedule(name):
    some = {
        NumberRole: lambda role: 1.0,
        ScheduleRole: lambda role: (abs,),
        WordRole: lambda role: role.choices[0],
        BoolRole: lambda role: False,
    }
    arguments = roles(SCHEDULES[name])
    given = {argument: some[type(role)](role) for argument, role in arguments.items()}
    for argument, role in arguments.items():
        if isinstance(role, NumberRole):
            with pytest.raises(TypeError) as raised:
                SCHEDULES[name](**given | {argument: abs})
            assert str(raised.value).startswith(f"{name}: {argument} must be a")


def test_the_arguments_that_are_numbers_in_optax_only_are_listed_with_a_reason():
    def is_number(parameter):
        return type(parameter.default) in (int, float)

    found = {
        (name, argument)
        for name, factory in factories().items()
        if name in OPTAX
        for argument, parameter in inspect.signature(OPTAX[name]).parameters.items()
        if is_number(parameter) and not isinstance(roles(factory)[argument], NumberRole)
    }
    assert found == pairs(catalogue.NO_NUMBERS)
