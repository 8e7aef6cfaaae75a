"""The numbers of a transformation: read by name, kept in the state, changed there."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from optax.schedules import StatefulSchedule, WrappedSchedule

from gradtx.binding import Bound, Remembered
from gradtx.evaluation import eval_params
from gradtx.keys import qualified
from gradtx.lowering import program_of
from gradtx.numbers import DecayValue, is_number, scheduled
from gradtx.roles import DType, Member, NumberRole, Role, Scalar
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
    """

    name: str
    trail: tuple[str, ...]
    given: Any
    count: Any = 0
    is_read: bool = False

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


class _Place:
    """Where the numbers of a transformation are: its state, which has the counts."""

    def __init__(self, bound: Bound | None = None, state: Any = None):
        self.count: Any = 0
        self.inner: dict[int, tuple[Any, Any]] = {}
        self.kept: dict[int, Any] = {}
        if bound is None:
            return  # before any update
        has_count = isinstance(state, Mapping) and "count" in state
        self.count = jnp.asarray(state["count"]) if has_count else None
        program = program_of(bound, self.count)
        for op, keys in zip(program.ops, program.keys, strict=True):
            for slot, tx in op.node.inner.items():
                self.inner[id(tx)] = tx, state[keys[slot]]
            if "hyperparams" in op.slots:
                self.kept[id(op.bound)] = state[keys["hyperparams"]]

    def of(self, member: Any) -> _Place:
        """Where those of a member are."""
        if id(member) not in self.inner:
            return self
        tx, state = self.inner[id(member)]
        return _Place(tx.bound, state)


def _numbers(bound: Bound, trail: tuple[str, ...], place: _Place) -> Iterator[Number]:
    if _keeps_numbers(bound):
        kept = place.kept.get(id(bound), {})
        yield from (Number(name, trail, value) for name, value in kept.items())
        return
    spec = bound.spec
    places = zip(spec.roles, bound.leaves(), spec.names, spec.paths(), strict=True)
    for role, leaf, name, path in places:
        if _is_number(role, leaf):
            name = f"{name}{jax.tree_util.keystr(path)}"
            count = None if place.count is None else place.count + role.steps_ahead
            yield Number(name, trail, leaf, count, role.takes_schedule)
        elif isinstance(leaf, GradientTransformation) and isinstance(leaf, Remembered):
            labels = [str(key.key) for key in path if hasattr(key, "key")]
            inside = (*trail, *labels, leaf.name)
            yield from _numbers(leaf.bound, inside, place.of(leaf))


def _is_number(role: Role, leaf: Any) -> bool:
    return isinstance(role, NumberRole) and (is_number(leaf) or callable(leaf))


def _keeps_numbers(bound: Bound) -> bool:
    """Whether the state has them."""
    return bound.factory.name in ("editable", "injected_hyperparams")


def _named(bound: Bound, place: _Place) -> dict[str, Number]:
    """All numbers, those of one name qualified."""
    numbers = [*_numbers(bound, (bound.factory.name,), place)]
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
    if not isinstance(tx, Remembered):
        raise TypeError(f"hyperparams: takes a transformation of gradtx, got {tx!r}")
    numbers = _named(tx.bound, _Place(tx.bound, state))
    return {name: number.value for name, number in numbers.items()}


