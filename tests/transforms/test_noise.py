import warnings
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import registry
from tests.settings import OPTAX

PARAMS: Any = {"w": jnp.zeros((2, 3)), "b": [jnp.ones(3), None]}
EXAMPLES = jax.tree.map(lambda p: jnp.stack([p + i for i in range(4)]), PARAMS)


def loss(params):
    """One whose Hessian is not diagonal, so that the signs matter."""
    return jnp.sum(jnp.sin(params["w"])) + jnp.sum(params["b"][0]) ** 4


def separable(params):
    """One whose Hessian is diagonal."""
    return jnp.sum(jnp.sin(params["w"])) + jnp.sum(params["b"][0] ** 4)


DRAWERS = {
    "add_noise": lambda **key: gradtx.add_noise(0.1, 0.55, **key),
    "differentially_private_aggregate": lambda **key: (
        gradtx.differentially_private_aggregate(1.0, 0.1, **key)
    ),
    "dpsgd": lambda **key: gradtx.dpsgd(
        0.1, 1.0, 0.1, next(iter(key.values()), 0), 0.9
    ),
    "hutchinson_estimator_diag_hessian": lambda **key: (
        gradtx.hutchinson_estimator_diag_hessian(next(iter(key.values()), None))
    ),
}


def run(name, tx, steps=2, state=None, jitted=False):
    """The updates of some steps, and the last state."""
    is_private = name in ("differentially_private_aggregate", "dpsgd")
    grads = EXAMPLES if is_private else PARAMS
    update = jax.jit(tx.update, static_argnames="obj_fn") if jitted else tx.update
    state = tx.init(PARAMS) if state is None else state
    more = {"obj_fn": loss} if "hessian" in name else {}
    seen = []
    for _ in range(steps):
        updates, state = update(grads, state, PARAMS, **more)
        seen += jax.tree.leaves(updates)
    return [np.asarray(u) for u in seen], state


def same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", DRAWERS)
def test_a_seed_and_both_kinds_of_its_key_draw_the_same(name):
    keys = [7, np.int32(7), jax.random.PRNGKey(7), jax.random.key(7), jnp.int32(7)]
    first, *others = [run(name, DRAWERS[name](key=key))[0] for key in keys]
    for other in others:
        same(first, other)
    another = run(name, DRAWERS[name](key=8))[0]
    assert not all(np.array_equal(a, b) for a, b in zip(first, another, strict=True))


@pytest.mark.parametrize("name", DRAWERS)
def test_without_a_key_the_seed_is_zero(name):
    same(run(name, DRAWERS[name]())[0], run(name, DRAWERS[name](key=0))[0])


@pytest.mark.parametrize("name", ["add_noise", "differentially_private_aggregate"])
def test_a_seed_may_have_its_older_name_but_not_both(name):
    same(run(name, DRAWERS[name](seed=7))[0], run(name, DRAWERS[name](key=7))[0])
    with pytest.raises(ValueError) as caught:
        DRAWERS[name](seed=7, key=jax.random.key(7))
    assert str(caught.value) == f"{name}: takes a key or a seed, got both"


@pytest.mark.parametrize("name", ["add_noise", "differentially_private_aggregate"])
@pytest.mark.parametrize("key", [{}, {"key": 5}, {"seed": 5}], ids=str)
def test_noise_is_optax_however_the_key_is_given(name, key):
    mine, _ = run(name, DRAWERS[name](**key))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a key that is missing, of `seed`
        numbers = (0.1, 0.55) if name == "add_noise" else (1.0, 0.1)
        tx = getattr(OPTAX, name)(*numbers, **key)
    with jax.numpy_dtype_promotion("standard"):
        theirs, _ = run(name, optax.with_extra_args_support(tx))
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", DRAWERS)
def test_jitted_and_not_the_numbers_are_the_same(name):
    tx = DRAWERS[name](key=3)
    eager, jitted = (run(name, tx, jitted=jitted)[0] for jitted in (False, True))
    for a, b in zip(eager, jitted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", DRAWERS)
def test_a_restored_key_continues_the_sequence(name):
    tx = DRAWERS[name](key=3)
    whole, last = run(name, tx, 4)
    half, state = run(name, tx, 2)
    assert state["key"].dtype == "uint32" and state["key"].shape == (2,)
    restored = jax.tree.map(np.asarray, state)
    rest, end = run(name, tx, 2, restored)
    same(whole, half + rest)
    np.testing.assert_array_equal(last["key"], end["key"])
    assert not np.array_equal(state["key"], end["key"])


@pytest.mark.parametrize("key", [1.5, "7", True, np.ones((2, 2), np.uint32)], ids=str)
@pytest.mark.parametrize("name", DRAWERS)
def test_what_is_no_key_raises(name, key):
    with pytest.raises(TypeError) as caught:
        DRAWERS[name](key=key)
    argument = {"dpsgd": "seed"}.get(name, "key")
    argument = "random_seed" if "hessian" in name else argument
    shown = "an array uint32[2, 2]" if isinstance(key, np.ndarray) else repr(key)
    assert str(caught.value) == (
        f"{name}: {argument} must be a seed or a PRNG key, got {shown}"
    )


def test_variance_of_the_noise_falls_with_the_steps():
    tx, zeros = gradtx.add_noise(4.0, 0.5), [jnp.zeros(20_000), jnp.zeros(20_000)]
    state, last = tx.init(zeros), np.zeros(20_000)
    for t in range(1, 4):
        (one, other), state = tx.update(zeros, state)
        np.testing.assert_allclose(np.var(one), 4 / t**0.5, rtol=0.05)
        for a, b in [(one, other), (one, last)]:  # of no other leaf or step
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.05 if np.any(b) else True
        last = one


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "complex64"])
def test_noise_has_the_dtype_of_the_update(dtype):
    tx, zeros = gradtx.add_noise(1.0, 0.0, 5), jnp.zeros(4000, dtype)
    noise, _ = tx.update(zeros, tx.init(zeros))
    assert noise.dtype == dtype
    variance = np.mean(np.abs(np.asarray(noise, "complex64")) ** 2)
    np.testing.assert_allclose(variance, 1, rtol=0.1)
    if dtype != "complex64":  # drawn in float32
        wide, _ = tx.update(zeros.astype("float32"), tx.init(zeros))
        np.testing.assert_array_equal(noise, wide.astype(dtype))


