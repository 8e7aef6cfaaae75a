from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality
from tests.settings import INNER, LINE, OPTAX, is_matrix

anything: Any = gradtx  # what mistakes are made with
PARAMS = {
    "dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
    "head": jnp.ones(2),
}
GRADS = jax.tree.map(lambda p: 0.5 * p, PARAMS)
MASK = {"dense": {"kernel": True, "bias": False}, "head": True}


def is_no_matrix(params):
    return jax.tree.map(lambda p: p.ndim < 2, params)


def by_axes(params):
    return jax.tree.map(lambda p: "matrices" if p.ndim > 1 else "others", params)


PART = {"scalar": True, "absent": False, "nested": True, "four": False}
WRAPPED = {
    "masked": lambda m, tx: m.chain(
        m.masked(tx, is_matrix), m.masked(m.scale(-0.1), is_no_matrix)
    ),
    "masked, first": lambda m, tx: m.chain(
        m.masked(m.add_decayed_weights(0.1), PART), tx
    ),
    "partition": lambda m, tx: m.partition(
        {"matrices": tx, "others": m.sgd(LINE)}, by_axes
    ),
    "multi_transform": lambda m, tx: m.multi_transform(
        {True: tx, False: m.set_to_zero()}, PART
    ),
    "freeze": lambda m, tx: m.chain(tx, m.freeze(PART)),
    "selective_transform": lambda m, tx: m.selective_transform(tx, freeze_mask=PART),
    "named_chain": lambda m, tx: m.named_chain(
        ("clip", m.clip_by_global_norm(1.0)), ("inner", tx), ("last", m.trace(0.5))
    ),
    "three deep": lambda m, tx: m.partition(
        {
            True: m.named_chain(
                ("norm", m.clip_by_global_norm(0.5)),
                ("masked", m.masked(m.add_decayed_weights(0.1), is_matrix)),
                ("tx", tx),
            ),
            False: m.selective_transform(tx, freeze_mask=is_never(PART)),
        },
        PART,
    ),
}


def is_never(tree):
    return jax.tree.map(lambda _: False, tree)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", WRAPPED)
def test_group_equals_optax_over_thirty_steps(name, dtype):
    """Around each of the inner settings."""
    equality.assert_wrapped_equals_optax(WRAPPED[name], INNER, dtype)


def first(tree):
    return jax.tree.map(lambda x: float(jnp.ravel(x)[0]), tree)


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.masked(gradtx.sgd(1.0), MASK),
        gradtx.chain(gradtx.clip(1.0), gradtx.masked(gradtx.sgd(1.0), MASK)),
        gradtx.chain(gradtx.masked(gradtx.scale_by_learning_rate(1.0), MASK)),
        gradtx.named_chain(("sgd", gradtx.masked(gradtx.sgd(1.0), lambda p: MASK))),
        gradtx.masked(gradtx.skip(gradtx.accumulate(gradtx.sgd(1.0), 1)), MASK),
        gradtx.masked(gradtx.inject_hyperparams(gradtx.sgd)(1.0), MASK),
    ],
)
@pytest.mark.parametrize("is_jitted", [False, True])
def test_a_leaf_that_a_mask_leaves_without_a_step_is_frozen(tx, is_jitted):
    """In optax it gets its gradient, which climbs."""
    update = jax.jit(tx.update) if is_jitted else tx.update
    updates, _ = update(GRADS, tx.init(PARAMS), PARAMS)
    assert first(updates) == {"dense": {"kernel": -0.5, "bias": 0.0}, "head": -0.5}
    theirs = optax.masked(optax.sgd(1.0), MASK)
    climbing, _ = theirs.update(GRADS, theirs.init(PARAMS), PARAMS)
    assert first(climbing)["dense"]["bias"] == 0.5  # pyright: ignore


@pytest.mark.parametrize(
    ("tx", "bias"),
    [
        (gradtx.masked(gradtx.clip(0.1), MASK), 0.5),
        (gradtx.chain(gradtx.masked(gradtx.trace(0.9), MASK), gradtx.sgd(1.0)), -0.5),
        (gradtx.chain(gradtx.masked(gradtx.sgd(1.0), MASK), gradtx.scale(3.0)), 1.5),
        (gradtx.only(gradtx.sgd(1.0), MASK), 0.5),
    ],
)
def test_a_leaf_that_a_mask_leaves_out_passes_where_something_else_scales_it(tx, bias):
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    assert first(updates)["dense"]["bias"] == bias


def test_the_slots_of_groups_are_flat_under_their_labels_with_one_count():
    tx = gradtx.partition(
        {"body": gradtx.adam(0.1), "head": gradtx.sgd(0.1, 0.9)},
        {"dense": "body", "head": "head"},
    )
    state = tx.init(PARAMS)
    assert state.keys() == {"count", "body.mu", "body.nu", "head.trace"}
    assert jax.tree.map(jnp.shape, state["head.trace"]) == {
        "dense": {"kernel": None, "bias": None},
        "head": (2,),
    }
    named = gradtx.named_chain(("a", gradtx.adam(0.1)), ("b", optax.trace(0.9)))
    assert named.init(PARAMS).keys() == {"count", "a.mu", "a.nu", "b.trace"}