@transformation
def editable(transform: Member):
    """Keep the numbers of a transformation in the state, where they can be changed.

    Write `state["hyperparams"]["learning_rate"] = 3e-4`: the next update uses it, and
    nothing is traced again. Numbers that nobody changed are as without this, bit for
    bit; changed ones are float32, whatever the parameters are.

    Args:
        transform: The transformation; numbers of foreign members stay.

    Keeps `hyperparams`, by the names of `gradtx.hyperparams`: each number that `update`
    reads, a scheduled one as it will be at the next update. What is written there
    overrides a schedule for good; NaN brings the schedule back. Also keeps `schedules`,
    to see what was written, and the state of the transformation whole as `inner`.

    Raises:
        ValueError: At `update`: `hyperparams` lacks a number, or holds another one.
    """
    if not isinstance(transform, Remembered):
        raise TypeError(f"editable: takes a transformation of gradtx, got {transform}")

    def numbers(place: _Place) -> dict[str, Number]:
        found = _named(transform.bound, place)
        return {name: number for name, number in found.items() if number.is_read}

    def first(params: Any) -> Any:
        return {name: _float32(it.value) for name, it in numbers(_Place()).items()}

    def first_scheduled(params: Any) -> Any:
        found = numbers(_Place()).items()
        return {name: _float32(it.value) for name, it in found if it.is_scheduled}

    def edited(slots: Any) -> Any:
        mine = numbers(_Place(transform.bound, slots["inner"]))
        written = slots["hyperparams"]
        if written.keys() != mine.keys():
            raise ValueError(
                f"editable: state['hyperparams'] must hold {sorted(mine)}, "
                f"got {sorted(written)}"
            )
        values = (
            _edited(number, jnp.asarray(written[name]), slots["schedules"].get(name))
            for name, number in mine.items()
        )
        return _with(transform, values)

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        out, after = run(edited(slots), updates, slots["inner"], tree)
        written, told = dict(slots["hyperparams"]), dict(slots["schedules"])
        for name, number in numbers(_Place(transform.bound, after)).items():
            if number.is_scheduled:
                follows, now = _follows(written[name], told[name]), number.value
                now = _float32(now)
                told[name] = jnp.where(follows, now, jnp.nan)
                written[name] = jnp.where(follows, now, written[name])
        written = {name: _float32(value) for name, value in written.items()}
        return out, {"hyperparams": written, "schedules": told, "inner": after}

    def evaluate(params: Any, slots: Any) -> Any:
        return eval_params(edited(slots), slots["inner"], params)

    slots = {"hyperparams": first, "schedules": first_scheduled}
    inner = {"inner": transform}
    return TreeRule(update, slots, takes=("**",), evaluate=evaluate, inner=inner)


def _float32(value: Any) -> jax.Array:
    return jnp.asarray(value).astype(jnp.float32)


def _follows(written: Any, told: Any) -> Any:
    """Whether a number is as its schedule has it: NaN asks for that."""
    return (written == told) | jnp.isnan(written)


def _edited(number: Number, written: Any, told: Any) -> Any:
    """The number to use, or its schedule."""

    def by_count(count: Any) -> Any:
        now = jnp.asarray(scheduled(number.given, count))
        return jnp.where(_follows(written, told), now, written.astype(now.dtype))

    if number.is_scheduled:
        return by_count
    exact = jnp.asarray(number.value, float)
    value = jnp.where(written == _float32(exact), exact, written.astype(exact.dtype))
    if isinstance(number.given, DecayValue):
        return DecayValue(value, number.given.kept)  # believed if it is of this value
    return value


def _with(tx: Any, values: Iterator[Any]) -> Any:
    """The transformation with other values of the numbers that `update` reads."""

    def one(role: Role, leaf: Any, name: str) -> Any:
        if _is_number(role, leaf):
            return next(values) if getattr(role, "takes_schedule", False) else leaf
        is_ours = isinstance(leaf, GradientTransformation) and isinstance(
            leaf, Remembered
        )
        if is_ours and not _keeps_numbers(leaf.bound):
            return _with(leaf, values)
        return leaf

    return type(tx)(tx.bound.mapped(one))


