"""Hyperparameters: read by name, or kept and edited in the state."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

import jax
from jax import numpy as jnp

from gradtx.compiler.checks import check_state
from gradtx.compiler.evaluate import eval_params
from gradtx.compiler.foreign import ours
from gradtx.compiler.inventory import (
    Labels,
    Number,
    Place,
    Where,
    changing,
    float32,
    follows,
    keeps_numbers,
    keys_of,
    now,
    numbers_inside,
    numbers_of,
    units_of,
    with_numbers,
)
from gradtx.compiler.lower import takes_batch
from gradtx.compiler.naming import Names, Numbers, Trail
from gradtx.compiler.nested import run
from gradtx.compiler.transformation import GradientTransformation, transformation
from gradtx.core.annotations import Member, SubSchedule
from gradtx.core.arguments import Role
from gradtx.core.call import FactoryCall, FactoryValue
from gradtx.core.context import Tree
from gradtx.core.errors import first_few, set_difference
from gradtx.core.factory import declare, register_pytree, remember
from gradtx.core.numbers import DecayValue, scheduled
from gradtx.core.rule import Slot, TreeRule


def _read(tx: Any, place: Place | None = None) -> dict[str, Number]:
    """The numbers that `update` reads, by key."""
    numbers = [*numbers_of(tx, place)]
    keys = keys_of(numbers)
    return {keys[n.where]: n for n in numbers if n.where in keys}


def hyperparams(tx: GradientTransformation, state: Any) -> Numbers:
    """All numbers of a transformation by name, with schedules at their current value.

    `hyperparams(tx, state)["learning_rate"]` is the value for the next update. If
    several numbers have the same name, the factories around them qualify it, as far as
    needed: `adamw.learning_rate`. Wrapping the transformation changes no name. Longer
    qualified names also work, and so do the keys of `editable`.

    Args:
        tx: A transformation; numbers of foreign members are not included.
        state: Its state, for the counts.

    Returns:
        A dict, whose KeyError lists the names.

    Raises:
        TypeError: `tx` is not a transformation of gradtx.

    Examples:
        >>> tx = gradtx.sgd(gradtx.linear_schedule(0.5, 0.0, 2), momentum=0.75)
        >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))
        >>> print(gradtx.hyperparams(tx, state)["learning_rate"])
        0.25
    """
    tx = ours("hyperparams", tx)
    check_state("hyperparams", state)
    numbers = [*numbers_of(tx, Place(tx.bound, state))]
    numbers = [number for number in numbers if number.given is not None]
    names = Names([number.trail for number in numbers])
    values = (number.value for number in numbers)
    return Numbers(dict(zip(names.shortest, values, strict=True)), names)


def check_numbers(owner: str, tx: Any, state: Any, kept: Mapping[str, Any]) -> None:
    """Raise unless the numbers in another state are those of a transformation."""
    mine = hyperparams(tx, state)
    for name, value in kept.items():
        numbers = [x for n, x in mine.items() if n.rpartition(".")[2] == name]
        if not any(jnp.allclose(x, value, 1e-6, 0.0) for x in numbers):
            has = [float(x) for x in numbers] or "no such number"
            raise ValueError(
                f"{owner}: the state keeps {name}={float(value):.6g}, and {tx.name} "
                f"has {has}; editable({tx.name}(...)) goes on with what a state keeps"
            )


def adopted(
    owner: str,
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    scheduled: Collection[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The slots of `editable` for the numbers of another state.

    Args:
        owner: The caller's name, for errors.
        mine: The numbers of `editable` by name.
        theirs: The numbers of the state.
        scheduled: The names of numbers from schedules, which `editable` computes.
    """
    if unknown := sorted(theirs.keys() - mine.keys()):
        raise ValueError(
            f"{owner}: the state keeps {first_few(unknown)}, and here is no such number"
        )
    numbers = {**mine, **theirs}
    given = {n: x if n in scheduled else mine[n] for n, x in numbers.items()}
    return numbers, jax.tree.map(jnp.array, given)  # in separate buffers


def _edited_numbers(
    bound: FactoryCall, trail: Trail, place: Place, labels: Labels, where: Where
) -> Iterator[Number]:
    """The numbers of an `editable`, with their values for the next update."""
    slots, inside = place.take(bound, labels)[1], bound.values()[0]
    at = (*where, 0)
    around = (*trail, *units_of(inside, at))
    numbers = [*numbers_inside(bound, inside, around, place, labels, (), at)]
    keys = keys_of(numbers, len(trail))
    for number in numbers:
        key = keys.get(number.where)
        if key is None or slots is None:
            yield number._replace(is_kept=number.is_kept or key is not None)
            continue
        written, given = slots["hyperparams"], slots["given"]
        value = number.value
        if key in written:
            value = now(number, written[key], given[key])
        yield number._replace(given=value, is_kept=True)


