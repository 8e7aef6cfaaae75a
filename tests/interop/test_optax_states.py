import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality
from tests.equality import bitwise
from tests.settings import LINE, OF_EXAMPLES, OPTAX, PLAIN

STEPS = 6
# Parts of the tree that optax fails on.
WITHOUT = {"sm3": "scalar", "galore": "absent"}


@functools.partial(
    jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 1}
)
def run(tx, params, state, grads, values):
    """The updates of some steps, and where they end."""
    one = functools.partial(equality.step, tx)
    carry, updates = jax.lax.scan(one, (params, state), (grads, values))
    return updates, *carry


@pytest.mark.parametrize("name", PLAIN)
def test_a_half_finished_run_of_optax_continues(name):
    """And its state goes there and back bit for bit."""
    lead = (STEPS, *OF_EXAMPLES.get(name, ()))
    trees = [equality.mixed_tree("float32", 0)]
    trees += [equality.mixed_tree("float32", seed, *lead) for seed in (1, 2)]
    for tree in trees:
        tree.pop(WITHOUT.get(name), None)
    params, before, after = trees
    values = equality.losses("float32", STEPS)
    ours = PLAIN[name](gradtx)
    with equality.as_optax_needs():
        theirs = PLAIN[name](OPTAX)
        first = theirs.init(params)
        _, params, half = run(theirs, params, first, before, values)
        _, expected, _ = run(theirs, params, half, after, values)
    state = gradtx.from_optax(ours, half)
    looks = jax.tree.map(lambda x: (x.shape, x.dtype), ours.init(params))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == looks
    bitwise(gradtx.to_optax(ours, state, first), half)
    _, continued, _ = run(ours, params, state, after, values)
    assert equality.distance(continued, expected, by_step=False) < 1e-5


def go_there_and_back(ours, theirs, params, steps=3):
    """A state of optax after some updates, as ours; the next update is the same."""
    with equality.as_optax_needs():
        first = half = theirs.init(params)
        for _ in range(steps):
            _, half = theirs.update(params, half, params)
        expected, _ = theirs.update(params, half, params)
    state = gradtx.from_optax(ours, half)
    assert jax.tree.structure(state) == jax.tree.structure(ours.init(params))
    buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state)]
    assert len({*buffers}) == len(buffers)  # it may be donated
    bitwise(gradtx.to_optax(ours, state, first), half)
    updates, _ = ours.update(params, state, params)
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        # In float32 the power of a decay is 1e-5 wrong in optax after four updates.
        np.testing.assert_allclose(a, b, rtol=2e-5)
    return state


def test_a_chain_goes_there_and_back_by_the_order_of_its_members():
    def make(m):
        return m.chain(
            m.clip_by_global_norm(1.0),
            m.trace(0.5),
            m.apply_every(3),
            m.add_decayed_weights(0.1, lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
            m.trace(0.9),
            m.scale_by_schedule(lambda count: -0.1 / (count + 1)),
        )

    params = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}
    with equality.as_optax_needs():
        theirs = make(OPTAX)
    assert int(go_there_and_back(make(gradtx), theirs, params, 4)["count"]) == 4


@pytest.mark.parametrize("kind", ["partition", "groups"])
def test_states_of_groups_go_there_and_back(kind):
    params = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0), "c": jnp.ones(2)}
    labels = {"w": "fast", "b": "slow", "c": "fast"}

    def made(m) -> Any:
        return {"fast": m.adam(0.1), "slow": m.chain(m.clip(0.5), m.adam(LINE))}

    with equality.as_optax_needs():
        theirs = optax.partition(made(optax), labels)
    go_there_and_back(getattr(gradtx, kind)(made(gradtx), labels), theirs, params)


WRAPPED = {
    "apply_if_finite": lambda m: m.apply_if_finite(m.adam(LINE), 2),
    "conditionally_mask": lambda m: m.conditionally_mask(
        m.chain(m.trace(0.5), m.adam(LINE)), lambda step: step % 2 == 0
    ),
    "a chain": lambda m: m.chain(
        m.masked(m.trace(0.5), {"w": True, "b": False}),
        m.apply_if_finite(m.apply_if_finite(m.adam(0.1), 1), 2),
    ),
    "accumulate": lambda m: (
        m.accumulate(m.adam(LINE), 2)
        if m is gradtx
        else m.MultiSteps(m.adam(LINE), 2).gradient_transformation()
    ),
    "a named chain": lambda m: m.named_chain(
        ("clip", m.clip(0.5)), ("adam", m.adam(LINE))
    ),
    "inject_hyperparams": lambda m: m.inject_hyperparams(m.adamw)(LINE, b1=0.8),
    "inject_hyperparams of optax's": lambda m: m.inject_hyperparams(optax.adam)(LINE),
    "editable": lambda m: m.chain(
        m.clip(0.5),
        m.editable(m.adamw(LINE, b1=0.75, b2=0.875))  # of no rounding in float32
        if m is gradtx
        else m.inject_hyperparams(m.adamw)(LINE, b1=0.75, b2=0.875),
    ),
    "multi steps": lambda m: m.MultiSteps(m.adam(LINE), 2),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_states_of_wrappers_go_there_and_back(name):
    params = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}
    with equality.as_optax_needs():
        theirs = WRAPPED[name](optax)
    go_there_and_back(WRAPPED[name](gradtx), theirs, params)


def injected(**numbers) -> Any:
    """A state of optax in which somebody has set the learning rate to 0.3."""
    params = {"w": jnp.ones(3)}
    with equality.as_optax_needs():
        tx = optax.inject_hyperparams(optax.adamw)(**numbers)
        state: Any = tx.init(params)
        state.hyperparams["learning_rate"] = jnp.float32(0.3)
        return tx.update(params, state, params)[1]


