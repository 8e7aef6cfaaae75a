import dataclasses
import typing
from typing import Any

import numpy as np
import pytest

import gradtx
from gradtx.core import annotations
from gradtx.core.arguments import NumberRole, role_of

LEAST, MOST = -np.inf, np.inf
BELOW_ONE = np.nextafter(1.0, 0.0)
TINY = 5e-324

# Of each the numbers at its ends that it takes, and the nearest that it does not.
RANGES = {
    "Scalar": ((LEAST, MOST), (np.nan,)),
    "Positive": ((TINY, MOST), (0.0,)),
    "NonNegative": ((0.0, MOST), (-TINY,)),
    "NonPositive": ((LEAST, 0.0), (TINY,)),
    "Decay": ((0.0, BELOW_ONE), (-TINY, 1.0)),
    "OpenDecay": ((TINY, BELOW_ONE), (0.0, 1.0)),
    "DecayAtItsOwnCount": ((0.0, BELOW_ONE), (-TINY, 1.0)),
    "Growth": ((1.0, MOST), (BELOW_ONE,)),
    "Ahead": ((LEAST, MOST), (np.nan,)),
    "Length": ((4.0, MOST), (np.nextafter(4.0, 0.0),)),
    "Fraction": ((0.0, 1.0), (-TINY, np.nextafter(1.0, 2.0))),
    "PositiveInt": ((1, 2**40), (0, 1.5)),
    "PositiveIntAtItsOwnCount": ((1, 2**40), (0, 1.5)),
    "Constant": ((LEAST, MOST), (np.nan,)),
    "FirstValue": ((0.0, MOST), (-TINY,)),
    "Count": ((LEAST, MOST), (np.nan,)),
    "Steps": ((0, MOST), (-TINY,)),
    "Duration": ((TINY, MOST), (0.0,)),
}
CONSTANT = {"Constant", "FirstValue", "Count", "Steps", "Duration"}
OLD_NAMES = {"ScalarOrSchedule", "Share", "Every"}
DECAYS = {"Decay", "OpenDecay", "DecayAtItsOwnCount"}


def role(name) -> Any:
    return role_of(vars(annotations)[name])


@pytest.mark.parametrize("name", RANGES)
def test_a_number_is_in_the_range_of_its_annotation(name):
    inside, outside = RANGES[name]
    for value in inside:
        bound = role(name).bind(value, "make", "x")
        assert (bound.value if name in DECAYS else bound) == value
    for value in outside:
        with pytest.raises(ValueError, match="make: x must be "):
            role(name).bind(value, "make", "x")


def test_every_annotation_of_a_number_has_a_range_here():
    numbers = {
        name
        for name, value in vars(annotations).items()
        if typing.get_origin(value) is typing.Annotated
        and isinstance(role_of(value), NumberRole)
    }
    assert numbers - OLD_NAMES == RANGES.keys()


@pytest.mark.parametrize("name", RANGES)
def test_what_only_init_or_a_schedule_reads_takes_no_schedule(name):
    schedule = gradtx.constant_schedule(0.5)
    if name not in CONSTANT:
        assert role(name).bind(schedule, "make", "x") is schedule
        return
    with pytest.raises(TypeError, match="make: x must be a number, not a schedule"):
        role(name).bind(schedule, "make", "x")


@pytest.mark.parametrize("name", sorted(RANGES.keys() - CONSTANT))
def test_what_is_fixed_has_the_same_range_and_takes_no_schedule(name):
    fixed = role_of(annotations.Fixed[vars(annotations)[name]])
    assert fixed == dataclasses.replace(role(name), takes_schedule=False)


def test_only_the_schedule_of_an_own_count_is_kept_for_the_rule():
    kept = [name for name in RANGES if not role(name).is_schedule(abs)]
    assert kept == ["DecayAtItsOwnCount", "PositiveIntAtItsOwnCount"]


def test_only_the_schedule_of_what_looks_ahead_sees_a_later_count():
    ahead = {name: role(name).steps_ahead for name in RANGES}
    assert {name for name, steps in ahead.items() if steps} == {"Ahead"}
    assert ahead["Ahead"] == 1