@declare(lists_numbers=_edited_numbers)
@transformation
def editable(transform: Member):
    """Keep the numbers of a transformation in the state, to change them there.

    Write `state["hyperparams"]["learning_rate"] = jnp.float32(3e-4)`: the next update
    uses it without a new trace (a Python number has another type and causes one).
    Unchanged numbers give bit for bit the results without `editable`. Changed ones are
    float32, for parameters of any dtype; their range is not checked.

    Args:
        transform: The transformation; numbers of foreign members stay.

    Keeps `hyperparams`, by the names of `gradtx.hyperparams`: each number that `update`
    reads, with a schedule's value for the next update. A written value overrides the
    transformation until you write NaN, which restores it. Also keeps `given`, the
    values of the transformation, to detect written ones, and the transformation's whole
    state as `inner`.

    Raises:
        ValueError: The transformation is already editable. At `update`: a number of
            `hyperparams` is missing, unexpected, or not a scalar.

    Examples:
        >>> tx = gradtx.editable(gradtx.sgd(0.5))
        >>> state = tx.init(jnp.zeros(()))
        >>> state["hyperparams"]["learning_rate"] = jnp.float32(0.25)
        >>> updates, state = tx.update(jnp.ones(()), state)
        >>> print(updates)
        -0.25
    """
    inside = ours("editable", transform)
    if keeps_numbers(inside.bound):
        raise ValueError(
            f"editable: the numbers of {inside.name} are in its state already"
        )
    inside = changing(inside)

    def first(params: Any) -> Any:
        return {name: float32(it.value) for name, it in _read(inside).items()}

    def edited(slots: Any) -> Any:
        mine = _read(inside, Place(inside.bound, slots["inner"]))
        written = slots["hyperparams"]
        _check_written(written, mine)
        values = (
            _edited(number, jnp.asarray(written[name]), slots["given"][name])
            for name, number in mine.items()
        )
        return with_numbers(inside, values)

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        out, after = run(edited(slots), updates, slots["inner"], tree)
        written, given = {}, {}
        for name, number in _read(inside, Place(inside.bound, after)).items():
            before, said = slots["hyperparams"][name], slots["given"][name]
            written[name] = now(number, before, said)
            given[name] = jnp.where(follows(before, said), written[name], jnp.nan)
        return out, {"hyperparams": written, "given": given, "inner": after}

    def evaluate(params: Any, slots: Any) -> Any:
        return eval_params(edited(slots), slots["inner"], params)

    slots = {"hyperparams": first, "given": Slot(first, is_only_here=True)}
    return TreeRule(
        update,
        slots,
        takes=("**",),
        evaluate=evaluate,
        inner={"inner": inside},
        in_optax={"inner": "inner_state"},
        takes_batch=takes_batch(inside),
        takes_integers=True,
    )


def _check_written(written: Any, known: Mapping[str, Number]) -> None:
    """Raise unless the state has exactly these numbers."""
    if other := set_difference(written, known):
        raise ValueError(f"editable: state['hyperparams']: {other}")
    for name, value in written.items():
        if jnp.shape(value):
            raise ValueError(
                f"editable: state['hyperparams'][{name!r}] must be a scalar, "
                f"got shape {jnp.shape(value)}"
            )


def _edited(number: Number, written: Any, given: Any) -> Any:
    """The number to use, or its schedule."""
    if number.is_scheduled:
        return _edited_schedule(number.given, written, given)
    value = _chosen(jnp.asarray(number.value, float), written, given)
    if isinstance(number.given, DecayValue):
        # The stored complement is used if it belongs to this value.
        return DecayValue(value, number.given.kept, changes=True)
    return value


def _chosen(own: Any, written: Any, given: Any) -> Any:
    """The number in the state if it was changed, else that of the transformation."""
    own = jnp.asarray(own)
    own = own if jnp.issubdtype(own.dtype, jnp.inexact) else own.astype(float)
    return jnp.where(follows(written, given), own, written.astype(own.dtype))


class _EditedSchedule(FactoryValue):
    """A schedule of a transformation with a number from the state.

    It remembers its arguments, so that the next update reuses the compiled program.
    """

    def __init__(self, bound: FactoryCall):
        self.bound = bound

    def __call__(self, count: Any) -> Any:
        own, written, given = self.bound.values()
        return _chosen(scheduled(own, count), written, given)


register_pytree(_EditedSchedule)


class _ArrayRole(Role):
    """An array that JAX may trace."""

    def is_child(self, value: Any) -> bool:
        """Always true."""
        return True


@functools.partial(remember, cls=_EditedSchedule)
def _edited_schedule(
    own: SubSchedule,
    written: Annotated[Any, _ArrayRole()],
    given: Annotated[Any, _ArrayRole()],
):
    """A schedule, with its value overridden if the state has a written one."""
