import functools
import inspect
import json
import sys
from typing import Any

import jax
import numpy as np
import optax
import pytest
import yaml
from flax.core import FrozenDict
from jax import numpy as jnp

import gradtx
from gradtx.core.factory import Factory
from gradtx.interop import configs
from tests import registry
from tests.schedules.settings import SCHEDULES

anything: Any = gradtx


@gradtx.register
@gradtx.transformation
def halved(by: gradtx.Scalar = 2.0):
    """What a user may write."""
    return gradtx.memoryless(lambda u, leaf: u / by)


@gradtx.register
def vectors(params):
    return jax.tree.map(lambda p: p.ndim == 1, params)


@gradtx.register
def with_axes(params, axes):
    return jax.tree.map(lambda p: p.ndim >= axes, params)


MADE = {
    "numbers": lambda: gradtx.adamw(1e-3, b2=0.95, mu_dtype="bfloat16"),
    "a schedule": lambda: gradtx.sgd(
        gradtx.warmup_cosine_decay_schedule(0.0, 0.1, 10, 100), momentum=0.9
    ),
    "a schedule of schedules": lambda: gradtx.join_schedules(
        [gradtx.constant_schedule(0.1), gradtx.linear_schedule(0.1, 0.0, 10)], [5]
    ),
    "a chain": lambda: gradtx.chain(gradtx.clip(1.0), halved(), gradtx.sgd(0.1)),
    "groups": lambda: gradtx.groups(
        {"**/bias": gradtx.frozen(), "**": gradtx.chain(gradtx.sgd(0.1))}
    ),
    "a mask of a user": lambda: gradtx.adamw(0.1, mask=vectors),
    "a mask of a part of a function": lambda: gradtx.adamw(
        0.1, mask=functools.partial(with_axes, axes=2)
    ),
    "a mask": lambda: gradtx.masked(gradtx.sgd(0.1), {"w": True, "b": (False, True)}),
    "a mask with our words": lambda: gradtx.adamw(0.1, mask={"type": True, "a": False}),
    "numbers by step": lambda: gradtx.piecewise_constant_schedule(1.0, {5: 0.5}),
    "a condition": lambda: gradtx.skip(gradtx.sgd(0.1), gradtx.norm_above(2.0)),
    "a weight each": lambda: gradtx.add(
        gradtx.identity(), gradtx.trace(0.5), weights=(1.0, 0.5)
    ),
    "an array": lambda: gradtx.sgd(np.float32(0.1)),
    "a factory in it": lambda: gradtx.inject_hyperparams(gradtx.sgd)(0.1),
}


@pytest.mark.parametrize("name", MADE)
def test_a_config_goes_through_json_and_makes_an_equal_value(name):
    made = MADE[name]()
    text = json.dumps(gradtx.to_config(made))
    assert gradtx.from_config(json.loads(text)) == made


@pytest.fixture
def all_registered(monkeypatch):
    """The functions that the registry gives to transformations."""
    found = {name: it for name, it in vars(registry).items() if inspect.isfunction(it)}
    monkeypatch.setattr(configs, "REGISTERED", {**configs.REGISTERED, **found})


@pytest.mark.usefixtures("all_registered")
@pytest.mark.parametrize("name", registry.factories())
def test_every_transformation_has_a_config(name):
    made = registry.example(registry.factories()[name])
    text = json.dumps(gradtx.to_config(made))
    assert gradtx.from_config(json.loads(text)) == made


@pytest.mark.usefixtures("all_registered")
@pytest.mark.parametrize("name", registry.TRANSFORMATIONS)
def test_whatever_recipes_are_made_of_has_a_config(name):
    """What is in no namespace of a user too, such as what `MultiSteps` makes."""
    made = registry.TRANSFORMATIONS[name]()
    for tx in (made, made.expand(step=3)):
        text = json.dumps(gradtx.to_config(tx))
        assert gradtx.from_config(json.loads(text)) == tx


def test_no_two_factories_have_one_name():
    names: dict[str, set[int]] = {}
    for module in [it for name, it in sys.modules.items() if name[:7] == "gradtx."]:
        for it in vars(module).values():
            if isinstance(getattr(it, "factory", None), Factory):
                names.setdefault(it.factory.name, set()).add(id(it.factory))
    assert len(names) > 200
    assert not [name for name, them in names.items() if len(them) > 1]


def test_a_user_may_have_a_name_that_only_recipes_use():
    def multi_steps(params):
        return params

    gradtx.register(multi_steps)
    try:
        made = gradtx.adamw(0.1, mask=multi_steps)
        assert gradtx.from_config(gradtx.to_config(made)) == made
    finally:
        del configs.REGISTERED["multi_steps"]


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_a_config(name):
    made = SCHEDULES[name](gradtx)
    if any(map(inspect.isfunction, jax.tree.leaves(made.arguments))):
        return  # a user's own, which is registered or refused
    text = json.dumps(gradtx.to_config(made))
    assert gradtx.from_config(json.loads(text)) == made


