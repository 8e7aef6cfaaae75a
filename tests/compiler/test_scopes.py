import jax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler.scopes import error_scope, whole_tree
from gradtx.core.errors import at_path


def raise_in(name, slots=None):
    with error_scope(name, slots):
        raise KeyError("missing")


def test_an_error_keeps_its_kind_and_says_in_what_and_where():
    with pytest.raises(KeyError) as caught, at_path(lambda: "dense/w"):
        raise_in("scale")
    assert caught.value.__notes__ == ["in scale, at 'dense/w'"]


def test_outside_of_leaves_the_place_is_the_whole_tree():
    with pytest.raises(KeyError) as caught:
        raise_in("scale")
    assert caught.value.__notes__ == [f"in scale, at {whole_tree()!r}"]


def test_an_error_tells_of_the_slots_that_there_are():
    with pytest.raises(KeyError) as caught:
        raise_in("trace", {"trace": jnp.ones((2, 3)), "absent": None})
    (note,) = caught.value.__notes__
    assert note.endswith(", where trace is float32[2, 3]")


def test_scopes_note_an_error_from_inside_outwards():
    with pytest.raises(KeyError) as caught, error_scope("outer"):
        raise_in("inner")
    notes = [note.split(",")[0] for note in caught.value.__notes__]
    assert notes == ["in inner", "in outer"]


def test_what_runs_inside_is_named_in_the_module():
    def double(x):
        with error_scope("doubling"):
            return x * 2

    text = jax.jit(double).lower(1.0).as_text(debug_info=True)
    assert "doubling" in text


def test_inside_any_promotion_is_allowed_and_outside_it_is_not():
    half, single = jnp.ones(2, "bfloat16"), jnp.ones((3, 2))
    with error_scope("scale"):
        assert (half + single).dtype == "float32"
    with pytest.raises(ValueError, match="promot"):
        jnp.add(half, single)


def test_a_rule_that_branches_on_a_number_is_told_what_chooses():
    @gradtx.transformation
    def branching(amount: gradtx.Scalar):
        return gradtx.memoryless(lambda u, leaf: u if amount > 0 else -u)

    tx, grads = branching(1.0), {"w": jnp.ones(2)}
    with pytest.raises(jax.errors.TracerBoolConversionError) as raised:
        tx.update(grads, tx.init(grads))
    note = "a rule is traced: choose by jnp.where, or in the factory"
    assert note in raised.value.__notes__
