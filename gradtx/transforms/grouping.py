"""Transformations of part of the parameters: by pattern, by label, by mask."""

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
    """Apply a transformation where a mask is true; other leaves pass and keep no state.

    As `optax.masked`, except for steps: in optax `masked(adam(0.1), mask)` returns the
    gradient of the other leaves, which `apply_updates` adds. Here these leaves get
    zeros if `inner` makes a step (by a rule in it, or a negative factor) and nothing
    around it scales them. They pass, as in optax, if `inner` is `scale` itself or from
    optax, where a step cannot be recognized.

    Args:
        inner: The transformation.
        mask: A tree of bools with the structure of the parameters or a prefix of it, or
            a function from the parameters to one.
        mask_compatible_extra_args: Whether extra arguments of foreign members that are
            trees like the parameters are masked too, with None where the mask is false.

    Raises:
        ValueError, TypeError: At `init`: the mask does not fit, or is not of bools.

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
    """Parameter groups: apply to each parameter the transformation of its group.

    `groups({"**/bias|**/scale": adamw(1e-3, weight_decay=0), "embed/**": frozen(),
    "**": adamw(1e-3)})`. Leaves are named `encoder/layers/0/kernel`, in any library. Of
    the patterns that match, the most specific wins: regular expressions first, then
    more parts without wildcards, then more parts with some, then `*`.

    Args:
        transforms: By pattern: globs separated by `|` (`*` within a part, `**` across
            parts), or "re:" and a regular expression. Or by label.
        labels: Labels of the parameters: `(name, leaf) -> label`, or a tree of labels
            with the structure of the parameters or a prefix of it.

    Slots of the same name are one tree for all groups, and there is one count: names of
    groups and moves of parameters between them do not change the state's structure.

    Raises:
        ValueError: At `init`: a leaf matches no pattern, or two equally specific ones;
            a pattern matches no leaf; a label has no transformation.

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
    """Freeze parameters: their updates are zeros, and they keep no state.

    For a group of `groups`. No other rule acts on frozen parameters: global norms omit
    their gradients, which may be None or of any dtype. Around the groups, `accumulate`
    stores nothing for them and `skip` does not check them; other wrappers include them.

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
            return labels  # the compiler raises for a wrong structure
        chosen = treedef.flatten_up_to(whole)
    for name, label in zip(names, chosen, strict=True):
        if label not in known:
            raise ValueError(
                f"{argument} must be among {sorted(map(str, known))}, "
                f"got {label!r} at {name!r}"
            )
    return treedef.unflatten(chosen)


def _check_takes(labels: Any, argument: str) -> None:
    """Raise unless a function of labels takes a name and a leaf."""
    try:
        inspect.signature(labels).bind("name", None)
    except TypeError:
        raise TypeError(
            f"{argument} must be a function (name, leaf) -> label, got "
            f"{short_repr(labels)}"
        ) from None
    except ValueError:  # a builtin without a signature
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
        transforms: A transformation per label. The label prefixes its slots:
            `state["decoder.mu"]`, with None for the parameters of other labels.
        param_labels: A tree of labels with the structure of the parameters or a prefix
            of it, or a function from the parameters to one.
        mask_compatible_extra_args: See `masked`.

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
    """The older name of `partition`.

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
    """Freeze the parameters where a mask is true; other updates pass.

    Same arguments, defaults and numbers as `optax.freeze`.

    Args:
        mask: See `only`.

    Examples:
        >>> tx = gradtx.chain(gradtx.sgd(0.5), gradtx.freeze({"w": False, "b": True}))
        >>> params = {"w": jnp.array(1.0), "b": jnp.array(1.0)}
        >>> jax.tree.map(float, tx.update(params, tx.init(params), params)[0])
        {'b': 0.0, 'w': -0.5}
    """
    return only(set_to_zero(), mask)


@transformation
def selective_transform(optimizer: Member, *, freeze_mask: Any):
    """Apply an optimizer where a mask is false; freeze the other parameters.

    Same arguments, defaults and numbers as `optax.selective_transform`.

    Args:
        optimizer: The transformation of the parameters that are not frozen.
        freeze_mask: See `only`.

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

    As `optax.named_chain`; a member's name prefixes its slots: `state["adam.mu"]`.

    Args:
        args: Pairs of a name and a transformation.

    Raises:
        ValueError: A member is not a pair, or two members have the same name.

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
