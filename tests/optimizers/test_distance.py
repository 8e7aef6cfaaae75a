import functools
from typing import Any

import chex
import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.distance import dog_by_the_paper, dowg_by_the_paper
from tests.oracles.online import cocob_by_the_paper
from tests.oracles.runs import COMPLEX, PARAMS, REAL, assert_equals_paper, steps_of


def from_a_rate(grads, params):
    """The first step has a learning rate; the distance starts at nothing."""
    _, *later = dog_by_the_paper(grads, params, 0.0, 1e-3)
    yield 0.3 * grads[0]
    yield from later


def from_the_norm(grads, params, share=1e-6, eps=1e-8):
    first = share * (1 + np.linalg.norm(params[0]))
    return dog_by_the_paper(grads, params, first, eps)


PAPERS: dict[str, tuple[Any, Any]] = {
    "dog": (gradtx.scale_by_dog(), from_the_norm),
    "dog, from a distance": (
        gradtx.scale_by_dog(("distance", 0.5), 1e-3),
        functools.partial(dog_by_the_paper, first=0.5, eps=1e-3),
    ),
    "dog, from a rate": (
        gradtx.scale_by_dog(("learning_rate", 0.3), 1e-3),
        from_a_rate,
    ),
    "dog of each array": (
        gradtx.scale_by_distance_over_gradients(0.1, 1e-3, float, -2.0),
        lambda g, p: (-2 * u for u in from_the_norm(g, p, 0.1, 1e-3)),
    ),
    "dowg": (gradtx.scale_by_dowg(), dowg_by_the_paper),
    "dowg, from a distance": (
        gradtx.scale_by_dowg(0.5, 1e-2),
        functools.partial(dowg_by_the_paper, first=0.5, eps=1e-2),
    ),
    "cocob": (gradtx.scale_by_cocob(), cocob_by_the_paper),
    "cocob, bold": (
        gradtx.scale_by_cocob(2.0, 0.1),
        functools.partial(cocob_by_the_paper, alpha=2.0, eps=0.1),
    ),
}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("tx", "paper"), PAPERS.values(), ids=PAPERS)
def test_distance_over_gradients_equals_its_paper(tx, paper, is_complex):
    assert_equals_paper(tx, paper, is_complex)


def halves(array):
    return {"a": array[:1], "b": [array[1:]]}


@pytest.mark.parametrize("name", ["dog", "dowg"])
def test_distance_and_gradients_are_those_of_all_arrays(name):
    tx, paper = PAPERS[name]
    with jax.enable_x64(True):
        state, expected = tx.init(halves(PARAMS[0])), paper(REAL, PARAMS)
        for g, p, whole in zip(REAL, PARAMS, expected, strict=True):
            updates, state = tx.update(halves(g), state, halves(p))
            chex.assert_trees_all_close(updates, halves(whole), rtol=1e-12)


def test_distance_over_gradients_is_of_each_array_by_itself():
    tx = gradtx.scale_by_distance_over_gradients(0.1)
    params, grads = ([halves(x.astype("float32")) for x in xs] for xs in (PARAMS, REAL))
    state, alone = tx.init(params[0]), tx.init(params[0]["a"])
    for g, p in zip(grads[:3], params[:3], strict=True):
        updates, state = tx.update(g, state, p)
        by_itself, alone = tx.update(g["a"], alone, p["a"])
        np.testing.assert_allclose(updates["a"], by_itself, rtol=1e-6)
    assert jax.tree.map(jnp.shape, state["max_dist"]) == {"a": (), "b": [()]}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_first_parameters_are_stored_in_their_dtype(dtype):
    tx = gradtx.scale_by_distance_over_gradients(param_dtype=dtype)
    params = jnp.full(2, 1 + 2**-10)
    (updates, state), *_ = steps_of(tx, [jnp.ones(2)], params)
    assert state["init_params"].dtype == dtype and updates.dtype == jnp.float32
    moved = float(state["max_dist"]) > 1e-4  # bfloat16 has seven bits
    assert moved == (dtype == "bfloat16")


def test_first_parameters_of_complex_numbers_stay_complex():
    tx: Any = gradtx.scale_by_distance_over_gradients()
    state = tx.init(jnp.asarray(COMPLEX[0], "complex64"))
    assert state["init_params"].dtype == "complex64"
    assert state["max_dist"].dtype == state["grad_sum_of_squares"].dtype == "float32"


@pytest.mark.parametrize(
    "make",
    [
        gradtx.scale_by_dog,
        gradtx.scale_by_dowg,
        gradtx.scale_by_distance_over_gradients,
        gradtx.scale_by_cocob,
    ],
)
def test_the_way_that_parameters_have_come_needs_them(make):
    tx, grads = make(), jnp.ones(2)
    with pytest.raises(ValueError) as caught:
        tx.update(grads, tx.init(grads))
    assert str(caught.value) == (
        f"{tx.name}: missing parameters; call update(updates, state, params)"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.scale_by_dog().replace(init_step=("speed", 1.0)),
            "scale_by_dog: init_step must be 'distance' or 'learning_rate' or "
            "'heuristic', got 'speed'",
        ),
        (
            lambda: gradtx.scale_by_dog(("distance", -1.0)),
            "scale_by_dog: init_step must be at least 0, got -1.0",
        ),
        (
            lambda: gradtx.scale_by_dowg(eps=0.0),
            "scale_by_dowg: eps must be positive, got 0.0",
        ),
        (
            lambda: gradtx.scale_by_cocob(alpha=-1.0),
            "scale_by_cocob: alpha must be at least 0, got -1.0",
        ),
    ],
)
def test_bad_words_and_numbers_raise(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_first_distance_takes_no_schedule():
    with pytest.raises(TypeError, match="init_step must be a number, not a schedule"):
        gradtx.scale_by_dog(("distance", gradtx.constant_schedule(1.0)))


def test_first_step_has_a_kind_and_a_number():
    with pytest.raises((TypeError, ValueError), match="scale_by_dog: init_step"):
        gradtx.scale_by_dog().replace(init_step="distance").init(jnp.ones(2))
