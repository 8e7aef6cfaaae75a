"""The README of each folder of the package: `python -m tests.folder_readmes`.

What a person wrote stays; the table of files is made of their first docstring lines.
"""

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).parent.parent / "gradtx"
BEGIN, END = "<!-- files -->\n", "<!-- end -->\n"


def first_line(path: pathlib.Path) -> str:
    """The first line of a module's docstring."""
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    return doc.splitlines()[0]


def depth(path: pathlib.Path) -> int:
    """How many files of its folder a file builds on, one behind the other."""
    package = ".".join(["gradtx", *path.parent.relative_to(PACKAGE).parts, ""])
    modules = [
        node.module or ""
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ImportFrom)
    ]
    below = {m.removeprefix(package) for m in modules if m.startswith(package)}
    return 1 + max((depth(path.parent / f"{name}.py") for name in below), default=0)


def table(folder: pathlib.Path) -> str:
    """The files of a folder, each behind those that it builds on."""
    paths = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    paths.sort(key=lambda path: (depth(path), path.name))
    rows = [f"| `{path.name}` | {first_line(path)} |\n" for path in paths]
    return "| file | contents |\n|---|---|\n" + "".join(rows)


def readme(folder: pathlib.Path) -> str:
    """The README as it should be."""
    before, _, rest = (folder / "README.md").read_text().partition(BEGIN)
    return before + BEGIN + table(folder) + END + rest.partition(END)[2]


FOLDERS = sorted(path.parent for path in PACKAGE.glob("*/README.md"))

if __name__ == "__main__":
    for each in FOLDERS:
        (each / "README.md").write_text(readme(each))
