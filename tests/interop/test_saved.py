from types import SimpleNamespace

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from gradtx.interop.saved import Paths, Weights, programs_by_path

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
LINE = gradtx.linear_schedule(0.5, 0.9, 10)


def after(tx, steps):
    state = tx.init(PARAMS)
    for _ in range(steps):
        _, state = tx.update(PARAMS, state, PARAMS)
    return state


def test_leaves_are_named_by_their_paths():
    paths = Paths(gradtx.sgd(0.1, momentum=0.9).init(PARAMS))
    assert paths.names == ["count", "trace/b", "trace/w"]
    assert [paths.shape(i) for i in range(3)] == [(), (3,), (2, 3)]
    assert paths.dtype_and_shape(2) == "float32[2, 3]"


def test_leaves_of_one_name_are_called_by_their_paths():
    paths = Paths({"a": {"b": jnp.ones(1)}, "a/b": jnp.ones(2)})
    assert paths.names == ["['a']['b']", "['a/b']"]
    assert paths.spelled[1]["a/b"] == [0, 1]


def test_what_a_variable_holds_has_the_name_of_the_variable():
    @jax.tree_util.register_pytree_with_keys_class
    class Variable(SimpleNamespace):
        def tree_flatten_with_keys(self):
            return (((jax.tree_util.GetAttrKey("value"), self.value),), None)

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls(value=children[0])

    flat = Paths({"mu": {"w": {"value": jnp.ones(1)}}})
    assert Paths({"mu": {"w": Variable(value=jnp.ones(1))}}).names == flat.names
    assert flat.names == ["mu/w"]


def test_counts_are_found_by_what_paths_in_their_state_begin_with():
    tx = gradtx.accumulate(gradtx.sgd(0.1, momentum=0.9), 2)
    paths = Paths(tx.init(PARAMS))
    assert {prefix: paths.names[i] for prefix, i in paths.counts.items()} == {
        "": "count",
        "inner/": "inner/count",
    }


def test_a_parameter_that_is_called_count_is_none_of_them():
    state = gradtx.trace(0.9).init({"count": jnp.ones(2), "w": jnp.ones(())})
    assert {*Paths(state).counts} == {""}


def test_numbers_that_nobody_changed_are_not_edits():
    state = gradtx.editable(gradtx.sgd(0.5, momentum=0.9)).init(PARAMS)
    state["hyperparams"]["momentum"] = jnp.float32(0.25)
    paths = Paths(state)
    assert {paths.names[i] for i in paths.numbers} == {
        "hyperparams/learning_rate",
        "hyperparams/momentum",
    }
    assert {paths.names[i] for i in paths.unedited()} == {
        "hyperparams/learning_rate",
        "given/learning_rate",
        "given/momentum",
    }


def test_programs_are_found_by_what_paths_in_their_states_begin_with():
    tx = gradtx.skip(gradtx.accumulate(gradtx.sgd(0.1), 2))
    found = {
        at: program_at(np.int32(0)).name for at, program_at in programs_by_path(tx)
    }
    assert found["inner/inner/"] == "sgd" and found["inner/"] == "accumulate"
    assert found[""] == "skip"


def test_counts_tell_the_weights_of_averages_of_constant_decays():
    """As they would have been kept, if the decay had been a schedule."""
    plain, scheduled = gradtx.ema(0.9), gradtx.ema(gradtx.constant_schedule(0.9))
    found, wanted = Paths(after(plain, 3)), Paths(scheduled.init(PARAMS))
    pairs = {wanted.names.index("count"): found.names.index("count")}
    (kept,) = Weights(scheduled, wanted, found, pairs).kept.items()
    assert wanted.names[kept[0]] == "ema_weight"
    np.testing.assert_allclose(kept[1], after(scheduled, 3)["ema_weight"], rtol=1e-6)


def test_a_weight_that_the_count_tells_is_redundant_and_another_is_not():
    plain, scheduled = gradtx.ema(0.9), gradtx.ema(gradtx.constant_schedule(0.9))
    wanted = Paths(plain.init(PARAMS))
    for decay, is_redundant in ((scheduled, True), (gradtx.ema(LINE), False)):
        found = Paths(after(decay, 3))
        count = found.names.index("count")
        weights = Weights(plain, wanted, found, {wanted.names.index("count"): count})
        assert weights.kept == {}
        told = [found.names[j] for j in weights.redundant(found, {count})]
        assert told == ["ema_weight"] * is_redundant
        assert [*weights.redundant(found, {*range(len(found.names))})] == []
