import copy
import pickle
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx

PARAMS = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)}


def test_equal_arguments_make_equal_transformations():
    assert gradtx.adam(1e-3) == gradtx.adam(1e-3)
    assert hash(gradtx.adam(1e-3)) == hash(gradtx.adam(learning_rate=1e-3))
    assert gradtx.sgd(1) == gradtx.sgd(1.0)
    different = [
        gradtx.adam(1e-3),
        gradtx.adam(1e-2),
        gradtx.adam(1e-3, nesterov=True),
        gradtx.adam(np.float32(1e-3)),
        gradtx.adam(gradtx.constant_schedule(1e-3)),
        gradtx.adamw(1e-3),
        optax.adam(1e-3),
    ]
    for i, a in enumerate(different):
        for b in different[i + 1 :]:
            assert a != b


def test_equality_compares_arrays_by_dtype_shape_and_bytes():
    def decayed(mask):
        return gradtx.add_decayed_weights(0.1, mask)

    assert decayed(np.array([True])) == decayed(np.array([True]))
    assert decayed(np.array([True])) != decayed(np.array([False]))
    assert gradtx.scale(jnp.float32(2)) == gradtx.scale(np.float32(2))
    assert gradtx.scale(np.float32(2)) != gradtx.scale(np.float64(2))
    assert gradtx.scale(-0.0) != gradtx.scale(0.0)


def test_hash_never_touches_the_value_of_an_array():
    assert hash(gradtx.scale(np.float32(1))) == hash(gradtx.scale(np.float32(2)))


HINT = (
    "; functions and foreign transformations are equal only to themselves: "
    "make it once, for both"
)
UNLIKE = {
    "a mask": (
        lambda: gradtx.chain(
            gradtx.clip(1.0), gradtx.adamw(0.1, mask=lambda params: params)
        ),
        f"'mask'{HINT}",
    ),
    "a schedule": (lambda: gradtx.sgd(lambda count: 0.1), f"'learning_rate'{HINT}"),
    "a foreign member": (
        lambda: gradtx.chain(gradtx.clip(1.0), optax.sgd(0.1)),
        f"'transforms[1]'{HINT}",
    ),
}


def stack(*transformations):
    return jax.tree.map(lambda *numbers: jnp.stack(numbers), *transformations)


@pytest.mark.parametrize("name", UNLIKE)
def test_transformations_that_do_not_stack_say_where_they_differ_and_what_to_do(name):
    make, differs = UNLIKE[name]
    one, other = make(), make()
    with pytest.raises(ValueError) as raised:
        stack(one, other)
    assert str(raised.value).count(f"[differs in {differs}]") >= 2
    assert " object at 0x" not in str(raised.value).replace("optax", "")
    with pytest.raises(TypeError) as raised:
        jax.lax.cond(True, lambda: one, lambda: other)
    assert f"[differs in {differs}]" in str(raised.value)
    stack(one, one)  # made once


def test_the_static_part_of_a_transformation_shows_its_arguments():
    plain, nesterov = (
        jax.tree.structure(gradtx.sgd(0.1, nesterov=it)) for it in (False, True)
    )
    shown = "sgd(learning_rate=..., momentum=None, nesterov={}, accumulator_dtype="
    assert shown.format(False) in repr(plain)
    assert plain != nesterov
    assert shown.format(True) in repr(nesterov)
    assert repr(nesterov).count("[differs in 'nesterov']") == 1
    with pytest.raises(ValueError, match=r"\[differs in 'momentum'\]"):
        stack(gradtx.sgd(0.1), gradtx.sgd(0.1, 0.9))
    with pytest.raises(ValueError, match=r"\[differs in \"mask\['a'\]\""):
        stack(*(gradtx.masked(gradtx.sgd(0.1), {k: True}) for k in "ab"))


def test_tracers_compare_by_identity():
    @jax.jit
    def compare(x):
        assert gradtx.sgd(x) == gradtx.sgd(x)
        assert gradtx.sgd(x) != gradtx.sgd(x + 0)
        hash(gradtx.sgd(x))
        return x

    compare(1.0)


def test_replace_changes_arguments_and_checks_them():
    tx = gradtx.adam(1e-3).replace(b1=0.95, nesterov=True)
    assert tx == gradtx.adam(1e-3, b1=0.95, nesterov=True)
    with pytest.raises(ValueError, match=r"adam: b1 must be in \[0, 1\), got 1.5"):
        tx.replace(b1=1.5)
    with pytest.raises(
        TypeError, match="adam: unexpected argument 'b_1'; did you mean"
    ):
        tx.replace(b_1=0.5)


def test_arguments_are_as_they_were_given():
    arguments = gradtx.sgd(0.1, momentum=0.9).arguments
    assert arguments == {
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "accumulator_dtype": None,
        "dampening": None,
    }


