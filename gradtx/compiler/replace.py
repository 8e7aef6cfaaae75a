"""`replace`: copy a transformation with some numbers inside it changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from gradtx.compiler.inventory import Number, keeps_numbers, numbers_of
from gradtx.compiler.naming import Names
from gradtx.core.call import FactoryCall, FactoryValue
from gradtx.core.errors import first_few


def replaced(tx: Any, changes: Mapping[str, Any]) -> Any:
    """See `GradientTransformation.replace`.

    A name is an argument of the whole if there is one, otherwise a number.
    """
    parameters = tx.bound.factory.signature.parameters
    plain = {name: x for name, x in changes.items() if name in parameters}
    named = {name: x for name, x in changes.items() if name not in parameters}
    if plain or not named:
        tx = FactoryValue.replace(tx, **plain)
    if not named:
        return tx
    numbers = [*numbers_of(tx)]
    names = Names([number.trail for number in numbers])
    values: dict[tuple[int, ...], Any] = {}
    called: dict[tuple[int, ...], str] = {}
    for name, value in named.items():
        number = numbers[_one(tx, names, name)]
        if number.where in called:
            both = first_few([called[number.where], name])
            raise ValueError(f"{tx.name}: {both} are one number; give it once")
        called[number.where] = name
        values[number.where] = _checked(tx.bound, number, value)
    return _rebuilt(tx, values)


def _one(tx: Any, names: Names, name: str) -> int:
    """The index of the number of a name."""
    found = names.find(name)
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{tx.name}: {names.several(name, found)}")
    more = f", and the numbers {first_few(names.shortest)}" if names.shortest else ""
    if tx.bound.holds_foreign:
        more += "; numbers of foreign members are not known"
    raise tx.bound.factory.unknown(name, names.near(), more)


def _checked(bound: FactoryCall, number: Number, value: Any) -> Any:
    """A value for a number, checked by its factory."""
    for i in number.where[:-1]:
        bound = bound.leaves()[i].bound
    owner, argument = bound.factory.name, number.argument
    if keeps_numbers(bound):
        raise ValueError(
            f"{owner}: {argument} is in the state: write "
            f"state['hyperparams'][{argument!r}], or make the transformation anew"
        )
    whole = bound.spec.names[number.where[-1]]
    if value is None and whole == argument:
        number.role.check_none(owner, argument)
    else:
        number.role.bind(value, owner, argument)
    return value


def _rebuilt(tx: Any, values: Mapping[tuple[int, ...], Any]) -> Any:
    """The transformation with other leaves, with each factory called again."""
    bound, inside = tx.bound, {}
    leaves = bound.leaves()
    for (i, *rest), value in values.items():
        inside.setdefault(i, {})[tuple(rest)] = value
    for i, them in inside.items():
        leaves[i] = _rebuilt(leaves[i], them) if () not in them else them[()]
    rest = iter(leaves)
    return bound.factory.make(
        [
            jax.tree.unflatten(t, [next(rest) for _ in range(t.num_leaves)])
            for t in bound.spec.treedefs
        ]
    )
