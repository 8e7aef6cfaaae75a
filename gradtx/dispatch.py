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
from gradtx.rule import current_path

BUCKET = 8
"""Leaves that one call updates: more would compile longer at the first un-jitted call,
fewer would cost more calls."""

Job = tuple[Kernel, LeafInput, Callable[[], str]]
"""A kernel, what its leaf gets, and where the leaf is."""


def run_jobs(common: Common, jobs: Sequence[Job]) -> list[Any]:
    """Run each kernel on its leaf."""
    shared = shared_of(common)
    placed = []
    for kernel, leaf, path in jobs:
        token = current_path.set(path)
        try:
            placed.append(kernel.place(shared, leaf))
        finally:
            current_path.reset(token)
    parts = [mine for mine, _ in placed]
    scalars = {hoist: hoist(*shared.leaves) for hoist in _hoists(parts)}
    outs: list[Any] = [None] * len(jobs)
    for chosen in _buckets(parts, [leaf.registers[0] for _, leaf, _ in jobs]):
        kinds = tuple([parts[i] for i in chosen])
        given = [scalars[hoist] for hoist in _hoists(kinds)]
        results = _bucket(kinds)(given, [placed[i][1] for i in chosen])
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


def _hoists(kinds: Sequence[Parts]) -> list[Callable[..., Any]]:
    return list(dict.fromkeys(kind.hoist for kind in kinds))


@functools.lru_cache(maxsize=256)
def _bucket(kinds: tuple[Parts, ...]) -> Callable[[list[Any], list[Any]], list[Any]]:
    order = {hoist: i for i, hoist in enumerate(_hoists(kinds))}

    def bucket(scalars: list[Any], leaves: list[Any]) -> list[Any]:
        pairs = zip(kinds, leaves, strict=True)
        return [kind.run(*scalars[order[kind.hoist]], *leaf) for kind, leaf in pairs]

    return jax.jit(bucket) if len(kinds) > 1 else bucket