def inject_hyperparams(
    inner_factory: Callable[..., Any],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: Any = None,
) -> Callable[..., Any]:
    """A factory whose numbers are in the state, where they can be changed. As optax.

    It is not needed for what it is used for: every number of gradtx's takes a schedule,
    and `tx.replace(learning_rate=0.1)` in a jitted step compiles nothing. Numbers are
    float32 (in optax of the parameters' dtype, in which 0.999 may be 1).

    Args:
        inner_factory: Makes the transformation; gradtx's, optax's, your own.
        static_args: Arguments that are no numbers, where that is not known: of a
            factory that is not gradtx's every callable is taken for a schedule.
        hyperparam_dtype: What numbers are kept in; the default float dtype if None.

    Its transformations keep `hyperparams`, by name (change `state["hyperparams"]`),
    `hyperparams_states`, the states of schedules, and `inner_state`.

    Raises:
        ValueError: A static argument is none of the factory's.
    """
    static = {static_args} if isinstance(static_args, str) else {*static_args}
    signature, dtype = inspect.signature(inner_factory), hyperparam_dtype
    if not static <= signature.parameters.keys():
        unknown = sorted(static - signature.parameters.keys())
        raise ValueError(
            f"inject_hyperparams: static_args must be arguments of "
            f"{inner_factory.__name__}, got {unknown}"
        )

    @functools.wraps(inner_factory)
    def injected(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        kinds: dict[str, dict[str, Any]] = {"number": {}, "schedule": {}, "other": {}}
        for name, value in bound.arguments.items():
            kinds[_kind(inner_factory, name, value, static)][name] = value
        return injected_hyperparams(inner_factory, *kinds.values(), dtype=dtype)

    return injected


def _kind(factory: Any, name: str, value: Any, static: set[str]) -> str:
    """What an argument is: ours by its annotation, of others by its looks."""
    if name in static or isinstance(value, bool):
        return "other"
    if isinstance(value, StatefulSchedule):
        return "schedule"
    ours = getattr(factory, "factory", None)
    if ours is not None:
        role = ours.roles[[*ours.signature.parameters].index(name)]
        is_one = isinstance(role, NumberRole) and not role.is_container
        if not (is_one and role.takes_schedule) or value is None:
            return "other"
    if is_number(value):
        return "number"
    return "schedule" if callable(value) else "other"


@transformation
def injected_hyperparams(
    factory: Any,
    numbers: Mapping[str, Scalar],
    schedules: Mapping[str, Any],
    others: Mapping[str, Any],
    dtype: DType | None = None,
):
    """As `inject_hyperparams`, which makes it."""
    stateful = {
        name: it if isinstance(it, StatefulSchedule) else WrappedSchedule(it)
        for name, it in schedules.items()
    }

    def number(value: Any) -> jax.Array:
        return jnp.asarray(value, dtype or float)

    def first_states(params: Any) -> Any:
        return {name: schedule.init() for name, schedule in stateful.items()}

    def first(params: Any) -> Any:
        states = first_states(params)
        now = {name: schedule(states[name]) for name, schedule in stateful.items()}
        return {name: number(value) for name, value in {**numbers, **now}.items()}

    def inner_state(params: Any) -> Any:
        return factory(**others, **first(params)).init(params)

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        states = slots["hyperparams_states"]
        given, known = slots["hyperparams"].keys(), {*numbers, *schedules}
        if given != known:
            raise ValueError(
                f"inject_hyperparams: state['hyperparams'] must hold {sorted(known)}, "
                f"got {sorted(given)}"
            )
        now = {n: it(states[n], **tree.extra) for n, it in stateful.items()}
        hyperparams = {n: number(x) for n, x in {**slots["hyperparams"], **now}.items()}
        inner = factory(**others, **hyperparams)
        out, after = run(inner, updates, slots["inner_state"], tree)
        return out, {
            "hyperparams": hyperparams,
            "hyperparams_states": {
                n: it.update(states[n], **tree.extra) for n, it in stateful.items()
            },
            "inner_state": after,
        }

    def evaluate(params: Any, slots: Any) -> Any:
        inner = factory(**others, **slots["hyperparams"])
        return eval_params(inner, slots["inner_state"], params)

    slots = {
        "hyperparams": first,
        "hyperparams_states": first_states,
        "inner_state": inner_state,
    }
    is_step = "learning_rate" in {*numbers, *schedules, *others}
    return TreeRule(update, slots, takes=("**",), evaluate=evaluate, is_step=is_step)
