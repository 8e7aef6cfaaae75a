"""The numbers of a transformation: read by name, kept in the state, changed there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp

from gradtx.binding import Bound, Remembered
from gradtx.checks import check_keys, check_state, is_state
from gradtx.errors import differ, some
from gradtx.evaluation import eval_params
from gradtx.keys import qualified
from gradtx.lowering import ours, program_of, takes_batch
from gradtx.numbers import DecayValue, is_number, scheduled
from gradtx.roles import Member, NumberRole, Role
from gradtx.rule import Tree, TreeRule
from gradtx.transform import GradientTransformation, transformation
from gradtx.wrap import run


class Number(NamedTuple):
    """A number of a transformation.

    Attributes:
        name: The argument that it is.
        trail: The factories around it, and the groups, outermost first.
        given: The number, or its schedule.
        count: The count that its schedule sees.
        is_read: Whether `update` reads it, and not only `init`.
        is_kept: Whether it is in the state.
    """

    name: str
    trail: tuple[str, ...]
    given: Any
    count: Any = 0
    is_read: bool = False
    is_kept: bool = False

    @property
    def is_scheduled(self) -> bool:
        """Whether a schedule gives it."""
        return not is_number(self.given)

    @property
    def value(self) -> Any:
        """The number, a schedule's at its count."""
        if self.is_scheduled:
            return scheduled(self.given, self.count)
        return self.given.value if isinstance(self.given, DecayValue) else self.given


Labels = tuple[str, ...]
"""The groups around a part of a transformation, outermost first."""


class _Place:
    """Where the numbers of a transformation are: its state, which has the counts."""

    def __init__(self, bound: Bound | None = None, state: Any = None):
        self.count: Any = 0
        self.steps: dict[int, Any] = {}
        self.found: list[tuple[set[int], Labels, Any, Any]] = []
        if bound is None:
            return  # before any update
        has_count = is_state(state)
        self.count = jnp.asarray(state["count"]) if has_count else None
        program = program_of(bound, self.count)
        check_keys(program, state or {}, program.foreign_keys)
        for op, keys in zip(program.ops, program.keys, strict=True):
            parts = [*program.around(op)]
            labels = tuple(part.label for part in reversed(parts) if part.label)
            around = {id(part.bound) for part in parts}
            for slot, tx in op.node.inner.items():
                self.found.append((around, labels, tx, state[keys[slot]]))
            if "hyperparams" in op.slots:
                kept = {slot: state[key] for slot, key in keys.items()}
                self.found.append((around, labels, None, kept))
            if "gradient_step" in op.slots:
                self.steps[id(parts[0].bound)] = state[keys["gradient_step"]]

    def take(self, bound: Bound, labels: Labels, member: Any = None) -> Any:
        """A member as it is run and its state, or the slots with the numbers.

        Asked once for each: the next one of an equal place is another. None twice if
        there are none.
        """
        for i, (around, where, it, value) in enumerate(self.found):
            is_there = id(bound) in around and where == labels
            if is_there and _is_run_as(member, it):
                del self.found[i]
                return it, value
        return None, None


def _is_run_as(member: Any, it: Any) -> bool:
    """Whether this is a member, or what `editable` makes of it."""
    if it is member or it is None or member is None:
        return it is member
    return isinstance(it, Remembered) and it == changing(member)


def _numbers(
    bound: Bound, trail: tuple[str, ...], place: _Place, labels: Labels = ()
) -> Iterator[Number]:
    keeps = _keeps_numbers(bound)
    if keeps:
        for name, value in _kept(bound, place.take(bound, labels)[1]).items():
            yield Number(name, trail, value, is_kept=True)
    spec = bound.spec
    places = zip(spec.roles, bound.leaves(), spec.names, spec.paths(), strict=True)
    names: dict[Any, str] = {}  # of members of a named chain, which are in pairs
    for role, leaf, name, path in places:
        if path and isinstance(leaf, str):
            names[path[:-1]] = leaf
        if _is_number(role, leaf) and not keeps:
            name = f"{name}{jax.tree_util.keystr(path)}"
            yield Number(name, trail, leaf, _count(role, bound, place), _is_read(role))
        elif isinstance(leaf, GradientTransformation) and isinstance(leaf, Remembered):
            groups = tuple(str(key.key) for key in path if hasattr(key, "key"))
            called = (names[path[:-1]],) if path[:-1] in names else _called(leaf)
            inside = (*trail, *groups, *called)
            it, state = place.take(bound, labels, leaf)
            if it is None:
                found = _numbers(leaf.bound, inside, place, (*labels, *groups))
            else:
                found = _numbers(it.bound, inside, _Place(it.bound, state))
            # Those that are in the state go by what is there.
            yield from (number for number in found if not keeps or number.is_kept)


