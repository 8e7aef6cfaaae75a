"""Transformations of some of the parameters: by pattern, by label, by mask."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Hashable, Mapping
from typing import Any

import jax
from jax import numpy as jnp

from gradtx.compiler.masks import is_function, mask_tree
from gradtx.compiler.transformation import transformation
from gradtx.core.annotations import Member
from gradtx.core.docstrings import described_by
from gradtx.core.errors import short_repr
from gradtx.core.members import is_member
from gradtx.core.nodes import Groups, Masked
from gradtx.core.paths import matched, names_of
from gradtx.core.rule import memoryless
from gradtx.core.stable import stable
from gradtx.core.trees import is_none
from gradtx.transforms.combine import chain, named, only
from gradtx.transforms.scaling import set_to_zero


@transformation
def masked(inner: Member, mask: Any, *, mask_compatible_extra_args: bool = False):
    """Apply a transformation where a mask is true; others pass, and keep nothing.

    As optax, but for its trap: there `masked(adam(0.1), mask)` gives the other leaves
    their gradient as their update, which `apply_updates` adds. Here such a leaf gets
    zeros, if `inner` makes a step (a rule in it says so, or it multiplies by a negative
    number) and nothing around it scales the leaf. As in optax they pass where `inner`
    is `scale` itself, or optax's, of which that is not known.

    Args:
        inner: The transformation.
        mask: A tree of bools with the structure of the parameters or a prefix of it, or
            a function from the parameters to one.
        mask_compatible_extra_args: Whether foreign members get extra arguments that
            are trees like the parameters with None where the mask is false.

    Raises:
        ValueError, TypeError: At `init`: the mask does not fit, or holds no bools.

    Examples:
        >>> tx = gradtx.masked(gradtx.sgd(0.5), {"w": True, "b": False})
        >>> params = {"w": jnp.array(1.0), "b": jnp.array(1.0)}
        >>> updates, _ = tx.update(params, tx.init(params), params)
        >>> print(updates["w"], updates["b"])
        -0.5 0.0
    """
    return Masked(inner, mask, mask_compatible_extra_args, freezes=True, hides=True)


@transformation
def groups(transforms: Mapping[str, Member], labels: Any = None):
    """Parameter groups: to each parameter the transformation of its group.

    `groups({"**/bias|**/scale": adamw(1e-3, weight_decay=0), "embed/**": frozen(),
    "**": adamw(1e-3)})`. Leaves are named `encoder/layers/0/kernel`, in any library; of
    the patterns that match, the one that spells out more of the name counts: parts
    without wildcards first, then parts with some, then `*`; regular expressions most.

    Args:
        transforms: By pattern: globs with `|` between them (`*` in a part, `**` over
            parts), or "re:" and a regular expression. Or by label.
        labels: For transformations by label: `(name, leaf) -> label`, or a tree of
            labels with the structure of the parameters or a prefix of it.

    The slots of one name are one tree for all groups, and one count counts: what a
    group is called, and which leaves are in it, changes no state.

    Raises:
        ValueError: At `init`: no pattern matches a leaf, or two of one rank do; a
            pattern matches no leaf; a label has no transformation.

    Examples:
        >>> tx = gradtx.groups({"**/b": gradtx.sgd(1.0), "**": gradtx.sgd(0.5)})
        >>> params = {"embed": {"w": 1.0}, "head": {"w": 1.0, "b": 1.0}}
        >>> params = jax.tree.map(jnp.array, params)
        >>> updates, _ = tx.update(params, tx.init(params), params)
        >>> jax.tree.map(float, updates)
        {'embed': {'w': -0.5}, 'head': {'b': -1.0, 'w': -0.5}}
    """
    _check_members("groups", transforms)
    if not transforms:
        raise ValueError("groups: transforms must hold at least one group")
    if labels is None:
        given = functools.partial(_by_pattern, tuple(transforms))
    else:
        given = functools.partial(
            _by_label, "groups: labels", tuple(transforms), labels
        )
    return Groups(transforms, given)


@transformation
def frozen():
    """Leave parameters as they are: their updates are zeros, and they keep nothing.

    A group of `groups`. No rule of the same transformation acts on these parameters:
    their gradients are in no norm, and may be None, or of any dtype. Around the groups
    `accumulate` keeps nothing for them, and `skip` does not ask whether theirs are
    finite; other wrappers see them.

    Examples:
        >>> tx = gradtx.groups({"base": gradtx.frozen(), "head": gradtx.adam(0.5)})
        >>> params = {"base": jnp.ones(2), "head": jnp.ones(2)}
        >>> state = tx.init(params)
        >>> updates, _ = tx.update(params, state, params)
        >>> print(updates["base"], state["mu"]["base"])
        [0. 0.] None
    """
    return memoryless(lambda u, leaf: jnp.zeros_like(u), freezes=True)


def _check_members(owner: str, transforms: Any) -> None:
    if not isinstance(transforms, Mapping):
        given = short_repr(transforms)
        raise TypeError(f"{owner}: transforms must be a mapping, got {given}")


def _by_pattern(patterns: tuple[str, ...], params: Any) -> Any:
    """The tree of patterns."""
    treedef = jax.tree.structure(params)
    return treedef.unflatten(matched("groups", patterns, treedef))


def _by_label(argument: str, known: tuple[Any, ...], labels: Any, params: Any) -> Any:
    """The tree of labels, each of them known."""
    leaves, treedef = jax.tree.flatten(params)
    names = names_of(params)
    if is_function(labels):
        _check_takes(labels, argument)
        chosen = [labels(*pair) for pair in zip(names, leaves, strict=True)]
    else:
        try:
            whole = jax.tree.broadcast(labels, params, is_leaf=is_none)
        except ValueError:
            return labels  # the engine says how it must be
        chosen = treedef.flatten_up_to(whole)
    for name, label in zip(names, chosen, strict=True):
        if label not in known:
            raise ValueError(
                f"{argument} must be among {sorted(map(str, known))}, "
                f"got {label!r} at {name!r}"
            )
    return treedef.unflatten(chosen)


def _check_takes(labels: Any, argument: str) -> None:
    """A function of labels takes a name and a leaf."""
    try:
        inspect.signature(labels).bind("name", None)
    except TypeError:
        raise TypeError(
            f"{argument} must be a function (name, leaf) -> label, got "
            f"{short_repr(labels)}"
        ) from None
    except ValueError:  # a function of C's, whose arguments nobody knows
        return


@transformation
def partition(
    transforms: Mapping[Hashable, Member],
    param_labels: Any,
    *,
    mask_compatible_extra_args: bool = False,
):
    """Apply to each parameter the transformation of its label.

    Same arguments, defaults and numbers as `optax.partition`.

    Args:
        transforms: For each label a transformation. What it keeps is named after the
            label: `state["decoder.mu"]`, with None for the parameters of others.
        param_labels: A tree of labels with the structure of the parameters or a prefix
            of it, or a function from the parameters to one.
        mask_compatible_extra_args: As of `masked`.

    Raises:
        ValueError: At `init`: a label has no transformation.

    Examples:
        >>> tx = gradtx.partition(
        ...     {"kernel": gradtx.sgd(0.5, momentum=0.9), "other": gradtx.sgd(1.0)},
        ...     {"w": "kernel", "b": "other"})
        >>> state = tx.init({"w": jnp.zeros(2), "b": jnp.zeros(2)})
        >>> print(state["kernel.trace"]["w"], state["kernel.trace"]["b"])
        [0. 0.] None
    """
    _check_members("partition", transforms)

    def labels_of(params: Any) -> Any:
        labels = param_labels(params) if is_function(param_labels) else param_labels
        return _by_label("partition: param_labels", tuple(transforms), labels, params)

    return Groups(
        transforms, labels_of, mask_compatible_extra_args, pins=True, hides=True
    )


@described_by(partition)
@transformation
def multi_transform(
    transforms: Mapping[Hashable, Member],
    param_labels: Any,
    *,
    mask_compatible_extra_args: bool = False,
):
    """The same as `partition`, which is its newer name.

    Examples:
        >>> transforms = {"train": gradtx.sgd(0.5), "keep": gradtx.set_to_zero()}
        >>> tx = gradtx.multi_transform(transforms, {"w": "train", "b": "keep"})
        >>> params = {"w": jnp.array(1.0), "b": jnp.array(1.0)}
        >>> jax.tree.map(float, tx.update(params, tx.init(params), params)[0])
        {'b': 0.0, 'w': -0.5}
    """
    return partition(
        transforms, param_labels, mask_compatible_extra_args=mask_compatible_extra_args
    )


@transformation
def freeze(mask: Any):
    """Give zeros as updates where a mask is true; others pass.

    Same arguments, defaults and numbers as `optax.freeze`.

    Args:
        mask: As of `only`.

    Examples:
        >>> tx = gradtx.chain(gradtx.sgd(0.5), gradtx.freeze({"w": False, "b": True}))
        >>> params = {"w": jnp.array(1.0), "b": jnp.array(1.0)}
        >>> jax.tree.map(float, tx.update(params, tx.init(params), params)[0])
        {'b': 0.0, 'w': -0.5}
    """
    return only(set_to_zero(), mask)


@transformation
def selective_transform(optimizer: Member, *, freeze_mask: Any):
    """Apply an optimizer where a mask is false; the others are frozen, keep nothing.

    Same arguments, defaults and numbers as `optax.selective_transform`.

    Args:
        optimizer: The transformation of the others.
        freeze_mask: As of `only`.

    Examples:
        >>> mask = {"w": False, "b": True}
        >>> tx = gradtx.selective_transform(gradtx.sgd(0.5), freeze_mask=mask)
        >>> params = {"w": jnp.array(1.0), "b": jnp.array(1.0)}
        >>> jax.tree.map(float, tx.update(params, tx.init(params), params)[0])
        {'b': 0.0, 'w': -0.5}
    """
    is_trained = functools.partial(_is_trained, freeze_mask)
    return chain(masked(optimizer, is_trained), freeze(freeze_mask))


@stable
def _is_trained(freeze_mask: Any, params: Any) -> Any:
    return jax.tree.map(operator.not_, mask_tree(freeze_mask, params))


@transformation
def named_chain(*args: Any):
    """A chain of named members: `named_chain(("clip", clip(1.0)), ("sgd", sgd(0.1)))`.

    As optax; the slots of a member are kept under its name: `state["adam.mu"]`.

    Args:
        args: Pairs of a name and a transformation.

    Raises:
        ValueError: A member is no such pair, or two have one name.

    Examples:
        >>> members = ("clip", gradtx.clip(1.0)), ("fit", gradtx.adam(0.1))
        >>> sorted(gradtx.named_chain(*members).init(jnp.zeros(2)))
        ['count', 'fit.mu', 'fit.nu']
    """
    for pair in args:
        if not (
            isinstance(pair, tuple | list)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and is_member(pair[1])
        ):
            raise ValueError(
                f"named_chain: expected pairs of a name and a transformation, "
                f"got {short_repr(pair)}"
            )
    names = [name for name, _ in args]
    if len({*names}) < len(names):
        raise ValueError(f"named_chain: names must differ, got {names}")
    return chain(*(named(name, tx) for name, tx in args))
