import copy
import pickle
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.equality import bitwise, traced_update

anything: Any = gradtx  # what mistakes are made with
PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}

INJECT = gradtx.inject_hyperparams(gradtx.sgd)
SCHEDULE = gradtx.linear_schedule(0.1, 0.0, 10)


def pipeline():
    return gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(SCHEDULE, b1=0.8))


def stepped(tx, n, params=PARAMS):
    state = tx.init(params)
    for _ in range(n):
        _, state = tx.update(params, state, params)
    return state


def rounded(numbers):
    return {name: round(float(value), 5) for name, value in numbers.items()}


def test_every_number_is_read_by_name_at_its_value_now():
    tx = pipeline()
    assert rounded(gradtx.hyperparams(tx, stepped(tx, 3))) == {
        "max_norm": 1.0, "learning_rate": 0.07, "b1": 0.8, "b2": 0.999, "eps": 0.0,
        "eps_root": 0.0, "weight_decay": 0.0001,
    }  # fmt: skip


def test_numbers_of_one_name_are_qualified_by_what_is_around_them():
    tx = gradtx.chain(
        gradtx.trace(0.5),
        gradtx.groups({"w": gradtx.sgd(0.1, momentum=0.9), "**": gradtx.sgd(0.2)}),
        gradtx.trace(0.25),
    )
    assert rounded(gradtx.hyperparams(tx, tx.init(PARAMS))) == {
        "trace.decay.1of2": 0.5,
        "trace.decay.2of2": 0.25,
        "**.sgd.learning_rate": 0.2,
        "w.sgd.learning_rate": 0.1,
        "momentum": 0.9,
    }


def test_numbers_inside_wrappers_are_at_the_count_of_what_is_inside():
    tx = gradtx.chain(gradtx.skip(gradtx.accumulate(gradtx.sgd(SCHEDULE), 2)))
    found = gradtx.hyperparams(tx, stepped(tx, 6))
    assert rounded(found) == {"learning_rate": 0.07, "every": 2.0}


def test_one_member_of_two_wrappers_is_at_the_count_of_each():
    inner = gradtx.sgd(SCHEDULE)
    wrapped = {"w": gradtx.accumulate(inner, 2), "b": gradtx.accumulate(inner, 3)}
    tx = gradtx.groups(wrapped)
    assert rounded(gradtx.hyperparams(tx, stepped(tx, 6))) == {
        "b.accumulate.every": 3.0,
        "b.accumulate.sgd.learning_rate": 0.08,
        "w.accumulate.every": 2.0,
        "w.accumulate.sgd.learning_rate": 0.07,
    }


def test_one_wrapper_in_two_groups_has_a_count_in_each():
    both = gradtx.skip(gradtx.sgd(SCHEDULE))
    tx, state = gradtx.groups({"w": both, "b": both}), None
    state, bad = tx.init(PARAMS), PARAMS | {"w": jnp.nan * PARAMS["w"]}
    for _ in range(4):
        _, state = tx.update(bad, state, PARAMS)
    assert rounded(gradtx.hyperparams(tx, state)) == {
        "b.skip.sgd.learning_rate": 0.06,
        "w.skip.sgd.learning_rate": 0.1,
    }


def test_how_many_gradients_are_accumulated_is_scheduled_by_steps():
    every = gradtx.piecewise_constant_schedule(2.0, {3: 2.0})
    tx = gradtx.accumulate(gradtx.sgd(0.1), every)
    assert gradtx.hyperparams(tx, stepped(tx, 5))["every"] == 2


def test_named_parts_give_their_names():
    tx = gradtx.chain(gradtx.named("fast", gradtx.trace(0.5)), gradtx.trace(0.9))
    assert rounded(gradtx.hyperparams(tx, tx.init(PARAMS))) == {
        "fast.trace.decay": 0.5,
        "chain.trace.decay": 0.9,
    }


def test_a_state_of_something_else_is_an_error():
    tx = gradtx.accumulate(gradtx.sgd(0.1), 2)
    for state, kind in (({}, TypeError), (gradtx.sgd(0.1).init(PARAMS), ValueError)):
        with pytest.raises(kind):
            gradtx.hyperparams(tx, state)


