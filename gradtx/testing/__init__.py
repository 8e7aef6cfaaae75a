"""`check`: test whether a transformation satisfies the laws."""

from __future__ import annotations

import re
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.foreign import name_of_foreign
from gradtx.core.call import FactoryValue
from gradtx.testing.laws import LAWS as LAWS
from gradtx.testing.laws import Case as Case
from gradtx.testing.laws import Law as Law
from gradtx.testing.laws import gradients as gradients
from gradtx.testing.laws import law as law


def broken(tx: Any, params: Any = None, **more: Any) -> dict[str, Exception]:
    """The laws that a transformation violates, with the error of each.

    Args:
        tx: A transformation, of gradtx or of optax.
        params: Parameters to test with, a tree of float arrays; small float32 arrays if
            None. Test with float16 too.
        more: `gradients` and `extra` of a `Case`, for a transformation that needs
            extra arguments, or gradients of another structure than the parameters.

    Examples:
        >>> def over_itself(updates, params):
        ...     return jax.tree.map(lambda u: u / jnp.abs(u), updates)
        >>> errors = gradtx.testing.broken(gradtx.stateless(over_itself))
        >>> "zero gradients are fine" in errors
        True
    """
    params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)} if params is None else params
    errors: dict[str, Exception] = {}
    for name, test in LAWS.items():
        try:
            test(tx, Case(params, **more))
        except Exception as error:
            errors[name] = error
    return errors


def check(tx: Any, params: Any = None, **more: Any) -> None:
    """Test every law; same arguments as `broken`.

    Raises:
        AssertionError: Some laws are violated; lists their names and errors.

    Examples:
        >>> gradtx.testing.check(gradtx.sgd(0.1, momentum=0.9))
    """
    if errors := broken(tx, params, **more):
        by_text: dict[str, list[str]] = {}
        for name, error in errors.items():
            text = f"{type(error).__name__}: {_short(error)}"
            by_text.setdefault(text, []).append(name)
        told = "".join(
            f"\n  {', '.join(map(repr, names))}: {text}"
            for text, names in by_text.items()
        )
        number = f"{len(errors)} of {len(LAWS)} laws"
        cause = next(iter(errors.values()))
        raise AssertionError(f"{_name(tx)} breaks {number}:{told}") from cause


def _short(error: Exception, most: int = 200) -> str:
    is_branching = isinstance(error, jax.errors.TracerBoolConversionError)
    # The text of JAX does not say what to do.
    notes = getattr(error, "__notes__", [])[:1] if is_branching else []
    text = " ".join(" ".join([*notes, str(error)]).split())
    text = re.sub(r" at 0x[0-9a-f]+", "", text)  # so that the same mistake has one text
    return text if len(text) <= most else f"{text[:most]}..."


def _name(tx: Any) -> str:
    return repr(tx) if isinstance(tx, FactoryValue) else name_of_foreign(tx)