def test_masked_leaves_get_no_noise_and_others_the_same_as_without_the_mask():
    tx = gradtx.add_noise(1.0, 0.0, 5)
    masked = gradtx.only(tx, {"w": True, "b": False})
    plain, partly = (run("add_noise", it, 1)[0] for it in (tx, masked))
    np.testing.assert_array_equal(partly[0], PARAMS["b"][0])
    np.testing.assert_array_equal(partly[1], plain[1])


def clipped_mean(examples, most):
    """Abadi et al. 2016, Algorithm 1, without the noise."""
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(examples)]
    norms = [np.sqrt(sum(np.sum(leaf[i] ** 2) for leaf in leaves)) for i in range(4)]
    shares = [min(1, most / norm) if norm else 1 for norm in norms]
    return [np.tensordot(shares, leaf, 1) / 4 for leaf in leaves]


@pytest.mark.parametrize("most", [0.0, 1.0, 4.0, 100.0])
def test_private_aggregate_without_noise_is_the_mean_of_clipped_examples(most):
    tx = gradtx.differentially_private_aggregate(most, 0.0)
    updates, _ = run("differentially_private_aggregate", tx, 1)
    for mine, other in zip(updates, clipped_mean(EXAMPLES, most), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6)


def test_noise_of_the_private_aggregate_is_in_units_of_the_bound():
    tx = gradtx.differentially_private_aggregate(2.0, 3.0, 1)
    zeros = jnp.zeros((4, 20_000))
    noise, _ = tx.update(zeros, tx.init(zeros[0]), zeros[0])
    assert noise.shape == (20_000,)
    np.testing.assert_allclose(np.std(noise), 2 * 3 / 4, rtol=0.02)


@pytest.mark.parametrize(
    ("shape", "of"),
    [((), ()), ((3, 2), (3,)), ((3, 2), (3, 2)), ((2,), (3,))],
    ids=str,
)
def test_gradients_without_an_axis_of_examples_raise(shape, of):
    tx = gradtx.dpsgd(0.1, 1.0, 1.0, 0)
    grads, params = {"w": jnp.ones(shape)}, {"w": jnp.ones(of)}
    with pytest.raises(ValueError) as caught:
        tx.update(grads, tx.init(params), params)
    assert str(caught.value) == (
        "differentially_private_aggregate: takes gradients of examples: an axis of "
        f"them in front of the parameter's of shape {of}, but at 'w' the update has "
        f"shape {shape}"
    )


def test_leaves_of_other_numbers_of_examples_raise():
    tx = gradtx.differentially_private_aggregate(1.0, 1.0)
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    grads = {"a": jnp.ones((3, 2)), "b": jnp.ones((4, 2))}
    with pytest.raises(ValueError, match="differentially_private_aggregate"):
        tx.update(grads, tx.init(params), params)


def test_diagonal_of_a_diagonal_hessian_is_exact():
    params: Any = {
        "w": jnp.array([[0.1, 2.0, 0.0], [1.0, 0.5, 3.0]]),
        "b": [jnp.ones(3)],
    }
    tx: Any = gradtx.hutchinson_estimator_diag_hessian(4)
    updates, _ = tx.update(params, tx.init(params), params, obj_fn=separable)
    np.testing.assert_allclose(updates["w"], -np.sin(params["w"]), rtol=1e-6)
    np.testing.assert_allclose(updates["b"][0], 12 * np.ones(3), rtol=1e-6)


