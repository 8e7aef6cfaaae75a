"""Deterministic figures: what the compiler makes of an update. No timings."""

import functools
import re
from typing import Any

import jax
import optax
import pytest
from jax import numpy as jnp

import gradtx

SHAPES = {
    "query": (256, 256), "key": (256, 256), "value": (256, 256), "out": (256, 256),
    "up": (256, 640), "bias": (256,), "scale": (640,),
}  # fmt: skip


def layers(n):
    """Shapes: nothing is computed, only compiled."""
    layer = {k: jax.ShapeDtypeStruct(s, jnp.float32) for k, s in SHAPES.items()}
    return [layer] * n


def pipeline(library, *, clipped):
    adamw = library.adamw(1e-3)
    if not clipped:
        return adamw
    return library.chain(library.clip_by_global_norm(1.0), adamw)


LIBRARIES: dict[str, Any] = {"gradtx": gradtx, "optax": optax}


@functools.cache
def compiled(library, n, clipped) -> Any:
    """The donated step of a pipeline on n layers, lowered and compiled."""
    tx, params = pipeline(LIBRARIES[library], clipped=clipped), layers(n)

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1))
    with jax.numpy_dtype_promotion("standard"):
        state = jax.eval_shape(tx.init, params)
        return jitted.lower(params, state, params).compile()


def fusions(executable):
    entry = executable.as_text().split("ENTRY", 1)[1]
    return len(re.findall(r"= .* fusion\(", entry))


@pytest.mark.parametrize("clipped", [False, True])
def test_an_update_compiles_to_no_more_fusions_than_optax(clipped):
    ours, theirs = (compiled(library, 4, clipped) for library in LIBRARIES)
    assert 0 < fusions(ours) <= fusions(theirs)


@pytest.mark.parametrize("clipped", [False, True])
def test_the_temporary_memory_is_under_one_percent_of_the_parameters(clipped):
    size = 4 * sum(x.size for x in jax.tree.leaves(layers(4)))
    assert (
        compiled("gradtx", 4, clipped).memory_analysis().temp_size_in_bytes < size / 100
    )
    if clipped:  # the figure can fail: optax writes a second gradient
        theirs = compiled("optax", 4, clipped).memory_analysis().temp_size_in_bytes
        assert theirs > size / 2


def test_the_sum_over_all_leaves_is_not_copied_into_the_kernel_of_each():
    """Else the compiled module grows with the square of the number of leaves."""
    sizes = [len(compiled("gradtx", n, True).as_text()) for n in (2, 8)]
    assert sizes[1] < 4.5 * sizes[0]


def lowered_text(library):
    tx, params = pipeline(library, clipped=False), layers(96)
    with jax.numpy_dtype_promotion("standard"):
        update = jax.jit(tx.update)
        state = jax.eval_shape(tx.init, params)
        return update.lower(params, state, params).as_text()


def test_the_lowered_module_of_96_layers_is_at_most_three_tenths_of_optax():
    assert len(lowered_text(gradtx)) <= 0.3 * len(lowered_text(optax))


def test_a_kernel_takes_all_its_scalars_as_one_operand():
    update = jax.jit(gradtx.adamw(1e-3).update)
    params = {"w": jnp.ones(3)}
    state = gradtx.adamw(1e-3).init(params)
    (signature,) = re.findall(
        r"func.func private @update\((.*?)\) ->",
        update.lower(params, state, params).as_text(),
    )
    # The numbers, the count, and the leaf's update, moments and parameter.
    assert signature.count("%arg") == 6
