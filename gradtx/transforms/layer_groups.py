"""Parameter groups by the depth of the layer."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import optax

from gradtx.core.errors import MOST, first_few, short_repr
from gradtx.core.paths import REGEX, Pattern, names_of
from gradtx.core.stable import stable
from gradtx.transforms.grouping import groups


def layer_decay(
    make: Callable[[float], optax.GradientTransformation],
    params: Any,
    rate: float = 0.8,
    *,
    layers: str | Callable[[str], int],
    first: str | None = None,
    last: str | None = None,
) -> Any:
    """Layer-wise learning-rate decay: layer i of n gets `make(rate ** (n - i))`.

    Clark et al. 2020: https://arxiv.org/abs/2003.10555. Returns `groups`.

    Args:
        make: Function from a multiplier to the transformation of a layer.
        params: The parameters, or their shapes.
        rate: Factor per layer, in (0, 1].
        layers: Pattern of layers, with `*` for their number: "**/layers/*",
            "stages/*/blocks/*". Or a function from a parameter's name to i, at least 0.
        first: Pattern of the modules of layer 0, such as embeddings.
        last: Pattern of the modules of layer n, such as final norm and head.

    Raises:
        ValueError: A parameter has no pattern or two; a pattern has no parameter.

    Examples:
        >>> params = dict.fromkeys(("embed", "block_0", "block_1", "head"), jnp.ones(2))
        >>> tx = gradtx.layer_decay(lambda scale: gradtx.sgd(0.8 * scale), params, 0.5,
        ...     layers="block_*", first="embed", last="head")
        >>> float(gradtx.hyperparams(tx, tx.init(params))["embed/**.learning_rate"])
        0.1
    """
    if not 0 < rate <= 1:
        raise ValueError(f"layer_decay: rate must be in (0, 1], got {rate!r}")
    names = names_of(params)
    if not isinstance(layers, str):
        if not callable(layers) or first is not None or last is not None:
            raise TypeError(
                "layer_decay: layers must be a pattern, or a function without first "
                f"and last, got {short_repr(layers)}"
            )
        return _by_number(make, rate, {name: layers(name) for name in names})
    patterns = [
        *([] if first is None else [_with_all_below(first)]),
        *_patterns_of_layers(layers, names),
        *([] if last is None else [_with_all_below(last)]),
    ]
    _check(patterns, names)
    n = len(patterns) - 1
    return groups({text: make(rate ** (n - i)) for i, text in enumerate(patterns)})


def _by_number(make: Any, rate: float, numbers: dict[str, Any]) -> Any:
    """Groups of parameters by the number of their layer."""
    for name, i in numbers.items():
        if not isinstance(i, int) or i < 0:
            raise ValueError(
                f"layer_decay: layers must give an int of at least 0, got {i!r} for "
                f"{name!r}"
            )
    n = max(numbers.values(), default=0)
    labels = {name: f"layer_{i}" for name, i in numbers.items()}
    return groups(
        {f"layer_{i}": make(rate ** (n - i)) for i in sorted({*numbers.values()})},
        functools.partial(_label_of, labels),
    )


@stable
def _label_of(labels: dict[str, str], name: str, leaf: Any) -> str | None:
    return labels.get(name)


def _with_all_below(pattern: str) -> str:
    """The pattern of all parameters in the modules of a pattern."""
    if pattern.startswith(REGEX):
        return pattern
    return "|".join(f"{glob}/**" for glob in _globs(pattern))


def _globs(pattern: str) -> list[str]:
    """The globs of a pattern, without the suffix that includes submodules."""
    globs = (glob.strip().strip("/") for glob in pattern.split("|"))
    return [glob.removesuffix("/**") for glob in globs]


def _patterns_of_layers(layers: str, names: Sequence[str]) -> list[str]:
    """The pattern of each layer's parameters, in order."""
    found: dict[tuple[int, ...], dict[str, None]] = {}
    for glob in _globs(layers):
        tokens = re.split(r"(\*\*/|\*+)", glob)
        if "*" not in tokens or {*glob} & {*"?["} or layers.startswith(REGEX):
            raise ValueError(
                "layer_decay: layers must be names, `**` for any modules, and `*` for "
                f"the number of a layer, got {layers!r}"
            )
        known = {"**/": "(?:[^/]+/)*?", "*": r"(\d+)"}
        regex = re.compile("".join(known.get(it, re.escape(it)) for it in tokens) + "/")
        for match in filter(None, (regex.match(f"{name}/") for name in names)):
            given = iter(match.groups())
            one = "".join(next(given) if it == "*" else it for it in tokens)
            found.setdefault(tuple(map(int, match.groups())), {})[f"{one}/**"] = None
    if not found:
        raise ValueError(
            f"layer_decay: the pattern {layers!r} matches none of {first_few(names)}; "
            "`*` stands for the number of a layer"
        )
    return ["|".join(found[number]) for number in sorted(found)]


def _check(patterns: Sequence[str], names: Sequence[str]) -> None:
    """Raise unless each name matches one pattern and each pattern matches a name."""
    compiled = [(text, Pattern(text)) for text in patterns]
    matching = {
        name: [text for text, it in compiled if it.rank(name) is not None]
        for name in names
    }
    used = {text for texts in matching.values() for text in texts}
    for text in patterns:
        if text not in used:
            raise ValueError(
                f"layer_decay: the pattern {text!r} matches none of {first_few(names)}"
            )
    if missing := [name for name, texts in matching.items() if not texts]:
        raise ValueError(
            f"layer_decay: no pattern matches {first_few(missing)}; `first` and `last` "
            "take what is before and behind the layers"
        )
    torn = [
        f"{name!r} by {' and '.join(map(repr, texts))}"
        for name, texts in matching.items()
        if len(texts) > 1
    ]
    if torn:
        raise ValueError(f"layer_decay: two patterns match {'; '.join(torn[:MOST])}")
