from typing import Annotated, Any, Literal

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.core import arguments
from gradtx.core.annotations import Decay, DType, Key, Member, Scalar, Size
from gradtx.core.arguments import PLAIN, NumberRole, role_of
from gradtx.core.numbers import DecayValue


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (Any, arguments.Role),
        (str, arguments.Role),
        (int, arguments.Role),  # declared by no name of ours: nothing is guessed
        (float, arguments.Role),
        (bool, arguments.BoolRole),
        (Scalar, NumberRole),
        (Literal["a", "b"], arguments.WordRole),
        (Member, arguments.MemberRole),
        (DType, arguments.DTypeRole),
        (Key, arguments.KeyRole),
        (Size, arguments.SizeRole),
        (Annotated[Any, arguments.ScheduleRole()], arguments.ScheduleRole),
    ],
    ids=str,
)
def test_an_annotation_declares_a_role(annotation, kind):
    assert type(role_of(annotation)) is kind


@pytest.mark.parametrize("annotation", [Scalar, Member, Size, Literal["a"]], ids=str)
def test_none_is_an_argument_only_where_the_annotation_says_so(annotation):
    with pytest.raises((TypeError, ValueError), match="make: x must be"):
        role_of(annotation).check_none("make", "x")
    role_of(annotation | None).check_none("make", "x")


def test_a_number_is_declared_inside_of_containers_and_beside_words():
    many = role_of(dict[str, Scalar])
    assert isinstance(many, NumberRole) and many.is_container and many.kinds == ()
    pair = role_of(tuple[Literal["a", "b"], Decay])
    assert isinstance(pair, NumberRole) and pair.is_decay
    assert pair.kinds == ("word", "number") and pair.choices == ("a", "b")
    either = role_of(Scalar | Literal["a"])
    assert isinstance(either, NumberRole)
    assert not either.is_container and either.choices == ("a",)
    assert not either.is_optional


def test_a_pair_of_a_word_and_a_number_is_no_other_pair():
    role = role_of(tuple[Literal["a", "b"], Scalar])
    role.check_whole(("a", 1.0), "make", "x")
    for wrong in [("a", "b"), (1.0, "a"), ("a",), ("a", 1.0, 2.0), 1.0]:
        with pytest.raises(TypeError, match="make: x must be a word and a number"):
            role.check_whole(wrong, "make", "x")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (1, 1.0),
        (np.float32(0.5), np.float32(0.5)),
        (jnp.float32(0.5), np.float32(0.5)),
        (np.int64(2), np.int64(2)),
    ],
    ids=repr,
)
def test_a_number_is_kept_as_pythons_or_numpys(given, kept):
    bound = role_of(Scalar).bind(given, "make", "x")
    assert type(bound) is type(kept) and bound == kept


def test_every_element_of_an_array_is_in_the_range():
    role = role_of(Decay)
    assert isinstance(role.bind(np.array([0.0, 0.5]), "make", "x"), DecayValue)
    for wrong in (np.array([0.5, 1.0]), np.array([np.nan, 0.5]), -1e-30):
        with pytest.raises(ValueError, match=r"make: x must be in \[0, 1\), got"):
            role.bind(wrong, "make", "x")


def test_a_traced_number_is_not_checked():
    def bind(x):
        return role_of(Decay).bind(x, "make", "x").value

    assert jax.jit(bind)(2.0) == 2.0


def test_a_schedule_stands_where_a_number_may_be_scheduled():
    schedule = gradtx.constant_schedule(0.5)
    number, constant = role_of(Scalar), NumberRole(takes_schedule=False)
    assert number.bind(schedule, "make", "x") is schedule
    assert number.is_schedule(schedule) and not number.is_schedule(0.5)
    with pytest.raises(TypeError, match="make: x must be a number, not a schedule"):
        constant.bind(schedule, "make", "x")
    with pytest.raises(TypeError, match="make: x must be a number or a schedule"):
        number.bind("high", "make", "x")


def test_what_a_schedule_gave_is_checked_unless_it_is_an_array():
    role: Any = role_of(Decay)
    assert role.take(0.5, "make", "x").changes
    assert role.take(jnp.float32(2.0), "make", "x").value == 2.0
    with pytest.raises(ValueError, match=r"x must be in \[0, 1\), got 2.0"):
        role.take(2.0, "make", "x")
    with pytest.raises(TypeError, match="but its schedule gave 'high'"):
        role.take("high", "make", "x")


def test_both_spellings_of_a_dtype_are_one_and_integers_are_none():
    role = role_of(DType)
    one, other = (role.bind(x, "make", "x") for x in ("bfloat16", jnp.bfloat16))
    assert one == other and isinstance(one, np.dtype)
    for wrong in ("int32", "float31", 3):
        with pytest.raises(TypeError, match="make: x must be a dtype of floats, got"):
            role.bind(wrong, "make", "x")


def test_a_key_is_data_and_a_seed_is_not():
    role = role_of(Key)
    typed, raw = jax.random.key(7), jax.random.PRNGKey(7)
    for key in (typed, raw):
        bound = role.bind(key, "make", "x")
        assert isinstance(bound, np.ndarray) and role.is_child(bound)
        np.testing.assert_array_equal(bound, raw)
    assert role.bind(7, "make", "x") == 7 and not role.is_child(7)


def test_a_size_is_a_whole_number_of_at_least_one():
    role = role_of(Size)
    assert role.bind(np.int64(3), "make", "x") == 3
    with pytest.raises(ValueError, match="make: x must be at least 1, got 0"):
        role.bind(0, "make", "x")
    for wrong in (2.0, "2"):
        with pytest.raises(TypeError, match="make: x must be an int, got"):
            role.bind(wrong, "make", "x")
    with pytest.raises(TypeError, match="make: x must be an int, not a schedule"):
        role.bind(lambda count: 1, "make", "x")


def test_a_member_may_be_foreign_and_is_no_factory():
    role, tx = role_of(Member), optax.sgd(0.1)
    assert role.bind(tx, "make", "x") is tx
    with pytest.raises(TypeError, match="; call it to make one"):
        role.bind(gradtx.sgd, "make", "x")


def test_a_plain_argument_is_static_whatever_it_is():
    for value in (1.0, np.ones(2), "word", gradtx.constant_schedule(1.0)):
        assert PLAIN.bind(value, "make", "x") is value
        assert not PLAIN.is_child(value) and not PLAIN.is_schedule(value)
