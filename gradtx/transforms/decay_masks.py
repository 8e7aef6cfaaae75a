"""Masks for weight decay, by the names of parameters."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import optax

from gradtx.core.errors import first_few
from gradtx.core.hosts import is_embedding, is_norm
from gradtx.core.paths import Pattern, names_of

BIASES_AND_NORMS = (
    "**/*bias*|**/b|**/scale|**/offset|**/gamma|**/beta|**/negative_slope|"
    "**/*[nN]orm*/weight|**/ln/weight|**/ln_*/weight|**/ln[0-9]*/weight"
)
EMBEDDINGS = "**/*embedding*|**/*embedding*/weight|**/*_embed|**/cls_token"


def decay_mask(
    params: Any = None, *, exempt: str | Sequence[str] = (), embeddings: bool = False
) -> Any:
    """The usual mask for weight decay, by name: all parameters but biases and norms.

    It exempts `*bias*`, `b`, `scale`, `offset`, `gamma`, `beta`, `negative_slope`, and
    `weight` of `*norm*`, `*Norm*`, `ln`, `ln_*`, `ln1` and of the norms of equinox.

    Args:
        params: A tree. If None, the result is a mask function with these arguments.
        exempt: More patterns of names, as in `groups`.
        embeddings: Whether to exempt `*embedding*`, `*_embed`, `cls_token` too.

    Raises:
        ValueError: No parameter is exempt, or a pattern of `exempt` matches none.

    Examples:
        >>> params = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
        >>> gradtx.decay_mask(params)
        {'dense': {'bias': False, 'kernel': True}}
        >>> tx = gradtx.adamw(1e-3, mask=gradtx.decay_mask)
        >>> tx = gradtx.adamw(1e-3, mask=gradtx.decay_mask(exempt="**/lora_*"))
    """
    more = (exempt,) if isinstance(exempt, str) else tuple(exempt)
    if params is None:
        return functools.partial(decay_mask, exempt=more, embeddings=embeddings)
    leaves, treedef = jax.tree.flatten(params, is_leaf=_is_absent)
    # optax hides whole subtrees, and with them names that patterns would match.
    is_whole = not any(isinstance(leaf, optax.MaskedNode) for leaf in leaves)
    flags = _decaying(treedef, more, embeddings, is_whole)
    pairs = zip(leaves, flags, strict=True)
    shown = [flag for leaf, flag in pairs if not _is_absent(leaf)]
    return jax.tree.structure(params).unflatten(shown)


def _is_absent(x: Any) -> bool:
    """Whether a leaf is hidden, as those of other groups are; patterns may match it."""
    return x is None or isinstance(x, optax.MaskedNode)


@functools.lru_cache(maxsize=256)
def _decaying(
    treedef: Any, exempt: tuple[str, ...], embeddings: bool, is_whole: bool
) -> list[bool]:
    """Per leaf, whether it decays. In a whole tree each pattern must match a name."""
    tree = treedef.unflatten(range(treedef.num_leaves))
    names = names_of(tree)
    usual = [BIASES_AND_NORMS, EMBEDDINGS] if embeddings else [BIASES_AND_NORMS]
    patterns = [*usual, *exempt]
    found = [
        {i for i, name in enumerate(names) if it.rank(name) is not None}
        for it in map(Pattern, patterns)
    ]
    for text, matching in zip(patterns, found, strict=True):
        if is_whole and text in exempt and not matching:
            raise ValueError(
                f"decay_mask: exempt: the pattern {text!r} matches none of "
                f"{first_few(names)}"
            )
    exempted = set().union(*found, _fields(tree, is_norm))
    if embeddings:
        exempted |= _fields(tree, is_embedding)
    if is_whole and names and not exempted:
        raise ValueError(
            f"decay_mask: found neither biases nor norms among {first_few(names)}; "
            "name them by `exempt`, or leave out the mask"
        )
    return [i not in exempted for i in range(len(names))]


def _fields(tree: Any, is_layer: Any) -> set[int]:
    """Numbers of the leaves that are fields of a certain kind of layer."""
    layers = filter(is_layer, jax.tree.leaves(tree, is_leaf=is_layer))
    pairs = (pair for it in layers for pair in jax.tree.leaves_with_path(it))
    return {i for path, i in pairs if len(path) == 1}
