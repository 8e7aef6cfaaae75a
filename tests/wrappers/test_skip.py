import functools
from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.equality import as_optax_needs, bitwise
from tests.oracles.clipping import skip_step_by_olmo, zclip_by_the_paper
from tests.settings import LINE

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}
BAD = {"w": jnp.full((2, 3), jnp.nan), "b": jnp.ones(3)}


@pytest.mark.parametrize("is_jitted", [False, True])
def test_a_skipped_update_leaves_every_slot_and_count(is_jitted):
    inner = gradtx.chain(
        gradtx.adam(LINE), gradtx.trace(0.9), gradtx.add_noise(0.1, 0.5, 3)
    )
    tx = gradtx.skip(inner, gradtx.skip_not_finite)
    update: Any = jax.jit(tx.update) if is_jitted else tx.update
    _, state = update(PARAMS, tx.init(PARAMS), PARAMS)
    updates, after = update(BAD, state, PARAMS)
    bitwise(after["inner"], state["inner"])
    bitwise(updates, jax.tree.map(jnp.zeros_like, PARAMS))
    assert int(after["gradient_step"]) == 1 and int(after["total_skipped"]) == 1
    assert int(after["skip_state"]["num_not_finite"]) == 6
    expected, _ = update(PARAMS, state, PARAMS)
    bitwise(update(PARAMS, after, PARAMS)[0], expected)


@pytest.mark.parametrize("is_jitted", [False, True])
def test_a_skipped_gradient_is_not_accumulated(is_jitted):
    """Whatever stands in between: neither the mean nor what says whether to skip."""

    def is_large(updates, step, params):
        return jnp.zeros([], bool), {"largest": jnp.max(updates["b"])}

    multi = gradtx.MultiSteps(gradtx.adam(0.1), 2, should_skip_update_fn=is_large)
    for inner in (
        gradtx.accumulate(gradtx.adam(0.1), 2),
        gradtx.chain(gradtx.clip(0.5), multi.gradient_transformation()),
    ):
        tx = gradtx.skip(inner)
        update: Any = jax.jit(tx.update) if is_jitted else tx.update
        _, state = update(PARAMS, tx.init(PARAMS), PARAMS)
        updates, after = update(BAD, state, PARAMS)
        bitwise(after["inner"], state["inner"])
        bitwise(updates, jax.tree.map(jnp.zeros_like, PARAMS))
        _, after = update(PARAMS, after, PARAMS)
        assert int(after["inner"]["gradient_step"]) == 1


def test_large_gradients_are_skipped_by_their_squared_norm():
    when = functools.partial(gradtx.skip_large_updates, max_squared_norm=9.0)
    tx = gradtx.skip(gradtx.sgd(1.0), when)
    state = tx.init(PARAMS)
    for scale, is_skipped in ((0.5, False), (1.0, True), (jnp.nan, True)):
        grads = jax.tree.map(lambda p: scale * p, PARAMS)  # noqa: B023
        updates, state = tx.update(grads, state)
        assert np.any(updates["b"]) != is_skipped
        assert bool(state["skip_state"]["should_skip"]) == is_skipped


def test_the_conditions_are_those_of_optax():
    for grads in (PARAMS, BAD):
        for name, more in (("skip_not_finite", ()), ("skip_large_updates", (5.0,))):
            ours, theirs = (
                getattr(m, name)(grads, jnp.int32(0), None, *more)
                for m in (gradtx, optax)
            )
            bitwise(ours, theirs)


def judged(tx, norms):
    """The states of a condition, for gradients of some norms."""
    state, states = tx.init(jnp.zeros(4)), []
    update = jax.jit(tx.update)
    for norm in norms:
        _, state = update(jnp.full(4, norm / 2, jnp.float32), state)
        states.append(jax.tree.map(np.asarray, state))
    return states


NORMS = np.exp(0.1 * np.random.default_rng(0).normal(size=200))


def test_the_mean_and_variance_of_norms_begin_as_those_of_all():
    states = judged(gradtx.norm_spikes(), NORMS[:20])
    papers = zclip_by_the_paper(list(NORMS[:20]), warmup=20)
    for state, (mean, variance, *_) in zip(states, papers, strict=True):
        np.testing.assert_allclose(state["norm_mean"], mean, rtol=1e-5)
        np.testing.assert_allclose(state["norm_variance"], variance, atol=1e-6)


def test_spikes_are_the_norms_that_olmo_skips():
    norms = NORMS.copy()
    norms[[100, 150, 151]] *= 3
    skipped = [bool(s["should_skip"]) for s in judged(gradtx.norm_spikes(), norms)]
    theirs = [not taken for taken in skip_step_by_olmo(list(norms))]
    assert skipped == theirs
    assert list(np.flatnonzero(skipped)) == [100, 150, 151]


def test_a_level_that_stays_is_no_spike_for_long_nor_is_nan_remembered():
    norms = [*NORMS[:70], np.nan, *(5 * NORMS[:100])]
    skipped = [bool(s["should_skip"]) for s in judged(gradtx.norm_spikes(), norms)]
    assert not any(skipped[:70]) and all(skipped[70:75]) and not any(skipped[-50:])


