"""Members: the objects accepted as gradient transformations."""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn

import jax
import optax

from gradtx.core.errors import hint_for
from gradtx.core.rule import Node


def is_member(value: Any) -> bool:
    """Whether this is a transformation, or an object that acts as one (`MultiSteps`).

    As in optax, any object with `init` and `update` is.
    """
    if isinstance(value, optax.GradientTransformation):
        return True
    methods = (getattr(value, name, None) for name in ("init", "update"))
    return not isinstance(value, type) and all(map(callable, methods))


def member_of(value: Any) -> optax.GradientTransformation:
    """The transformation of a member."""
    if isinstance(value, optax.GradientTransformation):
        return value
    make = getattr(value, "gradient_transformation", None)
    return make() if make else optax.GradientTransformation(value.init, value.update)


def hint_for_member(value: Any) -> str:
    """A hint how to make a transformation of a value."""
    if isinstance(value, Node):
        return "; return it from a function under @transformation"
    return hint_for(value)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class AbsentMember:
    """Placeholder for a member when a factory's body runs inside a kernel.

    The member was lowered to separate operations before; only its output is available.
    The body may only pass the placeholder on where it passed the member.

    Attributes:
        owner: The factory whose member it is.
    """

    owner: str

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # a protocol's, read before `owner` is set
            raise AttributeError(name)
        raise AttributeError(
            f"{self.owner}: looks at {name!r} of its member in a kernel, where the "
            "member is not there: the body of a factory runs when it is called, when "
            "it is lowered, and in the trace of each kernel; it may only pass members "
            "on, and the rule sees what they give"
        )
