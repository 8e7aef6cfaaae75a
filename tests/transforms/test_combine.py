import itertools
from typing import Any

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import Rule, transformation

PARAMS = {"w": jnp.full((2, 3), 2.0), "b": jnp.ones(3)}
GRADS = {"w": jnp.full((2, 3), 0.5), "b": jnp.array([1.0, -2.0, 0.25])}

MEMBERS = {
    "scale": lambda m: m.scale(0.5),
    "schedule": lambda m: m.scale_by_schedule(gradtx.linear_schedule(1.0, 0.0, 5)),
    "rate": lambda m: m.scale_by_learning_rate(0.1),
    "rms": lambda m: m.scale_by_rms(0.9),
    "rss": lambda m: m.scale_by_rss(),
    "adam": lambda m: m.scale_by_adam(0.8, 0.95),
    "nadam": lambda m: m.scale_by_adam(0.8, 0.95, nesterov=True),
    "amsgrad": lambda m: m.scale_by_amsgrad(0.8, 0.95),
    "trace": lambda m: m.trace(0.9, nesterov=True),
    "ema": lambda m: m.ema(0.9),
    "decay": lambda m: m.add_decayed_weights(0.1),
    "clip": lambda m: m.clip(0.3),
    "norm": lambda m: m.clip_by_global_norm(0.5),
    "sign": lambda m: m.scale_by_sign(),
}
# The sign of an average turns where rounding does; it goes last.
PAIRS = [(a, b) for a, b in itertools.product(MEMBERS, MEMBERS) if a != "sign"]


def run(tx, steps=3, dtype="float32", **extra):
    """The updates of some steps, concatenated."""
    params, slopes = (
        jax.tree.map(lambda x: jnp.asarray(np.asarray(x), dtype), tree)
        for tree in (PARAMS, GRADS)
    )
    state, seen = tx.init(params), []
    for i in range(steps):
        grads = jax.tree.map(lambda g: g * (i + 1), slopes)  # noqa: B023
        updates, state = tx.update(grads, state, params, **extra)
        seen += [np.ravel(u) for u in jax.tree.leaves(updates)]
    return np.concatenate(seen)