def _kept(bound: Bound, slots: Any) -> dict[str, Any]:
    """The numbers in the state as the next update will use them."""
    if slots is None or "given" not in slots:  # as optax has them: as they are
        return slots["hyperparams"] if slots else {}
    inside = changing(bound.values()[0])
    written, given = slots["hyperparams"], slots["given"]
    numbers = _read(inside, _Place(inside.bound, slots["inner"]))
    known = numbers.keys() & written.keys()
    return {**written, **{n: _now(numbers[n], written[n], given[n]) for n in known}}


def _called(tx: Any) -> tuple[str, ...]:
    """What a transformation adds to the names of its numbers."""
    if tx.name == "named":
        return (tx.arguments["key"],)
    return () if tx.name == "chain" else (tx.name,)


def _count(role: Any, bound: Bound, place: _Place) -> Any:
    """The count that a schedule sees."""
    if role.keeps_schedule:  # of `accumulate`: its own
        return place.steps.get(id(bound), place.count)
    return None if place.count is None else place.count + role.steps_ahead


def _is_read(role: Role) -> bool:
    """Whether `update` reads a number: it may then be scheduled, and traced."""
    return isinstance(role, NumberRole) and role.takes_schedule


def _is_number(role: Role, leaf: Any) -> bool:
    return isinstance(role, NumberRole) and (is_number(leaf) or callable(leaf))


def _keeps_numbers(bound: Bound) -> bool:
    """Whether the state has them."""
    return bound.factory.name in ("editable", "injected_hyperparams")


def _named(tx: Any, place: _Place) -> dict[str, Number]:
    """All numbers, those of one name qualified."""
    numbers = [*_numbers(tx.bound, _called(tx), place)]
    by_name: dict[str, list[int]] = {}
    for i, number in enumerate(numbers):
        by_name.setdefault(number.name, []).append(i)
    names = [number.name for number in numbers]
    for name, mine in by_name.items():
        if len(mine) > 1:
            told = qualified(name, [numbers[i].trail for i in mine])
            for i, key in zip(mine, told, strict=True):
                names[i] = key
    return dict(zip(names, numbers, strict=True))


def _read(tx: Any, place: _Place) -> dict[str, Number]:
    """Those numbers that `update` reads."""
    found = _named(tx, place)
    return {name: number for name, number in found.items() if number.is_read}


def hyperparams(tx: GradientTransformation, state: Any) -> dict[str, Any]:
    """Every number of a transformation by name, schedules at their value now.

    `hyperparams(tx, state)["learning_rate"]` is what the next update uses. A name that
    several have is qualified as slots are: by the factories around it, by its group.

    Args:
        tx: A transformation; of foreign ones in it nothing is known.
        state: Its state, which has the counts.

    Raises:
        TypeError: `tx` is no transformation of gradtx.
    """
    tx = ours("hyperparams", tx)
    check_state("hyperparams", state)
    numbers = _named(tx, _Place(tx.bound, state))
    return {name: number.value for name, number in numbers.items()}


def check_numbers(owner: str, tx: Any, state: Any, kept: Mapping[str, Any]) -> None:
    """The numbers that another state keeps are those of a transformation."""
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
    """What `editable` keeps where another state kept numbers.

    Args:
        owner: Who asks, for errors.
        mine: Its numbers by name.
        theirs: Those of the state.
        scheduled: The names of those that schedules gave: it has these itself.
    """
    if unknown := sorted(theirs.keys() - mine.keys()):
        raise ValueError(
            f"{owner}: the state keeps {some(unknown)}, and here is no such number"
        )
    numbers = {**mine, **theirs}
    given = {n: x if n in scheduled else mine[n] for n, x in numbers.items()}
    return numbers, jax.tree.map(jnp.array, given)  # buffers of their own


