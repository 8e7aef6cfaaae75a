"""Examples in docstrings."""

import doctest
from typing import Any

import jax
from jax import numpy as jnp

import gradtx

SECTION = "\n\nExamples:\n"
"""What begins the last section of a docstring."""


def without_examples(doc: str) -> str:
    """A docstring without its examples."""
    return doc.partition(SECTION)[0]


def run_examples_of(function: Any) -> None:
    """Run the examples in a docstring, of which there must be some."""
    names = {"gradtx": gradtx, "jax": jax, "jnp": jnp}
    finder = doctest.DocTestFinder(recurse=False)
    (test,) = finder.find(function, function.__name__, module=False, globs=names)
    report: list[str] = []
    results = doctest.DocTestRunner().run(test, out=report.append)
    assert results.attempted and not results.failed, "".join(report)
