from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import Rule, memoryless, transformation
from gradtx.core.numbers import DecayValue
from tests.probes import GRADS, PARAMS, new_log, scale_by_value, traced_probe

apply_updates: Any = optax.apply_updates


def test_a_leaf_shows_what_a_rule_may_look_at():
    log = new_log()
    tx = gradtx.moments(gradtx.scale(3.0), traced_probe(log))
    _, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)

    seen = []

    @transformation
    def look():
        def update(u, leaf):
            jax.debug.callback(
                lambda *x: seen.append(x), u[0], leaf.grad[0], leaf.param[0], leaf.t
            )
            assert leaf.t.weak_type and leaf.owner == "look" and leaf.path == "b"
            return u

        return memoryless(update)

    tx = gradtx.moments(gradtx.scale(3.0), look())
    tx.update(
        {"b": jnp.full(1, 0.5)}, {"count": state["count"]}, {"b": jnp.full(1, 7.0)}
    )
    jax.effects_barrier()
    assert [tuple(map(float, each)) for each in seen] == [(1.5, 0.5, 7.0, 2.0)]


def test_outside_moments_the_gradient_is_what_reaches_the_rule():
    log = new_log()
    tx = gradtx.chain(gradtx.scale(3.0), traced_probe(log))

    @transformation
    def difference():
        return memoryless(lambda u, leaf: u - leaf.grad)

    tx = gradtx.chain(gradtx.scale(3.0), difference())
    updates, _ = tx.update(GRADS, tx.init(PARAMS))
    assert not jnp.any(updates["w"])


def test_an_estimator_sees_the_gradient_and_the_update_that_flows_past_it():
    """AdaBelief's surprise: the gradient less the momentum that predicted it."""

    @transformation
    def surprise():
        return memoryless(lambda u, leaf: leaf.grad - leaf.flowing)

    belief = gradtx.chain(surprise(), gradtx.square(), gradtx.scale_by_ema(0.9, "nu"))
    tx = gradtx.moments(
        gradtx.scale_by_ema(0.5, "mu"), gradtx.divide_by_root(belief, eps=1e-3)
    )
    updates, state = tx.update(GRADS, tx.init(PARAMS))
    g = np.asarray(GRADS["b"][0])
    nu = 0.1 * (g - 0.5 * g) ** 2
    np.testing.assert_allclose(state["nu"]["b"][0], nu, rtol=1e-6)
    expected = 0.5 * g / (np.sqrt(nu) + 1e-3)
    np.testing.assert_allclose(updates["b"][0], expected, rtol=1e-6)


@transformation
def scale_by_mean_norm():
    """Divides by the mean square over the tree; counts how often it settled."""

    def update(u, slots, leaf):
        return u / (leaf.total["sum"] / leaf.total["size"]) + 0 * leaf.shared[
            "runs"
        ], slots

    return Rule(
        update,
        measure=lambda u, slots, leaf: {
            "sum": jnp.sum(jnp.square(u)),
            "size": jnp.float32(u.size),
        },
        shared={"runs": lambda _: jnp.zeros([], jnp.int32), "last": lambda _: 0.0},
        settle=lambda total, shared, step: {
            "runs": shared["runs"] + 1,
            "last": total["sum"],
        },
    )


@pytest.mark.parametrize("jitted", [False, True])
def test_a_rule_measures_the_tree_and_settles_what_leaves_share(jitted):
    tx = gradtx.chain(gradtx.scale(2.0), scale_by_mean_norm())
    state = tx.init(PARAMS)
    assert state.keys() == {"count", "runs", "last"}
    update = jax.jit(tx.update) if jitted else tx.update
    for runs in (1, 2):
        updates, state = update(GRADS, state, PARAMS)
        assert int(state["runs"]) == runs
    flat = np.concatenate([2 * np.ravel(g) for g in jax.tree.leaves(GRADS)])
    np.testing.assert_allclose(state["last"], np.sum(flat**2), rtol=1e-6)
    expected = 2 * GRADS["w"] / np.mean(flat**2)
    np.testing.assert_allclose(updates["w"], expected, rtol=1e-6)


def test_measuring_an_empty_tree_gives_zeros():
    tx = scale_by_mean_norm()
    _, state = tx.update({}, tx.init({}))
    assert float(state["last"]) == 0 and int(state["runs"]) == 1


def test_measuring_sums_over_the_mask():
    from gradtx.core.nodes import Masked

    @transformation
    def clip_weights():
        return Masked(gradtx.clip_by_global_norm(1.0), {"w": True, "b": False})

    tx = clip_weights()
    updates, _ = tx.update(GRADS, tx.init(PARAMS))
    norm = np.linalg.norm(GRADS["w"])
    np.testing.assert_allclose(updates["w"], GRADS["w"] / norm, rtol=1e-6)
    assert updates["b"][0] is GRADS["b"][0]