def run_optax(tx, **extra):
    """The same with a part of optax, most of which fails strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return run(tx, **extra)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_chain_of_two_equals_the_chain_of_optax(first, second):
    with jax.enable_x64(True):
        ours = gradtx.chain(MEMBERS[first](gradtx), MEMBERS[second](gradtx))
        theirs = optax.chain(MEMBERS[first](optax), MEMBERS[second](optax))
        expected = run_optax(theirs, dtype="float64")
        distance = np.max(np.abs(run(ours, dtype="float64") - expected))
        assert distance <= 1e-12 * np.max(np.abs(expected))


def test_moments_give_every_member_the_update_that_entered():
    tx = gradtx.moments(gradtx.scale(0.0), gradtx.divide_by_root(gradtx.square(), 0.0))
    assert not run(tx).any()
    plain = gradtx.chain(gradtx.scale(2.0), gradtx.divide_by_root(gradtx.square(), 0.0))
    scoped = gradtx.moments(
        gradtx.scale(2.0), gradtx.divide_by_root(gradtx.square(), 0.0)
    )
    np.testing.assert_allclose(np.abs(run(plain)), 1)
    np.testing.assert_allclose(np.abs(run(scoped)), 2)


def test_a_nested_scope_opens_its_own_and_ends_with_its_parenthesis():
    root = gradtx.divide_by_root(gradtx.square(), 0.0)
    inner = gradtx.moments(gradtx.scale(2.0), gradtx.moments(gradtx.scale(3.0), root))
    np.testing.assert_allclose(np.abs(run(inner)), 3)
    after = gradtx.chain(gradtx.moments(gradtx.scale(2.0)), gradtx.scale(3.0), root)
    np.testing.assert_allclose(np.abs(run(after)), 1)
    chained = gradtx.moments(gradtx.scale(2.0), gradtx.chain(gradtx.scale(3.0), root))
    np.testing.assert_allclose(np.abs(run(chained)), 6)


def test_add_is_the_weighted_sum_of_its_branches():
    tx = gradtx.add(gradtx.scale(2.0), gradtx.trace(0.5), weights=(3.0, -1.0))
    expected = 6 * run(gradtx.identity()) - run(gradtx.trace(0.5))
    np.testing.assert_allclose(run(tx), expected, rtol=1e-6)
    np.testing.assert_array_equal(
        run(gradtx.add(gradtx.scale(2.0))), 2 * run(gradtx.identity())
    )


def test_the_weights_of_add_are_numbers_that_take_schedules():
    tx = gradtx.add(gradtx.identity(), weights=(gradtx.linear_schedule(1.0, 0.0, 2),))
    updates = np.split(run(tx), 3)
    np.testing.assert_array_equal(updates[2], 0 * updates[2])
    assert updates[0].any()


def test_add_refuses_another_number_of_weights():
    with pytest.raises(ValueError) as raised:
        gradtx.add(gradtx.scale(2.0), weights=(1.0, 2.0))
    assert str(raised.value) == (
        "add: expected at least one branch and one weight per branch, "
        "got 1 branches and 2 weights"
    )


@pytest.mark.parametrize(
    ("member", "given"),
    [
        (gradtx.adam, "; call it to make one"),
        *(([gradtx.identity()] * n, "; give them one by one") for n in (1, 2, 9)),
        *((it, "") for it in (3, "adam", None, {"w": 3})),
    ],
)
def test_a_chain_refuses_what_is_no_transformation(member, given):
    with pytest.raises(TypeError) as raised:
        gradtx.chain(gradtx.scale(1.0), member)
    shown = "a list of 9" if len(repr(member)) > 100 else repr(member)
    assert str(raised.value) == (
        f"chain: transforms must be gradient transformations, got {shown}{given}"
    )


def test_state_is_a_flat_dict_of_named_slots_and_one_count():
    tx = gradtx.chain(
        gradtx.clip_by_global_norm(1.0),
        gradtx.rmsprop(0.1, momentum=0.9, bias_correction=True),
        gradtx.ema(0.9),
    )
    state = tx.init(PARAMS)
    assert state.keys() == {"count", "nu", "trace", "ema"}
    assert state["count"].dtype == jnp.int32 and state["count"].shape == ()
    for key in ("nu", "trace", "ema"):
        assert jax.tree.structure(state[key]) == jax.tree.structure(PARAMS)


def test_a_stateless_step_or_a_schedule_leaves_the_state_as_it_was():
    base = jax.tree.structure(gradtx.adam(1e-3).init(PARAMS))
    for tx in (
        gradtx.adam(gradtx.cosine_decay_schedule(1e-3, 10)),
        gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(1e-3)),
        gradtx.chain(optax.clip(1.0), gradtx.adam(1e-3), optax.identity()),
    ):
        assert jax.tree.structure(tx.init(PARAMS)) == base
    decays = gradtx.adamw(1e-3, b1=lambda t: 0.9).init(PARAMS)  # which may change
    assert {*decays} == {"count", "mu", "mu_weight", "nu"}


@transformation
def adam_then_momentum():
    return gradtx.chain(gradtx.scale_by_adam(), gradtx.scale_by_ema(0.9, "mu"))


def keys(tx):
    return set(tx.init(PARAMS)) - {"count"}


def test_on_a_clash_all_holders_get_qualified_keys():
    adam, amsgrad, trace = gradtx.adam(0.1), gradtx.amsgrad(0.1), gradtx.trace(0.9)
    assert keys(gradtx.chain(adam, amsgrad)) == {
        "adam.mu",
        "adam.nu",
        "amsgrad.mu",
        "amsgrad.nu",
        "nu_max",
    }
    assert keys(gradtx.chain(trace, trace)) == {"trace.trace.1of2", "trace.trace.2of2"}
    assert keys(gradtx.chain(trace, trace, adam)) == {
        "trace.trace.1of2",
        "trace.trace.2of2",
        "mu",
        "nu",
    }
    assert keys(adam_then_momentum()) == {
        "adam_then_momentum.scale_by_adam.mu",
        "adam_then_momentum.scale_by_ema.mu",
        "nu",
    }
    assert keys(gradtx.chain(adam_then_momentum(), gradtx.scale_by_ema(0.5, "mu"))) == {
        "adam_then_momentum.scale_by_adam.mu",
        "adam_then_momentum.scale_by_ema.mu",
        "scale_by_ema.mu",
        "nu",
    }


def test_a_pinned_name_stays_whatever_is_around_it():
    fast = gradtx.named("fast", gradtx.trace(0.5))
    assert keys(fast) == {"fast.trace"}
    assert keys(gradtx.chain(fast, gradtx.trace(0.9))) == {"fast.trace", "trace"}
    assert keys(gradtx.named("outer", gradtx.chain(fast, gradtx.trace(0.9)))) == {
        "outer.fast.trace",
        "outer.trace",
    }
    with pytest.raises(ValueError) as raised:
        gradtx.chain(fast, fast).init(PARAMS)
    assert str(raised.value) == (
        "chain: 2 slots are kept under 'fast.trace'; name them apart"
    )


def test_count_is_reserved():
    with pytest.raises(
        ValueError, match="scale_by_ema: a slot cannot be named 'count'"
    ):
        gradtx.scale_by_ema(0.9, slot="count").init(PARAMS)


def marked(name):
    """A transformation that keeps, under `memory`, who it is."""

    def factory():
        first = {"memory": lambda p: jnp.full_like(p, ord(name))}
        return Rule(lambda u, slots, leaf: (u, slots), first)

    factory.__name__ = name
    return transformation(factory)()


ALPHABET = {name: marked(name) for name in ("a", "b", "c")}


def owners(members):
    """For each key of a chain's state, who holds it there."""
    tx = gradtx.chain(*(ALPHABET[m] for m in members))
    state = tx.init({"w": jnp.zeros(1)})
    values = {ord(name): name for name in ALPHABET}
    return {k: values[int(v["w"][0])] for k, v in state.items() if k != "count"}


