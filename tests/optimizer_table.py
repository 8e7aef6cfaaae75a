"""The guides' table of optimizers: `python -m tests.optimizer_table` writes it."""

import inspect
import math
import pathlib
import re
import sys

import jax
from jax import numpy as jnp

from gradtx.optimizers import OPTIMIZERS
from tests.registry import TRANSFORMATIONS

PAGE = pathlib.Path(__file__).parent.parent / "examples" / "guides" / "names.md"
BEGIN, END = "<!-- optimizers -->\n", "<!-- end -->\n"
SIDE = 1024


def optimizers() -> dict[str, str]:
    """The docstring of every optimizer, by name."""
    docs = {made.__name__: inspect.getdoc(made) or "" for made in OPTIMIZERS}
    return dict(sorted(docs.items()))


def phrase(doc: str) -> str:
    """What the first line says, without where arguments are described."""
    return re.split(r"[;.]", doc.splitlines()[0])[0].replace("`", "")


def paper(doc: str) -> str:
    """The first paper that the docstring names, with a link where it has one."""
    flat = " ".join(doc.split())
    cited = re.search(
        r"[.;] ([^.;]+?(?:et al\. )?\d{4})([^:;]*: (https?://\S+))?", flat
    )
    assert cited, f"no paper in {doc!r}"
    names, _, link = cited.groups()
    return f"[{names}]({link.rstrip('.,;')})" if link else names


def bytes_per_parameter(name: str) -> str:
    """Of the state, for one large float32 matrix, from the defaults."""
    like = {"w": jax.ShapeDtypeStruct((SIDE, SIDE), jnp.float32)}
    state = jax.tree.leaves(TRANSFORMATIONS[name]().init(like))
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in state) / SIDE**2
    return f"{size:.1f}".removesuffix(".0") if size >= 0.05 or size < 1e-4 else "< 0.05"


def table() -> str:
    """The table, in Markdown."""
    rows = [
        f"| `{name}` | {phrase(doc)} | {paper(doc)} | {bytes_per_parameter(name)} |"
        for name, doc in optimizers().items()
    ]
    head = "| name | algorithm | paper | state, bytes a parameter |\n|---|---|---|---|"
    return "\n".join([head, *rows]) + "\n"


if __name__ == "__main__":
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.split(END)[1])
    sys.stdout.write(table())
