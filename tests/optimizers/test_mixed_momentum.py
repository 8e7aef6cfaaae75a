import functools
from typing import Any

import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.mixed_momentum import (
    adan_by_optax,
    ademamix_by_the_paper,
    aggmo_by_the_paper,
    lion_by_the_paper,
    qhadam_by_the_paper,
    simplified_ademamix_by_the_paper,
)
from tests.oracles.runs import (
    assert_equals_paper,
    assert_same_updates,
    descent,
    kinds_of_slots,
    same,
    steps_of,
    updates_of,
)


def refined(c):
    """The mean itself where it is less than 1, else its sign."""
    return np.where(np.abs(c) < 1, c, np.sign(c))


def smooth(c):
    return np.tanh(3 * c)


PAPERS: dict[str, tuple[Any, Any]] = {
    "adan": (gradtx.scale_by_adan(0.9, 0.8, 0.95), adan_by_optax),
    "adan, by default": (
        gradtx.scale_by_adan(),
        lambda g, *_: adan_by_optax(g),
    ),
    "ademamix": (
        gradtx.scale_by_ademamix(0.9, 0.8, 0.95, 2.0),
        functools.partial(ademamix_by_the_paper, alpha=2.0),
    ),
    "simplified ademamix": (
        gradtx.scale_by_simplified_ademamix(0.9, 0.8, 2.0),
        lambda g, b1, b2, b3: simplified_ademamix_by_the_paper(g, b1, b2, 2.0),
    ),
    **{
        f"lion, {mode}": (
            gradtx.scale_by_lion(0.9, 0.8, mode=mode, smooth_beta=3.0),
            lambda g, b1, b2, b3, f=f: lion_by_the_paper(g, b1, b2, f),
        )
        for mode, f in [("hard", np.sign), ("smooth", smooth), ("refined", refined)]
    },
}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("tx", "paper"), PAPERS.values(), ids=PAPERS)
def test_mixture_equals_its_paper(tx, paper, is_complex):
    def with_decays(grads, params):
        return paper(grads, 0.9, 0.8, 0.95)

    assert_equals_paper(tx, with_decays, is_complex)


OF_RECIPES: dict[str, tuple[Any, Any]] = {
    "qhadam": (
        descent(gradtx.qhadam(0.1), 0.1),
        functools.partial(qhadam_by_the_paper, b1=0.995, b2=0.999, nu1=0.7, nu2=1.0),
    ),
    "qhadam, of the square too": (
        gradtx.scale_by_qhadam(0.8, 0.9, 0.6, 0.7, 1e-3),
        functools.partial(
            qhadam_by_the_paper,
            b1=0.8,
            b2=0.9,
            nu1=0.6,
            nu2=0.7,
            eps=1e-3,
        ),
    ),
    "aggmo": (descent(gradtx.aggmo(0.1), 0.1), aggmo_by_the_paper),
    "aggmo, of two": (
        gradtx.scale_by_aggmo((0.5, 0.99)),
        functools.partial(aggmo_by_the_paper, betas=(0.5, 0.99)),
    ),
}


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("name", OF_RECIPES)
def test_optimizer_equals_its_paper(name, is_complex):
    tx, paper = OF_RECIPES[name]
    assert_equals_paper(tx, paper, is_complex)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (gradtx.scale_by_qhadam(0.9, 0.99, 1.0, 1.0), gradtx.scale_by_adam(0.9, 0.99)),
        (gradtx.aggmo(0.1, (0.9,)), gradtx.sgd(0.1, 0.9)),
    ],
    ids=["qhadam of nu 1", "aggmo of one beta"],
)
def test_reductions_hold(one, other):
    same(one, other)


