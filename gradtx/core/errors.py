"""Shared parts of error messages: names, near misses, shapes and dtypes."""

from __future__ import annotations

import contextlib
import contextvars
import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

MOST = 5
"""Largest number of names in an error."""
LONGEST = 80
"""Largest length of a value's repr in an error."""


def first_few(names: Sequence[str]) -> str:
    """The first few names, and the number of others."""
    shown = ", ".join(map(repr, names[:MOST]))
    return shown + (f" and {len(names) - MOST} more" if len(names) > MOST else "")


def set_difference(given: Iterable[str], known: Iterable[str]) -> str:
    """The difference of two sets of names: `missing: 'a'; unexpected: 'b'`."""
    given, known = set(given), set(known)
    both = (("missing", known - given), ("unexpected", given - known))
    return "; ".join(
        f"{how}: {first_few(sorted(names))}" for how, names in both if names
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for a near miss of a known name, else an empty text."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""


def hint_for(value: Any) -> str:
    """A hint how to make a transformation of a value."""
    if isinstance(value, list | tuple):
        return "; give them one by one"
    return "; call it to make one" if hasattr(value, "factory") else ""


def dtype_and_shape(array: Any) -> str:
    """The dtype and the shape of an array: `float32[3, 2]`."""
    return f"{array.dtype}{[*array.shape]}"


def short_repr(value: Any) -> str:
    """The repr of a value if short, else its type, so no error prints parameters."""
    text = repr(value)
    if len(text) <= LONGEST and "\n" not in text:
        return text
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"an array {dtype_and_shape(value)}"
    kind = type(value).__name__
    return f"a {kind} of {len(value)}" if type(value) in (dict, list, tuple) else kind


current_path: contextvars.ContextVar[Callable[[], str]] = contextvars.ContextVar("path")


@contextlib.contextmanager
def at_path(path: Callable[[], str]) -> Iterator[None]:
    """Context: errors inside are about the leaf at this path."""
    token = current_path.set(path)
    try:
        yield
    finally:
        current_path.reset(token)
