"""Dispatch: kernels run on their leaves, in buckets.

Un-jitted, a call for each leaf is quick at first and slow later, one call for the whole
tree the reverse; buckets of leaves lie between. Under a trace one is one equation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.core import Tracer

from gradtx.hoist import Kernel, Parts, shared_of
from gradtx.kernel import Common, LeafInput

BUCKET = 8
"""Leaves that one call updates: more would compile longer at the first un-jitted call,
fewer would cost more calls."""

Job = tuple[Kernel, LeafInput, Callable[[], str]]
"""A kernel, what its leaf gets, and where the leaf is."""


def run_jobs(common: Common, jobs: Sequence[Job]) -> list[Any]:
    """Run each kernel on its leaf."""
    if jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
        return [kernel.run(common, leaf, path) for kernel, leaf, path in jobs]
    shared = shared_of(common)
    placed = [kernel.place(shared, leaf, path) for kernel, leaf, path in jobs]
    parts = [mine for mine, _ in placed]
    distinct = dict.fromkeys([mine.hoist for mine in parts])
    scalars = {hoist: hoist(*shared.leaves) for hoist in distinct}
    outs: list[Any] = [None] * len(jobs)
    for chosen in _buckets(parts, [leaf.registers[0] for _, leaf, _ in jobs]):
        if len(chosen) == 1:
            mine, arrays = placed[chosen[0]]
            results = [mine.run(*scalars[mine.hoist], *arrays)]
        else:
            bucket, hoists = _bucket(tuple([parts[i] for i in chosen]))
            given = [scalars[hoist] for hoist in hoists]
            results = bucket(given, [placed[i][1] for i in chosen])
        for i, result in zip(chosen, results, strict=True):
            outs[i] = parts[i].out.unflatten(result)
    return outs


def _buckets(parts: list[Parts], arrays: list[Any]) -> Iterator[tuple[int, ...]]:
    """Indices of the leaves of each bucket, all on the same devices.

    First those full of leaves alike, which are traced and compiled once for all. The
    rest is put together only where nothing is traced: a trace has them one by one.
    """
    groups: dict[Any, dict[Parts, list[int]]] = {}
    for i, (mine, array) in enumerate(zip(parts, arrays, strict=True)):
        devices = None if isinstance(array, Tracer) else _devices(array.sharding)
        groups.setdefault(devices, {}).setdefault(mine, []).append(i)
    for devices, alike in groups.items():
        rest: list[int] = []
        for indices in alike.values():
            number = len(indices) // BUCKET * BUCKET
            yield from _cut(indices[:number], BUCKET)
            rest += indices[number:]
        yield from _cut(rest, 1 if devices is None else BUCKET)


def _cut(indices: list[int], size: int) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(indices), size):
        yield tuple(indices[start : start + size])


@functools.lru_cache(maxsize=1024)
def _devices(sharding: Any) -> tuple[int, ...]:
    return tuple(sorted(device.id for device in sharding.device_set))


@functools.lru_cache(maxsize=256)
def _bucket(kinds: tuple[Parts, ...]) -> tuple[Callable[..., Any], list[Any]]:
    """The jitted update of some leaves, and the hoists whose scalars it takes."""
    hoists = list(dict.fromkeys(kind.hoist for kind in kinds))
    order = {hoist: i for i, hoist in enumerate(hoists)}

    @jax.jit
    def bucket(scalars: list[Any], leaves: list[Any]) -> list[Any]:
        pairs = zip(kinds, leaves, strict=True)
        return [kind.run(*scalars[order[kind.hoist]], *leaf) for kind, leaf in pairs]

    return bucket, hoists
