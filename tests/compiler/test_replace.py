import inspect

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.inventory import numbers_of
from gradtx.compiler.naming import Names
from gradtx.core.call import FactoryValue
from tests import registry

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}
SCHEDULE = gradtx.linear_schedule(0.1, 0.0, 10)
OUTER = {
    "a chain": lambda tx: gradtx.chain(gradtx.clip(1.0), tx),
    "a named chain": lambda tx: gradtx.named_chain(("one", gradtx.ema(0.9)), ("b", tx)),
    "named": lambda tx: gradtx.named("outer", tx),
    "groups": lambda tx: gradtx.groups({"w": gradtx.clip(1.0), "**": tx}),
    "partition": lambda tx: gradtx.partition({"all": tx}, "all"),
    "accumulate": lambda tx: gradtx.accumulate(tx, 2),
    "MultiSteps": lambda tx: gradtx.MultiSteps(tx, 2).gradient_transformation(),
    "skip": gradtx.skip,
    "editable in a chain": lambda tx: gradtx.chain(gradtx.clip(1.0), editable(tx)),
}
PLAIN = ("named", "partition", "skip")
"""Those that have no number of their own, nor a member beside."""


def editable(tx):
    keeps = tx.name in ("editable", "injected_hyperparams")
    return tx if keeps else gradtx.editable(tx)


def names_of(tx):
    return Names([number.trail for number in numbers_of(tx)]).shortest


def other_number(tx, name):
    """The transformation with another number of this name, and that number."""
    for value in (0.75, 2.0, 3.0, -2.0, 5.0, 0.3, 8):
        try:
            changed = tx.replace(**{name: value})
        except ValueError as error:
            assert "in the state" not in str(error)
            continue
        if changed != tx:
            return changed, value
    raise AssertionError(f"{tx}: no other number fits {name}")


def anew(tx, **changes):
    """A transformation as its factory makes it of its arguments, some others."""
    factory = tx.bound.factory
    given = inspect.BoundArguments(factory.signature, tx.arguments | changes)
    return factory(*given.args, **given.kwargs)


def is_injected(tx, number):
    return "injected_hyperparams" in [unit.text for unit in number.trail]


CASES = [name for name, make in registry.TRANSFORMATIONS.items() if names_of(make())]


@pytest.mark.parametrize("name", CASES)
def test_every_number_is_replaced_by_name_wherever_it_is(name):
    tx = registry.TRANSFORMATIONS[name]()
    inside = list(zip(numbers_of(tx), names_of(tx), strict=True))
    for own, called in inside:
        if is_injected(tx, own):
            continue
        changed, value = other_number(tx, called)
        if len(own.where) == 1 and own.argument in tx.arguments:
            assert changed == anew(tx, **{own.argument: value})
        for make in OUTER.values():
            outer = make(tx)
            numbers = zip(numbers_of(outer), names_of(outer), strict=True)
            names = {number.where: name for number, name in numbers}
            found = names[(*place_of(tx, outer), *own.where)]
            assert outer.replace(**{found: value}) == make(changed)


def place_of(tx, outer):
    """Which leaf of another one a transformation is."""
    for i, leaf in enumerate(outer.bound.leaves()):
        if leaf is tx:
            return (i,)
        inside = place_of(tx, leaf) if isinstance(leaf, FactoryValue) else None
        if inside is not None:
            return (i, *inside)
    return None


@pytest.mark.parametrize("name", CASES)
def test_no_wrapper_changes_the_names_of_numbers(name):
    tx = registry.TRANSFORMATIONS[name]()
    for outer in (*(OUTER[wrapper](tx) for wrapper in PLAIN), editable(tx)):
        assert names_of(outer) == names_of(tx)
        assert names_of(gradtx.chain(outer)) == names_of(tx)


@pytest.mark.parametrize("name", CASES)
def test_what_hyperparams_prints_is_what_replace_takes(name):
    tx = registry.TRANSFORMATIONS[name]()
    found = gradtx.hyperparams(tx, tx.init(PARAMS))
    assert list(found) == names_of(tx)


def tower():
    """A number of most kinds of members around each other."""
    step = gradtx.named_chain(("clip", gradtx.clip(1.0)), ("step", gradtx.adamw(1e-3)))
    both = gradtx.groups({"w": step, "**": gradtx.sgd(SCHEDULE)})
    return gradtx.skip(gradtx.accumulate(gradtx.chain(both, gradtx.scale(1.0)), 2))


def test_one_call_replaces_arguments_and_numbers_at_any_depth():
    step = gradtx.named_chain(
        ("clip", gradtx.clip(0.5)), ("step", gradtx.adamw(SCHEDULE, b1=0.8))
    )
    both = gradtx.groups({"w": step, "**": gradtx.sgd(0.2)})
    inner = gradtx.accumulate(gradtx.chain(both, gradtx.scale(1.0)), 3)
    changes = {
        "max_delta": 0.5, "adamw.learning_rate": SCHEDULE, "w.step.adamw.b1": 0.8,
        "sgd.learning_rate": 0.2, "skip.accumulate.every": 3,
    }  # fmt: skip
    assert tower().replace(**changes) == gradtx.skip(inner)
    whole = gradtx.accumulate(gradtx.sgd(0.1), 2)
    assert whole.replace(
        transform=gradtx.adam(0.1), every=4, learning_rate=0.3
    ) == gradtx.accumulate(gradtx.adam(0.3), 4)


