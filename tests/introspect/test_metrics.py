import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests import compiled

PARAMS = {"embed": {"w": jnp.full((4, 3), 2.0)}, "head": {"w": jnp.ones(5)}}
GRADS = {"embed": {"w": jnp.full((4, 3), 0.5)}, "head": {"w": jnp.arange(5.0)}}


def norm(*arrays):
    return float(np.sqrt(sum(np.sum(np.square(np.float64(x))) for x in arrays)))


def seen(tx, grads=GRADS, params=PARAMS, steps=1):
    updates, state = grads, tx.init(params)
    for _ in range(steps):
        updates, state = jax.jit(tx.update)(grads, state, params)
    return updates, {k: float(v) for k, v in gradtx.metrics(state).items()}


def test_norms_are_of_gradients_updates_and_parameters():
    tx = gradtx.chain(gradtx.clip(0.25), gradtx.adam(0.1), gradtx.norms())
    updates, found = seen(tx)
    grads, steps, params = map(jax.tree.leaves, (GRADS, updates, PARAMS))
    dot = sum(np.vdot(g, u) for g, u in zip(grads, steps, strict=True))
    assert found == {
        "grad_norm": pytest.approx(norm(*grads), rel=1e-6),
        "update_norm": pytest.approx(norm(*steps), rel=1e-6),
        "param_norm": pytest.approx(norm(*params), rel=1e-6),
        "update_ratio": pytest.approx(norm(*steps) / norm(*params), rel=1e-6),
        "cosine": pytest.approx(dot / norm(*grads) / norm(*steps), rel=1e-5),
    }


def test_norms_are_of_each_group_where_patterns_are_given():
    tx = gradtx.chain(gradtx.sgd(0.1), gradtx.norms("embed/**", "**"))
    _, found = seen(tx)
    assert found["grad_norm/embed/**"] == pytest.approx(norm(GRADS["embed"]["w"]))
    assert found["update_norm/**"] == pytest.approx(0.1 * norm(GRADS["head"]["w"]))
    assert found["cosine/**"] == pytest.approx(-1)
    assert len(found) == 10
    with pytest.raises(ValueError, match="norms: the pattern 'x' matches none of"):
        gradtx.norms("x", "**").init(PARAMS)
    with pytest.raises(TypeError) as error:
        gradtx.norms(["**"])  # pyright: ignore[reportArgumentType]
    assert str(error.value) == (
        "norms: patterns must be strings, got ['**']; give them one by one"
    )


def test_norms_in_a_group_are_of_its_leaves():
    inner = gradtx.chain(gradtx.sgd(0.1), gradtx.norms("head/w"))
    _, found = seen(gradtx.groups({"embed/**": gradtx.sgd(1.0), "head/**": inner}))
    assert found["grad_norm/head/w"] == pytest.approx(norm(GRADS["head"]["w"]))


def test_metrics_of_one_name_are_qualified_by_the_states_that_they_are_in():
    inner = gradtx.chain(gradtx.sgd(0.1), gradtx.norms())
    tx = gradtx.chain(gradtx.accumulate(inner, 1), gradtx.scale(2.0), gradtx.norms())
    _, found = seen(tx)
    assert found["update_norm"] == pytest.approx(2 * found["inner.update_norm"])
    assert len(found) == 10


def test_a_record_may_have_any_name():
    tx = gradtx.record("my_metrics.one", lambda updates, params: 1.0)
    assert seen(tx)[1] == {"my_metrics.one": 1.0}


def test_the_share_of_clipped_updates_begins_where_it_is_new():
    tx = gradtx.chain(gradtx.clipping(gradtx.clip(0.01)), gradtx.sgd(0.1, 0.9))
    late = gradtx.sgd(0.1, 0.9).init(PARAMS) | {"count": jnp.int32(99)}
    state = gradtx.restore(tx, PARAMS, late, new=True).state
    _, state = tx.update(GRADS, state, PARAMS)
    assert gradtx.metrics(state)["clipped_share"] == 1


def test_norms_of_zeros_are_zeros():
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    _, found = seen(gradtx.chain(gradtx.sgd(0.1), gradtx.norms()), zeros, zeros)
    assert set(found.values()) == {0.0}


def test_norms_inside_a_wrapper_are_of_what_entered_it():
    tx = gradtx.accumulate(gradtx.chain(gradtx.sgd(0.1), gradtx.norms()), 2)
    _, found = seen(tx, steps=2)
    assert found["grad_norm"] == pytest.approx(norm(*jax.tree.leaves(GRADS)))


def test_a_record_is_what_a_function_makes_of_updates_and_parameters():
    def largest(updates, params):
        return jnp.max(jnp.abs(updates["head"]["w"] / params["head"]["w"]))

    tx = gradtx.chain(gradtx.record("largest", largest), gradtx.sgd(0.1))
    state = tx.init(PARAMS)
    assert gradtx.metrics(state) == {"largest": 0.0}
    assert seen(tx)[1] == {"largest": 4.0}
    bad = gradtx.record("bad", lambda updates, params: updates["head"]["w"])
    with pytest.raises(ValueError, match=r"record: 'bad' must be a scalar, got float3"):
        seen(bad)


def test_the_share_of_clipped_updates_is_kept():
    tx = gradtx.chain(gradtx.clipping(gradtx.clip_by_global_norm(1.0)), gradtx.sgd(0.1))
    state, shares = tx.init(PARAMS), []
    for size in (10.0, 0.01, 0.01, 10.0):
        grads = jax.tree.map(lambda p: size * p, PARAMS)  # noqa: B023
        _, state = tx.update(grads, state, PARAMS)
        shares.append(float(gradtx.metrics(state)["clipped_share"]))
    np.testing.assert_allclose(shares, [1, 1 / 2, 1 / 3, 1 / 2], rtol=1e-6)


def test_several_of_one_name_are_qualified():
    tx = gradtx.named_chain(
        ("a", gradtx.norms()), ("b", gradtx.chain(gradtx.sgd(0.1), gradtx.norms()))
    )
    found = seen(tx)[1]
    assert found["b.update_norm"] == pytest.approx(0.1 * found["a.update_norm"])


@pytest.mark.parametrize("metric", [gradtx.norms(), gradtx.norms("embed/*", "**")])
def test_metrics_that_nobody_reads_are_free_in_the_compiled_step(metric):
    params = jax.eval_shape(lambda: {k: jnp.zeros((64, 64)) for k in ("embed/w", "b")})

    def figures(tx):
        def step(grads, state, params):
            updates, state = tx.update(grads, state, params)
            kept = {k: v for k, v in state.items() if "metrics." not in k}
            return updates, kept

        state = jax.eval_shape(tx.init, params)
        program = jax.jit(step).lower(params, state, params).compile()
        return compiled.fusions(program, 64), compiled.bytes_moved(program)

    plain = gradtx.chain(gradtx.clip(1.0), gradtx.adamw(0.1))
    assert figures(gradtx.chain(plain, metric)) == figures(plain)


def test_metrics_of_what_is_no_state_are_an_error():
    with pytest.raises(
        TypeError, match="metrics: the state must be the dict that init"
    ):
        gradtx.metrics(gradtx.norms())