@transformation
def noise(seed: int = 0):
    return memoryless(
        lambda u, leaf: u + jax.random.normal(leaf.key, u.shape), key=seed
    )


def test_randomness_comes_from_a_raw_key_in_the_state():
    tx = noise(3)
    zeros = {"a": jnp.zeros(4), "b": jnp.zeros(4)}
    state = tx.init(zeros)
    assert state["key"].dtype == jnp.uint32
    first, state = tx.update(zeros, state)
    second, _ = tx.update(zeros, state)
    draws = [first["a"], first["b"], second["a"], second["b"]]
    assert len({float(x[0]) for x in draws}) == 4
    again, _ = jax.jit(noise(3).update)(zeros, tx.init(zeros))
    np.testing.assert_allclose(again["b"], first["b"], rtol=1e-6)


def test_leaves_that_differ_in_randomness_share_a_kernel():
    log = new_log()
    tx = gradtx.chain(traced_probe(log), noise())
    zeros = {"a": jnp.zeros(4), "b": jnp.zeros(4)}
    jax.jit(tx.update)(zeros, tx.init(zeros))
    assert len(log.traces) == 1


def test_a_declared_extra_argument_arrives():
    tx = gradtx.chain(gradtx.scale(2.0), scale_by_value())
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, value=3.0)
    np.testing.assert_allclose(updates["w"], 6 * GRADS["w"])


def test_bfloat16_second_moments_do_not_stick():
    """At b2 = 0.999 a bfloat16 average of ones stops at 0.5; 0.865 is right."""
    tx = gradtx.scale_by_adam()
    params = jnp.ones(1, jnp.bfloat16)

    def body(state, _):
        return tx.update(params, state)[1], None

    state, _ = jax.lax.scan(body, tx.init(params), None, length=2000)
    np.testing.assert_allclose(state["nu"], 1 - 0.999**2000, rtol=1e-3)


def test_python_and_numpy_floats_are_leaves():
    params = {"a": 1.5, "b": np.ones(2)}
    tx = gradtx.adamw(0.1)
    state = tx.init(params)
    updates, after = tx.update({"a": 0.5, "b": np.ones(2)}, state, params)
    assert updates["a"].dtype == jnp.float32 and not updates["a"].weak_type
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_none_is_an_absent_leaf():
    params = {"w": jnp.ones(2), "none": None}
    tx = gradtx.adam(0.1)
    updates, state = tx.update(params, tx.init(params), params)
    assert updates["none"] is None and state["mu"]["none"] is None


@pytest.mark.parametrize("with_params", [True, False])
def test_a_gradient_of_none_skips_the_leaf_and_keeps_its_slots(with_params):
    params = {"w": jnp.ones(2), "v": jnp.ones(2)}
    tx = gradtx.adam(0.1)
    _, state = tx.update(params, tx.init(params), params)
    given = (params,) if with_params else ()
    updates, after = tx.update({"w": jnp.ones(2), "v": None}, state, *given)
    assert updates["v"] is None
    assert after["mu"]["v"] is state["mu"]["v"]
    assert float(after["mu"]["w"][0]) != float(state["mu"]["w"][0])
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_a_float0_gradient_leaves_an_integer_parameter_alone():
    params = {"w": jnp.ones(2), "steps": jnp.arange(2)}
    grads = jax.grad(lambda p: jnp.sum(p["w"] ** 2), allow_int=True)(params)
    tx = gradtx.adam(0.1)
    updates, _ = tx.update(grads, tx.init(params), params)
    after = apply_updates(params, updates)
    np.testing.assert_array_equal(after["steps"], params["steps"])
    assert after["steps"].dtype == params["steps"].dtype


def test_the_count_saturates():
    tx = gradtx.sgd(0.1)
    top = jnp.int32(np.iinfo(np.int32).max)
    _, state = tx.update(GRADS, {"count": top})
    assert int(state["count"]) == int(top)


def test_schedules_see_zero_at_the_first_update_and_rules_one():
    counts = []

    def rate(count):
        counts.append(int(count))
        return 1.0

    tx = gradtx.chain(gradtx.scale(rate), gradtx.bias_correction(0.5))
    updates, _ = tx.update(GRADS, tx.init(PARAMS))
    assert counts == [0, 0]  # init resolves numbers too
    np.testing.assert_allclose(updates["w"], GRADS["w"] / (1 - 0.5**1))


def that_may_change(argument, number):
    """A decay that may change keeps the weight of its average."""
    is_decay = argument in ("b1", "b2")
    return DecayValue.of(number, changes=True) if is_decay else number


