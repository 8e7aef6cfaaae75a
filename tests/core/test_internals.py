"""Programs, and the names of JAX that no promise covers."""

import ast
import pathlib
import subprocess
import sys

import jax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.core import internals

PACKAGE = pathlib.Path(gradtx.__path__[0])
UNPROMISED = ("jax._src", "jax.core", "jax.extend", "jax.experimental", "jax.lib")


def imports_of(path):
    """The modules and names that a file imports, also inside of functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((name.name, "") for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, name.name) for name in node.names)


UNPROMISED_NAMES = [
    pair
    for pair in imports_of(PACKAGE / "core/internals.py")
    if pair[0].startswith(UNPROMISED)
]
NEEDED = {"Tracer", "jaxpr_as_fun"}


def test_one_module_imports_what_no_promise_covers():
    for path in PACKAGE.rglob("*.py"):
        for module, name in imports_of(path):
            full = f"{module}.{name}"
            assert path.name == "internals.py" or not full.startswith(UNPROMISED), path
        attributes = [
            ast.unparse(node)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
        ]
        assert not any(text.startswith(UNPROMISED) for text in attributes), path


STEP = """
import jax.numpy as jnp, gradtx
tx, params = gradtx.adamw(1e-3), {"w": jnp.ones(3)}
updates, _ = tx.update(params, tx.init(params), params)
print(float(updates["w"][0]))
"""


@pytest.mark.parametrize("module, name", UNPROMISED_NAMES)
def test_without_a_name_gradtx_works_or_says_in_a_line_which_jax_works(module, name):
    absence = f"import {module}\ndel {module}.{name}\n"
    command = [sys.executable, "-c", absence + STEP]
    run = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent)
    if name not in NEEDED:
        assert run.returncode == 0 and float(run.stdout) == pytest.approx(-1e-3, 1e-3)
        return
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith(
        f"ImportError: gradtx works with {internals.WORKS_WITH}, and"
    )
    assert jax.__version__ in last and name in last


def test_without_the_options_of_xla_the_setting_says_what_to_do(monkeypatch):
    monkeypatch.setattr(internals, "get_compile_options", None)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    with pytest.raises(RuntimeError, match="set XLA_FLAGS by hand"):
        gradtx.enable_cpu_fusion()


class Merged:
    """A program of jax 0.11, where `Jaxpr` has its constants, and `jaxpr` is itself."""

    def __init__(self, inner, consts):
        self.inner, self.consts = inner, consts

    @property
    def jaxpr(self):
        return self

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def replace(self, **changes):
        return Merged(self.inner.replace(**changes), self.consts)


def compute(numbers, x):
    constant = jnp.arange(3.0)
    return x * jnp.cos(numbers) + constant


@pytest.mark.parametrize("merge", [False, True])
def test_a_program_is_split_also_where_programs_are_of_one_class(merge):
    program = jax.make_jaxpr(compute)(0.5, jnp.ones(3))
    if merge:
        program = Merged(program.jaxpr, program.consts)
    scalars, arrays, number = internals.split(program, 1)
    assert type(scalars) is type(arrays) is type(program) and number == 1
    assert scalars.eqns[0].primitive.name == "cos"
    assert "cos" not in {eqn.primitive.name for eqn in arrays.eqns}
    assert internals.signature_of(scalars) is scalars or not scalars.consts


def test_the_programs_inside_of_an_equation_are_found_in_either_form():
    inner = jax.make_jaxpr(jnp.sin)(1.0)
    merged = Merged(inner.jaxpr, inner.consts)
    for given, expected in ((inner, inner.jaxpr), (merged, merged)):
        parameters = {"jaxpr": given, "several": (given, given), "name": "f"}
        assert list(internals.subprograms(parameters)) == [expected] * 3


def test_a_token_lasts_as_long_as_the_context_of_a_trace():
    arguments = {"number": jnp.float32(1)}
    token = internals.token_of_context(arguments)
    assert internals.token_of_context(arguments) is token
    with jax.default_matmul_precision("float32"):
        assert internals.token_of_context(arguments) is not token
    assert internals.token_of_context({"number": jnp.int32(1)}) is not token
