"""The benchmark measures what it says, and stops where numbers differ."""

import itertools

import numpy as np
import pytest
from jax import numpy as jnp

from tests import equality
from tests.benchmarks import __main__ as main
from tests.benchmarks import arms, cell, plot, work


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(work.TREES, "tiny", lambda: [(4, 3), (3,), (3,)])


def test_trees_have_the_sizes_of_the_models_that_they_are_named_after():
    sizes = {name: make() for name, make in work.TREES.items()}
    assert work.number_of_parameters(sizes["ResNet-50"]) == 25_557_032  # torchvision's
    assert work.number_of_parameters(sizes["GPT, 12 layers"]) == 124_439_808  # GPT-2
    assert len(sizes["24 layers"]) == 24 * 7


@pytest.mark.parametrize("what", ["step", "trace", "eager"])
def test_a_cell_has_a_figure_of_every_arm(tiny, what):
    with equality.as_optax_needs():
        measured = cell.measure("tiny", "skip", what, 1, "", torch=False)
    for name, figures in measured.items():
        if name != "bytes per second":
            assert figures.keys() == work.LIBRARIES.keys(), name
            assert all(value >= 0 for value in figures.values())


def test_nothing_is_timed_where_numbers_differ():
    arms.assert_equal("theirs", [jnp.ones(3)], [np.ones(3)])
    with pytest.raises(AssertionError, match=r"theirs is .* from gradtx"):
        arms.assert_equal("theirs", [jnp.full(3, 1.001)], [np.ones(3)])


def test_arms_take_turns():
    turns = []
    arms.median_times({name: lambda n=name: turns.append(n) for name in "ab"}, 2)
    assert turns == ["a", "b"] * 3


def test_a_miss_is_measured_twice_again_and_the_median_counts(monkeypatch):
    ratios = iter([2.0, 0.5, 1.0])
    monkeypatch.setattr(
        main,
        "measured",
        lambda *_: {"step": {"gradtx": next(ratios), "optax": 1.0}},
    )
    claim = main.Claim("24 layers", "adamw", "default", "step", "step", 0.9)
    assert main.settle(claim, {}, 1) == (1.0, 1.0)


def test_every_claim_is_of_a_pipeline_a_tree_and_a_setting_that_exist():
    for claim in main._claims():
        assert claim.tree in work.TREES and claim.setting in cell.SETTINGS
        assert claim.pipeline in work.PIPELINES and claim.what in cell.MEASURES


def test_the_picture_has_a_panel_for_each_tree_and_the_bus():
    times = {"gradtx": 0.05, "optax": 0.1, "torch fused": 0.06}
    figures = {"step": times, "bytes per second": {"numpy add": 5e10}}
    pairs = itertools.product(("24 layers", "one leaf of 100M"), cell.SETTINGS)
    cells = {f"{tree} | adamw | {setting} | step": figures for tree, setting in pairs}
    figure = plot.draw({**cells, "machine": "a machine"})
    titles = [ax.get_title("left") + ax.get_title() for ax in figure.axes]
    assert titles == ["24 layers", "AdamW on one leaf of 100M"]