def test_groups_take_foreign_transformations_and_numbers_that_change():
    tx = gradtx.partition(
        {"ours": gradtx.sgd(0.1), "theirs": optax.adam(0.1)},
        {"dense": "ours", "head": "theirs"},
    )
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["head"], -0.1, rtol=1e-5)
    doubled = jax.tree.map(lambda x: 2 * x, tx)
    more, _ = doubled.update(GRADS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(
        more["dense"]["bias"], 2 * updates["dense"]["bias"], rtol=1e-6
    )


def test_groups_run_in_scan_and_under_vmap():
    tx = gradtx.partition(
        {"matrices": gradtx.adam(0.1), "others": gradtx.sgd(0.1, 0.9)}, by_axes
    )

    def train(params):
        def step(carry, _):
            updates, state = tx.update(carry[0], carry[1], carry[0])
            return (optax.apply_updates(carry[0], updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), length=3)[0][0]

    stacked = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), PARAMS)
    both = jax.vmap(train)(stacked)
    for i in range(2):
        alone = train(jax.tree.map(lambda p: p[i], stacked))  # noqa: B023
        for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-6)


@pytest.mark.parametrize("library", [gradtx, OPTAX])
def test_foreign_members_get_masked_extra_arguments_if_these_are_asked_for(library):
    def update(updates, state, params=None, **extra):
        factors = extra["factors"]
        return jax.tree.map(lambda u, f: u * f, updates, factors), state

    foreign = optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update
    )
    tx = library.masked(foreign, MASK, mask_compatible_extra_args=True)
    factors = jax.tree.map(lambda p: 3.0 * p, PARAMS)
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, factors=factors)
    assert first(updates) == {"dense": {"kernel": 1.5, "bias": 0.5}, "head": 1.5}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: gradtx.partition(
                {"a": gradtx.sgd(0.1)}, {"dense": "a", "head": "b"}
            ),
            ValueError,
            "partition: param_labels must be among ['a'], got 'b' at 'head'",
        ),
        (
            lambda: gradtx.named_chain(
                ("a", gradtx.sgd(0.1)), ("a", gradtx.trace(0.9))
            ),
            ValueError,
            "named_chain: names must differ, got ['a', 'a']",
        ),
        (
            lambda: gradtx.named_chain(gradtx.identity()),
            ValueError,
            "named_chain: expected pairs of a name and a transformation, got "
            "identity()",
        ),
        (
            lambda: anything.partition({"a": 0.1}, "a"),
            TypeError,
            "partition: transforms must be gradient transformations, got 0.1",
        ),
        pytest.param(
            lambda: anything.masked(gradtx.adam, True),
            TypeError,
            f"masked: inner must be gradient transformations, got {gradtx.adam!r}; "
            "call it to make one",
            id="a factory",  # its address differs between workers
        ),
        (
            lambda: gradtx.masked(gradtx.sgd(0.1), {"dense": 1.0, "head": True}),
            TypeError,
            "masked: the mask must hold bools, got 1.0 at 'dense/bias'",
        ),
    ],
)
def test_errors_name_the_group_and_what_is_wrong(make, error, message):
    with pytest.raises(error) as raised:
        make().init(PARAMS)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: gradtx.average_params(tx, 0.5),
        lambda tx: gradtx.lookahead(tx, 2, 0.5),
        lambda tx: gradtx.schedule_free(tx, 0.1),
        lambda tx: gradtx.chain(tx, gradtx.trace(0.9)),
    ],
)
def test_nothing_behind_a_mask_sees_the_gradient_of_a_frozen_leaf(wrap):
    tx = wrap(gradtx.masked(gradtx.sgd(0.1), MASK))
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(3):
        updates, state = tx.update(GRADS, state, params)
        params = gradtx.apply_updates(params, updates)
    evaluated = gradtx.eval_params(tx, state, params)
    for tree in (params, evaluated):
        np.testing.assert_array_equal(tree["dense"]["bias"], PARAMS["dense"]["bias"])
        assert np.any(tree["head"] != PARAMS["head"])


def test_the_norm_behind_a_mask_is_without_frozen_leaves():
    masked = gradtx.masked(gradtx.sgd(1.0), MASK)
    tx = gradtx.chain(masked, gradtx.clip_by_global_norm(1.0))
    grads = {"dense": {"kernel": GRADS["dense"]["kernel"], "bias": 1e6 * jnp.ones(3)}}
    updates, _ = tx.update(grads | {"head": GRADS["head"]}, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(optax.tree.norm(updates), 1, rtol=1e-6)
