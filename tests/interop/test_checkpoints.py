import functools
import itertools

import chex
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax import numpy as jnp

import gradtx

PARAMS = {
    "embed": {"w": jnp.ones((4, 3))},
    "head": {"w": jnp.ones(5), "b": jnp.ones(5)},
}
PLAIN = gradtx.adamw(1e-3)


def trained(tx, params=PARAMS, steps=2):
    state = tx.init(params)
    for _ in range(steps):
        _, state = tx.update(params, state, params)
    return state


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    chex.assert_trees_all_equal(a, b)


CHANGED = {
    "a stateless step in front": gradtx.chain(gradtx.clip_by_global_norm(1.0), PLAIN),
    "a schedule for a constant": gradtx.adamw(gradtx.linear_schedule(1e-3, 0.0, 9)),
    "in groups": gradtx.groups({"embed/**": PLAIN, "**": gradtx.adamw(0.1)}),
    "in groups by label": gradtx.groups(
        {"a": PLAIN, "b": gradtx.adamw(0.1)}, lambda name, leaf: "ab"["head" in name]
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_state_restores_into_a_changed_pipeline(name):
    saved = trained(PLAIN)
    restored = gradtx.restore(CHANGED[name], PARAMS, saved)
    equal(restored.state, saved)
    assert not (restored.new or restored.dropped or restored.renamed)
    assert len(restored.matched) == 7
    CHANGED[name].update(PARAMS, restored.state, PARAMS)


def test_a_renamed_group_keeps_its_whole_tree_values():
    def grouped(first, second="**"):
        return gradtx.groups({first: gradtx.prodigy(), second: gradtx.prodigy()})

    saved = trained(grouped("embed/**"))
    restored = gradtx.restore(grouped("embed/*"), PARAMS, saved)

    def told(state):
        return {key.rpartition(".")[2]: state[key] for key in state if "embed" in key}

    equal(told(restored.state), told(saved))
    assert restored.state["exp_avg"] is not None and not restored.new
    old = "groups.embed/**.estim_lr"
    assert restored.renamed["groups.embed/*.estim_lr"] == old


def test_renamed_labels_of_a_partition_are_told_apart_by_their_parameters():
    def parted(*names):
        members = {name: gradtx.adam(0.1) for name in names}
        return gradtx.partition(members, dict(zip(PARAMS, names, strict=True)))

    saved = trained(parted("table", "top"))
    restored = gradtx.restore(parted("embedding", "output"), PARAMS, saved)
    assert restored.renamed == {
        "embedding.mu": "table.mu",
        "embedding.nu": "table.nu",
        "output.mu": "top.mu",
        "output.nu": "top.nu",
    }
    equal(restored.state["output.mu"], saved["top.mu"])
    assert not (restored.new or restored.dropped)


def test_a_group_in_a_wrapper_may_be_renamed():
    def made(*names):
        members = {name: gradtx.adam(0.1) for name in names}
        labels = dict(zip(PARAMS, names, strict=True))
        return gradtx.accumulate(gradtx.partition(members, labels), 2)

    saved = trained(made("table", "top"))
    restored = gradtx.restore(made("embedding", "output"), PARAMS, saved)
    assert restored.renamed["inner/output.nu"] == "inner/top.nu"
    equal(restored.state["inner"]["output.nu"], saved["inner"]["top.nu"])


def test_the_numbers_of_a_renamed_group_are_those_that_were_edited():
    def made(pattern):
        members = {pattern: gradtx.sgd(0.1), "**": gradtx.sgd(0.2)}
        return gradtx.editable(gradtx.groups(members))

    saved = trained(made("embed/**"))
    saved["hyperparams"]["groups.embed/**.learning_rate"] = jnp.float32(0.5)
    restored = gradtx.restore(made("embed/*"), PARAMS, saved)
    name = "hyperparams/groups.embed/*.learning_rate"
    assert restored.renamed[name] == "hyperparams/groups.embed/**.learning_rate"
    assert restored.state["hyperparams"]["groups.embed/*.learning_rate"] == 0.5
    assert not (restored.new or restored.dropped)


def test_numbers_that_nobody_edited_are_those_of_the_new_pipeline():
    constant = gradtx.editable(gradtx.sgd(0.1))
    scheduled = gradtx.editable(gradtx.sgd(gradtx.linear_schedule(0.5, 0.0, 10)))
    saved = trained(constant, steps=3)
    assert rate(scheduled, saved) == pytest.approx(0.35)
    assert rate(constant, trained(scheduled, steps=3)) == pytest.approx(0.1)
    saved["hyperparams"]["learning_rate"] = jnp.float32(0.2)
    assert rate(scheduled, saved) == pytest.approx(0.2)


def test_an_editable_pipeline_may_get_steps_with_numbers_and_lose_them():
    """Numbers that nobody edited are no state; one that somebody did is no trifle."""
    clip, sgd = gradtx.clip_by_global_norm(1.0), gradtx.sgd(0.1)
    plain, clipped = gradtx.editable(sgd), gradtx.editable(gradtx.chain(clip, sgd))
    saved = trained(plain)
    saved["hyperparams"]["learning_rate"] = jnp.float32(0.5)
    state = gradtx.restore(clipped, PARAMS, saved).state
    assert state["hyperparams"] == {"max_norm": 1.0, "learning_rate": 0.5}
    assert gradtx.restore(plain, PARAMS, state).state["hyperparams"] == {
        "learning_rate": 0.5
    }
    state["hyperparams"]["max_norm"] = jnp.float32(2.0)
    message = (
        r"without a place: 'hyperparams/max_norm' \(allow that with dropped=True\)"
    )
    with pytest.raises(ValueError, match=message):
        gradtx.restore(plain, PARAMS, state)


def test_a_transformation_may_become_editable_and_be_it_no_longer():
    saved = trained(ADAM)
    edited = gradtx.restore(gradtx.editable(ADAM), PARAMS, saved)
    assert not (edited.new or edited.dropped)
    equal(gradtx.restore(ADAM, PARAMS, edited.state).state, saved)


def test_numbers_of_injected_hyperparameters_are_not_taken_for_edits():
    """Else what a schedule gave last would stand for it from now on."""
    saved = trained(gradtx.inject_hyperparams(gradtx.adamw)(RATE))
    tx = gradtx.editable(ADAM)
    with pytest.raises(ValueError, match="without a place: 'hyperparams/b1'"):
        gradtx.restore(tx, PARAMS, saved)
    state = gradtx.restore(tx, PARAMS, saved, dropped=True).state
    rate_now = gradtx.hyperparams(tx, state)["learning_rate"]
    np.testing.assert_allclose(rate_now, RATE(2))


def rate(tx, saved):
    """The learning rate of the update after a state is restored."""
    state = gradtx.restore(tx, PARAMS, saved).state
    updates, _ = tx.update(PARAMS, state, PARAMS)
    return -float(updates["head"]["b"][0])


RATE = gradtx.linear_schedule(1e-3, 0.0, 9)
ADAM = gradtx.adamw(RATE)
SLOW = gradtx.accumulate(ADAM, 2)
WRAPPED = {
    "editable": (ADAM, gradtx.editable(ADAM)),
    "skip behind a clip": (
        ADAM,
        gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.skip(ADAM)),
    ),
    "nothing": (gradtx.editable(ADAM), ADAM),
    "nothing twice": (gradtx.skip(gradtx.editable(ADAM)), ADAM),
    "editable within skip": (gradtx.skip(ADAM), gradtx.skip(gradtx.editable(ADAM))),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_pipeline_goes_on_inside_a_wrapper_that_is_new_or_gone(name):
    before, after = WRAPPED[name]
    plain = trained(ADAM)
    state = gradtx.restore(after, PARAMS, trained(before), new=True, dropped=True).state
    found = state
    while "mu" not in found:
        assert state["count"] == found["count"]
        found = found["inner"]
    kept = {k: v for k, v in found.items() if not k.endswith("weight")}
    equal(type(plain)(kept), plain)
    updates, _ = after.update(PARAMS, state, PARAMS)
    expected, _ = ADAM.update(PARAMS, plain, PARAMS)
    if "clip" not in name:
        chex.assert_trees_all_close(updates, expected, rtol=1e-7)


def test_a_restored_state_may_be_donated():
    """Two counts go on from one: they are not one buffer."""
    tx = gradtx.skip(ADAM)
    state = gradtx.restore(tx, PARAMS, trained(ADAM), new=True).state
    grads = jax.tree.map(jnp.array, PARAMS)
    _, after = jax.jit(tx.update, donate_argnums=1)(grads, state, PARAMS)
    assert after["count"] == after["inner"]["count"] == 3


def test_a_wrapper_around_a_wrapper_takes_nothing_that_is_not_its_own():
    """Both keep `gradient_step`, and a count: of gradients, and of updates."""
    saved = trained(SLOW, steps=5)
    with pytest.raises(ValueError) as error:
        gradtx.restore(gradtx.skip(SLOW), PARAMS, saved)
    assert str(error.value) == (
        "restore: skip: not saved: 'gradient_step', 'skip_state/should_skip', "
        "'total_skipped' (allow that with new=True)"
    )
    state = gradtx.restore(gradtx.skip(SLOW), PARAMS, saved, new=True).state
    equal(state["inner"], saved)
    assert state["count"] == 5 and state["gradient_step"] == 0
    within = gradtx.accumulate(gradtx.skip(ADAM), 2)
    state = gradtx.restore(within, PARAMS, saved, new=True).state
    equal(state["acc_grads"], saved["acc_grads"])
    equal(state["inner"]["inner"], saved["inner"])
    assert [state["gradient_step"], state["inner"]["count"]] == [2, 2]


WRAPPERS = {
    "skip": gradtx.skip,
    "accumulate": lambda tx: gradtx.accumulate(tx, 2),
    "apply_if_finite": lambda tx: gradtx.apply_if_finite(tx, 2),
    "loss_scale": gradtx.loss_scale,
}
NESTS = [nest for n in range(3) for nest in itertools.permutations(WRAPPERS, n)]


def nested(nest):
    """Adam within wrappers, the outermost first."""
    return functools.reduce(lambda tx, name: WRAPPERS[name](tx), nest[::-1], ADAM)


def by_wrapper(nest, state):
    """What each wrapper keeps for itself, and what Adam keeps."""
    kept = {}
    for name in nest:
        key = "inner_state" if name == "apply_if_finite" else "inner"
        kept[name] = {slot: x for slot, x in state.items() if slot != key}
        state = state[key]
    return {**kept, "adam": state}


@functools.cache
def trained_nest(nest):
    """Where every wrapper has another count: the second gradient is infinite."""
    tx, state = nested(nest), nested(nest).init(PARAMS)
    for size in (1.0, np.inf, 2.0):
        grads = jax.tree.map(lambda p, size=size: p * size, PARAMS)
        _, state = tx.update(grads, state, PARAMS)
    return state


@pytest.mark.parametrize("before", NESTS, ids="-".join)
def test_whatever_is_still_there_keeps_what_it_had_in_any_nest(before):
    saved = trained_nest(before)
    had = by_wrapper(before, saved)
    for after in NESTS:
        restored = gradtx.restore(nested(after), PARAMS, saved, new=True, dropped=True)
        has = by_wrapper(after, restored.state)
        for name in has.keys() & had.keys():
            equal(has[name], had[name])


def test_wrappers_that_change_places_keep_what_they_have():
    saved = trained(gradtx.skip(gradtx.editable(ADAM)))
    restored = gradtx.restore(gradtx.editable(gradtx.skip(ADAM)), PARAMS, saved)
    assert not (restored.new or restored.dropped)
    assert restored.renamed["inner/total_skipped"] == "total_skipped"
    equal(restored.state["hyperparams"], saved["inner"]["hyperparams"])


def test_one_group_may_get_a_wrapper():
    saved = trained(gradtx.groups({"embed/**": ADAM, "**": ADAM}))
    tx = gradtx.groups({"embed/**": gradtx.skip(ADAM), "**": ADAM})
    state = gradtx.restore(tx, PARAMS, saved, new=True).state
    equal(state["inner"]["mu"]["embed"], saved["mu"]["embed"])
    equal(state["mu"]["head"], saved["mu"]["head"])
    assert state["count"] == state["inner"]["count"] == 2


def test_steps_that_keep_nothing_have_the_count_of_what_is_around():
    """SGD keeps a count and nothing else: where that was is told by the others."""
    sgd = gradtx.sgd(RATE)
    slow = gradtx.accumulate(sgd, 2)
    saved = trained(slow, steps=5)
    for tx in (gradtx.skip(slow), gradtx.accumulate(gradtx.skip(sgd), 2)):
        state = gradtx.restore(tx, PARAMS, saved, new=True).state
        assert state["count"] == 5 and state["inner"]["inner"]["count"] == 2
    state = gradtx.restore(gradtx.skip(sgd), PARAMS, trained(sgd), new=True).state
    assert state["count"] == state["inner"]["count"] == 2
    state = gradtx.restore(sgd, PARAMS, saved, dropped=True).state
    assert state["count"] == 2
    saved = trained(gradtx.skip(slow), steps=5)
    state = gradtx.restore(gradtx.skip(sgd), PARAMS, saved, dropped=True).state
    assert state["count"] == 5 and state["inner"]["count"] == 2


def test_leaves_that_have_one_name_are_told_apart_by_their_paths():
    """In haiku `m/~/linear` is made by `__init__`, `m/linear` by a call."""
    params = {"m/~/linear": {"w": jnp.ones(2)}, "m/linear": {"w": jnp.ones(3)}}
    saved = trained(PLAIN, params)
    restored = gradtx.restore(PLAIN, params, saved)
    equal(restored.state, saved)
    assert "['mu']['m/linear']['w']" in restored.matched


def test_what_flax_variables_hold_has_their_name_in_a_flat_file_too():
    saved = {
        "count": jnp.int32(2),
        "mu/w/value": jnp.ones(2),
        "nu/w/value": jnp.ones(2),
    }
    assert not gradtx.restore(PLAIN, {"w": jnp.ones(2)}, saved).new


def test_what_is_new_needs_arrays_to_begin_with():
    shapes = jax.eval_shape(lambda: PARAMS)
    with pytest.raises(TypeError, match="restore: params must be arrays, for what is"):
        gradtx.restore(PLAIN, shapes, {"count": jnp.int32(1)}, new=True)


def test_what_is_new_and_what_is_dropped_are_errors_unless_allowed():
    saved = trained(PLAIN)
    tx = gradtx.sgd(0.1, momentum=0.9)
    with pytest.raises(ValueError) as error:
        gradtx.restore(tx, PARAMS, saved)
    assert str(error.value) == (
        "restore: sgd: not saved: 'trace/embed/w', 'trace/head/b', 'trace/head/w' "
        "(allow that with new=True); without a place: 'mu/embed/w', 'mu/head/b', "
        "'mu/head/w', 'nu/embed/w', 'nu/head/b' and 1 more "
        "(allow that with dropped=True)"
    )
    restored = gradtx.restore(tx, PARAMS, saved, new=True, dropped=True)
    assert restored.matched == ["count"] and restored.state["count"] == 2
    assert restored.new == ["trace/embed/w", "trace/head/b", "trace/head/w"]
    assert not any(x.any() for x in jax.tree.leaves(restored.state["trace"]))


def test_a_new_layer_begins_anew_and_the_others_go_on():
    grown = {**PARAMS, "extra": {"w": jnp.ones(2)}}
    restored = gradtx.restore(PLAIN, grown, trained(PLAIN), new=True)
    assert restored.new == ["mu/extra/w", "nu/extra/w"]
    np.testing.assert_array_equal(
        restored.state["mu"]["head"]["w"], trained(PLAIN)["mu"]["head"]["w"]
    )


def test_another_shape_or_dtype_is_an_error():
    saved = trained(PLAIN)
    saved["mu"]["head"]["w"] = jnp.ones(4)
    saved["nu"]["head"]["w"] = jnp.ones(5, "bfloat16")
    with pytest.raises(ValueError) as error:
        gradtx.restore(PLAIN, PARAMS, saved)
    assert str(error.value) == (
        "restore: adamw: 'mu/head/w' was saved as float32[4] and must be float32[5] "
        "(new=True, dropped=True begins anew); "
        "'nu/head/w' was saved as bfloat16[5] and must be float32[5] (cast it)"
    )
    for wrong in ([saved], PARAMS):
        with pytest.raises(TypeError, match="restore: saved must be a state of gradtx"):
            gradtx.restore(PLAIN, PARAMS, wrong)


def test_a_layer_of_another_size_begins_anew_where_that_is_allowed():
    resized = {**PARAMS, "head": {"w": jnp.ones(7), "b": jnp.ones(5)}}
    restored = gradtx.restore(PLAIN, resized, trained(PLAIN), new=True, dropped=True)
    assert restored.new == restored.dropped == ["mu/head/w", "nu/head/w"]
    assert restored.state["mu"]["head"]["w"].shape == (7,)
    equal(restored.state["mu"]["embed"], trained(PLAIN)["mu"]["embed"])


def test_what_orbax_gives_back_restores(tmp_path):
    saved = trained(CHANGED["in groups"])
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", saved)
        checkpointer.wait_until_finished()
        raw = checkpointer.restore(tmp_path / "state")
    equal(gradtx.restore(PLAIN, PARAMS, raw).state, saved)