@pytest.mark.parametrize(
    "copier", [lambda tx: pickle.loads(pickle.dumps(tx)), copy.copy, copy.deepcopy]
)
def test_copies_are_equal(copier):
    tx = gradtx.chain(
        gradtx.clip_by_global_norm(1.0),
        gradtx.adamw(gradtx.cosine_decay_schedule(1e-3, 10), mu_dtype=jnp.bfloat16),
    )
    assert copier(tx) == tx and repr(copier(tx)) == repr(tx)


def test_containers_are_frozen_when_they_are_bound():
    mask = {"w": True, "b": False}
    tx = gradtx.adamw(1e-3, mask=mask)
    mask["b"] = True
    assert tx == gradtx.adamw(1e-3, mask={"w": True, "b": False})


def test_a_dtype_is_one_however_it_is_written():
    assert gradtx.adam(1.0, mu_dtype="bfloat16") == gradtx.adam(
        1.0, mu_dtype=jnp.bfloat16
    )


def test_jax_may_put_anything_in_a_leaf():
    tx = gradtx.adamw(1e-3, mask={"w": True, "b": False})
    leaves, treedef = jax.tree.flatten(tx)
    for thing in (None, object(), jax.ShapeDtypeStruct((), jnp.float32), "text"):
        again = jax.tree.unflatten(treedef, [thing] * len(leaves))
        assert repr(again) and isinstance(hash(again), int)
        assert jax.tree.structure(again, is_leaf=lambda x: x is None) is not None
    jax.tree.map(lambda _: None, tx)
    assert jax.eval_shape(lambda t: t, tx).arguments["eps"].shape == ()


def test_leaves_are_keyed_by_argument():
    paths = jax.tree_util.tree_leaves_with_path(gradtx.sgd(0.1, momentum=0.9))
    assert {jax.tree_util.keystr(path): leaf for path, leaf in paths} == {
        ".learning_rate": 0.1,
        ".momentum": 0.9,
    }


def test_a_concrete_array_becomes_a_numpy_scalar():
    (leaf,) = jax.tree.leaves(gradtx.scale(jnp.asarray(1e-3)))
    assert type(leaf) is np.float32


def test_a_foreign_transformation_is_static_by_identity():
    foreign = optax.trace(0.9)
    assert gradtx.chain(foreign) == gradtx.chain(foreign)
    assert hash(gradtx.chain(foreign)) == hash(gradtx.chain(foreign))
    assert gradtx.chain(foreign) != gradtx.chain(optax.trace(0.9))
    assert not jax.tree.leaves(gradtx.chain(foreign))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: gradtx.adam(1e-3, b1=1.5),
            ValueError,
            "adam: b1 must be in [0, 1), got 1.5",
        ),
        (
            lambda: gradtx.adam(1e-3, b2=-0.1),
            ValueError,
            "adam: b2 must be in [0, 1), got -0.1",
        ),
        (
            lambda: gradtx.adam(1e-3, eps=-1),
            ValueError,
            "adam: eps must be at least 0, got -1",
        ),
        (
            lambda: gradtx.adam(float("nan")),
            ValueError,
            "adam: learning_rate must be a number, got nan",
        ),
        (
            lambda: gradtx.adam(jnp.float32(1), b1=jnp.float32(1)),
            ValueError,
            "adam: b1 must be in [0, 1), got 1.0",
        ),
        (
            lambda: gradtx.sgd(0.1, momentum=float("nan")),
            ValueError,
            "sgd: momentum must be a number, got nan",
        ),
        (
            lambda: gradtx.momentum(0.1, decay=1),
            ValueError,
            "momentum: decay must be in [0, 1), got 1",
        ),
        (
            lambda: gradtx.rmsprop(0.1, decay=2.0),
            ValueError,
            "rmsprop: decay must be in [0, 1), got 2.0",
        ),
        (
            lambda: gradtx.adagrad(0.1, -1.0),
            ValueError,
            "adagrad: initial_accumulator_value must be at least 0, got -1.0",
        ),
        (
            lambda: gradtx.adam("fast"),
            TypeError,
            "adam: learning_rate must be a number or a schedule, got 'fast'",
        ),
        (
            lambda: gradtx.adam(None),
            TypeError,
            "adam: learning_rate must be a number or a schedule, got None",
        ),
        (
            lambda: gradtx.adam(True),
            TypeError,
            "adam: learning_rate must be a number or a schedule, got True",
        ),
        (
            lambda: gradtx.adam(**dict[str, Any](learning_rte=1.0)),
            TypeError,
            "adam: unexpected argument 'learning_rte'; did you mean 'learning_rate'?",
        ),
        (
            lambda: gradtx.adam(*[]),
            TypeError,
            "adam: missing a required argument: 'learning_rate'",
        ),
        (
            lambda: gradtx.adam(1.0, mu_dtype="float33"),
            TypeError,
            "adam: mu_dtype must be a dtype of floats, got 'float33'",
        ),
        (
            lambda: gradtx.adagrad(0.1, lambda t: 0.1),
            TypeError,
            "adagrad: initial_accumulator_value must be a number, not a schedule, got ",
        ),
    ],
)
def test_bad_arguments_raise_where_they_are_given(make, error, message):
    with pytest.raises(error) as raised:
        make()
    assert str(raised.value).startswith(message)


