"""Dispatch: kernels run on their leaves, one by one under a trace, else in buckets.

Un-jitted, a call for each leaf is quick at first and slow later, one call for the whole
tree the reverse; buckets of leaves lie between.
"""

from __future__ import annotations

import contextvars
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.core import Tracer

from gradtx.kernel import Common, LeafInput
from gradtx.rule import current_path

BUCKET = 8
"""Leaves that one un-jitted call updates: more would compile longer at the first call,
fewer would cost more calls."""

Job = tuple[Callable[..., Any], LeafInput, Callable[[], str]]
"""A kernel, what its leaf gets, and where the leaf is."""


def run_jobs(common: Common, jobs: Sequence[Job]) -> list[Any]:
    """Run each kernel on its leaf: under a trace one by one, else in jitted buckets."""
    leaves = [leaf for _, leaf, _ in jobs]
    # The first leaf speaks for all: a bucket of traced ones is not wrong, only larger.
    if any(isinstance(x, Tracer) for x in jax.tree.leaves((common, leaves[:1]))):
        return [_run_job(common, *job) for job in jobs]
    results: list[Any] = [None] * len(jobs)
    for chosen in _buckets(jobs):
        token = _bucket_paths.set([jobs[i][2] for i in chosen])
        try:
            bucket = _bucket(tuple(jobs[i][0] for i in chosen))
            outs = bucket(common, [leaves[i] for i in chosen])
        finally:
            _bucket_paths.reset(token)
        for i, out in zip(chosen, outs, strict=True):
            results[i] = out
    return results


def _run_job(common: Common, kernel: Any, leaf: LeafInput, path: Any) -> Any:
    token = current_path.set(path)
    try:
        return kernel(common, leaf)
    finally:
        current_path.reset(token)


_bucket_paths: contextvars.ContextVar[list] = contextvars.ContextVar("bucket_paths")


def _buckets(jobs: Sequence[Job]) -> Iterator[tuple[int, ...]]:
    """Indices of the jobs of each bucket, all on the same devices.

    First those full of leaves alike, which one compilation serves, then of the rest.
    """
    likeness = [
        (_devices(leaf.registers[0].sharding), id(kernel), leaf.registers[0].shape)
        for kernel, leaf, _ in jobs
    ]
    order = sorted(range(len(jobs)), key=likeness.__getitem__)
    for _, on_devices in itertools.groupby(order, key=lambda i: likeness[i][0]):
        rest: list[int] = []
        for _, alike in itertools.groupby(on_devices, key=likeness.__getitem__):
            for bucket in _cut([*alike]):
                if len(bucket) == BUCKET:
                    yield bucket
                else:
                    rest += bucket
        yield from _cut(rest)


def _cut(jobs: list[int]) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(jobs), BUCKET):
        yield tuple(jobs[start : start + BUCKET])


@functools.lru_cache(maxsize=1024)
def _devices(sharding: Any) -> tuple[int, ...]:
    return tuple(sorted(device.id for device in sharding.device_set))


@functools.lru_cache(maxsize=256)
def _bucket(kernels: tuple[Callable, ...]) -> Callable:
    @jax.jit
    def bucket(common: Common, leaves: list[LeafInput]):
        jobs = zip(kernels, leaves, _bucket_paths.get(), strict=True)
        return [_run_job(common, *job) for job in jobs]

    return bucket
