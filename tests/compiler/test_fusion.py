"""One loop a leaf on the CPU: what it computes, what it moves, when it is too late."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.compiler import fusion
from tests import compiled, equality, fused
from tests.versions import held_figure

MORE_BYTES = {
    **dict.fromkeys(
        ("adan", "optimistic_gradient_descent"), "they keep the gradient: a copy"
    ),
    **dict.fromkeys(
        ("novograd", "lars", "lamb", "fromage", "dog", "dowg", "momo", "momo_adam"),
        "their norms or products read what they are of once more",
    ),
    "clip + adamw": "the norm reads the gradient once more",
    "skip": "the test reads the gradient once more",
    "accumulate": "the mean is written and read on the way",
    "polyak_sgd": "the squared norm reads the gradient once more",
    **dict.fromkeys(
        ("prodigy", "dadapt_adamw", "sm3", "adafactor", "noisy_sgd", "sophia"),
        "they sum, factor or draw, and what several loops read is written out",
    ),
    **dict.fromkeys(("galore", "lbfgs", "muon"), "products of matrices"),
}
"""What does not work element by element, or moves more than it keeps, and why."""
NEEDS_MEMORY = {
    "lamb", "momo_adam", "prodigy", "dadapt_adamw", "sm3", "adafactor", "noisy_sgd",
    "sophia", "galore", "lbfgs", "muon",
    "polyak_sgd",  # XLA writes out a zero for two equal leaves, to begin their norm
}  # fmt: skip
PARAMETERS = compiled.bytes_of(jax.eval_shape(lambda: fused.arrays(0)))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What a process with the setting wrote."""
    path = tmp_path_factory.mktemp("fused") / "fused.npz"
    command = [sys.executable, "-m", "tests.fused", str(path)]
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    root = pathlib.Path(__file__).parents[2]
    subprocess.run(command, check=True, env=env, cwd=root)
    return np.load(path)


@pytest.fixture(scope="module")
def figures(written):
    return json.loads(str(written["figures"]))


pytestmark = [pytest.mark.xdist_group("fusion"), held_figure]


@pytest.mark.parametrize("name", fused.PIPELINES)
def test_numbers_are_the_same_with_the_setting(written, name):
    with equality.as_optax_needs():
        *_, params = fused.parameters_after(name)
    for leaf, expected in params.items():
        error = np.max(np.abs(written[f"{name}/{leaf}"] - expected))
        assert error <= 1e-5 * np.max(np.abs(expected))


@pytest.mark.parametrize("name", fused.PIPELINES)
def test_an_update_moves_what_it_keeps_once_each_way(figures, name):
    """The parameters and the state are read and written, the gradient is read."""
    mine = figures[name]
    excess = mine["moved"] - (3 * PARAMETERS + 2 * mine["state"])
    assert (excess > PARAMETERS / 50) == (name in MORE_BYTES)


@pytest.mark.parametrize("name", fused.PIPELINES)
def test_what_works_element_by_element_needs_no_temporary_memory(figures, name):
    needs = figures[name]["temporary"] > PARAMETERS / 50
    assert needs == (name in NEEDS_MEMORY)


def test_clipping_by_the_global_norm_adds_one_reading_of_the_gradient(figures):
    excess = figures["clip + adamw"]["moved"] - figures["adamw"]["moved"]
    assert excess == pytest.approx(PARAMETERS, rel=0.03)
    assert figures["clip + adamw"]["temporary"] < PARAMETERS / 50


def test_a_leaf_is_one_loop(figures):
    entry = figures["adamw"]["text"].split("ENTRY")[1]
    for shape, leaves in (("256,256", 2), ("512", 1)):
        loops = [x for x in entry.splitlines() if "fusion(" in x and f"[{shape}]" in x]
        assert len(loops) == leaves


def test_the_setting_comes_too_late_once_something_was_compiled(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
    jnp.ones(3).block_until_ready()
    with pytest.raises(RuntimeError, match="before the first JAX operation"):
        gradtx.enable_cpu_fusion()
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_use_fusion_emitters=false"


def test_a_file_of_flags_is_not_mistaken_for_flags(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "flags.txt")
    with pytest.raises(ValueError, match=r"names the file 'flags.txt'"):
        gradtx.enable_cpu_fusion()


def test_an_update_does_not_make_xla_read_its_flags(monkeypatch):
    """They may still be set: a trace is no operation."""

    def ask():
        raise AssertionError("read")

    monkeypatch.setattr(fusion, "is_enabled", ask)
    tx, params = gradtx.adamw(1e-3, b1=0.83), {"w": jnp.ones(3)}
    jax.eval_shape(tx.update, params, tx.init(params), params)


def test_without_the_setting_a_kernel_computes_its_outputs_together():
    tx, params = gradtx.rmsprop(1e-3, momentum=0.9), {"w": jnp.ones(3)}
    program = jax.make_jaxpr(tx.update)(params, tx.init(params), params)
    assert "optimization_barrier" not in str(program)


@pytest.fixture
def separating(monkeypatch):
    """As if the setting were on: only how kernels are written, not how compiled."""
    monkeypatch.setattr(fusion, "_is_used", lambda: True)


@pytest.mark.parametrize(
    "function, is_separated",
    [
        (lambda x: (jnp.sqrt(x) + 1, jax.nn.relu(x)), True),
        (lambda x: (x / jnp.sum(x), x), False),
        (lambda x: (x @ x, x.T), False),
        (lambda x: (jnp.cumsum(x, axis=0), x), False),
        (lambda x: (jax.debug.callback(lambda: None), x, x + 1)[1:], False),
    ],
)
def test_only_what_works_element_by_element_is_separated(
    separating, function, is_separated
):
    def compute(number, x):
        return function(x * number)

    square = jnp.ones((3, 3))
    program = jax.make_jaxpr(compute)(2.0, square)
    run = fusion.separated(program, numbers=1)
    written = str(jax.make_jaxpr(run)(2.0, square))
    assert ("optimization_barrier" in written) == is_separated
    for given, expected in zip(run(2.0, square), compute(2.0, square), strict=True):
        assert jnp.array_equal(given, expected)


def test_a_separated_update_can_be_differentiated_and_mapped(separating):
    """Of another setting than elsewhere: a kernel is made once."""
    params = jnp.linspace(1, 2, 5)

    def after(rate):
        tx = gradtx.chain(gradtx.adamw(rate, b1=0.87), gradtx.scale(1.5))
        updates, _ = tx.update(params, tx.init(params), params)
        return updates

    rates = jnp.array([0.1, 0.2])
    slope = jax.jacfwd(after)(0.1)
    assert jnp.allclose(slope, after(0.1) / 0.1)
    assert jnp.allclose(jax.vmap(after)(rates)[1], after(0.2))
    assert "optimization_barrier" in str(jax.make_jaxpr(after)(0.1))
