"""Members: the objects that count as a gradient transformation."""

from __future__ import annotations

from typing import Any

import optax


def is_member(value: Any) -> bool:
    """Whether this is a transformation, or an object such as `MultiSteps` that is one.

    As in optax, whatever has `init` and `update` is.
    """
    if isinstance(value, optax.GradientTransformation):
        return True
    methods = (getattr(value, name, None) for name in ("init", "update"))
    return not isinstance(value, type) and all(map(callable, methods))


def member_of(value: Any) -> optax.GradientTransformation:
    """The transformation that a member is."""
    if isinstance(value, optax.GradientTransformation):
        return value
    make = getattr(value, "gradient_transformation", None)
    return make() if make else optax.GradientTransformation(value.init, value.update)