@pytest.mark.parametrize("before", ["a", "ab", "ba", "aab", "abc", "aa", "abab"])
def test_restoring_by_name_after_an_edit_is_the_same_or_a_missing_key(before):
    """Every insertion, removal, swap and replacement; a lone `memory` may change hands,
    since slots go by the name that the ecosystem searches for."""
    edits = [before[:i] + c + before[i:] for i in range(len(before) + 1) for c in "abc"]
    edits += [before[:i] + before[i + 1 :] for i in range(len(before))]
    edits += [
        before[:i] + c + before[i + 1 :] for i in range(len(before)) for c in "abc"
    ]
    edits += ["".join(p) for p in itertools.permutations(before)]
    old = owners(before)
    for after in edits:
        new = owners(after)
        for key in old.keys() & new.keys() - {"memory"}:
            assert old[key] == new[key], f"{before} -> {after}: {key}"


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(*[st.text("abc", min_size=1, max_size=6)] * 2)
def test_a_qualified_key_has_the_same_owner_in_any_two_chains(one, other):
    mine, its = owners(one), owners(other)
    for key in mine.keys() & its.keys() - {"memory"}:
        assert mine[key] == its[key] == key[0]


def test_an_optax_transformation_keeps_its_state_whole_under_its_name():
    tx = gradtx.chain(gradtx.clip(1.0), optax.scale_by_adam(), gradtx.scale(-0.1))
    state = tx.init(PARAMS)
    assert state.keys() == {"count", "scale_by_adam"}
    assert isinstance(state["scale_by_adam"], optax.ScaleByAdamState)
    theirs = optax.chain(optax.clip(1.0), optax.scale_by_adam(), optax.scale(-0.1))
    np.testing.assert_allclose(run_optax(tx), run_optax(theirs), rtol=1e-6)


def test_a_missing_foreign_state_is_an_error():
    tx = gradtx.chain(optax.scale_by_adam(), gradtx.scale(-0.1))
    with pytest.raises(ValueError) as raised:
        tx.update(GRADS, {"count": jnp.int32(0)}, PARAMS)
    assert (
        str(raised.value)
        == "chain: missing in the state: 'scale_by_adam'; it holds 'count'"
    )


