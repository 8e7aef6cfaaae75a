"""Tables for terminals and notebooks."""

from __future__ import annotations

import importlib
import io
from typing import Any


class Shown:
    """An object that rich displays: in a terminal, in a notebook, as plain text.

    Needs `pip install 'gradtx[show]'`.
    """

    def __init__(self, renderable: Any):
        self.renderable = renderable

    def __rich__(self) -> Any:
        return self.renderable

    def __str__(self) -> str:
        lines = self._console().export_text().splitlines()
        return "\n".join(line.rstrip() for line in lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._console().export_html(
            inline_styles=True, code_format='<pre style="line-height:1.2">{code}</pre>'
        )

    def _console(self) -> Any:
        console = rich("console").Console(record=True, file=io.StringIO(), width=WIDTH)
        console.print(self.renderable)
        return console


WIDTH = 88


def rich(module: str, owner: str = "describe") -> Any:
    """Import a module of rich, an optional dependency."""
    try:
        return importlib.import_module(f"rich.{module}")
    except ModuleNotFoundError as error:
        message = f"{owner}: no {error.name}: install gradtx[show]"
        raise ModuleNotFoundError(message, name=error.name) from None


def escape(text: str) -> str:
    """Text with the markup of rich escaped."""
    return rich("markup").escape(text)
