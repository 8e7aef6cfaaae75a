"""Connectives: chains, scopes, sums, pinned names, masks."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

from gradtx.roles import Member, Scalar
from gradtx.rule import Chain, Fork, Leaf, Named
from gradtx.transform import transformation


@transformation
def chain(*transforms: Member):
    """Apply transformations one after the other, each to what the one before gives.

    As optax's `chain`, number for number, over our own and foreign transformations.
    Chains flatten: nested or not they compute the same and keep the same state, a flat
    dict with one `count`. A foreign member keeps its state whole under its name.

    Raises:
        TypeError: A member is no gradient transformation.
        ValueError: At `init`: two pinned names clash.
    """
    return Chain(transforms)


@transformation
def moments(*transforms: Member):
    """A chain whose members all see the update that entered it, as `leaf.grad`.

    So momentum flows while a second moment measures the raw gradient: chained in a
    scope, momentum and RMSProp are Adam. The scope ends with the parenthesis; a nested
    `moments` opens its own.
    """
    return Chain(transforms, is_scope=True)


@transformation
def identity():
    """Change nothing, keep nothing: the chain of no members."""
    return Chain(())


@transformation
def add(*branches: Member, weights: Sequence[Scalar] | None = None):
    """The weighted sum of what several chains make of the same update.

    Args:
        branches: One or more transformations.
        weights: One number a branch, of any sign; all 1 if None.

    Raises:
        ValueError: There is no branch, or not one weight a branch.
    """
    if not branches or (weights is not None and len(weights) != len(branches)):
        given = "no" if weights is None else len(weights)
        raise ValueError(
            f"add: needs at least one branch and one weight a branch, "
            f"got {len(branches)} branches and {given} weights"
        )

    def join(u: Any, outputs: tuple[Any, ...], leaf: Leaf) -> Any:
        if weights is not None:
            outputs = tuple(map(operator.mul, weights, outputs))
        return functools.reduce(operator.add, outputs)

    return Fork(branches, join)


@transformation
def named(key: str, transform: Member):
    """Pin the names of a transformation's slots: `mu` is kept as `<key>.mu`.

    So two of a kind keep their own state however the chain around them is edited.
    """
    return Named(key, transform)
