import ast
import inspect
import pathlib
import re
import subprocess
import sys
import types

import optax
import pytest

import gradtx
from tests import optimizer_table, registry
from tests.examples import without_examples

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
NAMES = (ROOT / "examples" / "guides" / "names.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_readme_is_read_in_five_minutes():
    assert len(README.splitlines()) <= 200 and len(README.split()) <= 1500


def test_the_table_of_names_lists_every_public_name_and_no_other():
    listed = re.findall(r"`(\w+)`", NAMES)
    older = {*dir(gradtx.annotations)} - {*dir(gradtx)}
    assert {"Share", "Every", "FirstValue", "Constant"} <= older
    public = {*registry.public(), *older}
    assert not public - {*listed}, "public, and not in the table of names"
    assert not {*listed} - public, "in the table of names, and not public"
    assert len(listed) == len({*listed}), "a name is listed twice"


def test_the_table_of_names_lists_parts_of_recipes_where_they_are():
    (row,) = re.findall(r"^\| .*in `gradtx\.transforms` \| (.*) \|$", NAMES, re.M)
    assert {*re.findall(r"`(\w+)`", row)} == registry.parts()


def test_the_table_of_names_lists_every_gradient_estimator_and_no_other():
    made = {
        name
        for name, value in vars(gradtx.estimate).items()
        if inspect.isfunction(value) and hasattr(value, "factory")
    }
    assert set(re.findall(r"`estimate[.](\w+)`", NAMES)) == made


def test_the_table_of_optimizers_is_what_generates_it():
    written = NAMES.split(optimizer_table.BEGIN)[1].split(optimizer_table.END)[0]
    assert written == optimizer_table.table()


def test_each_public_name_has_one_definition_and_a_docstring_of_at_most_20_lines():
    for name, value in registry.public().items():
        if not isinstance(value, type | types.FunctionType):
            continue  # an annotation has neither name nor docstring of its own
        if not value.__module__.startswith("gradtx"):
            continue  # a type that is optax's
        assert value.__qualname__ == name
        doc = inspect.getdoc(value)
        if hasattr(value, "factory"):  # as it is written, without entries of others
            (written,) = ast.parse(inspect.getsource(value)).body
            assert isinstance(written, ast.FunctionDef)
            doc = ast.get_docstring(written)
        assert doc and len(without_examples(doc).splitlines()) <= 20, name


def test_ci_runs_the_test_command_as_it_is_printed():
    commands = blocks("sh")
    assert len(commands) == 2 and all(c.count("\n") == 1 for c in commands)
    ci = (pathlib.Path(__file__).parent.parent / ".ci" / "run").read_text()
    assert "README.md" in ci


@pytest.mark.parametrize("module", [gradtx.transforms, gradtx.annotations])
def test_a_name_that_only_a_submodule_lists_is_found_in_the_package(module):
    theirs = dir(optax.transforms)
    names = {name for name in dir(module) if not name.startswith("_")} - {*theirs}
    rarer = names - {*dir(gradtx)}
    assert len(rarer) > 5
    for name in names:
        assert getattr(gradtx, name) is getattr(module, name), name


def test_names_that_are_not_ours_come_from_optax():
    assert gradtx.incremental_update is optax.incremental_update
    assert gradtx.losses is optax.losses
    assert gradtx.contrib.prodigy is gradtx.prodigy
    assert gradtx.transforms.trace is gradtx.trace
    assert gradtx.contrib.GaLoreState is optax.contrib.GaLoreState
    with pytest.raises(AttributeError, match=r"nor optax[.]contrib has 'prodgy'"):
        gradtx.contrib.prodgy  # noqa: B018
    assert "l2_loss" in dir(gradtx)
    with pytest.raises(AttributeError, match="neither gradtx nor optax has 'adma'"):
        gradtx.adma  # noqa: B018


AFTER_IMPORTING = """
import gradtx
import pkgutil

assert gradtx.testing.law and gradtx.plot.plot_schedule
names = [module.name for module in pkgutil.iter_modules(gradtx.__path__)]
assert {"core", "plot", "testing"} < {*names}
print([name for name in names if not hasattr(gradtx, name)])
"""


def test_every_module_is_there_after_importing_the_package():
    """Also those that need an extra, such as `gradtx.plot`: on demand."""
    done = subprocess.run(
        [sys.executable, "-c", AFTER_IMPORTING],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
