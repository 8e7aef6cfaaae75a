"""A stage of rules: run its kernel on every leaf, and store the outputs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.dispatch import run_jobs, total
from gradtx.compiler.hoist import Job
from gradtx.compiler.init import first_slots, measured_nothing
from gradtx.compiler.kernels import (
    LeafInput,
    LeafOutput,
    keep_if,
    like_before,
    measure_kernel,
    select,
    update_kernel,
)
from gradtx.compiler.run import Run
from gradtx.compiler.scopes import error_scope
from gradtx.compiler.stage import Active, Broadcast, Stage, pack
from gradtx.core.context import SettleContext


def run_kernels(run: Run, stage: Stage) -> None:
    """Run the rules of a stage on every leaf that they select."""
    _Kernels(run, stage).run_all()


class _Kernels:
    """One run of a stage on all leaves."""

    def __init__(self, run: Run, stage: Stage):
        self.run, self.stage = run, stage
        self.ops = {op.index: run.program.ops[op.index] for op in stage.ops}
        self.keys = {k: run.program.keys[k] for k in self.ops}
        self.running = [
            i
            for i, precision in enumerate(run.precisions)
            if precision is not None and any([run.active[i][k] for k in self.ops])
        ]
        self.acting = {run.active[i] for i in self.running}

    def run_all(self) -> None:
        run, stage = self.run, self.stage
        numbers, arrays = pack(stage, run.program.ops)
        before = {
            k: {name: jnp.asarray(run.state[self.keys[k][name]]) for name in op.shared}
            for k, op in self.ops.items()
            if op.shared
        }
        broadcast = Broadcast(
            numbers=numbers,
            arrays=arrays,
            count=run.count,
            totals={},
            shared=before,
            before=before,
            extra=self._extra_of(*self.ops),
            is_due=run.is_due,
        )
        totals = self._measure(broadcast)
        shared = {k: self._settle(k, totals.get(k), before[k]) for k in before}
        broadcast = broadcast._replace(totals=totals, shared=shared)
        made = run_jobs(broadcast, self._jobs(update_kernel))
        for op in self.ops.values():  # unchanged for leaves without operations
            run.registers[op.out] = [*run.registers[op.inputs[0]]]
        columns = {active: self._written(active) for active in self.acting}
        for i, values in zip(self.running, made, strict=True):
            for column, value in zip(columns[run.active[i]], values, strict=True):
                column[i] = value
        for k, op in self.ops.items():
            for key in (self.keys[k][name] for name in op.slots):
                run.new_state[key] = run.leaves.treedef.unflatten(run.slots[key])

    def _extra_of(self, *ops: int) -> dict[str, Any]:
        return {need: self.run.extra[need] for k in ops for need in self.ops[k].needs}

    def _jobs(self, make: Callable[..., Any]) -> list[Job]:
        """The jobs of all leaves."""
        run, kernels, jobs = self.run, self.stage.kernels, []
        read = {active: self._read(active) for active in self.acting}
        for i in self.running:
            active, precision = run.active[i], run.out_dtypes[i]
            which = make, active, precision
            if which not in kernels:
                chosen = tuple(active[k] for k in self.ops)
                kernels[which] = make(self.stage, chosen, precision)
            columns, treedef = read[active]
            arrays = [column[i] for column in columns]
            if any([x is None for x in arrays]):
                self._check_slots(i)
            path = functools.partial(run.leaves.path, i)
            jobs.append(Job(kernels[which], treedef, arrays, path))
        return jobs

    def _read(self, active: Active) -> tuple[list[Any], Any]:
        """The columns read by leaves with these operations."""
        run = self.run
        columns = LeafInput(
            tuple([run.registers[r] for r in self.stage.reads]),
            self._slots_of(active),
            run.leaves.params if run.leaves.has_params else None,
            {k: run.places[k] for k in self.ops if k in run.places},
        )
        return jax.tree.flatten(columns, is_leaf=_is_column)

    def _written(self, active: Active) -> list[Any]:
        """The columns written by leaves with these operations."""
        registers = tuple([self.run.registers[r] for r in self.stage.writes])
        columns = LeafOutput(registers, self._slots_of(active))
        return jax.tree.leaves(columns, is_leaf=_is_column)

    def _slots_of(self, active: Active) -> dict[int, dict[str, Any]]:
        return {
            k: {name: self.run.slots[self.keys[k][name]] for name in op.slots}
            for k, op in self.ops.items()
            if active[k]
        }

    def _check_slots(self, i: int) -> None:
        """Raise for a slot of None unless `init` of the rule gives None too."""
        run, program = self.run, self.run.program
        array = run.leaves.updates[i]
        which = run.active[i], array.shape
        if which not in program.first_slots:
            like = jax.ShapeDtypeStruct(array.shape, jnp.float32)
            first = functools.partial(first_slots, program, run.active[i])
            program.first_slots[which] = jax.eval_shape(first, like)
        for key, first in program.first_slots[which].items():
            if first is not None and run.slots[key][i] is None:
                raise ValueError(
                    f"{program.name}: slot {key!r} has nothing at "
                    f"{run.leaves.path(i)!r}, since init saw no float there"
                )

    def _measure(self, broadcast: Broadcast) -> dict[int, Any]:
        """The measurements of the operations, summed over the leaves."""
        if not any(op.measures for op in self.ops.values()):
            return {}
        return total(run_jobs(broadcast, self._jobs(measure_kernel)))

    def _settle(self, k: int, total: Any, before: Mapping[str, Any]) -> dict[str, Any]:
        """The whole-tree values for this update, stored for the next one."""
        run, op, keys = self.run, self.ops[k], self.keys[k]
        own = {name: before[name] for name in op.node.shared}
        if op.has_key:
            following = jax.random.fold_in(before["key"], 0)
            run.new_state[keys["key"]] = select(run.is_due, following, before["key"])
        if op.node.settle is not None:
            if total is None and op.measures:
                total = measured_nothing(op)
            with error_scope(op.name):
                context = SettleContext(run.count, self._extra_of(k))
                settled = op.node.settle(total, own, context)
                _, settled = keep_if(run.is_due, None, settled, own)
                own = like_before(settled, own, op.name)
        for name, value in own.items():
            run.new_state[keys[name]] = value
        return own


def _is_column(x: Any) -> bool:
    return isinstance(x, list)
