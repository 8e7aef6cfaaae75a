"""Foreign transformations: pairs of functions of optax as members of ours."""

from __future__ import annotations

import inspect
from typing import Any

import optax

from gradtx.core.call import FactoryValue
from gradtx.core.errors import short_repr
from gradtx.core.members import hint_for_member, is_member, member_of
from gradtx.core.rule import TreeRule


def pair_of(owner: str, tx: Any) -> optax.GradientTransformation:
    """A transformation, ours or foreign; an object such as `MultiSteps` is one."""
    if not is_member(tx):
        given = f"{short_repr(tx)}{hint_for_member(tx)}"
        raise TypeError(f"{owner}: tx must be a transformation, got {given}")
    return member_of(tx)


def ours(owner: str, tx: Any) -> Any:
    """As `pair_of`, for transformations of gradtx only."""
    tx = pair_of(owner, tx)
    if not isinstance(tx, FactoryValue):
        name = name_of_foreign(tx)
        raise TypeError(f"{owner}: tx must be of gradtx, got {name!r} of optax")
    return tx


def name_of_foreign(tx: optax.GradientTransformation) -> str:
    """`scale_by_adam` of the function `scale_by_adam.<locals>.update_fn`."""
    return getattr(tx.update, "__qualname__", "optax").split(".")[0]


def rule_of_foreign(tx: optax.GradientTransformation) -> TreeRule:
    """The rule of a foreign optax transformation; its whole state is one slot."""
    inner = optax.with_extra_args_support(tx)
    name = name_of_foreign(tx)

    def update(updates: Any, slots: Any, tree: Any) -> tuple[Any, Any]:
        updates, state = inner.update(updates, slots[name], tree.params, **tree.extra)
        return updates, {name: state}

    takes = [
        "**" if parameter.kind is parameter.VAR_KEYWORD else parameter.name
        for parameter in inspect.signature(tx.update).parameters.values()
    ]
    slots = {name: inner.init}
    return TreeRule(update, slots, takes=tuple(takes), takes_integers=True)