@transformation
def editable(transform: Member):
    """Keep the numbers of a transformation in the state, where they can be changed.

    Write `state["hyperparams"]["learning_rate"] = jnp.float32(3e-4)`: the next update
    uses it, and nothing is traced again (it is for a Python number: JAX has another
    type for it). Numbers that nobody changed are as without this, to their rounding;
    changed ones are float32, whatever the parameters are; nobody checks their range.

    Args:
        transform: The transformation; numbers of foreign members stay.

    Keeps `hyperparams`, by the names of `gradtx.hyperparams`: each number that `update`
    reads, a scheduled one as it will be at the next update. What is written there
    overrides the transformation for good; NaN brings back what that says. Also keeps
    `given`, which is what it said, to see what was written, and the state of the
    transformation whole as `inner`.

    Raises:
        ValueError: The transformation is editable. At `update`: `hyperparams` lacks a
            number, or holds another one or an array of them.
    """
    inside = ours("editable", transform)
    if _keeps_numbers(inside.bound):
        raise ValueError(
            f"editable: the numbers of {inside.name} are in its state already"
        )
    inside = changing(inside)

    def first(params: Any) -> Any:
        return {
            name: _float32(it.value) for name, it in _read(inside, _Place()).items()
        }

    def edited(slots: Any) -> Any:
        mine = _read(inside, _Place(inside.bound, slots["inner"]))
        written = slots["hyperparams"]
        _check_written(written, mine)
        values = (
            _edited(number, jnp.asarray(written[name]), slots["given"][name])
            for name, number in mine.items()
        )
        return _with(inside, values)

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        out, after = run(edited(slots), updates, slots["inner"], tree)
        written, given = {}, {}
        for name, number in _read(inside, _Place(inside.bound, after)).items():
            before, said = slots["hyperparams"][name], slots["given"][name]
            written[name] = _now(number, before, said)
            given[name] = jnp.where(follows(before, said), written[name], jnp.nan)
        return out, {"hyperparams": written, "given": given, "inner": after}

    def evaluate(params: Any, slots: Any) -> Any:
        return eval_params(edited(slots), slots["inner"], params)

    slots = {"hyperparams": first, "given": first}
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


def _float32(value: Any) -> jax.Array:
    return jnp.asarray(value).astype(jnp.float32)


def follows(written: Any, given: Any) -> Any:
    """Whether a number is as the transformation says: NaN asks for that."""
    written = _float32(written)
    return (written == given) | jnp.isnan(written)


def _now(number: Number, written: Any, given: Any) -> Any:
    """A number in the state as it is used next."""
    own, written = _float32(number.value), _float32(written)
    return jnp.where(follows(written, given), own, written)


def _check_written(written: Any, known: Mapping[str, Number]) -> None:
    """What is in the state must be these numbers."""
    if other := differ(written, known):
        raise ValueError(f"editable: state['hyperparams'] {other}")
    for name, value in written.items():
        if jnp.shape(value):
            raise ValueError(
                f"editable: state['hyperparams'][{name!r}] must be a scalar, "
                f"got shape {jnp.shape(value)}"
            )


def _edited(number: Number, written: Any, given: Any) -> Any:
    """The number to use, or its schedule."""

    def chosen(own: Any) -> Any:
        own = jnp.asarray(own)
        own = own if jnp.issubdtype(own.dtype, jnp.inexact) else own.astype(float)
        return jnp.where(follows(written, given), own, written.astype(own.dtype))

    if number.is_scheduled:
        return lambda count: chosen(scheduled(number.given, count))
    value = chosen(jnp.asarray(number.value, float))
    if isinstance(number.given, DecayValue):
        # The complement is believed if it is of this value.
        return DecayValue(value, number.given.kept, changes=True)
    return value


def changing(tx: Any, arguments: Collection[str] | None = None) -> Any:
    """The same transformation, where every decay that `update` reads may change.

    Args:
        tx: A transformation of ours.
        arguments: Those of its arguments that may, if it is not all, at any depth.
    """

    def one(role: Role, leaf: Any, name: str) -> Any:
        if arguments is not None and name not in arguments:
            return leaf
        if isinstance(leaf, DecayValue) and _is_read(role):
            return DecayValue(leaf.value, leaf.kept, changes=True)
        if isinstance(leaf, GradientTransformation) and isinstance(leaf, Remembered):
            return leaf if _keeps_numbers(leaf.bound) else changing(leaf)
        return leaf

    return type(tx)(tx.bound.mapped(one))


def _with(tx: Any, values: Iterator[Any]) -> Any:
    """The transformation with other values of the numbers that `update` reads."""

    def one(role: Role, leaf: Any, name: str) -> Any:
        if _is_number(role, leaf):
            return next(values) if _is_read(role) else leaf
        is_ours = isinstance(leaf, GradientTransformation) and isinstance(
            leaf, Remembered
        )
        if is_ours and not _keeps_numbers(leaf.bound):
            return _with(leaf, values)
        return leaf

    return type(tx)(tx.bound.mapped(one))