def test_an_argument_of_the_whole_goes_first():
    inner = gradtx.accumulate(gradtx.sgd(0.1), 3)
    tx = gradtx.accumulate(inner, 2)
    assert tx.replace(every=5) == gradtx.accumulate(inner, 5)
    inner_first = ["accumulate.every.1of2", "accumulate.every.2of2"]
    assert names_of(tx) == ["learning_rate", *inner_first]
    assert tx.replace(learning_rate=0.2) == gradtx.accumulate(
        gradtx.accumulate(gradtx.sgd(0.2), 3), 2
    )


def test_a_number_in_a_container_is_replaced_by_its_place():
    tx = gradtx.chain(
        gradtx.add(gradtx.scale(2.0), gradtx.identity(), weights=(1.0, 0.5))
    )
    changed = gradtx.add(gradtx.scale(2.0), gradtx.identity(), weights=(1.0, 0.25))
    assert tx.replace(**{"weights[1]": 0.25}) == gradtx.chain(changed)
    with pytest.raises(TypeError, match="add: weights"):
        tx.replace(**{"weights[1]": (0.25, 0.5)})
    with pytest.raises(TypeError, match="add: weights"):
        tx.replace(**{"weights[1]": None})


def test_numbers_that_only_init_reads_are_replaced_and_take_no_schedule():
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.adagrad(0.1))
    changed = gradtx.adagrad(0.1, initial_accumulator_value=0.5)
    name = "initial_accumulator_value"
    assert tx.replace(**{name: 0.5}) == gradtx.chain(gradtx.clip(1.0), changed)
    with pytest.raises(
        TypeError, match=r"adagrad: initial_acc.* must be a number, not a schedule"
    ):
        tx.replace(**{name: SCHEDULE})


def test_another_number_in_a_jitted_step_traces_nothing_anew():
    tx, traces = tower(), []

    @jax.jit
    def step(tx, grads, state, rate):
        traces.append(1)
        return tx.replace(**{"adamw.learning_rate": rate}).update(grads, state, PARAMS)

    state = tx.init(PARAMS)
    for rate in (1e-3, 2e-3, 0.5):
        changed = tx.replace(**{"adamw.learning_rate": rate})
        assert jax.tree.structure(changed) == jax.tree.structure(tx)
        got = step(changed.replace(b1=0.5), PARAMS, state, rate)
        expected = jax.jit(changed.replace(b1=0.5).update)(PARAMS, state, PARAMS)
        for a, b in zip(*map(jax.tree.leaves, (got, expected)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    assert len(traces) == 1


def test_an_editable_one_goes_on_with_the_number_that_is_replaced():
    tx = gradtx.chain(gradtx.editable(gradtx.sgd(0.1)))
    state = tx.init(PARAMS)
    changed = tx.replace(**{"sgd.learning_rate": 0.5})
    assert changed == gradtx.chain(gradtx.editable(gradtx.sgd(0.5)))
    updates, state = changed.update(PARAMS, state, PARAMS)
    np.testing.assert_allclose(updates["w"], -0.5)


def test_a_number_that_only_the_state_has_says_where_to_write_it():
    inject = gradtx.inject_hyperparams(gradtx.sgd)
    tx = gradtx.chain(gradtx.clip(1.0), inject(0.1, momentum=SCHEDULE))
    message = r"injected_hyperparams: {} is in the state: write state\['hyperparams'\]"
    for name in ("learning_rate", "momentum"):
        with pytest.raises(ValueError, match=message.format(name)):
            tx.replace(**{f"sgd.{name}": 0.2})


def test_what_cannot_be_replaced_is_an_error_with_names_to_write():
    tx = tower()
    mistakes = {
        "learning_rate": "skip: 2 numbers are called 'learning_rate'; write one of "
        "'sgd.learning_rate', 'adamw.learning_rate'",
        "adamw.lerning_rate": "skip: unexpected argument 'adamw.lerning_rate'; "
        "did you mean 'adamw.learning_rate'?",
        "transfrm": "skip: unexpected argument 'transfrm'; did you mean 'transform'?",
        "zzz": "and the numbers 'sgd.learning_rate', 'max_delta', ",
    }
    for name, message in mistakes.items():
        with pytest.raises((TypeError, ValueError)) as raised:
            tx.replace(**{name: 0.5})
        assert message in str(raised.value)
    wrong = {
        "adamw.b1": (1.5, "adamw: b1 must be in [0, 1), got 1.5"),
        "adamw.learning_rate": ("a", "adamw: learning_rate must be a number or a sche"),
        "every": (1.5, "accumulate: every must be whole and at least 1, got 1.5"),
    }
    for name, (value, message) in wrong.items():
        with pytest.raises((TypeError, ValueError)) as raised:
            tx.replace(**{name: value})
        assert str(raised.value).startswith(message)
    with pytest.raises(ValueError, match=r"'b1', 'adamw.b1' are one number; give it"):
        tx.replace(**{"b1": 0.5, "adamw.b1": 0.5})


def test_the_numbers_of_foreign_members_are_not_known():
    tx = gradtx.chain(optax.scale_by_adam(), gradtx.scale(1.0))
    with pytest.raises(TypeError) as raised:
        tx.replace(**{"scale_by_adam.b1": 0.5})
    assert str(raised.value) == (
        "chain: unexpected argument 'scale_by_adam.b1'; expected transforms, and the "
        "numbers 'step_size'; numbers of foreign members are not known"
    )
