"""One call of `update`, stage by stage; leaves without a gradient are skipped."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.checks import check_keys, check_leaf, missing_slots
from gradtx.compiler.conditions import run_if
from gradtx.compiler.counts import next_count
from gradtx.compiler.dispatch import run_jobs, total
from gradtx.compiler.hoist import Job
from gradtx.compiler.init import first_slots, is_nothing, keep_tree, measured_nothing
from gradtx.compiler.kernels import (
    LeafInput,
    LeafOutput,
    check_slots,
    keep_if,
    like_before,
    measure_kernel,
    select,
    update_kernel,
    zero_unless,
)
from gradtx.compiler.leaves import Leaves, is_float0, trees_in
from gradtx.compiler.masks import active_of, exact_leaves, places_of
from gradtx.compiler.plan import Broadcast, Plan, numbers_of, plan_of
from gradtx.compiler.program import Active, Op, Program, Stage
from gradtx.compiler.scopes import error_scope
from gradtx.compiler.steps import is_frozen, is_left_out
from gradtx.core.context import SettleContext, Tree
from gradtx.core.dtypes import LeafDTypes, leaf_dtypes_of
from gradtx.core.rule import Rule, TreeRule, both


class Update:
    """One call of `update` on its way through the stages.

    Registers and slots are columns: lists with a value for each leaf.
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
        self.fine: dict[Any, LeafDTypes] = {}
        self.due: dict[Active, Any] = {}
        self.precisions = [self._precision(i) for i in range(len(leaves.updates))]
        self.leaving = self._leaving() if program.may_be_exact else self.precisions

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
        """The precision of leaf i; None where nothing computes on it."""
        u, p = self.leaves.updates[i], self.leaves.params[i]
        if u is None or not any(self.active[i]) or self._freezes(i):
            return None
        dtypes = u.dtype, None if p is None else p.dtype
        # Leaves alike that go through the same are checked once; examples, each.
        alike = *dtypes, self.active[i]
        is_plain = p is not None and p.shape == u.shape
        if is_plain and alike in self.fine and not self.program.takes_batch:
            return self.fine[alike]
        if is_float0(u):
            return None
        check_leaf(self.leaves, i, self._ops_of(i))
        return self.fine.setdefault(alike, leaf_dtypes_of(*dtypes))

    def _leaving(self) -> list[LeafDTypes | None]:
        """The precisions, where exact differences leave in that of their rule."""
        leaves = self.leaves
        exact = exact_leaves(
            self.program, leaves.reference, leaves.treedef, self.active
        )
        return [
            it._replace(out=it.compute) if it and is_on else it
            for it, is_on in zip(self.precisions, exact, strict=True)
        ]

    def _freezes(self, i: int) -> bool:
        """Whether leaf i gets no step, as far as no number decides."""
        return self.program.may_freeze and is_frozen(self.program, self.active[i])

    def _ops_of(self, i: int) -> list[Op]:
        """The operations that leaf i goes through."""
        pairs = zip(self.program.ops, self.active[i], strict=True)
        return [op for op, is_active in pairs if is_active]

    def _takes_batch(self, i: int) -> bool:
        return any(op.node.takes_batch for op in self._ops_of(i))

    def kernel_stage(self, stage: Stage) -> None:
        """Run the rules of a stage on every leaf that they select."""
        ops, keys = self.program.ops, self.program.keys
        plan = self._plan(stage)
        numbers, arrays = numbers_of(plan, ops)
        running = [
            i
            for i, precision in enumerate(self.precisions)
            if precision is not None and any([self.active[i][k] for k in stage.ops])
        ]
        extra = {need: self.extra[need] for k in stage.ops for need in ops[k].needs}
        before = {
            k: {name: jnp.asarray(self.state[keys[k][name]]) for name in ops[k].shared}
            for k in stage.ops
            if ops[k].shared
        }
        common = Broadcast(
            numbers, arrays, self.count, {}, before, before, extra, self.is_due
        )
        totals = self._measure(stage, plan, common, running)
        shared = {k: self._settle(k, totals.get(k), before[k]) for k in before}
        common = common._replace(totals=totals, shared=shared)
        make, out = update_kernel, self.program.out
        made = run_jobs(common, self._jobs(make, plan, stage, running, out))
        for k in stage.ops:  # as they are, where nothing runs
            self.registers[ops[k].out] = [*self.registers[ops[k].inputs[0]]]
        acting = {self.active[i] for i in running}
        columns = {on: self._written(stage, on) for on in acting}
        for i, values in zip(running, made, strict=True):
            for column, value in zip(columns[self.active[i]], values, strict=True):
                column[i] = value
        for k in stage.ops:
            for name in ops[k].slots:
                key = keys[k][name]
                self.new_state[key] = self.leaves.treedef.unflatten(self.slots[key])

    def _plan(self, stage: Stage) -> Plan:
        memo = self.program.memo
        if id(stage) not in memo:
            memo[id(stage)] = plan_of(stage, self.program.ops)
        return memo[id(stage)]

    def _jobs(
        self,
        make: Callable,
        plan: Any,
        stage: Stage,
        running: Sequence[int],
        *rest: Any,
    ) -> list[Job]:
        """What each leaf has to do in a stage."""
        memo, jobs = self.program.memo, []
        acting = {self.active[i] for i in running}
        read = {on: self._read(stage, on) for on in acting}
        for i in running:
            active, precision = self.active[i], self.leaving[i]
            place = (make, id(plan), active, precision)
            if place not in memo:
                chosen = tuple(active[k] for k in stage.ops)
                memo[place] = make(plan, chosen, precision, *rest)
            columns, treedef = read[active]
            arrays = [column[i] for column in columns]
            if any([x is None for x in arrays]):
                self._check_slots(i)
            path = functools.partial(self.leaves.path, i)
            jobs.append(Job(memo[place], treedef, arrays, path))
        return jobs

    def _read(self, stage: Stage, active: Active) -> tuple[list[Any], Any]:
        """The columns that leaves read which go through some operations."""
        columns = LeafInput(
            tuple([self.registers[r] for r in stage.reads]),
            self._slots_of(stage, active),
            self.leaves.params if self.leaves.has_params else None,
            {k: self.places[k] for k in stage.ops if k in self.places},
        )
        return jax.tree.flatten(columns, is_leaf=_is_column)

    def _written(self, stage: Stage, active: Active) -> list[Any]:
        """The columns that they write."""
        registers = tuple([self.registers[r] for r in stage.writes])
        columns = LeafOutput(registers, self._slots_of(stage, active))
        return jax.tree.leaves(columns, is_leaf=_is_column)

    def _slots_of(self, stage: Stage, active: Active) -> dict[int, dict[str, Any]]:
        ops, keys = self.program.ops, self.program.keys
        return {
            k: {name: self.slots[keys[k][name]] for name in ops[k].slots}
            for k in stage.ops
            if active[k]
        }

    def _check_slots(self, i: int) -> None:
        """Where a slot has nothing, that must be what its rule wants there."""
        array = self.leaves.updates[i]
        memo, place = self.program.memo, ("first", self.active[i], array.shape)
        if place not in memo:
            like = jax.ShapeDtypeStruct(array.shape, jnp.float32)
            first = functools.partial(first_slots, self.program, self.active[i])
            memo[place] = jax.eval_shape(first, like)
        for key, first in memo[place].items():
            if first is not None and self.slots[key][i] is None:
                raise ValueError(
                    f"{self.program.name}: slot {key!r} has nothing at "
                    f"{self.leaves.path(i)!r}, since init saw no float there"
                )

    def _measure(self, stage: Stage, plan: Any, common: Broadcast, running: Any) -> Any:
        """What the operations of a stage measure, summed over the leaves."""
        if not any(self.program.ops[k].measures for k in stage.ops):
            return {}
        jobs = self._jobs(measure_kernel, plan, stage, running)
        return total(run_jobs(common, jobs))

    def _settle(self, k: int, total: Any, before: dict[str, Any]) -> dict[str, Any]:
        """The whole-tree values for this update, which are kept for the next."""
        op = self.program.ops[k]
        keys = self.program.keys[k]
        own = {name: before[name] for name in op.node.shared}
        if op.has_key:
            following = jax.random.fold_in(before["key"], 0)
            self.new_state[keys["key"]] = select(self.is_due, following, before["key"])
        if op.node.settle is not None:
            if total is None and op.measures:
                total = measured_nothing(op)
            extra = {need: self.extra[need] for need in op.needs}
            with error_scope(op.name):
                step = SettleContext(self.count, extra)
                settled = op.node.settle(total, own, step)
                _, settled = keep_if(self.is_due, None, settled, own)
                own = like_before(settled, own, op.name)
        for name, value in own.items():
            self.new_state[keys[name]] = value
        return own

    def tree_stage(self, k: int) -> None:
        """Run one rule that needs the whole tree."""
        op, keys, leaves = self.program.ops[k], self.program.keys[k], self.leaves
        rule = op.node
        assert isinstance(rule, TreeRule)
        active = [
            bool(on[k]) and precision is not None
            for on, precision in zip(self.active, self.precisions, strict=True)
        ]

        def only(values: list[Any]) -> Any:
            chosen = zip(values, active, strict=True)
            return leaves.treedef.unflatten([x if on else None for x, on in chosen])

        def one(x: Any, precision: LeafDTypes | None) -> Any:
            if precision is None or not precision.is_float:
                return x
            # Foreign ones get the dtypes that they would get in a chain of optax.
            return _to(precision.out if op.bound is None else precision.compute, x)

        def read(register: int) -> Any:
            return only([*map(one, self.registers[register], self.precisions)])

        params = only(leaves.params) if leaves.has_params else None
        updates = read(op.inputs[0])
        grad = read(dict(op.marks).get("grad", op.inputs[0]))
        slots = {}
        for name, first in op.slots.items():
            key = keys[name]
            if key not in self.state:
                slots[name] = first(params if leaves.has_params else updates)
                if not is_nothing(slots[name]):
                    raise missing_slots(self.program, [key], self.state)
            else:
                slots[name] = self.state[key]
        own = whole = None
        if leaves.has_params:
            mine = zip(leaves.params, self.active, strict=True)
            own = leaves.treedef.unflatten([p if on[k] else None for p, on in mine])
            whole = leaves.treedef.unflatten(leaves.params)
        extra = self.extra
        if op.splits_extra:
            extra = {name: leaves.split(tree, active) for name, tree in extra.items()}
        is_skipped, is_due = False, self.is_due
        if rule.waits and is_due is not None:
            is_skipped, is_due = ~is_due, None
        tree = Tree(params, own, whole, grad, self.count, extra, is_skipped)

        def run(updates: Any, slots: Any) -> tuple[Any, Any]:
            return both(rule.update(updates, slots, tree), op.name)

        with error_scope(op.name):
            updates, slots = run_if(is_due, run, updates, slots)
        if op.bound is not None:
            check_slots(op.name, slots, op.slots)
        for name, slot in slots.items():
            keep_tree(self.new_state, op, keys[name], slot)
        outs = leaves.flatten(updates, f"what {op.name} returns")
        triples = zip(active, outs, self.registers[op.inputs[0]], strict=True)
        self.registers[op.out] = [new if on else old for on, new, old in triples]

    def _is_due(self, active: Active) -> Any:
        """Whether a leaf's update leaves: not its gradient as one, by the factors."""
        if not self.program.freezing or None not in active:
            return self.is_due
        if active not in self.due:
            due = self.is_due
            is_left = is_left_out(self.program, active)
            if is_left is not False:
                stays = jnp.logical_not(is_left)
                due = stays if due is None else jnp.logical_and(due, stays)
            self.due[active] = due
        return self.due[active]

    def results(self) -> Any:
        """The updates that leave: a skipped leaf as it came, float0 as zeros."""
        outs = []
        for i, (u, p) in enumerate(
            zip(self.leaves.updates, self.leaves.params, strict=True)
        ):
            precision = self.leaving[i]
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
            out = _to(precision.out, out) if precision.is_float else out
            outs.append(zero_unless(is_due, out))
        return self.leaves.as_given(outs)


def _is_column(x: Any) -> bool:
    return isinstance(x, list)


_next_count = jax.jit(next_count, inline=True)


def _to(dtype: Any, x: Any) -> Any:
    return x if x.dtype == dtype else x.astype(dtype)
