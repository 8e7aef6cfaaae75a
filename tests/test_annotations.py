import ast
import inspect
import itertools
import typing

import pytest

import gradtx
from gradtx import annotations
from gradtx.core import annotations as defined

NAMES = [name for name in dir(annotations) if not name.startswith("_")]


def test_every_public_annotation_is_the_one_that_the_core_defines():
    assert {"Scalar", "Decay", "Member", "Share"} <= {*NAMES}
    assert [n for n in NAMES if vars(annotations)[n] is not vars(defined)[n]] == []


def test_each_annotation_has_a_docstring_under_its_definition():
    body = ast.parse(inspect.getsource(defined)).body
    described = {
        ast.unparse(one.targets[0])
        for one, after in itertools.pairwise(body)
        if isinstance(one, ast.Assign)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }
    assert {*NAMES} - described == set()


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("Share", annotations.Fraction),
        ("Every", annotations.PositiveInt),
        ("Constant", annotations.Fixed[annotations.Scalar]),
        ("FirstValue", annotations.Fixed[annotations.NonNegative]),
    ],
)
def test_an_older_name_is_that_of_a_newer_annotation(older, newer):
    assert vars(annotations)[older] == newer
    assert typing.get_origin(newer) is typing.Annotated


@pytest.mark.parametrize(("name", "outside"), [("Decay", 1.0), ("Share", 1.5)])
def test_a_factory_that_is_annotated_refuses_a_number_out_of_its_range(name, outside):
    def shrink(amount):
        return gradtx.scale(amount)

    shrink.__annotations__["amount"] = vars(annotations)[name]
    made = gradtx.transformation(shrink)
    assert made(0.5).arguments["amount"] == 0.5
    with pytest.raises(ValueError, match=r"shrink: amount must be in \[0, 1"):
        made(outside)