@transformation
def scale_by_value():
    return gradtx.memoryless(lambda u, leaf: leaf.extra["value"] * u, needs=("value",))


def scale_by_value_of_optax():
    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        return jax.tree.map(lambda u: extra["value"] * u, updates), state

    def init(params: Any) -> Any:
        return optax.EmptyState()

    return optax.GradientTransformationExtraArgs(init, update)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optax.chain(optax.scale(2.0), scale_by_value(), optax.trace(0.5)),
        lambda: gradtx.chain(
            gradtx.scale(2.0), scale_by_value_of_optax(), optax.trace(0.5)
        ),
        lambda: optax.chain(
            gradtx.chain(scale_by_value(), optax.scale(2.0)), gradtx.trace(0.5)
        ),
    ],
)
def test_extra_arguments_arrive_through_both_libraries_chains(make):
    plain = gradtx.chain(gradtx.scale(6.0), gradtx.trace(0.5))
    np.testing.assert_allclose(run(make(), value=3.0), run(plain), rtol=1e-6)


def test_wrappers_of_optax_take_ours():
    mask = {"w": True, "b": False}
    for wrap in (
        lambda m: optax.masked(m.adam(0.1), mask),
        lambda m: optax.MultiSteps(m.adam(0.1), 2).gradient_transformation(),
        lambda m: optax.apply_if_finite(m.adam(0.1), 3),
        lambda m: optax.partition(
            {"x": m.adam(0.1), "y": m.sgd(0.1)}, {"w": "x", "b": "y"}
        ),
    ):
        expected = run_optax(wrap(optax))
        np.testing.assert_allclose(run_optax(wrap(gradtx)), expected, rtol=2e-5)


def test_optax_maps_over_the_parameters_of_our_state():
    state = gradtx.adam(0.1).init(PARAMS)
    assert optax.tree.get(state, "mu") is state["mu"]
    tx: Any = gradtx.adam(0.1)
    mapped = optax.tree_map_params(
        tx, lambda _: "p", state, transform_non_params=lambda _: "s"
    )
    marks = {"w": "p", "b": "p"}
    assert mapped == {"count": "s", "mu": marks, "nu": marks}


MASK = {"w": True, "b": False}


@pytest.mark.parametrize("mask", [MASK, lambda params: MASK])
def test_only_masked_leaves_are_transformed_and_others_keep_nothing(mask):
    tx: Any = gradtx.only(gradtx.chain(gradtx.scale(2.0), gradtx.trace(0.5)), mask)
    state = tx.init(PARAMS)
    assert state["trace"]["b"] is None
    updates, state = tx.update(GRADS, state)
    np.testing.assert_array_equal(updates["w"], 2 * GRADS["w"])
    assert updates["b"] is GRADS["b"] and state["trace"]["b"] is None


def test_masks_nest():
    inner = gradtx.only(gradtx.scale(2.0), {"w": True, "b": False})
    outer = gradtx.only(gradtx.chain(inner, gradtx.scale(3.0)), {"w": True, "b": True})
    updates: Any = outer.update(GRADS, outer.init(PARAMS))[0]
    np.testing.assert_allclose(updates["w"], 6 * GRADS["w"])
    np.testing.assert_allclose(updates["b"], 3 * GRADS["b"])
    none = gradtx.only(inner, {"w": False, "b": True})
    chex.assert_trees_all_equal(none.update(GRADS, none.init(PARAMS))[0], GRADS)


@pytest.mark.parametrize(
    ("make", "f"),
    [
        (
            gradtx.stateless,
            lambda updates, params: jax.tree.map(jnp.add, updates, params),
        ),
        (gradtx.stateless_with_tree_map, jnp.add),
    ],
)
def test_functions_of_trees_and_of_arrays_keep_nothing(make, f):
    tx = make(f)
    assert tx.init(PARAMS).keys() == {"count"}
    assert tx == make(f) and tx != make(lambda u, p: u)
    expected = run(gradtx.add_decayed_weights(1.0))
    np.testing.assert_array_equal(run(tx), expected)
    chained = gradtx.chain(gradtx.trace(0.0), tx, gradtx.scale(2.0))
    np.testing.assert_array_equal(run(chained), 2 * expected)
