"""Optimizers from strings and configs."""

import re
from typing import Any

import pytest

import gradtx
from gradtx import by_name
from gradtx.optimizers import OPTIMIZERS
from tests import registry

anything: Any = gradtx
NAMES = [made.__name__ for made in OPTIMIZERS]


@pytest.fixture
def own(monkeypatch):
    """An optimizer, a schedule and a function that a user registered."""
    monkeypatch.setattr(gradtx.by_name, "REGISTERED", {})

    @gradtx.transformation
    def own_sgd(learning_rate: gradtx.Scalar):
        return gradtx.sgd(learning_rate)

    @gradtx.schedule
    def own_schedule(value: gradtx.Fixed[gradtx.Scalar]):
        return lambda count: value

    def own_mask(params):
        return True

    for made in (own_sgd, own_schedule, own_mask):
        gradtx.by_name.REGISTERED[made.__name__] = made
    return own_sgd


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_found_by_its_name(name):
    made = registry.example(getattr(gradtx, name).factory)
    assert gradtx.optimizer(name, **made.arguments) == made
    assert gradtx.optimizer(gradtx.to_config(made)) == made


def test_arguments_replace_those_of_a_config():
    config = gradtx.to_config(gradtx.adamw(1e-3, b1=0.8))
    assert gradtx.optimizer(config, b1=0.7) == gradtx.adamw(1e-3, b1=0.7)
    schedule = gradtx.cosine_decay_schedule(0.1, 10)
    half: dict[str, Any] = {"type": "sgd"}
    assert gradtx.optimizer(half, learning_rate=schedule) == gradtx.sgd(schedule)
    assert half == {"type": "sgd"}


def test_arguments_of_a_name_are_those_of_the_factory_as_they_are():
    schedule = gradtx.cosine_decay_schedule(0.1, 10)
    mask = {"type": True, "w": False}
    made = gradtx.optimizer("adamw", learning_rate=schedule, mask=mask)
    assert made == gradtx.adamw(schedule, mask=mask)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("adamww", "; did you mean 'adamw'?"),
        ("AdamW", "; did you mean 'adamw'?"),
        ("chain", ";"),
        ("xyz", ";"),
    ],
)
def test_an_unknown_name_suggests_a_near_one_and_says_where_all_are(name, hint):
    message = (
        f"optimizer: unknown name {name!r}{hint} gradtx.list_optimizers() lists the "
        "names"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gradtx.optimizer(name, learning_rate=0.1)


def test_errors_of_arguments_are_those_of_the_factory():
    with pytest.raises(TypeError, match=r"^adamw: unexpected argument 'lr'"):
        gradtx.optimizer("adamw", lr=0.1)
    with pytest.raises(TypeError, match=r"^adamw: missing a required argument"):
        gradtx.optimizer("adamw")
    with pytest.raises(ValueError, match=r"^adam: b1 must be in"):
        gradtx.optimizer("adam", learning_rate=0.1, b1=1.5)


def test_neither_a_name_nor_a_config_of_a_transformation_is_an_error():
    with pytest.raises(
        TypeError, match=r"optimizer: expected a name or a config, got 3"
    ):
        anything.optimizer(3)
    config = gradtx.to_config(gradtx.constant_schedule(0.1))
    message = "optimizer: expected the config of a transformation, got that of constant"
    with pytest.raises(TypeError, match=message):
        gradtx.optimizer(config)


def test_names_are_listed_by_pattern_and_sorted(monkeypatch):
    monkeypatch.setattr(by_name, "REGISTERED", {})  # without those of other tests
    assert gradtx.list_optimizers() == sorted(NAMES)
    assert gradtx.list_optimizers("*sgd") == [
        "asgd", "dpsgd", "noisy_sgd", "polyak_sgd", "schedule_free_sgd", "sgd",
        "sign_sgd",
    ]  # fmt: skip
    assert gradtx.list_optimizers("sg[do]") == ["sgd"]
    assert gradtx.list_optimizers("nothing*") == []


def test_a_transformation_that_is_registered_has_a_name_too(own):
    assert gradtx.optimizer("own_sgd", learning_rate=0.1) == own(0.1)
    assert gradtx.list_optimizers("own*") == ["own_sgd"]
