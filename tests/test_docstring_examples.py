import inspect
import types
from typing import Any

import matplotlib
import pytest

import gradtx
from tests.examples import SECTION, run_examples_of
from tests.registry import public

matplotlib.use("Agg")
from gradtx import plot

WITHOUT_EXAMPLES = {
    "GaLoreDimensionNumbers": "optax's",
    "MuonDimensionNumbers": "optax's",
    "with_extra_args_support": "optax's",
    "RateCurve": "a NamedTuple, which the example of `find_learning_rate` shows",
    "Restored": "a NamedTuple, which the example of `restore` shows",
    "Trajectory": "a NamedTuple, which the example of `trajectory` shows",
    "enable_cpu_fusion": "must run before anything is compiled",
    "estimate.Estimator": "what the estimators make: their examples call it",
    "estimate.Pairs": "a NamedTuple, which only the estimators make",
    "estimate.estimator": "makes the estimators, and is not for users",
    "plot.animate_paths": "writes a file",
    "testing.law": "adds to the table of laws, which other tests read",
}
"""Public names whose docstrings need no examples, each with the reason."""


def of_users() -> dict[str, Any]:
    """The functions and classes that users call: public ones, and those of tools."""
    named = public()
    for module in (gradtx.estimate, gradtx.matrices, plot, gradtx.testing):
        for name, value in vars(module).items():
            is_own = getattr(value, "__module__", "").startswith(module.__name__)
            is_made = inspect.isfunction(value) and hasattr(value, "factory")
            if name[0] != "_" and (is_own or is_made):
                named[f"{module.__name__.removeprefix('gradtx.')}.{name}"] = value
    kinds = (type, types.FunctionType)
    return {
        name: named[name] for name in sorted(named) if isinstance(named[name], kinds)
    }


OF_USERS = of_users()


@pytest.mark.parametrize("name", sorted(OF_USERS.keys() - WITHOUT_EXAMPLES))
def test_a_docstring_ends_with_an_example_that_runs(name):
    _, _, examples = (inspect.getdoc(OF_USERS[name]) or "").partition(SECTION)
    assert examples and all(line[:4] == "    " for line in examples.splitlines())
    assert len(examples.splitlines()) <= 11
    run_examples_of(OF_USERS[name])
    plot.pyplot.close("all")


def test_a_name_that_needs_no_example_is_a_public_one_that_has_none():
    assert not WITHOUT_EXAMPLES.keys() - OF_USERS.keys()
    docs = {name: inspect.getdoc(OF_USERS[name]) or "" for name in WITHOUT_EXAMPLES}
    assert [name for name, doc in docs.items() if ">>>" in doc] == []
