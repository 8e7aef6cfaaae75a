from typing import Any

import jax
import pytest
from jax import numpy as jnp

import gradtx
from tests.searches import bowl, message, updates_of


@pytest.mark.parametrize("name", ["backtracking", "zoom"])
def test_errors_name_the_search_and_what_is_wrong(name):
    owner = f"scale_by_{name}_linesearch"
    tx = getattr(gradtx, owner)(5)
    params = jnp.ones(2)
    state = tx.init(params)
    extra = {"value": 2.0, "grad": params, "value_fn": bowl}

    def update(params=params, **more):
        return lambda: tx.update(-params, state, params, **extra | more)

    assert (
        message(ValueError, lambda: tx.update(params, state, **extra))
        == f"{owner}: missing parameters; call update(updates, state, params)"
    )
    assert message(TypeError, update(data=1.0)) == (
        f"{owner}: value_fn does not take the extra argument 'data'; "
        f"it takes [] beside the parameters"
    )
    of_x = update(value_fn=lambda x: bowl(x), x=1.0)  # its name for the parameters
    assert "value_fn does not take the extra argument 'x'" in message(TypeError, of_x)
    assert message(TypeError, update(value_fn=jnp.square)) == (
        f"{owner}: value_fn must give a real scalar, got float32[2]"
    )
    assert message(TypeError, update(value=params)) == (
        f"{owner}: value must give a real scalar, got float32[2]"
    )
    for need in extra:
        rest = {key: x for key, x in extra.items() if key != need}
        call = lambda rest=rest: tx.update(params, state, params, **rest)  # noqa: E731
        assert f"{owner}: missing extra argument {need!r}" in message(TypeError, call)
    assert message(ValueError, lambda: tx.replace(slope_rtol=-1)) == (
        f"{owner}: slope_rtol must be at least 0, got -1"
    )


def test_the_strategy_is_checked_when_the_search_is_made():
    two: Any = "two"
    assert message(
        ValueError,
        lambda: gradtx.scale_by_zoom_linesearch(5, initial_guess_strategy=two),
    ) == (
        "scale_by_zoom_linesearch: initial_guess_strategy must be 'one' or 'keep', "
        "got 'two'"
    )


@pytest.mark.parametrize("name", ["backtracking", "zoom"])
def test_a_verbose_search_says_how_it_failed(name, capsys):
    tx = getattr(gradtx, f"scale_by_{name}_linesearch")(3, verbose=True)
    updates_of(gradtx.chain(gradtx.sgd(0.1), tx), bowl, jnp.ones(2))
    jax.effects_barrier()
    assert capsys.readouterr().out == ""
    updates_of(gradtx.chain(gradtx.sgd(-0.1), tx), bowl, jnp.ones(2))
    jax.effects_barrier()
    said = capsys.readouterr().out
    assert said.startswith(f"scale_by_{name}_linesearch: no step size found with ")
    assert "value 2.0, slope 0.8" in said