def test_numbers_that_somebody_changed_in_optax_go_on():
    tx = gradtx.editable(gradtx.adamw(0.1))
    state = gradtx.from_optax(tx, injected(learning_rate=0.1))
    assert state["hyperparams"]["learning_rate"] == jnp.float32(0.3)
    updates, state = tx.update({"w": jnp.ones(3)}, state, {"w": jnp.ones(3)})
    np.testing.assert_allclose(updates["w"], -0.3, rtol=1e-3)
    assert gradtx.hyperparams(tx, state)["b1"] == jnp.float32(0.9)


def test_without_numbers_in_the_state_they_must_be_the_same():
    with pytest.raises(ValueError) as raised:
        gradtx.from_optax(gradtx.adamw(0.1), injected(learning_rate=0.1))
    assert str(raised.value) == (
        "from_optax: the state keeps learning_rate=0.3, and adamw has [0.1]; "
        "editable(adamw(...)) goes on with what a state keeps"
    )
    state = gradtx.from_optax(gradtx.adamw(0.3), injected(learning_rate=0.1))
    np.testing.assert_allclose(state["mu"]["w"], 0.1, rtol=1e-6)
    with pytest.raises(ValueError, match="keeps 'weight_decay', and here is no such"):
        gradtx.from_optax(
            gradtx.editable(gradtx.adam(0.3)), injected(learning_rate=0.1)
        )


@pytest.mark.parametrize("kind", ["partition", "groups"])
def test_labels_may_be_a_prefix_if_the_parameters_are_given(kind):
    params = {"w": {"a": jnp.ones((2, 3)), "b": jnp.ones(2)}, "c": jnp.ones(2)}
    labels = {"w": "fast", "c": "slow"}

    def made(m) -> Any:
        return {"fast": m.adam(0.1), "slow": m.adam(LINE)}

    ours = getattr(gradtx, kind)(made(gradtx), labels)
    with equality.as_optax_needs():
        theirs = optax.partition(made(optax), labels)
        _, half = theirs.update(params, theirs.init(params), params)
        expected, _ = theirs.update(params, half, params)
    with pytest.raises(ValueError, match="prefixes of the tree of the parameters"):
        gradtx.from_optax(ours, half)
    updates, _ = ours.update(params, gradtx.from_optax(ours, half, params), params)
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5)


def test_metrics_have_no_counterpart_and_begin_anew():
    tx = gradtx.chain(gradtx.adam(0.1), gradtx.norms())
    params = {"w": jnp.ones(3)}
    theirs = OPTAX.adam(0.1).init(params)
    state = gradtx.from_optax(tx, theirs)
    assert gradtx.metrics(state)["grad_norm"] == 0
    equality.bitwise(gradtx.to_optax(tx, state, theirs), theirs)


def test_groups_must_have_the_labels_of_optax():
    params = {"w": jnp.ones(3), "b": jnp.ones(3)}
    state = optax.partition(
        {"x": optax.adam(0.1), "y": optax.adam(0.1)}, {"w": "x", "b": "y"}
    ).init(params)
    tx = gradtx.groups({"b": gradtx.adam(0.1), "w": gradtx.adam(0.1)})
    message = (
        r"groups must have the labels of optax's state, \['x', 'y'\], got \['b', 'w'\]"
    )
    with pytest.raises(ValueError, match=message):
        gradtx.from_optax(tx, state)


def test_what_has_no_counterpart_is_named():
    params = {"w": jnp.ones(3)}
    with pytest.raises(ValueError, match="optax's state has no 'mu' for 'mu'"):
        gradtx.from_optax(gradtx.adam(0.1), OPTAX.sgd(0.1, 0.9).init(params))
    with pytest.raises(
        ValueError, match=r"sgd: unexpected in optax's state: \['trace'\]"
    ):
        gradtx.from_optax(gradtx.sgd(0.1), OPTAX.sgd(0.1, 0.9).init(params))
    tx = gradtx.sgd(0.1)
    with pytest.raises(
        ValueError, match="to_optax: sgd: missing in the state: 'trace'"
    ):
        gradtx.to_optax(tx, tx.init(params), OPTAX.sgd(0.1, 0.9).init(params))


def test_moments_of_bfloat16_become_float32():
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    state = gradtx.from_optax(gradtx.adam(0.1), OPTAX.adam(0.1).init(params))
    assert state["mu"]["w"].dtype == state["nu"]["w"].dtype == jnp.float32
    kept = gradtx.adam(0.1, mu_dtype="bfloat16")
    assert gradtx.from_optax(kept, OPTAX.adam(0.1).init(params))["mu"]["w"].dtype == (
        jnp.bfloat16
    )


def test_nothing_of_ours_is_lost_on_the_way_to_optax():
    params = {"w": jnp.ones(3)}
    tx = gradtx.adam(0.1)
    with pytest.raises(ValueError, match=r"to_optax: .*: missing in optax's state"):
        gradtx.to_optax(tx, tx.init(params), OPTAX.sgd(0.1).init(params))


def test_what_is_no_transformation_or_no_state_is_named():
    params = {"w": jnp.ones(3)}
    tx, theirs = gradtx.adam(0.1), OPTAX.adam(0.1)
    with pytest.raises(TypeError, match="from_optax: tx must be of gradtx, got "):
        gradtx.from_optax(theirs, theirs.init(params))
    for owner, call in (
        ("from_optax", lambda: gradtx.from_optax(tx, params)),
        ("to_optax", lambda: gradtx.to_optax(tx, tx.init(params), params)),
    ):
        message = f"{owner}: expected a state from optax's init, got a dict"
        with pytest.raises(TypeError, match=message):
            call()