def test_a_config_is_plain_and_short():
    assert gradtx.to_config(gradtx.sgd(0.1, momentum=0.9)) == {
        "type": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": False,
        "accumulator_dtype": None, "dampening": None,
    }  # fmt: skip


def test_a_person_may_write_what_matters_only():
    written = {
        "type": "chain",
        "transforms": [
            {"type": "clip_by_global_norm", "max_norm": 1},
            {"type": "adamw", "learning_rate": 1e-3, "mu_dtype": "bfloat16"},
        ],
    }
    assert gradtx.from_config(written) == gradtx.chain(
        gradtx.clip_by_global_norm(1.0), gradtx.adamw(1e-3, mu_dtype=jnp.bfloat16)
    )


def mistaken(**more):
    return lambda: gradtx.from_config({"type": "adamw", "learning_rate": 0.1, **more})


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: gradtx.from_config({"type": "adamww"}),
            ValueError,
            "from_config: unknown name 'adamww'; did you mean 'adamw'?",
        ),
        (
            mistaken(weight_deacy=0.1),
            TypeError,
            "adamw: unexpected argument 'weight_deacy'; did you mean 'weight_decay'?",
        ),
        (
            mistaken(b1=1.5),
            ValueError,
            "adamw: b1 must be in [0, 1), got 1.5",
        ),
        (
            lambda: gradtx.from_config({"type": "eval_params"}),
            ValueError,
            "from_config: 'eval_params' is no factory",
        ),
        (
            lambda: anything.from_config(["adamw"]),
            TypeError,
            "from_config: expected a dict with the name of a factory as its 'type', "
            "got ['adamw']",
        ),
        (
            lambda: gradtx.to_config(optax.sgd(0.1)),
            TypeError,
            "to_config: expected a value of gradtx's factories, got ",
        ),
        (
            lambda: gradtx.to_config(gradtx.chain(gradtx.clip(1.0), optax.sgd(0.1))),
            TypeError,
            "to_config: chain: transforms[1] is GradientTransformationExtraArgs, ",
        ),
        (
            lambda: gradtx.to_config(gradtx.sgd(lambda count: 0.1)),
            TypeError,
            "to_config: sgd: learning_rate is <function ",
        ),
        (
            lambda: gradtx.from_config({"type": "norms", "patterns": "**"}),
            TypeError,
            "from_config: patterns of 'norms' must be a list, got '**'",
        ),
        (
            lambda: gradtx.to_config(gradtx.adamw(0.1, mask=FrozenDict({"w": True}))),
            TypeError,
            "to_config: adamw: mask is FrozenDict, which no config",
        ),
        (
            lambda: gradtx.register(lambda: None),
            TypeError,
            "register: expected a function that has a name, got <function ",
        ),
        (
            lambda: gradtx.register(dict),
            TypeError,
            "register: expected a function that has a name, got <class 'dict'>",
        ),
    ],
)
def test_what_is_no_config_is_an_error_that_says_where(call, kind, message):
    with pytest.raises(kind) as error:
        call()
    assert str(error.value).startswith(message)


def test_a_config_goes_through_yaml():
    schedule = gradtx.warmup_cosine_decay_schedule(0.0, 1e-3, 10, 100)
    tx = gradtx.groups({"a/**": gradtx.frozen(), "**": gradtx.adamw(schedule)})
    text = yaml.safe_dump(gradtx.to_config(tx))
    assert "warmup_steps: 10\n" in text and "eps: 1.0e-08\n" in text
    assert gradtx.from_config(yaml.safe_load(text)) == tx


def test_an_error_says_where_in_a_config_it_is():
    wrong = {"type": "adamw", "learning_rate": "1e-3"}  # as YAML reads 1e-3
    member = {"type": "groups", "transforms": {"embed/**": wrong}}
    with pytest.raises(TypeError) as error:
        gradtx.from_config({"type": "chain", "transforms": [member]})
    assert str(error.value) == (
        "adamw: learning_rate must be a number or a schedule, got '1e-3'"
    )
    place = "in the config, at 'transforms/0/transforms/embed/**'"
    assert error.value.__notes__ == [place]


def test_a_number_of_numpy_is_itself_again():
    tx = gradtx.sgd(np.float64(0.1), np.float32(0.9))
    config = gradtx.to_config(tx)
    assert config["learning_rate"] == {"array": 0.1, "dtype": "float64"}
    assert gradtx.from_config(json.loads(json.dumps(config))) == tx


def test_a_function_may_be_registered_again_where_it_was():
    """As when a cell of a notebook runs twice."""
    cell: dict[str, Any] = {"__name__": "notebook"}
    for _ in range(2):
        exec("def again(params): return params", cell)
        gradtx.register(cell["again"])
    assert configs.REGISTERED.pop("again") is cell["again"]


def test_what_is_not_known_by_its_name_is_an_error():
    @gradtx.transformation
    def mine():
        return gradtx.memoryless(lambda u, leaf: u)

    message = "to_config: mine is not known by its name; decorate it with"
    with pytest.raises(TypeError, match=message):
        gradtx.to_config(gradtx.chain(mine()))
