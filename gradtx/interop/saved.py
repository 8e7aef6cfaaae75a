"""Saved states: their leaves by path, and the weights of averages they determine."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from gradtx.compiler.inventory import follows
from gradtx.compiler.lower import program_of
from gradtx.compiler.program import Program, recovered
from gradtx.core.call import FactoryValue
from gradtx.core.errors import dtype_and_shape
from gradtx.core.hosts import without_variable
from gradtx.core.paths import name_of

ZERO = np.int32(0)


class Paths:
    """The leaves of a state, and their names.

    Attributes:
        leaves: The leaves.
        spellings: Three spellings per leaf: its path, the path joined by slashes, and
            its name. Serializers differ in these.
        spelled: The leaves by spelling, for each of the three.
        names: The names; or paths, where two leaves have the same name.
        counts: The counts of updates, by the prefix of paths in their state.
        numbers: The numbers of `editable`, each with the transformation's value.
    """

    def __init__(self, state: Any):
        pairs = jax.tree_util.tree_leaves_with_path(state)
        self.leaves = [x for _, x in pairs]
        self.spellings = [_spellings(path) for path, _ in pairs]
        self.spelled: list[dict[str, list[int]]] = [{}, {}, {}]
        for i, spellings in enumerate(self.spellings):
            for spelled, spelling in zip(self.spelled, spellings, strict=True):
                spelled.setdefault(spelling, []).append(i)
        self.names = [
            name if len(self.spelled[2][name]) == 1 else path
            for path, _, name in self.spellings
        ]
        self.counts = {
            name.removesuffix("count"): i
            for i, name in enumerate(self.names)
            if f"/{name}".endswith("/count") and _is_integer(self.leaves[i])
        }
        said = (
            re.sub(r"(^|[/.])hyperparams/", r"\1given/", name) for name in self.names
        )
        pairs = enumerate(zip(self.names, said, strict=True))
        places = {name: i for i, name in enumerate(self.names)}
        self.numbers = {
            i: places[twin]
            for i, (name, twin) in pairs
            if twin != name and twin in places
        }

    def unedited(self) -> Iterator[int]:
        """The unchanged numbers, and the transformation's values of all."""
        for written, given in self.numbers.items():
            value, said = self.leaves[written], self.leaves[given]
            if bool(follows(value, said)):
                yield written
            yield given

    def shape(self, i: int) -> tuple[int, ...]:
        """The shape of a leaf."""
        return jnp.shape(self.leaves[i])

    def dtype_and_shape(self, i: int) -> str:
        """The dtype and the shape of a leaf."""
        dtype = jnp.result_type(self.leaves[i])
        return dtype_and_shape(jax.ShapeDtypeStruct(self.shape(i), dtype))


class Weights:
    """Weights of averages, computed from counts; not in states of constant decays.

    Attributes:
        kept: The weights in the state, by index of the leaf.
        values: All weights, by slot.
    """

    def __init__(self, tx: Any, wanted: Paths, found: Paths, pairs: Mapping[int, int]):
        self.kept: dict[int, Any] = {}
        self.values: list[tuple[str, Any]] = []
        places = {name: i for i, name in enumerate(wanted.names)}
        for at, program_at in programs_by_path(tx):
            saved = pairs.get(wanted.counts[at])
            count = jnp.asarray(0 if saved is None else found.leaves[saved])
            for _, slot, key, weight in recovered(program_at(count)):
                value = weight.recovered(count)
                self.values.append((slot, value))
                if key is not None:
                    self.kept[places[f"{at}{key}"]] = value

    def redundant(self, found: Paths, taken: set[int]) -> Iterator[int]:
        """Saved weights that equal those computed from the counts."""
        for j, name in enumerate(found.names):
            if j in taken or found.shape(j):
                continue
            value = found.leaves[j]
            for slot, expected in self.values:
                if name.endswith(slot) and jnp.allclose(value, expected, 1e-5, 1e-6):
                    yield j


def _spellings(path: Any) -> tuple[str, str, str]:
    joined = jax.tree_util.keystr(path, simple=True, separator="/")
    name = without_variable(name_of(path))
    return jax.tree_util.keystr(path), joined, name


def _is_integer(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.integer) and not jnp.shape(x)


def programs_by_path(
    tx: Any, path: tuple[Any, ...] = ()
) -> Iterator[tuple[str, Callable[[Any], Program]]]:
    """The program of each nested state at its count, by the prefix of its paths."""
    program_at = functools.partial(program_of, tx.bound)
    yield f"{name_of(path)}/" if path else "", program_at
    program = program_at(ZERO)
    for op, mine in zip(program.ops, program.keys, strict=True):
        for slot, inner in op.node.inner.items():
            if isinstance(inner, FactoryValue):
                at = jax.tree_util.DictKey(mine[slot])
                yield from programs_by_path(inner, (*path, at))
