"""Optimizers by name: from a string or a config."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from gradtx.compiler.transformation import GradientTransformation
from gradtx.core.errors import did_you_mean, short_repr
from gradtx.interop.configs import REGISTERED, from_config
from gradtx.optimizers import OPTIMIZERS


def optimizer(
    name: str | Mapping[str, Any], /, **arguments: Any
) -> GradientTransformation:
    """Make an optimizer from its name or from a config.

    Args:
        name: One of `list_optimizers()`; or a config of any transformation, see
            `to_config`.
        arguments: Arguments of the optimizer by name; they override those of a config.

    Raises:
        ValueError: The name is unknown; the error suggests a similar one. Or the
            optimizer refuses an argument.
        TypeError: An argument is unknown or missing, or `name` is neither a string nor
            the config of a transformation.

    Examples:
        >>> gradtx.optimizer("sgd", learning_rate=0.1) == gradtx.sgd(0.1)
        True
        >>> config = {"type": "sgd", "learning_rate": 0.1}
        >>> gradtx.optimizer(config, momentum=0.9) == gradtx.sgd(0.1, momentum=0.9)
        True
    """
    if isinstance(name, str):
        known = _known()
        if name in known:
            return known[name](**arguments)
        near = did_you_mean(name, known) or did_you_mean(name.lower(), known)
        raise ValueError(
            f"optimizer: unknown name {name!r}{near or ';'} "
            "gradtx.list_optimizers() lists the names"
        )
    if not isinstance(name, Mapping):
        raise TypeError(
            f"optimizer: expected a name or a config, got {short_repr(name)}"
        )
    made = from_config({**name, **arguments})
    if not isinstance(made, GradientTransformation):
        raise TypeError(
            f"optimizer: expected the config of a transformation, got that of {made!r}"
        )
    return made


def list_optimizers(pattern: str = "*") -> list[str]:
    """The names of optimizers that match a pattern, sorted.

    Args:
        pattern: A pattern of `fnmatch`, in lower case: `*` for any characters, `?` for
            one, `[ab]` for one of several.

    Returns:
        Names for `optimizer`, including your own registered transformations
        (`gradtx.register`). An empty list if the pattern matches no name.

    Examples:
        >>> gradtx.list_optimizers("adam?")
        ['adamc', 'adamw']
    """
    return sorted(fnmatch.filter(_known(), pattern))


def _known() -> dict[str, Any]:
    """Optimizers and registered transformations, by name."""
    own = {
        name: made
        for name, made in REGISTERED.items()
        if getattr(getattr(made, "factory", None), "cls", None)
        is GradientTransformation
    }
    return {made.__name__: made for made in OPTIMIZERS} | own
