"""Scopes: names of transformations in compiled modules and in errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from gradtx.core.errors import current_path, dtype_and_shape


@contextlib.contextmanager
def error_scope(name: str, slots: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Context: name the computations inside, in the compiled module and in errors.

    Any dtype promotion is allowed inside, even if the user forbids it: the compiler
    casts the inputs of a rule to one precision, and casts its outputs.
    """
    standard, any_rank = (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    )
    try:
        with jax.named_scope(name), standard, any_rank:
            yield
    except Exception as error:
        kept = [
            f"{key} is {dtype_and_shape(x)}"
            for key, x in (slots or {}).items()
            if x is not None
        ]
        where = ", where ".join([repr(current_path.get(whole_tree)()), *kept])
        error.add_note(f"in {name}, at {where}")
        if isinstance(error, jax.errors.TracerBoolConversionError):
            error.add_note("a rule is traced: choose by jnp.where, or in the factory")
        raise


def whole_tree() -> str:
    """The path for errors that are not about a leaf."""
    return "<root>"