def test_equal_norms_are_no_spikes():
    states = judged(gradtx.norm_spikes(warmup=2), [1.0, 1.0, 1.0, 1.0 + 1e-6, 2.0])
    assert [bool(s["should_skip"]) for s in states] == [False] * 4 + [True]


@pytest.mark.parametrize(
    "when",
    [
        gradtx.not_finite(),
        gradtx.norm_above(6.0),
        gradtx.norm_spikes(warmup=1),
        gradtx.chain(gradtx.scale(0.1), gradtx.norm_above(0.6)),
        functools.partial(gradtx.skip_large_updates, max_squared_norm=36.0),
    ],
)
def test_every_condition_skips_nan_and_leaves_the_rest(when):
    tx = gradtx.skip(gradtx.adam(0.1), when)
    state = tx.init(PARAMS)
    for grads, is_skipped in ((PARAMS, False), (BAD, True), (PARAMS, False)):
        before = state
        updates, state = tx.update(grads, state, PARAMS)
        assert np.any(updates["b"]) != is_skipped
        if is_skipped:
            bitwise(state["inner"], before["inner"])
    assert int(state["inner"]["count"]) == int(state["gradient_step"]) == 2


def test_a_skipped_update_leaves_what_is_foreign_or_needs_the_tree():
    for inner in (optax.adam(0.1), gradtx.chain(optax.trace(0.9), gradtx.sgd(0.1))):
        tx = gradtx.skip(inner)
        _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
        updates, after = jax.jit(tx.update)(BAD, state, PARAMS)
        bitwise(after["inner"], state["inner"])
        bitwise(updates, jax.tree.map(jnp.zeros_like, PARAMS))


def test_the_derivative_through_a_skipped_update_is_finite():
    tx = gradtx.skip(gradtx.adam(0.1))

    def last(params):
        updates, state = tx.update(params, tx.init(params), params)
        updates, _ = tx.update(BAD, state, params)
        return jnp.sum(updates["b"]) + jnp.sum(state["inner"]["mu"]["b"])

    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(jax.grad(last)(PARAMS)))


def test_norms_of_zero_do_not_count():
    """Else all others would be spikes, for ever."""
    states = judged(gradtx.norm_spikes(warmup=4), [0.0] * 6 + [1.0] * 9)
    assert not any(bool(s["should_skip"]) for s in states)
    assert float(states[-1]["norm_count"]) == 9


@pytest.mark.parametrize("said", [True, None, (jnp.ones(1, bool), {}), (1.0, {})])
def test_a_condition_gives_a_bool_and_a_tree(said):
    tx = gradtx.skip(gradtx.sgd(0.1), lambda updates, step, params: said)
    with pytest.raises(TypeError, match=r"skip: when must give a bool and a tree, got"):
        tx.init(PARAMS)
    multi = gradtx.MultiSteps(gradtx.sgd(0.1), 2, should_skip_update_fn=lambda *_: said)
    with pytest.raises(TypeError, match=r"MultiSteps: should_skip_update_fn must give"):
        multi.init(PARAMS)


def test_a_bool_of_python_is_one_and_conditions_are_chained():
    tx = gradtx.skip(gradtx.sgd(0.1), lambda updates, step, params: (True, {}))
    updates, state = tx.update(PARAMS, tx.init(PARAMS))
    assert not np.any(updates["b"]) and int(state["total_skipped"]) == 1
    either = gradtx.chain(gradtx.not_finite(), gradtx.norm_above(1.0))
    tx = gradtx.skip(gradtx.sgd(0.1), either)
    for grads in (BAD, PARAMS, jax.tree.map(lambda p: 0.1 * p, PARAMS)):
        updates, state = tx.update(grads, tx.init(PARAMS))
    assert np.any(updates["b"])


@pytest.mark.parametrize("when", [None, 3, gradtx.adam(0.1), gradtx.norm_spikes])
def test_a_condition_that_is_none_is_refused(when):
    with pytest.raises(TypeError, match=r"skip: when must (be|keep)"):
        gradtx.skip(gradtx.sgd(0.1), when).init(PARAMS)


def test_once_errors_are_accepted_the_moments_stay_finite():
    """In optax they are NaN for ever after; the updates are the same."""
    runs = []
    bad = {"w": PARAMS["w"], "b": jnp.array([1.0, jnp.nan, jnp.inf])}
    for m in (gradtx, optax):
        tx = m.apply_if_finite(m.adam(0.1), 2)
        state, updates = tx.init(PARAMS), []
        with as_optax_needs():
            for grads in (PARAMS, bad, bad, bad):
                out, state = tx.update(grads, state, PARAMS)
                updates.append(out)
        runs.append((updates, state))
    (ours, state), (theirs, poisoned) = runs
    for mine, other in zip(ours, theirs, strict=True):
        chex.assert_trees_all_close(mine, other, rtol=2e-5)
    assert np.isnan(ours[-1]["b"][1:]).all() and np.isfinite(ours[-1]["w"]).all()
    assert np.isfinite(state["inner_state"]["mu"]["b"]).all()
    assert not np.isfinite(poisoned.inner_state[0].mu["b"]).all()
    for field in ("notfinite_count", "last_finite", "total_notfinite"):
        bitwise(state[field], getattr(poisoned, field))