def test_replace_keeps_the_precision_of_decays():
    traced = jax.jit(lambda tx: tx)(gradtx.scale_by_ema(0.9999))
    tx = traced.replace(slot="x")
    updates, _ = tx.update(jnp.ones(1), tx.init(jnp.ones(1)))
    np.testing.assert_allclose(updates, [1 - 0.9999], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.sgd(lambda c: None),
            "sgd: learning_rate must be a number, but",
        ),
        (
            lambda: gradtx.adam(0.1, b1=lambda c: True),
            "adam: b1 must be in [0, 1), but",
        ),
        (lambda: gradtx.adam(0.1, b1=lambda c: 1), "adam: b1 must be in [0, 1), got 1"),
        (lambda: gradtx.adam(0.1, eps=lambda c: -1.0), "adam: eps must be at least 0"),
        (lambda: gradtx.scale(lambda c: 1j), "scale: step_size must be a number, but"),
    ],
)
def test_what_a_schedule_gives_is_checked(make, message):
    with pytest.raises((TypeError, ValueError)) as raised:
        make().init(PARAMS)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gradtx.scale(1j),
        lambda: gradtx.scale(jnp.complex64(1j)),
        lambda: gradtx.scale(jax.random.key(0)),
        lambda: gradtx.sgd([0.1, 0.2]),
        lambda: gradtx.adam(0.1, b1=(0.9, 0.99)),
        lambda: gradtx.add(gradtx.identity(), weights=(None,)),
        lambda: gradtx.named(**dict[str, Any](key="a", transform=None)),
    ],
)
def test_what_is_no_number_is_refused_where_it_is_given(make):
    with pytest.raises(TypeError, match=" must be "):
        make()


def test_an_array_is_copied_when_it_is_bound():
    sizes = np.ones(3)
    tx = gradtx.scale(sizes)
    sizes[:] = 5
    np.testing.assert_array_equal(tx.arguments["step_size"], np.ones(3))


@pytest.mark.parametrize("betas", [(0.9, 0.99, 0.999), 0.9, (0.9,), (0.9, "heuristic")])
def test_an_argument_of_two_numbers_takes_two_where_it_is_given(betas):
    with pytest.raises(TypeError) as raised:
        gradtx.prodigy(betas=betas)
    assert str(raised.value) == (
        f"prodigy: betas must be a number and a number, got {betas!r}"
    )


@pytest.mark.parametrize("init_step", [(1e-6, "heuristic"), ("heuristic", "x"), 1e-6])
def test_an_argument_of_a_word_and_a_number_takes_these_in_order(init_step):
    with pytest.raises(TypeError) as raised:
        gradtx.dog(init_step=init_step)
    assert str(raised.value) == (
        f"dog: init_step must be a word and a number, got {init_step!r}"
    )


def test_a_dtype_of_integers_holds_no_moments():
    with pytest.raises(TypeError, match="adam: mu_dtype must be a dtype of floats"):
        gradtx.adam(0.1, mu_dtype="int32")


def test_an_unknown_argument_that_is_near_none_shows_what_there_is():
    make: Any = gradtx.sgd
    with pytest.raises(TypeError) as raised:
        make(rate=0.1)
    assert str(raised.value) == (
        "sgd: unexpected argument 'rate'; expected learning_rate, momentum, nesterov, "
        "accumulator_dtype, dampening"
    )


def test_a_sequence_of_numbers_is_no_number_and_a_bool_is_one():
    with pytest.raises(TypeError) as raised:
        gradtx.aggmo(0.1, 0.9)  # pyright: ignore
    assert str(raised.value) == ("aggmo: betas must be a sequence of numbers, got 0.9")
    with pytest.raises(ValueError, match="expected at least one branch"):
        gradtx.aggmo(0.1, ()).init(jnp.ones(2))
    with pytest.raises(TypeError) as raised:
        gradtx.sgd(0.1, nesterov="yes")  # pyright: ignore
    assert str(raised.value) == "sgd: nesterov must be True or False, got 'yes'"
    one: Any = np.True_
    assert gradtx.sgd(0.1, nesterov=one) == gradtx.sgd(0.1, nesterov=True)
