import warnings
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.settings import OPTAX

PARAMS: Any = {"w": jnp.zeros((2, 3)), "b": [jnp.ones(3), None]}

EXAMPLES = jax.tree.map(lambda p: jnp.stack([p + i for i in range(4)]), PARAMS)


def loss(params):
    """One whose Hessian is not diagonal, so that the signs matter."""
    return jnp.sum(jnp.sin(params["w"])) + jnp.sum(params["b"][0]) ** 4


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
    assert str(caught.value) == f"{name}: expected a key or a seed, got both"


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
