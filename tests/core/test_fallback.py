"""Names and submodules that are not ours are optax's."""

import importlib
import pickle
import pkgutil
import subprocess
import sys
import types

import optax
import pytest

import gradtx

SUBMODULES = [
    module.name
    for module in pkgutil.iter_modules(optax.__path__)
    if isinstance(getattr(optax, module.name, None), types.ModuleType)
    and not module.name.startswith("_")
]


def public(module):
    """The names of a module of optax that are no modules."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    ]


def test_there_are_submodules_to_walk():
    assert {"tree_utils", "losses", "tree", "projections", "schedules"} <= {*SUBMODULES}


def test_every_submodule_of_optax_is_imported_in_every_form_in_a_new_process():
    lines = ["import sys"]
    for name in SUBMODULES:
        theirs = importlib.import_module(f"optax.{name}")
        lines += [
            f"import gradtx.{name}",
            f"import gradtx.{name} as it",
            f"from gradtx import {name} as same",
            f"assert it is same is sys.modules['gradtx.{name}'] is gradtx.{name}",
            *(f"from gradtx.{name} import {each}" for each in public(theirs)[:1]),
        ]
    program = "\n".join(lines)
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


@pytest.mark.parametrize("name", SUBMODULES)
def test_a_submodule_has_every_name_of_optax(name):
    theirs = importlib.import_module(f"optax.{name}")
    ours = importlib.import_module(f"gradtx.{name}")
    assert {*public(theirs)} <= {*dir(ours)}
    for each in public(theirs):
        exec(f"from gradtx.{name} import {each}", {})


@pytest.mark.parametrize("name", ["contrib", "schedules", "transforms"])
def test_a_submodule_with_factories_has_ours(name):
    theirs = importlib.import_module(f"optax.{name}")
    ours = importlib.import_module(f"gradtx.{name}")
    both = [each for each in public(theirs) if each in vars(gradtx)]
    assert len(both) > 10
    assert [
        each for each in both if getattr(ours, each) is not vars(gradtx)[each]
    ] == []


def test_functions_of_optax_pickle_as_such():
    losses = importlib.import_module("gradtx.losses")
    assert losses.__spec__ is optax.losses.__spec__
    assert losses.__name__ == "optax.losses"
    again = pickle.loads(pickle.dumps(losses.squared_error))
    assert again is optax.losses.squared_error


def test_a_name_that_neither_has_says_so():
    with pytest.raises(AttributeError, match=r"neither gradtx nor optax\.schedules"):
        _ = gradtx.schedules.nothing
    with pytest.raises(ImportError):
        importlib.import_module("gradtx.nothing")