def test_numbers_that_are_in_the_state_are_read_there():
    tx = gradtx.chain(
        gradtx.clip(1.0), gradtx.inject_hyperparams(gradtx.sgd)(SCHEDULE, momentum=0.5)
    )
    state = stepped(tx, 2)
    assert rounded(gradtx.hyperparams(tx, state))["momentum"] == 0.5
    state["hyperparams"]["momentum"] = 0.25
    assert rounded(gradtx.hyperparams(tx, state))["momentum"] == 0.25


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_what_nobody_edits_is_bit_for_bit_as_plain(dtype, is_jitted):
    with jax.enable_x64(dtype == "float64"):
        params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
        runs = []
        for tx in (pipeline(), gradtx.editable(pipeline())):
            update = jax.jit(tx.update) if is_jitted else tx.update
            updates, state = params, tx.init(params)
            for _ in range(3):
                updates, state = update(params, state, params)
            runs.append((updates, state.get("inner", state)))
        (_, plain), (_, edited) = runs
        kept = {k: v for k, v in edited.items() if not k.endswith("weight")}
        bitwise((runs[0][0], plain), (runs[1][0], type(plain)(kept)))


def test_an_edit_takes_effect_at_the_next_update_without_a_trace():
    tx = gradtx.editable(gradtx.sgd(0.1, momentum=0.9))
    update, traces = traced_update(tx, PARAMS)
    state = tx.init(PARAMS)
    assert rounded(state["hyperparams"]) == {"learning_rate": 0.1, "momentum": 0.9}
    first, state = update(PARAMS, state)
    state["hyperparams"]["learning_rate"] = jnp.float32(0.2)
    state["hyperparams"]["momentum"] = jnp.float32(0.0)
    second, state = update(PARAMS, state)
    np.testing.assert_allclose(second["w"], 2 * first["w"], rtol=1e-6)
    assert rounded(state["hyperparams"]) == {"learning_rate": 0.2, "momentum": 0.0}
    assert gradtx.hyperparams(tx, state) == state["hyperparams"]
    assert len(traces) == 1


def test_an_edit_overrides_a_schedule_until_nan_brings_it_back():
    tx = gradtx.editable(gradtx.sgd(SCHEDULE))
    update, state, rates = jax.jit(tx.update), tx.init(PARAMS), []
    edits = {2: 0.5, 5: jnp.nan}
    for i in range(8):
        if i in edits:
            state["hyperparams"]["learning_rate"] = jnp.float32(edits[i])
        updates, state = update(PARAMS, state)
        rates.append(round(-float(updates["w"][0, 0]), 4))
    assert rates == [0.1, 0.09, 0.5, 0.5, 0.5, 0.05, 0.04, 0.03]
    assert rounded(state["hyperparams"]) == {"learning_rate": 0.02}


def test_nan_brings_a_constant_back_and_an_edit_of_a_whole_schedule_is_not_cut():
    tx = gradtx.editable(gradtx.sgd(lambda count: jnp.where(count < 10, 1, 0)))
    state = tx.init(PARAMS)
    state["hyperparams"]["learning_rate"] = jnp.float32(0.5)
    assert float(tx.update(PARAMS, state)[0]["w"][0, 0]) == -0.5
    constant = gradtx.editable(gradtx.sgd(0.25))
    state = constant.init(PARAMS)
    for written, rate in ((0.5, 0.5), (jnp.nan, 0.25)):
        state["hyperparams"]["learning_rate"] = jnp.float32(written)
        updates, state = jax.jit(constant.update)(PARAMS, state)
        assert float(updates["w"][0, 0]) == -rate


def test_what_is_editable_in_an_editable_one_is_read_and_edited_there():
    inner = gradtx.editable(gradtx.sgd(0.1))
    tx = gradtx.editable(gradtx.chain(gradtx.clip(1.0), inner))
    state = tx.init(PARAMS)
    assert list(state["hyperparams"]) == ["max_delta"]
    assert set(gradtx.hyperparams(tx, state)) == {"max_delta", "learning_rate"}
    with pytest.raises(ValueError, match="the numbers of editable are in its state al"):
        gradtx.editable(inner)


