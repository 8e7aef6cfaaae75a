"""Each lesson runs once a session, small, for its own tests and for the claims."""

import functools
import importlib
import pathlib

import pytest

LESSONS = pathlib.Path(__file__).parents[2] / "examples" / "lessons"
SMALL = {
    "batches": {"sizes": (1, 64, 1152), "epochs": 8, "seeds": 4, "pairs": ((64, 60),)},
    "saddles": {"samples": 20_000, "runs": 64},
    "dying_steps": {"vocabulary": 200, "updates": 100},
    "first_steps": {"walks": 100, "seeds": 2, "epochs": 2, "rates": (0.01, 0.03)},
    "decay": {"seeds": 8, "epochs": 25},
    "weight_decay": {"weights": 20, "epochs": 20},
    "no_gradient": {"n": 20, "keys": 32, "updates": 40, "seeds": 4, "counts": (8, 64)},
    "which_rate": {
        "rates": 20,
        "steps": 30,
        "seeds": 1,
        "more_seeds": 1,
        "settings": ((64, 32), (256, 16)),
    },
    "generalization": {"extras": (0, 200), "seeds": 3, "steps": 300},
}


@functools.cache
def page_of(lesson):
    (file,) = LESSONS.glob(f"lesson_??_{lesson}.py")
    return importlib.import_module(file.stem).lesson(**SMALL.get(lesson, {}))


def lesson_of(item):
    """The lesson that a test's parameters name, or else its file."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    if "claim" in params:
        return params["claim"].lesson
    return params.get("lesson", item.path.stem.removeprefix("test_"))


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the groups
def pytest_collection_modifyitems(items):
    """One worker runs all tests of a lesson."""
    for item in items:
        if item.path.parent.name == "lessons" and "page" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(lesson_of(item)))


@pytest.fixture
def page(request):
    return page_of(lesson_of(request.node))
