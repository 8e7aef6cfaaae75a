"""Folders in the order in which things are built: imports point downwards only."""

import ast
import pathlib
import re

import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.lower import program_of
from gradtx.compiler.stage import Stage, pack
from gradtx.core.stable import DEFINED
from tests import folder_readmes
from tests.registry import public

PACKAGE = pathlib.Path(gradtx.__path__[0])
ABOVE_CORE = {"core", "compiler"}
ABOVE_TRANSFORMS = ABOVE_CORE | {"transforms"}
MAY_IMPORT = {
    "core": set(),
    "compiler": {"core"},
    "schedules": {"core"},
    "transforms": ABOVE_CORE,
    "matrices": ABOVE_TRANSFORMS,
    "wrappers": ABOVE_TRANSFORMS,
    "optimizers": ABOVE_TRANSFORMS | {"schedules", "matrices", "wrappers"},
    "introspect": ABOVE_TRANSFORMS | {"matrices", "wrappers"},
    "interop": ABOVE_TRANSFORMS | {"matrices", "wrappers", "introspect"},
    "testing": ABOVE_TRANSFORMS | {"matrices", "wrappers", "introspect", "interop"},
}
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = pathlib.Path(__file__).parent
MODULES = [path for path in FILES if path.stem != "__init__"]


def imports_of(path):
    """The modules of gradtx that a file imports when it runs, without `gradtx.`."""
    tree = ast.parse(path.read_text())
    for_types = [
        each
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for each in ast.walk(node)
    ]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            modules *= node.module != "gradtx"
            names = modules or [f"gradtx.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        if node not in for_types:
            yield from (n[7:] for n in names if n.startswith("gradtx."))


def name_of(path):
    return path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_from_its_folder_and_those_below(path):
    folder, _, _ = name_of(path).rpartition(".")
    if not folder:  # beside the folders: the package, estimates, plots
        return
    allowed = MAY_IMPORT[folder] | {folder}
    assert {module.partition(".")[0] for module in imports_of(path)} <= allowed


def test_no_two_files_import_one_another_on_any_way():
    graph = {name_of(path): {*imports_of(path)} for path in FILES}
    settled: set[str] = set()
    while ready := [
        name
        for name in graph.keys() - settled
        if not (graph[name] & graph.keys()) - settled
    ]:
        settled |= {*ready}
    assert graph.keys() - settled == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_has_no_more_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_no_file_of_tests_has_more_than_400_lines():
    paths = TESTS.rglob("*.py")
    lengths = {path: len(path.read_text().splitlines()) for path in paths}
    assert lengths and {path: n for path, n in lengths.items() if n > 400} == {}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_a_test_file_of_its_name_in_the_folder_of_its_name(path):
    folder = TESTS / path.parent.relative_to(PACKAGE)
    assert f"test_{path.name}" in {it.name for it in folder.iterdir()}


def test_a_folder_of_tests_is_one_of_the_package_or_of_the_examples():
    folders = {path.parent.name for path in TESTS.glob("*/test_*.py")}
    assert folders <= MAY_IMPORT.keys() | {"lessons"}


def test_where_users_look_for_functions_no_file_has_the_name_of_one():
    for folder in (PACKAGE, PACKAGE / "transforms", PACKAGE / "schedules"):
        for path in folder.iterdir():
            assert not callable(public().get(path.stem)), path


@pytest.mark.parametrize("folder", folder_readmes.FOLDERS, ids=lambda path: path.name)
def test_the_readme_of_a_folder_has_its_files_and_what_it_may_import(folder):
    text = (folder / "README.md").read_text()
    assert text == folder_readmes.readme(folder), "run python -m tests.folder_readmes"
    said = re.search(r"^May import: (.*)$", text, re.M)
    assert said and {*re.findall(r"`(\w+)`", said[1])} == MAY_IMPORT[folder.name]


def test_the_map_has_every_folder_in_order_and_its_links_lead_somewhere():
    text = (PACKAGE / "README.md").read_text()
    assert re.findall(r"^\| \[`(\w+)`\]", text, re.M) == [*MAY_IMPORT]
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links and all((PACKAGE / link).exists() for link in links)


def test_the_map_tells_the_program_of_adamw_as_it_is():
    text = (PACKAGE / "README.md").read_text()
    rows = re.findall(
        r"^ +\| `(\w+)` \| ([\d, ]+) \| (\d+) \| ?`?(\w*)`? ?\|$", text, re.M
    )
    program = program_of(gradtx.adamw(1e-3).bound, jnp.zeros([], jnp.int32))
    assert rows == [
        (op.name, ", ".join(map(str, op.inputs)), str(op.out), "".join(keys.values()))
        for op, keys in zip(program.ops, program.keys, strict=True)
    ]
    (stage,) = program.stages
    assert isinstance(stage, Stage)
    numbers, _ = pack(stage, program.ops)
    assert f"{len(numbers)} numbers are one vector" in text.replace("\n  ", "")


def names_that_decide(path):
    """Comparisons of a name with a string: of a factory, a slot, an argument.

    And of anything with a string that is the name of a factory.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        names = [it for it in sides if isinstance(it, ast.Attribute)]
        words = [each for side in sides for each in ast.walk(side)]
        words = [it.value for it in words if isinstance(it, ast.Constant)]
        words = [it for it in words if isinstance(it, str)]
        is_name = any(it.attr in ("name", "__name__") for it in names)
        if (is_name and words) or any(
            hasattr(DEFINED.get(it), "factory") for it in words
        ):
            yield ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_decided_by_a_name(path):
    found = [*names_that_decide(path)]
    of_optax = ["module.__name__ == f'optax.{name}'"]
    assert found == (of_optax if path.name == "fallback.py" else [])
