"""Every number that `update` reads takes a schedule; those that it does not, none."""

import dataclasses
import functools
import operator
import typing

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import testing
from gradtx.core.numbers import DecayValue
from tests import catalogue
from tests.registry import CASES, example, factories
from tests.test_catalogue import numbers_of, pairs


class Number(typing.NamedTuple):
    """A number of a transformation: what it is at first, and after one update."""

    first: float
    second: float
    steps_ahead: int
    is_decay: bool

    @classmethod
    def of(cls, value, role):
        """Near the value; somewhere in the range if there is none."""
        if value is None:
            value = 2.0 if role.is_count else 0.5
        elif callable(value):
            value = 1.0
        after = value + 1 if role.is_count else 0.9 * value if value else 0.05
        return cls(value, after, role.steps_ahead, role.is_decay)

    def schedule(self, count):
        """The schedule of the two: a line."""
        return self.first + (count - self.steps_ahead) * (self.second - self.first)


def that_may_change(when):
    """The number as one of several: the weight of an average is then kept."""

    def constant(number):
        value = when(number)
        return DecayValue.of(value, changes=True) if number.is_decay else value

    return constant


FIRST, SECOND = operator.attrgetter("first"), operator.attrgetter("second")


@dataclasses.dataclass(frozen=True)
class Trial:
    """The example of a transformation.

    Attributes:
        name: The transformation.
        more: Arguments that make it read all its numbers.
        place: Where it stands, if it does not stand alone.
        case: Its name in `CASES`, if another.
    """

    name: str
    more: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    place: typing.Callable = lambda tx: tx
    case: str = ""

    @functools.cached_property
    def tx(self):
        return example(factories()[self.name])

    @functools.cached_property
    def run(self):
        params = {"w": jnp.full((2, 3), 0.5), "b": [jnp.ones(())]}
        return testing.Case(params, **CASES.get(self.case or self.name, {}))

    @functools.cached_property
    def update(self):
        """One trace for all numbers."""

        @jax.jit
        def update(tx, grads, state, params):
            return self.run.update(self.place(tx), grads, state, params)

        return update

    def numbers(self, fills):
        """Each number as a `Number`, in the tree of its argument.

        Those that are None too, if it `fills`.
        """

        def one(value, role):
            return jax.tree.map(
                lambda x: Number.of(x, role),
                (None, None) if value is None and role.is_container else value,
                is_leaf=lambda x: x is None or role.is_leaf(x),
            )

        given = {a: (self.tx.arguments[a], r) for a, r in numbers_of(self.name).items()}
        return {a: one(*v) for a, v in given.items() if fills or v[0] is not None}

    def with_each(self, numbers, what, **more):
        """The transformation with something of each number in its place."""
        changes = jax.tree.map(what, numbers, is_leaf=lambda x: isinstance(x, Number))
        return self.tx.replace(**changes | more)


def before_infinities(tx):
    """It gets one finite gradient, and then others."""
    sizes = gradtx.scale(lambda count: jnp.where(count == 0, 1.0, jnp.inf))
    return gradtx.chain(sizes, tx)


TRIALS = {
    **{name: Trial(name) for name in factories()},
    **{
        trial.name: trial
        for trial in (
            Trial(
                "main_directions",
                place=lambda tx: gradtx.let("directions", tx, gradtx.identity()),
            ),
            Trial("adagc", {"warmup": 1.0}),
            Trial(
                "apply_if_finite", {"max_consecutive_errors": 0.0}, before_infinities
            ),
            Trial("loss_scale", {"growth_interval": 1.0}, before_infinities),
            Trial("norm_above", {"max_norm": 100.0}),
            Trial("norm_spikes", {"warmup": 1.0, "threshold": 0.0}),
            Trial("reduce_on_plateau", {"patience": 1.0}),
            Trial("momo", {"adapt_lower_bound": True}),
            Trial("momo_adam", {"adapt_lower_bound": True}),
            Trial("scale_by_lion", {"mode": "smooth"}),
            Trial(
                "scale_by_model_step",
                {"adapt_lower_bound": True},
                lambda tx: gradtx.moments(
                    gradtx.let("average", gradtx.scale_by_ema(0.9), tx)
                ),
                "momo",
            ),
            Trial(  # steps that are too long, and too short
                "scale_by_zoom_linesearch",
                {"curv_rtol": 0.0, "max_learning_rate": 100.0},
                lambda tx: gradtx.chain(
                    gradtx.scale(lambda count: jnp.where(count % 2 == 0, -3, -0.01)), tx
                ),
            ),
            Trial("schedule_free_sgd", {"learning_rate": 0.5}),
            Trial(
                "scale_by_muon",
                place=lambda tx: gradtx.groups({"w": tx, "**": gradtx.identity()}),
            ),
        )
    },
}


