import functools

import pytest

import gradtx
from tests.oracles.online import madgrad_by_the_paper
from tests.oracles.runs import assert_equals_paper


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(
    ("rate", "momentum", "eps"), [(0.1, 0.9, 1e-6), (0.5, 0.0, 0.1)]
)
def test_madgrad_equals_its_paper(rate, momentum, eps, is_complex):
    tx = gradtx.scale_by_madgrad(rate, momentum, eps)
    paper = functools.partial(
        madgrad_by_the_paper, rate=rate, momentum=momentum, eps=eps
    )
    assert_equals_paper(tx, paper, is_complex)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gradtx.scale_by_madgrad(0.1, eps=0.0),
            "scale_by_madgrad: eps must be positive, got 0.0",
        ),
    ],
)
def test_number_out_of_its_range_raises(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