@pytest.mark.parametrize(
    ("named", "composed"),
    [
        (
            gradtx.scale_by_adan(0.9, 0.0, 0.99),
            gradtx.moments(
                gradtx.add(gradtx.ema(0.9), gradtx.difference()),
                gradtx.divide_by_root(
                    gradtx.chain(
                        gradtx.add(gradtx.identity(), gradtx.difference()),
                        gradtx.second_moment(0.99),
                    )
                ),
            ),
        ),
        (gradtx.scale_by_ademamix(alpha=0.0), gradtx.scale_by_adam()),
        (
            gradtx.scale_by_simplified_ademamix(0.9, 0.999, alpha=0.0),
            gradtx.moments(
                gradtx.trace(0.9), gradtx.divide_by_root(gradtx.second_moment(0.999))
            ),
        ),
        (gradtx.scale_by_lion(0.0), gradtx.scale_by_sign()),
        (
            gradtx.scale_by_lion(0.9, 0.9, mode="smooth"),
            gradtx.chain(gradtx.scale_by_ema(0.9), gradtx.scale_by_tanh()),
        ),
    ],
    ids=["adan", "ademamix", "simplified ademamix", "lion", "smooth lion"],
)
def test_mixture_is_the_composition_of_its_parts(named, composed):
    assert_same_updates(named, composed)


def test_adan_counts_no_difference_at_its_first_update():
    first, *_ = updates_of(gradtx.scale_by_adan(), [jnp.array([2.0, -1e-3, 0.0])])
    np.testing.assert_allclose(first, [1, -1, 0], rtol=2e-5)


@pytest.mark.parametrize(
    ("tx", "kinds"),
    [
        (gradtx.scale_by_adan(), {"m": 1, "v": 1, "g": 1, "n": 0}),
        (gradtx.scale_by_ademamix(), {"m1": 1, "m2": 1, "nu": 0}),
        (gradtx.scale_by_simplified_ademamix(), {"m": 1, "n": 0}),
        (gradtx.scale_by_lion(), {"mu": 1}),
    ],
    ids=["adan", "ademamix", "simplified ademamix", "lion"],
)
def test_only_sizes_of_complex_parameters_are_real(tx, kinds):
    names = ["float32", "complex64"]
    expected = {slot: names[is_complex] for slot, is_complex in kinds.items()}
    assert kinds_of_slots(tx) == expected


@pytest.mark.parametrize(
    ("tx", "stored"),
    [
        (gradtx.scale_by_ademamix(mu_dtype="bfloat16"), {"m1", "m2"}),
        (gradtx.scale_by_lion(mu_dtype="bfloat16"), {"mu"}),
        (gradtx.scale_by_adopt(mu_dtype="bfloat16"), {"mu"}),
        (gradtx.scale_by_nadam(mu_dtype="bfloat16"), {"mu"}),
        (gradtx.scale_by_novograd(mu_dtype="bfloat16"), {"mu"}),
        (gradtx.first_moment(0.9, mu_dtype="bfloat16"), {"mu"}),
    ],
    ids=["ademamix", "lion", "adopt", "nadam", "novograd", "first moment"],
)
def test_averages_are_stored_in_their_dtype_and_sizes_in_single(tx, stored):
    grads = jnp.ones(2)
    for updates, state in steps_of(tx, [grads, grads], grads):
        assert updates.dtype == "float32"
        kinds = {key: slot.dtype.name for key, slot in state.items() if key != "count"}
        assert kinds.pop("mu_product", "float32") == "float32"
        assert {key for key, kind in kinds.items() if kind == "bfloat16"} == stored
        assert set(kinds.values()) <= {"bfloat16", "float32"}


@pytest.mark.parametrize("mode", ["soft", None, "HARD"])
def test_mode_that_lion_does_not_have_raises(mode):
    with pytest.raises(ValueError) as caught:
        gradtx.scale_by_lion(mode=mode)
    assert str(caught.value) == (
        f"scale_by_lion: mode must be 'hard' or 'smooth' or 'refined', got {mode!r}"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.scale_by_adan(b3=1.0),
            "scale_by_adan: b3 must be in [0, 1), got 1.0",
        ),
        (
            lambda: gradtx.scale_by_ademamix(b3=1.5),
            "scale_by_ademamix: b3 must be in [0, 1), got 1.5",
        ),
        (
            lambda: gradtx.scale_by_lion(b2=-0.5),
            "scale_by_lion: b2 must be in [0, 1), got -0.5",
        ),
    ],
)
def test_number_out_of_its_range_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
