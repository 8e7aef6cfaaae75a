import functools
from typing import Any

import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.adam_variants import (
    adam_atan2_by_the_paper,
    adamax_by_the_paper,
    radam_by_the_paper,
    stable_adamw_by_the_paper,
    yogi_by_the_paper,
)
from tests.oracles.runs import (
    assert_equals_paper,
    assert_same_updates,
    descent,
    kinds_of_slots,
    updates_of,
)

KIN: dict[str, tuple[Any, Any]] = {
    "adamax": (gradtx.scale_by_adamax(0.8, 0.9), adamax_by_the_paper),
    "radam": (gradtx.scale_by_radam(0.8, 0.9), radam_by_the_paper),
    "yogi": (
        gradtx.scale_by_yogi(0.8, 0.9, initial_accumulator_value=0.1),
        functools.partial(yogi_by_the_paper, start=0.1),
    ),
    "radam, at 4": (
        gradtx.scale_by_radam(0.8, 0.9, threshold=4.0),
        functools.partial(radam_by_the_paper, threshold=4.0),
    ),
}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("tx", "paper"), KIN.values(), ids=KIN)
def test_kin_of_adam_equals_its_paper(tx, paper, is_complex):
    assert_equals_paper(tx, lambda g, p: paper(g, 0.8, 0.9), is_complex)


PAPERS: dict[str, tuple[Any, Any]] = {
    "stable_adamw": (
        descent(gradtx.stable_adamw(1.0, 0.8, 0.9, weight_decay=0.2)),
        functools.partial(stable_adamw_by_the_paper, b1=0.8, b2=0.9),
    ),
    "stable_adamw, strict": (
        descent(gradtx.stable_adamw(1.0, threshold=0.3, weight_decay=0.2, eps=1e-3)),
        functools.partial(stable_adamw_by_the_paper, threshold=0.3, eps=1e-3),
    ),
    "adam_atan2": (
        descent(gradtx.adam_atan2(0.5), 0.5),
        adam_atan2_by_the_paper,
    ),
    "adam_atan2, of the paper": (
        gradtx.scale_by_adam_atan2(0.8, 0.95, 1.0, 2.0),
        functools.partial(adam_atan2_by_the_paper, b1=0.8, b2=0.95, a=1.0, b=2.0),
    ),
}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("name", PAPERS)
def test_optimizer_equals_its_paper(name, is_complex):
    tx, paper = PAPERS[name]
    if is_complex and "atan2" in name:
        pytest.skip("its paper is of reals")
    assert_equals_paper(tx, paper, is_complex)


SAME: dict[str, tuple[Any, Any]] = {
    "radam that is rectified early": (
        gradtx.scale_by_radam(b2=0.9, threshold=4.0),
        gradtx.moments(
            gradtx.first_moment(0.9),
            gradtx.rectify(gradtx.divide_by_root(gradtx.second_moment(0.9)), 0.9, 4.0),
        ),
    ),
    "radam that never is": (
        gradtx.scale_by_radam(threshold=1e9),
        gradtx.first_moment(0.9),
    ),
}


@pytest.mark.parametrize(("named", "composed"), SAME.values(), ids=SAME)
def test_kin_of_adam_is_the_composition_of_its_parts(named, composed):
    assert_same_updates(named, composed)


@pytest.mark.parametrize(
    ("tx", "real"),
    [
        (gradtx.scale_by_adamax(), {"nu"}),
    ],
    ids=["adamax"],
)
def test_second_moments_of_complex_parameters_are_real(tx, real):
    expected = {"mu": "complex64", **dict.fromkeys(real, "float32")}
    assert kinds_of_slots(tx) == expected


def test_rectification_starts_with_the_update_whose_average_is_long_enough():
    # With a decay of 0.9 the longest average is of 19, and of t updates
    # 1, 1.9, 2.8, 3.6, 4.3, 5.2, 6, ...: 5 is reached at the sixth.
    tx = gradtx.rectify(gradtx.scale(0.0), 0.9)
    updates = list(updates_of(tx, [jnp.ones(1)] * 8))
    np.testing.assert_array_equal(np.ravel(updates), [1, 1, 1, 1, 1, 0, 0, 0])
