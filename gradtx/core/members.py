"""Members: the objects that count as a gradient transformation."""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn

import jax
import optax

from gradtx.core.errors import hint_for
from gradtx.core.rule import Node


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


def hint_for_member(value: Any) -> str:
    """What makes a transformation of what is nearly one."""
    if isinstance(value, Node):
        return "; return it from a function under @transformation"
    return hint_for(value)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class AbsentMember:
    """The place of a member where a factory's body runs inside a kernel.

    The member was laid out as operations of its own before, and only its outcome is
    there. The body may put the placeholder where it put the member, and no more.

    Attributes:
        owner: The factory whose member it is.
    """

    owner: str

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # of protocols, asked for before there is an owner
            raise AttributeError(name)
        raise AttributeError(
            f"{self.owner}: looks at {name!r} of its member in a kernel, where the "
            "member is not there: the body of a factory runs when it is called, when "
            "it is lowered, and in the trace of each kernel; it may only pass members "
            "on, and the rule sees what they give"
        )
