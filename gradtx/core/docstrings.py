"""Docstrings: describe arguments shared by several factories once."""

from __future__ import annotations

import inspect
import itertools
import re
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

SECTION = re.compile(r"^Args:\n((?:(?: {4}.*)?\n)*)", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*):", re.MULTILINE)


def arguments_in(doc: str) -> dict[str, str]:
    """The entries under `Args` of a docstring, by argument."""
    section = SECTION.search(doc + "\n")
    if section is None:
        return {}
    text = section[1].rstrip() + "\n"
    starts = [*(entry.start() for entry in ENTRY.finditer(text)), len(text)]
    found: dict[str, str] = {}
    for start, end in itertools.pairwise(starts):
        names, _, rest = text[start:end].partition(":")
        for name in re.findall(r"\w+", names):
            found[name] = f"    {name}:{rest}"
    return found


def described_by(*sources: Any, **names: str) -> Callable[[T], T]:
    """Decorator, above that of a factory: add missing entries for arguments.

    Args:
        sources: Functions whose docstrings describe the arguments, nearest first.
        names: Names in the sources, by argument, where they differ.
    """

    def described(public: T) -> T:
        doc = inspect.getdoc(public) or ""
        known: dict[str, str] = {}
        for source in reversed(sources):
            known |= arguments_in(inspect.getdoc(source) or "")
        for name, theirs in names.items():
            if theirs in known:
                known[name] = _entry(name, known[theirs].partition(":")[2])
        known |= arguments_in(doc)
        parameters = inspect.signature(public).parameters  # pyright: ignore[reportArgumentType]
        section = "Args:\n" + "".join(known[n] for n in parameters if n in known)
        for function in (public, inspect.unwrap(public)):  # tools show the latter's  # pyright: ignore[reportArgumentType]
            function.__doc__ = _with_section(doc, section)
        return public

    return described


def _entry(name: str, text: str) -> str:
    words = f"{name}: {' '.join(text.split())}"
    lines = textwrap.wrap(words, 80, initial_indent=" " * 4, subsequent_indent=" " * 8)
    return "\n".join(lines) + "\n"


def _with_section(doc: str, section: str) -> str:
    """A docstring with another `Args` section; a new one precedes `Keeps`."""
    if SECTION.search(doc + "\n"):
        return SECTION.sub(lambda _: section + "\n", doc + "\n").rstrip()
    later = re.search(r"^(?:Keeps\b|Returns:|Raises:|Examples:)", doc, re.MULTILINE)
    at = later.start() if later else len(doc)
    return f"{doc[:at].rstrip()}\n\n{section}\n{doc[at:]}".rstrip()
