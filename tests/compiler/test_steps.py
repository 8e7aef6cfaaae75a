import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import Rule, memoryless, transformation

PARAMS = {"in": jnp.full(2, 2.0), "out": jnp.full(2, 3.0)}
GRADS = {"in": jnp.ones(2), "out": jnp.ones(2)}
MASK = {"in": True, "out": False}


@transformation
def my_sgd(lr: gradtx.Scalar):
    """A user's optimizer, whose argument has no telling name."""
    return gradtx.chain(gradtx.trace(0.9), gradtx.scale(-lr))


@transformation
def my_adam(lr: gradtx.Scalar):
    """Another one, over a part that scales by the learning rate."""
    return gradtx.chain(gradtx.scale_by_adam(), gradtx.scale_by_learning_rate(lr))


@transformation
def my_step(size: gradtx.Scalar):
    """A rule that makes a step, and says so."""
    return memoryless(lambda u, leaf: -size * u, is_step=True)


@transformation
def learning_rate_free(learning_rate_hint: gradtx.Scalar):
    """A direction, though an argument is called so."""
    return memoryless(lambda u, leaf: u / (1 + learning_rate_hint))


def scale_rule(half: gradtx.Scalar):
    """A direction with the name of a part of gradtx."""
    return memoryless(lambda u, leaf: half * u)


scale_rule.__name__ = "scale"
scale = transformation(scale_rule)


def first_update(tx, **extra):
    return tx.update(GRADS, tx.init(PARAMS), PARAMS, **extra)[0]


STEPS = {
    "a chain that ends with a negative number": lambda: my_sgd(0.1),
    "a chain with a learning rate": lambda: my_adam(0.1),
    "a rule": lambda: my_step(0.1),
    "two negative parts and a positive one": lambda: gradtx.chain(
        gradtx.scale(2.0), my_sgd(0.1), gradtx.scale(0.5)
    ),
    "a schedule below 0": lambda: gradtx.chain(
        gradtx.scale_by_schedule(gradtx.linear_schedule(-0.1, -0.2, 10))
    ),
    "a bet": lambda: gradtx.scale_by_cocob(),
    "a sum of steps": lambda: gradtx.add(my_sgd(0.1), my_step(0.1)),
    "a step inside a wrapper": lambda: gradtx.skip(my_adam(0.1)),
    "a number below 0 inside a wrapper": lambda: gradtx.accumulate(my_sgd(0.1), 1),
    "a warmup's first": lambda: gradtx.chain(
        gradtx.scale(2.0),
        gradtx.scale_by_schedule(lambda count: -0.1 * (jnp.asarray(count, float) + 1)),
    ),
    "a step that was injected": lambda: gradtx.inject_hyperparams(my_adam)(lr=0.1),
    "a library's own": lambda: gradtx.adamw(0.1),
}
DIRECTIONS = {
    "a positive number": lambda: gradtx.scale(0.5),
    "a schedule above 0": lambda: gradtx.scale_by_schedule(
        gradtx.linear_schedule(0.1, 0.2, 10)
    ),
    "a negative number alone, as in optax": lambda: gradtx.scale(-0.5),
    "a schedule of them alone": lambda: gradtx.scale_by_schedule(
        gradtx.linear_schedule(-0.1, -0.2, 10)
    ),
    "twice turned": lambda: gradtx.chain(gradtx.scale(-1.0), gradtx.scale(-0.5)),
    "a user's, with a telling name": lambda: learning_rate_free(0.1),
    "Adam's": lambda: gradtx.scale_by_adam(),
}


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_a_leaf_that_a_mask_keeps_from_a_step_stays_as_it_is(name, is_jitted):
    tx = gradtx.masked(STEPS[name](), MASK)
    run = jax.jit(first_update) if is_jitted else first_update  # numbers are traced
    updates = run(tx)
    assert not np.any(updates["out"])
    assert np.any(updates["in"])


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_leaf_that_a_mask_keeps_from_a_direction_passes(name, is_jitted):
    tx = gradtx.masked(DIRECTIONS[name](), MASK)
    run = jax.jit(first_update) if is_jitted else first_update
    assert np.all(run(tx)["out"] == 1)


@pytest.mark.parametrize("behind", [0.5, -0.5])
def test_a_leaf_that_a_mask_leaves_out_passes_where_something_else_scales_it(behind):
    tx = gradtx.chain(gradtx.masked(my_sgd(0.1), MASK), gradtx.scale(behind))
    assert np.all(first_update(tx)["out"] == behind)