@pytest.mark.parametrize(
    "argument", ["learning_rate", "b1", "b2", "eps", "weight_decay"]
)
def test_every_number_takes_a_schedule(argument):
    value: dict[str, Any] = dict.fromkeys(("learning_rate", "eps", "weight_decay"), 0.1)
    value |= {"b1": 0.8, "b2": 0.95}
    scheduled = {**value, argument: lambda count: value[argument] * (1 - 0.1 * count)}
    tx, params = gradtx.adamw(**scheduled), PARAMS
    first = {**value, argument: that_may_change(argument, value[argument])}
    state, plain_state = tx.init(PARAMS), gradtx.adamw(**first).init(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(plain_state)
    update = jax.jit(tx.update)
    for count in range(3):
        number = value[argument] * (1 - 0.1 * count)
        now = gradtx.adamw(**{**value, argument: that_may_change(argument, number)})
        expected, plain_state = now.update(GRADS, plain_state, params)
        updates, state = update(GRADS, state, params)
        chex.assert_trees_all_close(updates, expected, rtol=2e-6)


def test_un_jitted_leaves_on_several_devices_stay_there():
    one, two = jax.devices()[:2]
    params = {
        "a": jax.device_put(jnp.ones(2), one),
        "b": jax.device_put(jnp.ones(2), two),
    }
    tx = gradtx.sgd(0.1, momentum=0.9)
    state = tx.init(params)
    updates, _ = tx.update(params, state, params)
    assert updates["a"].devices() == {one} and updates["b"].devices() == {two}


def test_a_tree_rule_computes_in_float32_and_a_foreign_one_in_the_dtype_it_knows():
    seen = []

    def look(updates):
        seen.append(updates["w"].dtype.name)
        return updates

    @transformation
    def probe():
        return gradtx.TreeRule(lambda updates, slots, tree: (look(updates), slots))

    foreign = optax.stateless(lambda updates, params: look(updates))
    tx = gradtx.chain(gradtx.scale(2.0), probe(), foreign)
    updates, _ = tx.update({"w": jnp.ones(2, jnp.bfloat16)}, {"count": jnp.int32(0)})
    assert seen == ["float32", "bfloat16"] and updates["w"].dtype == jnp.bfloat16


def test_a_tree_rule_sees_the_tree():
    @transformation
    def center():
        """Subtracts the mean over the whole tree; remembers it."""

        def update(updates, slots, tree):
            leaves = jax.tree.leaves(updates)
            mean = sum(jnp.sum(x) for x in leaves) / sum(x.size for x in leaves)
            assert jax.tree.structure(tree.params) == jax.tree.structure(updates)
            return jax.tree.map(lambda u: u - mean, updates), {"mean": mean}

        return gradtx.TreeRule(update, {"mean": lambda params: jnp.zeros(())})

    tx = gradtx.chain(gradtx.scale(2.0), center(), gradtx.scale(0.5))
    updates, state = jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)
    flat = np.concatenate([np.ravel(g) for g in jax.tree.leaves(GRADS)])
    np.testing.assert_allclose(state["mean"], 2 * flat.mean(), rtol=1e-5)
    np.testing.assert_allclose(updates["w"], GRADS["w"] - flat.mean(), rtol=1e-5)


def test_measuring_and_updating_see_the_same_key_and_the_state_another():
    seen = []

    @transformation
    def probe():
        def measure(u, slots, leaf):
            jax.debug.callback(lambda key: seen.append(tuple(key.tolist())), leaf.key)
            return jnp.sum(u)

        def update(u, leaf):
            jax.debug.callback(lambda key: seen.append(tuple(key.tolist())), leaf.key)
            return u

        return memoryless(update, measure=measure, key=0)

    tx = probe()
    _, state = tx.update({"w": jnp.ones(2)}, tx.init({"w": jnp.ones(2)}))
    jax.effects_barrier()
    assert len(seen) == 2 and len(set(seen)) == 1
    assert tuple(np.asarray(state["key"]).tolist()) not in seen


def test_a_rule_that_changes_the_shape_of_the_update_is_an_error():
    @transformation
    def total():
        return memoryless(lambda u, leaf: jnp.sum(u))

    with pytest.raises(ValueError) as raised:
        total().update(GRADS, {"count": jnp.int32(0)})
    assert str(raised.value) == (
        "total: at 'b/0' the update of shape (3,) became one of shape ()"
    )


def test_no_two_slots_share_a_buffer_whatever_a_rule_starts_from():
    constant = jnp.ones(3)

    @transformation
    def greedy():
        first = {name: lambda p: constant for name in ("a", "b")}
        return Rule(lambda u, slots, leaf: (u, slots), {**first, "c": lambda p: p})

    @transformation
    def start():
        keep = {"start": lambda params: params}
        return gradtx.TreeRule(lambda updates, slots, tree: (updates, slots), keep)

    for tx in (greedy(), start()):
        params = {"w": jnp.ones(3), "v": jnp.ones(3)}
        state = tx.init(params)
        leaves = jax.tree.leaves((params, state))
        assert len({x.unsafe_buffer_pointer() for x in leaves}) == len(leaves)