def test_editing_to_what_the_schedule_has_now_changes_nothing():
    """What is written equals what was there: nobody could see an edit."""
    tx = gradtx.editable(gradtx.sgd(SCHEDULE))
    _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    state["hyperparams"] = dict(state["hyperparams"])
    _, state = tx.update(PARAMS, state, PARAMS)
    assert rounded(state["hyperparams"]) == {"learning_rate": 0.08}


def test_groups_and_wrappers_are_editable():
    inner = gradtx.groups({"w": gradtx.sgd(0.1), "**": gradtx.sgd(SCHEDULE)})
    tx = gradtx.editable(gradtx.accumulate(inner, 2))
    state = tx.init(PARAMS)
    assert set(state["hyperparams"]) == {
        "every",
        "accumulate.groups.w.learning_rate",
        "accumulate.groups.**.learning_rate",
    }
    state["hyperparams"]["every"] = jnp.float32(1)
    state["hyperparams"]["accumulate.groups.w.learning_rate"] = jnp.float32(1)
    updates, state = tx.update(PARAMS, state, PARAMS)
    np.testing.assert_allclose(updates["w"], -1.0)
    np.testing.assert_allclose(updates["b"], -0.1 * PARAMS["b"], rtol=1e-6)
    name = "accumulate.groups.**.learning_rate"
    assert round(float(state["hyperparams"][name]), 5) == 0.09


def test_a_number_that_is_not_there_is_an_error():
    tx = gradtx.editable(gradtx.sgd(0.1))
    state = tx.init(PARAMS)
    state["hyperparams"]["lr"] = 0.1
    message = r"editable: state\['hyperparams'\]: unexpected: 'lr'"
    with pytest.raises(ValueError, match=message):
        tx.update(PARAMS, state, PARAMS)
    del state["hyperparams"]["lr"]
    state["hyperparams"]["learning_rate"] = jnp.ones(3)
    message = r"editable: state\['hyperparams'\]\['learning_rate'\] must be a scalar, "
    with pytest.raises(ValueError, match=message + r"got shape \(3,\)"):
        tx.update(PARAMS, state, PARAMS)


def test_what_is_not_of_gradtx_has_no_numbers_to_edit():
    message = "tx must be of gradtx, got 'scale_by_adam' of optax"
    with pytest.raises(TypeError, match=f"editable: {message}"):
        gradtx.editable(optax.scale_by_adam())
    with pytest.raises(TypeError, match=f"hyperparams: {message}"):
        anything.hyperparams(optax.scale_by_adam(), None)
    with pytest.raises(TypeError) as raised:
        gradtx.hyperparams({"w": jnp.ones((9, 9))}, None)  # pyright: ignore[reportArgumentType]
    assert str(raised.value) == (
        "hyperparams: tx must be a transformation, got a dict of 1"
    )


def test_what_is_shown_is_what_the_next_update_uses():
    """Also where the state is another one's, or somebody has just written NaN."""
    slow, fast = (gradtx.editable(gradtx.sgd(rate)) for rate in (0.1, 0.3))
    state = slow.init(PARAMS)
    assert gradtx.hyperparams(fast, state)["learning_rate"] == jnp.float32(0.3)
    state["hyperparams"]["learning_rate"] = jnp.float32(0.2)
    assert gradtx.hyperparams(fast, state)["learning_rate"] == jnp.float32(0.2)
    _, state = fast.update(PARAMS, state, PARAMS)
    state["hyperparams"]["learning_rate"] = jnp.float32(jnp.nan)
    assert gradtx.hyperparams(fast, state)["learning_rate"] == jnp.float32(0.3)


def test_numbers_of_a_named_chain_are_told_apart_by_its_names():
    members = (("one", gradtx.sgd(0.1)), ("two", gradtx.sgd(0.2)))
    tx = gradtx.named_chain(*members)
    assert gradtx.hyperparams(tx, tx.init(PARAMS)) == {
        "one.sgd.learning_rate": 0.1,
        "two.sgd.learning_rate": 0.2,
    }


