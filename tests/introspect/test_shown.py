import importlib

import pytest
from rich import table

from gradtx.introspect import shown


def two_by_two():
    made = table.Table("name", "number", box=None)
    made.add_row("first", shown.escape("[1, 2]"))
    made.add_row("second", "3")
    return shown.Shown(made)


def test_a_table_is_printed_as_plain_text_without_spaces_at_the_ends():
    lines = str(two_by_two()).splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        ["name", "number"], ["first", "[1, 2]"], ["second", "3"]
    ]  # fmt: skip
    assert lines == [line.rstrip() for line in lines]
    assert repr(two_by_two()) == str(two_by_two())


def test_a_notebook_gets_the_table_as_html_with_its_styles_inline():
    html = two_by_two()._repr_html_()
    assert html.startswith('<pre style="line-height:1.2">')
    assert "[1, 2]" in html and "class=" not in html


def test_a_line_is_as_wide_as_the_console():
    wide = table.Table("x" * shown.WIDTH, "y" * shown.WIDTH)
    lines = str(shown.Shown(wide)).splitlines()
    assert max(map(len, lines)) == shown.WIDTH


def test_brackets_in_text_are_no_markup():
    assert str(shown.Shown(shown.escape("[bold]w[/bold]"))) == "[bold]w[/bold]"
    assert str(shown.Shown("[bold]w[/bold]")) == "w"


def test_without_rich_the_error_says_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="rich")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError) as raised:
        shown.rich("table", "memory")
    assert str(raised.value) == "memory: no rich: install gradtx[show]"
