import importlib
from typing import Any

import jax
import optax
import pytest
from jax import numpy as jnp

import gradtx

anything: Any = gradtx  # what mistakes are made with

PARAMS = {
    "dense": {"kernel": jnp.ones((64, 32)), "bias": jnp.ones(32)},
    "head": {"kernel": jnp.ones((32, 8)), "bias": jnp.ones(8)},
}

RATE = gradtx.constant_schedule(0.1)

PIPELINE = gradtx.chain(
    gradtx.clip_by_global_norm(1.0),
    gradtx.groups(
        {
            "**/bias": gradtx.sgd(0.1, momentum=0.9),
            "**": gradtx.adamw(RATE),
        }
    ),
)


def test_a_description_shows_each_step_its_numbers_and_what_it_keeps():
    assert str(gradtx.describe(PIPELINE, PARAMS)) == TREE.strip("\n")


TREE = """
chain
├── clip_by_global_norm  max_norm=1.0
└── groups
    ├── **  adamw  learning_rate=constant_schedule(value=0.1)  b1=0.9  b2=0.999
    │   eps=1e-08  eps_root=0.0  weight_decay=0.0001
    │   ├── scale_by_adam  b1=0.9  b2=0.999  eps=1e-08  eps_root=0.0
    │   │   └── moments
    │   │       ├── first_moment  decay=0.9
    │   │       │   ├── scale_by_ema  decay=0.9  slot='mu'  initial_value=0.0
    │   │       │   │   └── mu  2 of float32 [64, 32], [32, 8], 9.22 kB
    │   │       │   └── bias_correction  decay=0.9
    │   │       └── divide_by_root  eps=1e-08  eps_root=0.0
    │   │           └── second_moment  decay=0.999  initial_value=0.0
    │   │               ├── square
    │   │               ├── scale_by_ema  decay=0.999  slot='nu'  initial_value=0.0
    │   │               │   └── nu  2 of float32 [64, 32], [32, 8], 9.22 kB
    │   │               └── bias_correction  decay=0.999
    │   ├── add_decayed_weights  weight_decay=0.0001
    │   └── scale_by_learning_rate  learning_rate=0.1
    └── **/bias  sgd  learning_rate=0.1  momentum=0.9
        ├── trace  decay=0.9
        │   └── running_sum  slot='trace'  initial_value=0.0  decay=0.9
        │       └── trace  2 of float32 [32], [8], 160 B
        └── scale_by_learning_rate  learning_rate=0.1
"""


def test_a_description_shows_what_wrappers_and_foreign_members_have_inside():
    tx = gradtx.skip(gradtx.accumulate(gradtx.chain(optax.trace(0.9)), 2))
    text = str(gradtx.describe(tx))
    assert [line.strip("│└├─ ") for line in text.splitlines()] == [
        "skip",
        "inner",
        "accumulate  every=2",
        "inner",
        "chain",
        "trace",
        "trace",
        "mini_step",
        "gradient_step",
        "acc_grads",
        "skip_state",
        "not_finite",
        "should_skip",
        "gradient_step",
        "total_skipped",
    ]


def test_a_description_is_html_in_a_notebook():
    html = gradtx.describe(PIPELINE)._repr_html_()
    assert html.startswith("<pre") and "clip_by_global_norm" in html
    assert "[bold]" not in html


def test_a_table_explains_the_groups():
    assert str(gradtx.explain(PIPELINE, PARAMS)) == TABLE.strip("\n")


TABLE = """
parameter     shape     number  group
dense/bias    [32]          32  **/bias
dense/kernel  [64, 32]   2,048  **
head/bias     [8]            8  **/bias
head/kernel   [32, 8]      256  **
in all                      40  **/bias
in all                   2,304  **
"""


def test_groups_in_groups_are_explained_with_both():
    inner = gradtx.groups({"dense/**": gradtx.sgd(1.0), "**": gradtx.frozen()})
    tx = gradtx.groups({"**/kernel": inner, "**": gradtx.sgd(0.1)})
    lines = str(gradtx.explain(tx, PARAMS)).splitlines()
    assert [line.rpartition("  ")[-1].strip() for line in lines[1:5]] == [
        "**",
        "**/kernel > dense/**",
        "**",
        "**/kernel > **",
    ]


def test_groups_in_a_wrapper_in_a_group_are_those_of_its_leaves():
    inner = gradtx.groups({"**/bias": gradtx.sgd(1.0), "**/kernel": gradtx.adam(1.0)})
    tx = gradtx.groups({"head/**": gradtx.accumulate(inner, 2), "**": gradtx.sgd(0.1)})
    lines = str(gradtx.explain(tx, PARAMS)).splitlines()
    assert lines[3].endswith("head/** > **/bias")
    assert "mu  float32 [32, 8]" in str(gradtx.describe(tx, PARAMS))


def test_foreign_members_are_described_in_their_place_and_group():
    tx = gradtx.groups({"**/bias": optax.trace(0.9), "**": gradtx.sgd(0.1)})
    assert "**/bias  trace" in str(gradtx.describe(tx))
    lines = str(gradtx.describe(gradtx.chain(optax.trace(0.9), gradtx.sgd(0.1))))
    assert lines.index("trace") < lines.index("sgd")


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: anything.describe(optax.sgd(0.1)),
            TypeError,
            "describe: tx must be of gradtx, got 'chain' of optax",
        ),
        (
            lambda: gradtx.memory(gradtx.sgd(0.1), {"act": jax.nn.relu}),
            TypeError,
            "memory: the leaf at 'act' must be an array, got ",
        ),
        (
            lambda: gradtx.explain(gradtx.sgd(0.1), PARAMS),
            ValueError,
            "explain: there are no groups in sgd",
        ),
        (
            lambda: gradtx.explain(gradtx.groups({"x": gradtx.frozen()}), PARAMS),
            ValueError,
            "groups: the pattern 'x' matches none of 'dense/bias', ",
        ),
    ],
)
def test_what_cannot_be_shown_is_an_error(call, kind, message):
    with pytest.raises(kind) as error:
        call()
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name", ["describe", "explain"])
def test_without_rich_the_error_names_the_extra(name, monkeypatch):
    real = importlib.import_module

    def refuse(module, *args):
        if module.startswith("rich"):
            raise ModuleNotFoundError("No module named 'rich'", name="rich")
        return real(module, *args)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ModuleNotFoundError) as raised:
        getattr(gradtx, name)(PIPELINE, PARAMS)
    assert str(raised.value) == f"{name}: no rich: install gradtx[show]"
