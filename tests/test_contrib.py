import types

import optax
import pytest

import gradtx

THEIRS = [
    name
    for name, value in vars(optax.contrib).items()
    if not name.startswith("_") and not isinstance(value, types.ModuleType)
]


def test_contrib_lists_what_optax_has_there():
    assert dir(gradtx.contrib) == dir(optax.contrib)
    assert {"prodigy", "schedule_free", "muon"} <= {*THEIRS}


@pytest.mark.parametrize("name", THEIRS)
def test_a_name_of_contrib_is_ours_where_gradtx_defines_it(name):
    ours = vars(gradtx).get(name)
    expected = getattr(optax.contrib, name) if ours is None else ours
    assert getattr(gradtx.contrib, name) is expected


def test_a_name_that_contrib_does_not_have_raises():
    with pytest.raises(AttributeError, match=r"neither gradtx nor optax\.contrib has"):
        _ = gradtx.contrib.prodgy
