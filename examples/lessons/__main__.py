"""All lessons in a row: print their numbers, write their pictures.

`python examples/lessons` writes them into the folder `lessons`; with `--gallery` into
`examples/lessons/pictures`, and `examples/README.md` as well.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path
from types import ModuleType

from page import Number, Page, save, show

HERE = Path(__file__).parent
INTRODUCTION = """\
# Examples

`train_digits.py` trains a small network on handwritten digits with four optimizers: the
first command of the project's README.

`lessons` test the claims of four teaching documents on optimization: the lecture notes
of Andrew Ng's course, a student's notes of CS231n, a lecture's slides, and a notebook
on decay and saddle points. Each lesson is one short script. It prints the documents'
numbers beside the measured ones, and draws a picture. An optimizer has the same colour
in all pictures. Seconds are printed, but left out of this page: they differ from
machine to machine. `tests/lessons/claims` lists every claim with the number that tests
it.

```sh
pip install '.[examples]'
python examples/lessons/lesson_03_bowl.py    # one of them
python examples/lessons                      # all
python examples/lessons --gallery            # all, and this page
```
"""


def lessons() -> list[ModuleType]:
    """The lessons' modules, in order."""
    names = sorted(file.stem for file in HERE.glob("lesson_*.py"))
    return [importlib.import_module(name) for name in names]


def text(module: ModuleType) -> tuple[str, str]:
    """A lesson's title, numbered, and what it says."""
    title, _, body = (module.__doc__ or "").strip().partition("\n\n")
    number = int(module.__name__.split("_")[1])
    return f"{number}. {title.removesuffix('.')}", body


def section(module: ModuleType, page: Page, pictures: list[Path]) -> str:
    """A lesson's part of the gallery."""
    title, body = text(module)
    shown = [f"![{title}](lessons/pictures/{picture.name})" for picture in pictures]
    shown.append(f"[{module.__name__}.py](lessons/{module.__name__}.py)")
    rows = ["| number | here | the documents say | where |", "|---|---|---|---|"]
    rows += [row(number) for number in page.numbers if not number.is_timed]
    return "\n\n".join([f"## {title}", body, *shown, "\n".join(rows)]) + "\n"


def row(number: Number) -> str:
    """A number as a line of a table in Markdown."""
    label = number.label.replace("|", "\\|").replace("*", "\\*")
    stated = number.stated.replace("*", "\\*")
    return f"| {label} | {number} | {stated} | {number.source} |"


def main() -> None:
    """Run them all."""
    parser = argparse.ArgumentParser(prog="lessons", description="Run all lessons.")
    parser.add_argument("--gallery", action="store_true", help="write the gallery")
    out = HERE / "pictures" if parser.parse_args().gallery else Path("lessons")
    out.mkdir(exist_ok=True)
    start, sections = time.perf_counter(), [INTRODUCTION]
    for module in lessons():
        page: Page = module.lesson()
        pictures = save(page, out / f"{module.__name__}.png")
        show(page.numbers, text(module)[0])
        sections.append(section(module, page, pictures))
    if out.parent == HERE:
        (HERE.parent / "README.md").write_text("\n".join(sections))
    print(f"{len(sections) - 1} lessons in {time.perf_counter() - start:.0f} s:", out)


if __name__ == "__main__":
    main()
