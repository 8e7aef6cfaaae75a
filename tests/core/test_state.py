import copy
import pickle
from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import testing
from tests import equality
from tests.registry import CASES, TRANSFORMATIONS
from tests.settings import OPTAX, OPTIMIZERS
from tests.settings_of_primitives import PRIMITIVES

pytestmark = pytest.mark.usefixtures("standard_promotion")
PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
NESTED = gradtx.chain(gradtx.clip(1.0), gradtx.accumulate(gradtx.adam(0.1), 2))


def step(state, tx=NESTED):
    return tx.update(PARAMS, state, PARAMS)[1]


def same(a, b):
    """Two trees of one structure, types of nodes included, and of equal leaves."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    chex.assert_trees_all_equal(a, b)


def nodes(tree):
    """The types of all dicts in a tree of dicts."""
    if not isinstance(tree, dict):
        return set()
    return {type(tree)}.union(*map(nodes, tree.values()))


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_an_update_gives_back_the_type_of_state_that_it_was_given(name):
    case = testing.Case(PARAMS, **CASES.get(name, {}))
    tx, grads = TRANSFORMATIONS[name](), case.gradients(PARAMS)
    state = tx.init(PARAMS)
    assert type(state) is gradtx.State

    def update(state):
        return case.update(tx, grads, state, PARAMS)[1]

    plain = state._asdict()
    assert gradtx.State not in nodes(plain)
    for given in (state, plain):
        after = jax.eval_shape(update, given)
        assert jax.tree.structure(after) == jax.tree.structure(given)
    keys = [[*map(jax.tree_util.keystr, paths(tree))] for tree in (state, plain)]
    assert keys[0] == keys[1]


def paths(tree):
    return [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


@pytest.mark.parametrize("when", [True, False])
@pytest.mark.parametrize("name", ["accumulate", "skip", "lookahead that restarts"])
def test_a_loop_and_a_condition_keep_the_type(name, when):
    tx = TRANSFORMATIONS[name]()
    for state in (tx.init(PARAMS), tx.init(PARAMS)._asdict()):
        scanned, _ = jax.lax.scan(lambda s, _: (step(s, tx), None), state, length=3)
        chosen = jax.lax.cond(when, lambda s: step(s, tx), lambda s: s, state)
        for after in (scanned, chosen, step(state, tx), jax.jit(step)(state, tx)):
            assert jax.tree.structure(after) == jax.tree.structure(state)


COUNTS = {"t", "count_m2", "step_count", "is_initial_step", "is_init_step"}
"""What tells a count in some states of optax: in ours one `count` counts."""
FLAT = {"inner_state", "base_optimizer_state", "info"}
"""What holds a state inside in some states of optax: ours is flat."""
RENAMED = {"rng_key": "key"}
LAID_OUT_OTHERWISE = {
    "FactoredState": "optax has arrays of one element for what is not there",
    "ScaleBySM3State": "optax has tuples",
    "GaLoreState": "optax has empty arrays for what is not projected",
    "ScaleByDistanceOverGradientsState": "optax has one element for a scalar",
    "HutchinsonState": "ours keeps keys as integers",
}
WRAPPERS = {
    "MultiSteps": lambda m: m.chain(
        m.clip(1.0), m.MultiSteps(m.adam(0.1), 2).gradient_transformation()
    ),
    "apply_if_finite": lambda m: m.apply_if_finite(m.adam(0.1), 3),
    "conditionally_mask": lambda m: m.conditionally_mask(m.adam(0.1), lambda i: i > 1),
    "conditionally_transform": lambda m: m.chain(
        m.conditionally_transform(m.trace(0.9), lambda i: i > 1), m.scale(-0.1)
    ),
    "inject_hyperparams": lambda m: m.chain(
        m.clip(1.0), m.inject_hyperparams(m.adam)(0.1)
    ),
    "sam": lambda m: m.contrib.sam(m.sgd(0.1), m.sgd(0.1, 0.9)),
    "schedule_free, from contrib": lambda m: m.contrib.schedule_free(
        m.sgd(0.1), 0.1, b1=0.8
    ),
    "split": lambda m: m.contrib.split_real_and_imaginary(m.adam(0.1)),
    "zero_nans": lambda m: m.chain(m.zero_nans(), m.adam(0.1)),
}


def reads(theirs: Any, ours: Any, path: str = ""):
    """What a program reads in a state of optax, here and in ours, by what it writes."""
    if isinstance(theirs, tuple) and not hasattr(theirs, "_fields"):
        for i, member in enumerate(theirs):
            yield from reads(member, ours[i], f"{path}[{i}]")
    fields: tuple[str, ...] = getattr(theirs, "_fields", ())
    for field in fields:
        if field == "inner_states":  # of groups: `state["label.mu"]` here
            continue
        value, place = getattr(theirs, field), f"{path}.{field}"
        is_own = hasattr(ours, field)
        if not jax.tree.leaves(value):
            continue
        if hasattr(value, "_fields") or isinstance(value, tuple):
            assert is_own or field in FLAT, place
            inside = getattr(ours, field) if is_own else ours
            yield from reads(value, inside, place)
        elif field in COUNTS:
            assert not is_own and ours.count.shape == ()
        else:
            read = getattr(ours, RENAMED.get(field, field))
            if field not in RENAMED and type(theirs).__name__ not in LAID_OUT_OTHERWISE:
                yield place, value, read


@pytest.mark.parametrize("name", [*WRAPPERS, *OPTIMIZERS, *PRIMITIVES])
def test_what_is_read_in_a_state_of_optax_is_read_in_ours(name):
    """By attribute and by place, however wrappers and chains are nested."""
    make = {**WRAPPERS, **OPTIMIZERS, **PRIMITIVES}[name]
    library = optax if name in WRAPPERS else OPTAX
    with equality.as_optax_needs():
        theirs = make(library).init(PARAMS)
    for place, a, b in reads(theirs, make(gradtx).init(PARAMS)):
        shapes = [[*map(jnp.shape, jax.tree.leaves(tree))] for tree in (a, b)]
        assert shapes[0] == shapes[1], place


def test_attributes_and_places_read_what_keys_read():
    state = NESTED.init(PARAMS)
    assert state.inner is state["inner"] and state.inner.mu is state["inner"]["mu"]
    assert state[0] is state[1] is state[-1] is state
    assert state[1].inner[0].mu is state["inner"]["mu"]
    assert hasattr(state, "mini_step") and not hasattr(state, "hyperparams")
    assert getattr(state, "mu", None) is None
    assert {"mini_step", "keys"} <= {*dir(state)}


def test_a_program_of_optax_that_logs_its_learning_rate_logs_it():
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.inject_hyperparams(gradtx.adam)(0.1))
    state = tx.init(PARAMS)
    assert hasattr(state[1], "hyperparams")
    assert float(state[1].hyperparams["learning_rate"]) == np.float32(0.1)
    state[1].hyperparams["learning_rate"] = jnp.float32(0.0)
    updates, _ = tx.update(PARAMS, state, PARAMS)
    assert not updates["w"].any()
    edited = tx.init(PARAMS)
    edited = edited._replace(hyperparams=state.hyperparams)
    same(edited, state)


@pytest.mark.parametrize("name", dir(dict))
def test_methods_of_dicts_stay_methods(name):
    state = gradtx.snapshot(name, optax.tree.norm).init(PARAMS)
    assert sorted(state) == sorted(["count", name])
    assert float(state[name]) == 3.0
    own = getattr(gradtx.State, name, None)
    assert callable(own) or name in ("__doc__", "__hash__")
    assert not isinstance(getattr(state, name), jax.Array)


def test_what_is_not_there_is_an_error_that_says_what_is():
    state = gradtx.adam(0.1).init(PARAMS)
    with pytest.raises(AttributeError, match=r"no 'nus'; it holds 'count', 'mu', 'nu'"):
        state.nus  # noqa: B018
    with pytest.raises(AttributeError, match=r"did you mean 'count'\?"):
        state[0].counts  # noqa: B018
    for key in ("nus", None, 0.5, True, ("mu", "w")):
        with pytest.raises(KeyError, match="it holds 'count', 'mu', 'nu'"):
            state[key]
    with pytest.raises(TypeError):
        state[:1]
    assert state.get("nus") is None and 0 not in state
    two = gradtx.chain(gradtx.scale_by_adam(), gradtx.scale_by_rms()).init(PARAMS)
    told = r"state\['scale_by_adam.nu'\] or state\['scale_by_rms.nu'\]"
    with pytest.raises(AttributeError, match=told):
        two[1].nu  # noqa: B018
    parts: Any = {"a": gradtx.adam(0.1), "b": gradtx.sgd(0.1)}
    state = gradtx.partition(parts, {"w": "a", "b": "b"}).init(PARAMS)
    with pytest.raises(KeyError, match=r"write state\['a.mu'\] or state\['a.nu'\]"):
        state["a"]
    with pytest.raises(AttributeError, match=r"no 'mu'; write state\['a.mu'\]"):
        state.mu  # noqa: B018


def test_an_attribute_is_not_written_but_a_state_is_made_with_another_value():
    state, zeros = gradtx.trace(0.9).init(PARAMS), jnp.zeros(2)
    with pytest.raises(AttributeError, match=r"write state\['trace'\] = "):
        state.trace = zeros
    for edited in (state | {"trace": zeros}, state._replace(trace=zeros)):
        assert type(edited) is gradtx.State and edited.trace is zeros
    assert state.trace is not zeros
    with pytest.raises(ValueError, match="no 'mu'; it holds 'count', 'trace'"):
        state._replace(mu=zeros)
    state |= {"trace": zeros}
    assert type(state) is gradtx.State and state["trace"] is zeros


def test_it_is_a_dict():
    state = gradtx.sgd(0.1).init(PARAMS)
    assert isinstance(state, dict) and state == {"count": 0} == state
    assert {**state} == state and type({**state}) is dict
    assert repr(state) == repr({**state}) and len(state) == 1
    assert type(state.copy()) is gradtx.State and state.copy() is not state
    assert [*state.items()] == [("count", 0)]


def test_it_is_copied_and_pickled():
    state = step(NESTED.init(PARAMS))
    for made in (
        copy.copy(state),
        copy.deepcopy(state),
        pickle.loads(pickle.dumps(state)),
        pickle.loads(pickle.dumps(state, protocol=0)),
        jax.tree.map(lambda x: x, state),
    ):
        same(made, state)
    assert b"state_dict" not in pickle.dumps(state)


def test_a_checkpoint_of_plain_dicts_goes_on():
    """As version 0.6.0 wrote it: pickled, and restored by name."""
    state = step(NESTED.init(PARAMS))
    old = pickle.loads(pickle.dumps(state._asdict()))
    same(step(old), step(state)._asdict())
    restored = gradtx.restore(NESTED, PARAMS, old)
    same(restored.state, state)
    assert not restored.renamed and not restored.new and not restored.dropped


def test_jax_transforms_it():
    state = NESTED.init(PARAMS)
    stacked = jax.vmap(NESTED.init)(jax.tree.map(lambda p: jnp.stack([p, p]), PARAMS))
    axes = gradtx.State(dict.fromkeys(state, 0))
    counts = jax.vmap(lambda s: s.inner.count, in_axes=(axes,))(stacked)
    assert counts.shape == (2,)
    donated = jax.jit(step, donate_argnums=0)(jax.tree.map(jnp.array, state))
    same(donated, step(state))
    grads = jax.grad(lambda s: s.acc_grads["w"].sum(), allow_int=True)(state)
    assert type(grads) is gradtx.State and bool((grads.acc_grads["w"] == 1).all())
    same(jax.tree.map(jnp.asarray, jax.device_get(state)), state)
    shapes = NESTED.init(jax.eval_shape(lambda: PARAMS))
    assert jax.tree.structure(shapes) == jax.tree.structure(state)


def with_mu(state):
    return state | {"inner": state.inner._replace(mu=PARAMS)}


def test_optax_finds_and_sets_in_it():
    state = NESTED.init(PARAMS)
    assert optax.tree.get(state, "mu") is state.inner.mu
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.inject_hyperparams(gradtx.adam)(0.1))
    state = optax.tree.set(tx.init(PARAMS), learning_rate=jnp.float32(0.5))
    assert float(state[1].hyperparams["learning_rate"]) == 0.5
    assert jax.tree.structure(state) == jax.tree.structure(step(state, tx))
    state = NESTED.init(PARAMS)
    edited = optax.tree.set(state, mu=PARAMS)  # of the one state a plain dict
    assert type(edited.inner) is dict and edited.inner["mu"]["w"] is PARAMS["w"]
    same(jax.tree.leaves(step(edited)), jax.tree.leaves(step(with_mu(state))))
    state = gradtx.adam(0.1).init(PARAMS)
    specs = {"w": "W", "b": "B"}
    adam: Any = gradtx.adam(0.1)
    mapped = optax.tree_map_params(adam, lambda _, spec: spec, state, specs)
    assert type(mapped) is gradtx.State and mapped.mu == mapped.nu == specs
