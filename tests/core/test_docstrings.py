import inspect
import re

import pytest

import gradtx
from gradtx.core.docstrings import arguments_in, described_by
from tests.registry import public

OF_OPTAX = {"with_extra_args_support"}
DESCRIBED = {
    name: value
    for name, value in public().items()
    if (inspect.isfunction(value) or hasattr(value, "factory")) and name not in OF_OPTAX
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_each_argument_of_a_public_function_has_an_entry(name):
    doc = inspect.getdoc(DESCRIBED[name]) or ""
    arguments = [*inspect.signature(DESCRIBED[name]).parameters]
    described = arguments_in(doc)
    assert [it for it in arguments if it not in described] == []
    assert [it for it in described if it not in arguments] == []


@pytest.mark.parametrize("name", DESCRIBED)
def test_no_docstring_sends_the_reader_elsewhere_for_its_arguments(name):
    doc = " ".join((inspect.getdoc(DESCRIBED[name]) or "").lower().split())
    assert "arguments as" not in doc and "arguments are those" not in doc


def first():
    """The first.

    Args:
        one: A number
            of two lines.
        two, three: Numbers.

    Keeps nothing.
    """


def test_entries_are_read_with_all_their_lines():
    assert arguments_in(inspect.getdoc(first) or "") == {
        "one": "    one: A number\n        of two lines.\n",
        "two": "    two: Numbers.\n",
        "three": "    three: Numbers.\n",
    }
    assert arguments_in("No arguments.") == {}


def test_what_is_missing_is_taken_in_the_order_of_the_signature():
    @described_by(first, second_mask="two")
    def recipe(three, second_mask, own, one):
        """A recipe.

        Args:
            own: Its own.

        Raises:
            ValueError: Always.
        """

    assert inspect.getdoc(recipe) == inspect.cleandoc(
        """A recipe.

        Args:
            three: Numbers.
            second_mask: Numbers.
            own: Its own.
            one: A number
                of two lines.

        Raises:
            ValueError: Always.
        """
    )


def test_arguments_stand_in_front_of_what_is_kept():
    @described_by(first)
    def recipe(one):
        """A recipe.

        Keeps `mu`.
        """

    doc = inspect.getdoc(recipe) or ""
    assert doc.index("Args:") < doc.index("Keeps `mu`.")


def test_arguments_stand_in_front_of_examples_which_come_last():
    @described_by(first)
    def recipe(one):
        """A recipe.

        Raises:
            ValueError: Always.

        Examples:
            >>> 1 + 1
            2
        """

    @described_by(first)
    def other(one):
        """Another one.

        Examples:
            >>> 1 + 1
            2
        """

    for doc in (inspect.getdoc(recipe) or "", inspect.getdoc(other) or ""):
        sections = [line for line in doc.splitlines() if re.match(r"\w+:$", line)]
        assert sections in (["Args:", "Raises:", "Examples:"], ["Args:", "Examples:"])
        assert doc.endswith("Examples:\n    >>> 1 + 1\n    2")


def test_its_own_entry_goes_before_that_of_a_source():
    @described_by(first)
    def recipe(one):
        """A recipe.

        Args:
            one: Its own.
        """

    assert arguments_in(inspect.getdoc(recipe) or "") == {"one": "    one: Its own.\n"}


def test_help_of_adamw_shows_all_its_arguments():
    doc = inspect.getdoc(gradtx.adamw) or ""
    assert [*arguments_in(doc)] == [*inspect.signature(gradtx.adamw).parameters]