def of_each_transformation(names):
    """One worker tries all on a transformation: it has the program already."""
    return pytest.mark.parametrize(
        "name", [pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in names]
    )


def lacks_numbers(name):
    """Whether a number is None in the example."""
    parameters = factories()[name].signature.parameters
    return any(parameters[argument].default is None for argument in numbers_of(name))


@pytest.mark.parametrize(
    ("name", "fills"),
    [
        pytest.param(name, fills, marks=pytest.mark.xdist_group(name))
        for name in TRIALS
        if numbers_of(name)
        for fills in [True] + [False] * lacks_numbers(name)
    ],
)
def test_a_schedule_gives_the_number_of_each_update(name, fills):
    with jax.enable_x64(True):
        trial = TRIALS[name]
        params, numbers = trial.run.params, trial.numbers(fills)
        scheduled = trial.with_each(numbers, lambda number: number.schedule)
        plain = [
            trial.with_each(numbers, that_may_change(when)) for when in (FIRST, SECOND)
        ]
        ours, theirs = (
            (params, trial.place(tx).init(params)) for tx in (scheduled, plain[0])
        )
        for step, constant in enumerate(plain):
            grads = trial.run.gradients(params, step)
            with jax.disable_jit():  # quicker than to compile each
                ours = trial.update(scheduled, grads, ours[1], params)
            theirs = trial.update(constant, grads, theirs[1], params)
            chex.assert_trees_all_close(ours, theirs, rtol=1e-9, atol=1e-14)


def read_by_update(trial, tx, arguments):
    """Those arguments without which one of the first updates would be another."""
    runs, params, state = [], trial.run.params, trial.place(tx).init(trial.run.params)
    for step in range(7):
        given = trial.run.gradients(params, step), state, params
        updates, state = trial.update(tx, *given)
        runs.append((given, (updates, state)))
        params = optax.apply_updates(params, updates)

    def matters(argument, change):
        def one(path, x):
            return change(x) if path[0].name.split("[")[0] == argument else x

        changed = jax.tree_util.tree_map_with_path(one, tx)
        return any(
            not np.array_equal(a, b, equal_nan=True)
            for given, results in (runs[1], runs[0], runs[-1])
            for a, b in zip(
                jax.tree.leaves(trial.update(changed, *given)),
                jax.tree.leaves(results),
                strict=True,
            )
        )

    # NaN for the number of its steps could make a loop endless.
    changes = [lambda x: jnp.nan, lambda x: x + 1.0, lambda x: 0.5 * x]
    counts = [lambda x: 1.0, lambda x: x + 1.0]
    return {
        argument
        for argument, role in arguments.items()
        if any(
            matters(argument, change)
            for change in (counts if role.is_count else changes)
        )
    }


@of_each_transformation(
    name for name in TRIALS if numbers_of(name) or numbers_of(name, False)
)
def test_a_number_takes_a_schedule_if_and_only_if_update_reads_it(name):
    with jax.enable_x64(True):
        trial = TRIALS[name]
        arguments = numbers_of(name) | numbers_of(name, False)
        tx = trial.with_each(trial.numbers(True), FIRST, **trial.more)
        read = read_by_update(trial, tx, arguments)
        exceptions = {a for n, a in pairs(catalogue.READ_OTHERWISE) if n == name}
        assert read ^ numbers_of(name).keys() == exceptions
