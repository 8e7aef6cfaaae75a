"""Transformations of some of the parameters: by mask, by label, by name."""

from __future__ import annotations

import operator
from collections.abc import Hashable, Mapping
from typing import Any

import jax
import optax

from gradtx.checks import mask_tree
from gradtx.combine import chain, named, only
from gradtx.roles import Member
from gradtx.rule import Masked
from gradtx.scale import set_to_zero
from gradtx.transform import transformation


@transformation
def masked(inner: Member, mask: Any, *, mask_compatible_extra_args: bool = False):
    """Apply a transformation where a mask is true; others pass, and keep nothing.

    As optax, but for its trap: there `masked(adam(0.1), mask)` gives the other leaves
    their gradient as their update, which `apply_updates` adds. Here such a leaf, on
    which nothing in the whole transformation scales the gradient, gets zeros. (That is
    not seen of foreign members: `masked(optax.adam(0.1), mask)` is as in optax.)

    Args:
        inner: The transformation.
        mask: A tree of bools with the structure of the parameters or a prefix of it, or
            a function from the parameters to one.
        mask_compatible_extra_args: Whether foreign members get extra arguments that
            are trees like the parameters with None where the mask is false.

    Raises:
        ValueError, TypeError: At `init`: the mask does not fit, or holds no bools.
    """
    return Masked(inner, mask, mask_compatible_extra_args, freezes=True)


@transformation
def partition(
    transforms: Mapping[Hashable, Member],
    param_labels: Any,
    *,
    mask_compatible_extra_args: bool = False,
):
    """Apply to each parameter the transformation of its label. As optax.

    Args:
        transforms: For each label a transformation. What it keeps is named after the
            label: `state["decoder.mu"]`, with None for the parameters of others.
        param_labels: A tree of labels with the structure of the parameters or a prefix
            of it, or a function from the parameters to one.
        mask_compatible_extra_args: As of `masked`.

    Raises:
        ValueError: At `init`: a label has no transformation.
    """

    def mask(label: Hashable) -> Any:
        def is_labelled(params: Any) -> Any:
            labels = param_labels(params) if callable(param_labels) else param_labels
            _check_labels(labels, transforms)
            return jax.tree.map(lambda it: it == label, labels)

        return is_labelled

    return chain(
        *(
            named(str(label), _split(tx, mask(label), mask_compatible_extra_args))
            for label, tx in transforms.items()
        )
    )


@transformation
def _split(inner: Member, mask: Any, splits_extra: bool):
    """As `only`, and maybe with extra arguments that are masked, too."""
    return Masked(inner, mask, splits_extra)


def _check_labels(labels: Any, transforms: Mapping[Hashable, Any]) -> None:
    for path, label in jax.tree_util.tree_leaves_with_path(labels):
        if label not in transforms:
            place = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(
                f"partition: param_labels must be among "
                f"{sorted(map(str, transforms))}, got {label!r} at {place!r}"
            )


@transformation
def multi_transform(
    transforms: Mapping[Hashable, Member],
    param_labels: Any,
    *,
    mask_compatible_extra_args: bool = False,
):
    """The same as `partition`, which is its newer name."""
    return partition(
        transforms, param_labels, mask_compatible_extra_args=mask_compatible_extra_args
    )


@transformation
def freeze(mask: Any):
    """Give zeros as updates where a mask is true; others pass. As optax.

    Args:
        mask: As of `only`.
    """
    return only(set_to_zero(), mask)


@transformation
def selective_transform(optimizer: Member, *, freeze_mask: Any):
    """Apply an optimizer where a mask is false; the others are frozen, keep nothing.

    As optax.

    Args:
        optimizer: The transformation of the others.
        freeze_mask: As of `only`.
    """

    def is_trained(params: Any) -> Any:
        return jax.tree.map(operator.not_, mask_tree(freeze_mask, params))

    return chain(only(optimizer, is_trained), freeze(freeze_mask))


@transformation
def named_chain(*args: Any):
    """A chain of named members: `named_chain(("clip", clip(1.0)), ("sgd", sgd(0.1)))`.

    As optax; the slots of a member are kept under its name: `state["adam.mu"]`.

    Args:
        args: Pairs of a name and a transformation.

    Raises:
        ValueError: A member is no such pair, or two have one name.
    """
    for pair in args:
        if not (
            isinstance(pair, tuple | list)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and isinstance(pair[1], optax.GradientTransformation)
        ):
            raise ValueError(
                f"named_chain: takes pairs of a name and a transformation, got {pair!r}"
            )
    names = [name for name, _ in args]
    if len({*names}) < len(names):
        raise ValueError(f"named_chain: names must differ, got {names}")
    return chain(*(named(name, tx) for name, tx in args))
