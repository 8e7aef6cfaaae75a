"""`inject_hyperparams`: numbers in the state, under the names of optax."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
from jax import numpy as jnp
from optax.schedules import StatefulSchedule, WrappedSchedule

from gradtx.compiler.evaluate import eval_params
from gradtx.compiler.inventory import Labels, Number, Place, Where, changing
from gradtx.compiler.lower import takes_batch
from gradtx.compiler.naming import Trail, Unit
from gradtx.compiler.nested import run
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import DType, Scalar
from gradtx.core.arguments import NumberRole
from gradtx.core.call import FactoryCall, FactoryValue
from gradtx.core.context import Tree
from gradtx.core.errors import set_difference
from gradtx.core.factory import declare
from gradtx.core.numbers import is_number
from gradtx.core.rule import TreeRule
from gradtx.core.stable import stable


def inject_hyperparams(
    inner_factory: Callable[..., Any],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: Any = None,
) -> Callable[..., Any]:
    """Make a factory whose transformations keep their numbers in the state, editable.

    Same arguments, defaults and numbers as `optax.inject_hyperparams`.

    Its usual purposes do not need it: every number of gradtx takes a schedule, and
    `tx.replace(learning_rate=0.1)` in a jitted step does not recompile. Numbers are
    float32 (in optax they have the parameters' dtype, in which 0.999 may be 1).

    Args:
        inner_factory: Factory of the transformation: of gradtx, of optax, or your own.
        static_args: Arguments that are not numbers, for a factory from outside of
            gradtx, where every other callable is taken as a schedule.
        hyperparam_dtype: Storage dtype of the numbers; the default float dtype if None.

    Its transformations keep `hyperparams`, by name (change `state["hyperparams"]`),
    `hyperparams_states`, the states of schedules, and `inner_state`.

    Raises:
        ValueError: A static argument is not an argument of the factory.

    Examples:
        >>> tx = gradtx.inject_hyperparams(gradtx.sgd)(learning_rate=0.5)
        >>> state = tx.init(jnp.zeros(()))
        >>> state.hyperparams["learning_rate"] = jnp.float32(0.25)
        >>> updates, state = tx.update(jnp.ones(()), state)
        >>> print(updates)
        -0.25
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
    """The kind of an argument: by annotation in our factories, else by its value."""
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


def _injected_numbers(
    bound: FactoryCall, trail: Trail, place: Place, labels: Labels, where: Where
) -> Iterator[Number]:
    """The numbers of `inject_hyperparams` in the state."""
    slots, spec = place.take(bound, labels)[1], bound.spec
    factory = bound.values()[0]
    name_of_factory = getattr(factory, "__name__", type(factory).__name__)
    trail = (*trail, Unit(name_of_factory, where))
    places = zip(spec.roles, spec.names, spec.paths(), strict=True)
    for i, (role, name, path) in enumerate(places):
        if name in ("numbers", "schedules"):
            key, at = path[0].key, (*where, i)
            given = slots["hyperparams"].get(key) if slots else None
            yield Number((*trail, Unit(key, at)), at, role, given, is_kept=True)


@stable
@declare(lists_numbers=_injected_numbers)
@transformation
def injected_hyperparams(
    factory: Any,
    numbers: Mapping[str, Scalar],
    schedules: Mapping[str, Any],
    others: Mapping[str, Any],
    dtype: DType | None = None,
):
    """The transformation that `inject_hyperparams` makes."""
    stateful = {
        name: it if isinstance(it, StatefulSchedule) else WrappedSchedule(it)
        for name, it in schedules.items()
    }

    layouts: dict[Any, Any] = {}

    def made(hyperparams: Any) -> Any:
        inner = factory(**others, **hyperparams)
        if not isinstance(inner, FactoryValue):
            return inner
        is_its_own = getattr(factory, "factory", None) is inner.bound.factory
        inner = changing(inner, {*hyperparams} if is_its_own else None)
        inner.bound.layouts = layouts
        return inner

    def number(value: Any) -> jax.Array:
        return jnp.asarray(value, dtype or float)

    def first_states(params: Any) -> Any:
        return {name: schedule.init() for name, schedule in stateful.items()}

    def first(params: Any) -> Any:
        states = first_states(params)
        now = {name: schedule(states[name]) for name, schedule in stateful.items()}
        return {name: number(value) for name, value in {**numbers, **now}.items()}

    def update(updates: Any, slots: Any, tree: Tree) -> tuple[Any, Any]:
        states = slots["hyperparams_states"]
        if other := set_difference(slots["hyperparams"], {*numbers, *schedules}):
            raise ValueError(f"inject_hyperparams: state['hyperparams']: {other}")
        now = {n: it(states[n], **tree.extra) for n, it in stateful.items()}
        hyperparams = {n: number(x) for n, x in {**slots["hyperparams"], **now}.items()}
        inner = made(hyperparams)
        out, after = run(inner, updates, slots["inner_state"], tree)
        return out, {
            "hyperparams": hyperparams,
            "hyperparams_states": {
                n: it.update(states[n], **tree.extra) for n, it in stateful.items()
            },
            "inner_state": after,
        }

    def evaluate(params: Any, slots: Any) -> Any:
        inner = made(slots["hyperparams"])
        return eval_params(inner, slots["inner_state"], params)

    slots = {"hyperparams": first, "hyperparams_states": first_states}
    inner = made(first(None))
    return TreeRule(
        update,
        slots,
        takes=("**",),
        evaluate=evaluate,
        inner={"inner_state": inner},
        takes_batch=takes_batch(inner),
        takes_integers=True,
    )
