"""One call of `update`: its registers, slots and results, leaf by leaf."""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.checks import check_keys, check_leaf
from gradtx.compiler.counts import next_count
from gradtx.compiler.kernels import zero_unless
from gradtx.compiler.leaves import Leaves, is_float0, trees_in
from gradtx.compiler.masks import active_of, exact_leaves, places_of
from gradtx.compiler.program import Op, Program
from gradtx.compiler.stage import Active
from gradtx.compiler.steps import is_frozen, is_left_out
from gradtx.core.dtypes import LeafDTypes, leaf_dtypes_of
from gradtx.core.rule import Rule


class Run:
    """One call of `update`.

    Attributes:
        program: The program.
        leaves: The updates and parameters of the call.
        state: The state of the call.
        count: The number of past updates; None without a state.
        extra: The extra arguments.
        is_due: Whether the update takes place, a traced bool; None means yes.
        active: The operations of each leaf.
        places: Each leaf's index per random operation.
        precisions: The dtypes of each leaf; None for leaves without operations.
        out_dtypes: The same for outputs, with the dtype of rules for exact differences.
        registers: A column per register: a list with a value for each leaf.
        slots: A column per key of a rule's slot.
        new_state: The state to return, filled by the stages.
    """

    def __init__(
        self,
        program: Program,
        leaves: Leaves,
        state: Any,
        count: Any,
        extra: Any,
        is_due: Any,
    ):
        self.program, self.leaves, self.state = program, leaves, state
        self.count, self.extra, self.is_due = count, extra, is_due
        self.new_state: dict[str, Any] = {}
        if count is not None:
            self.new_state["count"] = _next_count(count, is_due, program.period)
        self.slots = self._open_state()
        self.registers: dict[int, list[Any]] = {0: leaves.updates}
        self.active = active_of(program, leaves.reference, leaves.treedef)
        self.places = places_of(program, leaves.reference, leaves.treedef)
        self._checked: dict[Any, LeafDTypes] = {}
        self._due: dict[Active, Any] = {}
        self.precisions = [self._precision(i) for i in range(len(leaves.updates))]
        self.out_dtypes = (
            self._out_dtypes() if program.may_be_exact else self.precisions
        )

    def _open_state(self) -> dict[str, list[Any]]:
        """The slots of rules, leaf by leaf."""
        ops = list(zip(self.program.ops, self.program.keys, strict=True))
        check_keys(self.program, self.state, self.program.foreign_keys)
        trees = {
            keys[name]: self.state[keys[name]]
            for op, keys in ops
            if isinstance(op.node, Rule)
            for name in op.slots
        }
        if not self.leaves.has_params:
            others = (x for key, x in self.state.items() if key not in trees)
            parts = (part for x in others for part in trees_in(x))
            self.leaves.admit_none(trees.values(), parts)
        return {
            key: self.leaves.flatten(tree, f"slot {key!r}")
            for key, tree in trees.items()
        }

    def _precision(self, i: int) -> LeafDTypes | None:
        """The precision of leaf i; None without operations."""
        u, p = self.leaves.updates[i], self.leaves.params[i]
        if u is None or not any(self.active[i]) or self._freezes(i):
            return None
        dtypes = u.dtype, None if p is None else p.dtype
        # Equal kinds of leaves are checked once; per-example leaves each.
        alike = *dtypes, self.active[i]
        is_plain = p is not None and p.shape == u.shape
        if is_plain and alike in self._checked and not self.program.takes_batch:
            return self._checked[alike]
        if is_float0(u):
            return None
        check_leaf(self.leaves, i, self._ops_of(i))
        return self._checked.setdefault(alike, leaf_dtypes_of(*dtypes))

    def _out_dtypes(self) -> list[LeafDTypes | None]:
        leaves = self.leaves
        exact = exact_leaves(
            self.program, leaves.reference, leaves.treedef, self.active
        )
        return [
            it._replace(out=it.compute) if it and is_on else it
            for it, is_on in zip(self.precisions, exact, strict=True)
        ]

    def _freezes(self, i: int) -> bool:
        """Whether leaf i gets no step, if that does not depend on numbers."""
        return self.program.may_freeze and is_frozen(self.program, self.active[i])

    def _ops_of(self, i: int) -> list[Op]:
        """The operations of leaf i."""
        pairs = zip(self.program.ops, self.active[i], strict=True)
        return [op for op, is_active in pairs if is_active]

    def _takes_batch(self, i: int) -> bool:
        return any(op.node.takes_batch for op in self._ops_of(i))

    def _is_due(self, active: Active) -> Any:
        """Whether a leaf's update is returned, by the factors; false for a gradient."""
        if not self.program.freezing or None not in active:
            return self.is_due
        if active not in self._due:
            due = self.is_due
            is_left = is_left_out(self.program, active)
            if is_left is not False:
                stays = jnp.logical_not(is_left)
                due = stays if due is None else jnp.logical_and(due, stays)
            self._due[active] = due
        return self._due[active]

    def results(self) -> Any:
        """The returned updates: skipped leaves unchanged, zeros for float0."""
        outs = []
        for i, (u, p) in enumerate(
            zip(self.leaves.updates, self.leaves.params, strict=True)
        ):
            precision = self.out_dtypes[i]
            if u is None:
                outs.append(None)
                continue
            if is_float0(u) or self._freezes(i):
                outs.append(jnp.zeros_like(u if p is None else p))
                continue
            is_due = self._is_due(self.active[i])
            if precision is None:
                outs.append(zero_unless(is_due, u))
                continue
            out = self.registers[self.program.out][i]
            if out.shape != u.shape and not self._takes_batch(i):
                raise ValueError(
                    f"{self.program.name}: at {self.leaves.path(i)!r} the update of "
                    f"shape {u.shape} became one of shape {out.shape}"
                )
            out = cast(precision.out, out) if precision.is_float else out
            outs.append(zero_unless(is_due, out))
        return self.leaves.as_given(outs)


_next_count = jax.jit(next_count, inline=True)


def cast(dtype: Any, x: Any) -> Any:
    """Cast an array to a dtype; the same array if it has that dtype."""
    return x if x.dtype == dtype else x.astype(dtype)