def test_what_masks_leave_is_the_same_with_a_traced_number():
    tx = gradtx.masked(my_sgd(0.1), MASK)
    for number in (0.1, -0.1):  # ascends: then nothing is turned
        other = tx.replace(inner=my_sgd(number))
        updates = jax.jit(first_update)(other)
        chex.assert_trees_all_equal(updates, first_update(other))
        assert np.all(updates["out"] == (0 if number > 0 else 1))


@pytest.mark.parametrize("wrap", [gradtx.cautious, gradtx.grams])
@pytest.mark.parametrize("name", STEPS)
def test_what_takes_a_direction_refuses_a_step(name, wrap):
    with pytest.raises(TypeError, match="expected a direction of gradtx"):
        wrap(STEPS[name]())


@pytest.mark.parametrize(
    "direction",
    [
        gradtx.scale_by_polyak(),
        scale(0.5),
        learning_rate_free(0.1),
        gradtx.divide_by(gradtx.chain(gradtx.square(), gradtx.scale(2.0))),
    ],
)
def test_what_takes_a_direction_takes_one_whatever_it_is_called(direction):
    tx = gradtx.cautious(direction)
    updates = first_update(tx, value=jnp.ones(()))
    assert np.all(updates["in"] > 0)


def changes(u, slots, leaf):
    return u * 0.5, slots


@transformation
def my_limit():
    """A user's transformation, which changes updates."""
    return Rule(changes)


@transformation
def my_observer():
    """A user's, which only looks at them."""
    return Rule(lambda u, slots, leaf: (u, slots), passes=True)


BEHIND = {
    "reduce_on_plateau": gradtx.reduce_on_plateau,
    "clip": lambda: gradtx.clip(0.1),
    "clip_by_global_norm": lambda: gradtx.clip_by_global_norm(0.1),
    "normalize": gradtx.normalize,
    "scale_by_trust_ratio": gradtx.scale_by_trust_ratio,
    "apply_every": lambda: gradtx.apply_every(2),
    "add_decayed_weights": lambda: gradtx.add_decayed_weights(0.1),
    "lookahead": lambda: gradtx.lookahead(gradtx.identity(), 2, 0.5),
    "a user's": my_limit,
    "optax's": lambda: optax.scale(0.5),
    "a fork": lambda: gradtx.add(gradtx.identity(), gradtx.identity()),
    "a wrapper": lambda: gradtx.skip(gradtx.clip(0.1)),
}
AVERAGES = {
    "average_params": lambda: gradtx.average_params(gradtx.sgd(0.1), "polyak"),
    "an average inside a wrapper": lambda: gradtx.accumulate(
        gradtx.average_params(gradtx.sgd(0.1)), 2
    ),
}


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", BEHIND)
def test_what_changes_updates_behind_an_average_is_an_error(name, average):
    tx = gradtx.chain(AVERAGES[average](), BEHIND[name]())
    with pytest.raises(ValueError, match="must be around the whole optimizer, but"):
        tx.init(PARAMS)


@pytest.mark.parametrize("name", ["lookahead", "a fork", "optax's", "a step"])
def test_behind_iterates_only_a_step_is_an_error_as_optax_has_no_check(name):
    behind = {**BEHIND, "a step": lambda: my_step(0.1)}[name]()
    tx = gradtx.chain(gradtx.schedule_free_sgd(0.1), behind)
    if name in ("lookahead", "a step"):
        with pytest.raises(ValueError, match="interpolate_iterates: must be around"):
            tx.init(PARAMS)
    else:
        tx.init(PARAMS)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize(
    "behind",
    [
        my_observer(),
        gradtx.identity(),
        gradtx.norms(),
        gradtx.snapshot("seen", lambda updates: updates["in"]),
        gradtx.average_params(gradtx.identity(), slot="second"),
        gradtx.masked(gradtx.identity(), MASK),
    ],
)
def test_what_only_looks_at_updates_may_be_behind_an_average(average, behind):
    tx = gradtx.chain(AVERAGES[average](), behind)
    state = tx.init(PARAMS)
    _, state = tx.update(GRADS, state, PARAMS)
    jax.tree.map(jnp.shape, gradtx.eval_params(tx, state, PARAMS))


def test_averages_of_some_leaves_leave_the_others_to_whoever_comes_next():
    rest = jax.tree.map(lambda is_in: not is_in, MASK)
    averaged = gradtx.masked(gradtx.average_params(gradtx.sgd(0.1)), MASK)
    tx = gradtx.chain(averaged, gradtx.masked(gradtx.sgd(0.2), rest))
    updates = first_update(tx)
    np.testing.assert_allclose(updates["in"], -0.1, 1e-6)
    np.testing.assert_allclose(updates["out"], -0.2, 1e-6)