def test_estimates_of_the_diagonal_are_right_on_average():
    matrix = np.array([[2.0, 1.0, 0.5], [1.0, 3.0, -1.0], [0.5, -1.0, 0.0]], "float32")
    tx, x = gradtx.hutchinson_estimator_diag_hessian(), jnp.ones(3)

    def step(state, _):
        update, state = tx.update(x, state, x, obj_fn=lambda x: x @ matrix @ x / 2)
        return state, update

    _, estimates = jax.lax.scan(step, tx.init(x), None, 2000)
    np.testing.assert_allclose(np.mean(estimates, 0), np.diag(matrix), atol=0.1)
    assert np.std(estimates, 0).min() > 0.5


def test_the_function_of_the_hessian_sees_the_parameters_that_are_masked_away():
    inner = gradtx.hutchinson_estimator_diag_hessian()
    tx: Any = gradtx.only(inner, {"w": True, "b": False})
    params: Any = {"w": jnp.ones((2, 3)), "b": [jnp.ones(3), None]}
    updates, _ = tx.update(params, tx.init(params), params, obj_fn=separable)
    np.testing.assert_allclose(updates["w"], -np.sin(params["w"]), rtol=1e-6)
    np.testing.assert_array_equal(updates["b"][0], 1)


def test_the_hessian_needs_a_function_and_the_parameters():
    tx, grads = gradtx.hutchinson_estimator_diag_hessian(), jnp.ones(2)
    name = "hutchinson_estimator_diag_hessian"
    with pytest.raises(TypeError) as caught:
        tx.update(grads, tx.init(grads), grads)
    assert str(caught.value) == (
        f"{name} needs the extra argument 'obj_fn'; "
        "call update(updates, state, params, obj_fn=...)"
    )
    with pytest.raises(ValueError) as caught:
        tx.update(grads, tx.init(grads), obj_fn=jnp.sum)
    assert str(caught.value) == (
        f"{name}: needs the parameters; call update(updates, state, params, obj_fn=...)"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.add_noise(-1.0, 0.5),
            "add_noise: eta must be at least 0, got -1.0",
        ),
        (
            lambda: gradtx.differentially_private_aggregate(-1.0, 0.5),
            "differentially_private_aggregate: l2_norm_clip must be at least 0, "
            "got -1.0",
        ),
        (
            lambda: gradtx.dpsgd(0.1, 1.0, -0.5, 0),
            "dpsgd: noise_multiplier must be at least 0, got -0.5",
        ),
    ],
)
def test_number_out_of_its_range_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "made",
    [
        lambda: gradtx.editable(gradtx.dpsgd(0.1, 1.0, 0.5, 7)),
        lambda: gradtx.inject_hyperparams(gradtx.dpsgd)(0.1, 1.0, 0.5, 7),
    ],
)
def test_numbers_in_the_state_leave_gradients_of_examples_as_they_are(made):
    params, batch = {"w": jnp.ones(3)}, {"w": jnp.arange(12.0).reshape(4, 3)}
    plain, tx = gradtx.dpsgd(0.1, 1.0, 0.5, 7), made()
    expected, _ = plain.update(batch, plain.init(params), params)
    updates, _ = tx.update(batch, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-6)


TAKE_EXAMPLES = [
    name for name, case in registry.CASES.items() if case is registry.EXAMPLES_OF
]
AROUND = {
    "groups": lambda tx, labels: gradtx.groups(tx, lambda name, leaf: labels[name]),
    "partition": gradtx.partition,
    "editable": lambda tx, labels: gradtx.editable(gradtx.partition(tx, labels)),
    "inject_hyperparams": lambda tx, labels: gradtx.inject_hyperparams(
        gradtx.partition
    )(tx, labels),
    "masked": lambda tx, labels: gradtx.chain(
        *(
            gradtx.masked(tx[label], {name: labels[name] == label for name in labels})
            for label in tx
        )
    ),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("order", ["ab", "ba", "acb"])
@pytest.mark.parametrize("name", TAKE_EXAMPLES)
def test_every_leaf_is_checked_for_its_axis_of_examples(name, order, around):
    """`c` has the axis, so that a leaf of the same dtypes was checked before."""
    private = registry.example(registry.factories()[name])
    made = {"plain": gradtx.scale(2.0), "private": private}
    kinds = {x: "plain" if x == "a" else "private" for x in order}
    names = [f"{i}{x}" for i, x in enumerate(order)]  # leaves come sorted
    tx = AROUND[around](made, {n: kinds[n[1]] for n in names})
    params = {n: jnp.ones(3) for n in names}
    right = {
        n: jnp.ones((2, 3)) if kinds[n[1]] == "private" else jnp.ones(3) for n in names
    }
    updates, _ = tx.update(right, tx.init(params), params)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
    wrong = {n: jnp.ones(3) if n[1] == "b" else x for n, x in right.items()}
    with pytest.raises(ValueError, match="takes gradients of examples: an axis of"):
        tx.update(wrong, tx.init(params), params)