def test_the_numbers_of_multi_steps_are_found():
    tx = gradtx.MultiSteps(gradtx.sgd(0.5), 2)
    assert anything.hyperparams(tx, tx.init(PARAMS))["learning_rate"] == 0.5


def grouped():
    members = {"w": gradtx.sgd(0.1), "**": gradtx.sgd(SCHEDULE)}
    return gradtx.accumulate(gradtx.groups(members), 2)


def test_longer_names_find_a_number_and_so_do_the_keys_of_editable():
    tx = gradtx.chain(gradtx.clip(1.0), grouped())
    found = gradtx.hyperparams(tx, tx.init(PARAMS))
    full = "chain.accumulate.groups.w.sgd.learning_rate"
    for start in range(4):
        assert found[full.split(".", start)[-1]] == 0.1
    assert found["w.learning_rate"] == found["groups.w.learning_rate"] == 0.1
    for key in gradtx.editable(grouped()).init(PARAMS)["hyperparams"]:
        assert key in found
    assert found.get("chain.clip.max_delta") == 1.0


def test_a_name_of_several_numbers_or_of_none_is_an_error_that_lists_names():
    tx = grouped()
    found = gradtx.hyperparams(tx, tx.init(PARAMS))
    for name in ("learning_rate", "sgd.learning_rate", "rate", "w", 3):
        assert name not in found and found.get(name, 5) == 5
    messages = {
        "learning_rate": "2 numbers are called 'learning_rate'; write one of "
        "'**.sgd.learning_rate', 'w.sgd.learning_rate'",
        "sgd.lerning_rate": "did you mean 'sgd.learning_rate'?",
        "x": "no number is called 'x'; there are '**.sgd.learning_rate', ",
    }
    for name, message in messages.items():
        with pytest.raises(KeyError) as raised:
            found[name]
        assert message in raised.value.args[0]


def test_numbers_by_name_are_a_dict_for_jax_and_for_pickle():
    tx = grouped()
    state = tx.init(PARAMS)
    plain = gradtx.hyperparams(tx, state)
    jitted = jax.jit(lambda state: gradtx.hyperparams(tx, state))(state)
    for other in (jitted, pickle.loads(pickle.dumps(plain)), copy.copy(plain)):
        assert rounded(other) == rounded(plain) == rounded(dict(plain))
        assert other["w.learning_rate"] == jnp.float32(0.1)
    paths = jax.tree_util.tree_leaves_with_path(plain)
    assert {path[0].key for path, _ in paths} == {*plain}
    assert jax.tree.structure(plain) == jax.tree.structure(jitted)


def test_numbers_inside_editable_have_the_names_that_they_have_without_it():
    for tx in (grouped(), gradtx.adagrad(0.1), gradtx.lookahead(pipeline(), 3, 0.5)):
        live = gradtx.editable(tx)
        state, edited = tx.init(PARAMS), live.init(PARAMS)
        found = gradtx.hyperparams(live, edited)
        assert rounded(found) == rounded(gradtx.hyperparams(tx, state))
        for key in edited["hyperparams"]:
            edited["hyperparams"][key] = jnp.float32(0.75)
            assert gradtx.hyperparams(live, edited)[key] == 0.75


@pytest.mark.parametrize("keep", [gradtx.editable, lambda tx: INJECT(0.2)])
def test_numbers_that_an_inner_state_keeps_do_not_clash_with_those_around(keep):
    tx = gradtx.editable(gradtx.chain(gradtx.sgd(0.1), keep(gradtx.sgd(0.2))))
    state = tx.init(PARAMS)
    assert list(state["hyperparams"]) == ["learning_rate"]
    updates, state = tx.update(PARAMS, state, PARAMS)
    np.testing.assert_allclose(updates["w"], 0.02, rtol=1e-6)
    assert len(gradtx.hyperparams(tx, state)) == 2
