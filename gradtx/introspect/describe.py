"""`describe` and `explain`: parts of a transformation, and the leaves of each group."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

from gradtx.compiler.foreign import name_of_foreign, ours
from gradtx.compiler.lower import first_program, program_of
from gradtx.compiler.masks import active_of, masks_of, members_of, seen_by
from gradtx.compiler.program import Origin, Program
from gradtx.compiler.transformation import GradientTransformation
from gradtx.core.arguments import NumberRole
from gradtx.core.call import FactoryValue
from gradtx.core.internals import Tracer
from gradtx.core.paths import names_of
from gradtx.introspect.memory import cost, shapes_given
from gradtx.introspect.shown import Shown, escape, rich


def describe(tx: GradientTransformation, params: Any = None) -> Shown:
    """Show a transformation as a tree: each part, its numbers, and its slots.

    Use `print(describe(tx, params))`; a notebook displays the result itself.

    Args:
        tx: The transformation.
        params: Parameters, or their shapes. If given, slots are shown with shapes,
            dtypes and bytes.

    Raises:
        TypeError: `tx` is not a transformation of gradtx.
        ModuleNotFoundError: rich is missing; `gradtx[show]` installs it.

    Examples:
        >>> tx = gradtx.chain(gradtx.clip(1.0), gradtx.momentum(0.5))
        >>> print(gradtx.describe(tx, jnp.zeros(2, "float32")))
        chain
        ├── clip  max_delta=1.0
        └── momentum  learning_rate=0.5  decay=0.9
            ├── scale_by_ema  decay=0.9  slot='mu'  initial_value=0.0
            │   └── mu  float32 [2], 8 B
            └── scale_by_learning_rate  learning_rate=0.5
    """
    tx, tree = ours("describe", tx), rich("tree")
    params = None if params is None else shapes_given("describe", params)
    state = None if params is None else tx.init(params)
    root = tree.Tree("", hide_root=True, guide_style="dim")
    _add(root, tx, params, state)
    return Shown(root)


def _add(root: Any, tx: Any, params: Any, state: Any) -> None:
    """Add a transformation and its state to a tree of rich."""
    if not isinstance(tx, FactoryValue):
        root.add(f"{name_of_foreign(tx)}{cost(jax.tree.leaves(state))}")
        return
    program = _at_any_count(tx)
    treedef = jax.tree.structure(params)
    active = None if params is None else active_of(program, params, treedef)
    foreign = {op.part: op.name for op in program.ops if op.bound is None}
    nodes: list[Any] = []
    for i, part in enumerate(program.parts):
        parent = root if part.around is None else nodes[part.around]
        is_only_chain = part.bound is not None and part.bound.factory.facts.is_sequence
        is_hidden = is_only_chain and not (part.around is None or part.label)
        nodes.append(parent if is_hidden else parent.add(_line(part, foreign.get(i))))
    for k, (op, keys) in enumerate(zip(program.ops, program.keys, strict=True)):
        node = nodes[op.part]
        for slot, key in keys.items():
            line = f"[cyan]{escape(key)}[/cyan]"
            kept = None if state is None else state.get(key)
            if slot in op.node.inner:
                is_own = slot in op.node.slots  # other parameters
                mine = None if is_own else seen_by(k, params, treedef, active)
                _add(node.add(line), op.node.inner[slot], mine, kept)
            else:
                by_leaf = active is not None and op.keeps_by_leaf(slot)
                mine = seen_by(k, kept, treedef, active) if by_leaf else kept
                node.add(line + cost(jax.tree.leaves(mine)))


def _at_any_count(tx: Any) -> Program:
    """The program of a transformation, with the values of schedules as tracers."""
    found: list[Program] = []
    jax.eval_shape(
        lambda count: found.append(program_of(tx.bound, count)),
        jnp.zeros([], jnp.int32),
    )
    return found[0]


def _line(part: Origin, foreign: str | None) -> str:
    """The factory of a part, its numbers, and its arguments that are not defaults."""
    label = "" if part.label is None else f"[green]{escape(part.label)}[/green]  "
    if part.bound is None:
        return f"{label}{foreign}"
    factory, shown = part.bound.factory, []
    given = zip(factory.signature.parameters.values(), factory.roles, strict=True)
    made = factory.cls(part.bound)
    for parameter, role in given:
        value = made.arguments[parameter.name]
        is_number = isinstance(role, NumberRole) and value is not None
        if is_number or not (_has_members(value) or value == parameter.default):
            shown.append(f"{parameter.name}={_short(value)}")
    return f"{label}[bold]{factory.name}[/bold]  {escape('  '.join(shown))}".rstrip()


def _has_members(value: Any) -> bool:
    def is_one(x: Any) -> bool:
        return isinstance(x, optax.GradientTransformation)

    return any(map(is_one, jax.tree.leaves(value, is_leaf=is_one)))


def _short(value: Any, most: int = 60) -> str:
    if any(isinstance(x, Tracer) for x in jax.tree.leaves(value)):
        return "scheduled"
    if isinstance(value, np.generic):
        return f"{value.item():.6g}"
    text = getattr(value, "__name__", None) or repr(value)
    if isinstance(value, FactoryValue) and len(text) > most:
        text = f"{value.name}({', '.join(map(_short, value.arguments.values()))})"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def explain(tx: GradientTransformation, params: Any) -> Shown:
    """Show the group of each parameter: a table of names, shapes and groups.

    Args:
        tx: A transformation that contains `groups` or `partition`.
        params: The parameters, or their shapes.

    Raises:
        TypeError: `tx` is not a transformation of gradtx.
        ValueError: It has no groups, or a leaf has no group, see `groups`.

    Examples:
        >>> tx = gradtx.groups({"**/bias": gradtx.sgd(0.5), "**": gradtx.adam(0.1)})
        >>> params = {"head": {"kernel": jnp.zeros((4, 2)), "bias": jnp.zeros(2)}}
        >>> print(gradtx.explain(tx, params))
        parameter    shape   number  group
        head/bias    [2]          2  **/bias
        head/kernel  [4, 2]       8  **
        in all                    2  **/bias
        in all                    8  **
    """
    tx, tables = ours("explain", tx), rich("table", "explain")
    rows = [*_rows(tx, params)]
    counts: dict[str, int] = {}
    table = tables.Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("parameter", "shape", "number", "group"):
        table.add_column(heading, justify="right" if heading == "number" else "left")
    for name, shape, group in rows:
        number = math.prod(shape)
        counts[group] = counts.get(group, 0) + number
        table.add_row(
            escape(name), escape(str(list(shape))), f"{number:,}", escape(group)
        )
    table.add_section()
    for group, number in counts.items():
        table.add_row("in all", "", f"{number:,}", escape(group), style="bold")
    return Shown(table)


def _rows(tx: Any, params: Any) -> Iterator[tuple[str, tuple[int, ...], str]]:
    leaves, treedef = jax.tree.flatten(params)
    groups = _groups_of(tx, params, treedef)
    if not any(groups):
        raise ValueError(f"explain: there are no groups in {tx.name}")
    for name, leaf, labels in zip(names_of(params), leaves, groups, strict=True):
        yield name, jnp.shape(leaf), " > ".join(labels)


def _groups_of(tx: Any, params: Any, treedef: Any) -> list[list[str]]:
    """The labels of each leaf's groups, outermost first."""
    groups: list[list[str]] = [[] for _ in range(treedef.num_leaves)]
    if not isinstance(tx, FactoryValue):
        return groups
    program = first_program(tx.bound)
    for mask, flags in zip(
        program.masks, masks_of(program, params, treedef), strict=True
    ):
        for labels, is_in in zip(groups, flags, strict=True):
            if is_in and mask.label is not None:
                labels.append(str(mask.label))
    active = active_of(program, params, treedef)
    for inner, mine in members_of(program, params, treedef, active):
        inside = _groups_of(inner, mine, treedef)
        for labels, more in zip(groups, inside, strict=True):
            labels += more
    return groups
