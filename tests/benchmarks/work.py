"""What is measured: trees of parameters, and pipelines of both libraries."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

import gradtx
from tests.registry import loss
from tests.settings import OPTAX, PLAIN

Shapes = list[tuple[int, ...]]

EVERY = 4
"""How many gradients are accumulated."""


def layers(n: int) -> Shapes:
    """Layers of 7 leaves, 590,080 parameters each."""
    square = (256, 256)
    layer: Shapes = [square, square, square, square, (256, 640), (640, 256), (256,)]
    return layer * n


def resnet50() -> Shapes:
    """A ResNet-50 of 1000 classes: 161 leaves, 25.6M parameters."""
    shapes: Shapes = [(7, 7, 3, 64), (64,), (64,)]
    given = 64
    for blocks, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            for kernel in ((1, 1, given, width), (3, 3, width, width)):
                shapes += [kernel, (width,), (width,)]
            shapes += [(1, 1, width, 4 * width), (4 * width,), (4 * width,)]
            if block == 0:  # the shortcut
                shapes += [(1, 1, given, 4 * width), (4 * width,), (4 * width,)]
            given = 4 * width
    return [*shapes, (2048, 1000), (1000,)]


def gpt(layers: int = 12, width: int = 768, words: int = 50257) -> Shapes:
    """A GPT-2, its head tied: by default 148 leaves, 124M parameters."""
    d = width
    block: Shapes = [
        (d,), (d,), (d, 3 * d), (3 * d,), (d, d), (d,),
        (d,), (d,), (d, 4 * d), (4 * d,), (4 * d, d), (d,),
    ]  # fmt: skip
    return [(words, d), (1024, d), *block * layers, (d,), (d,)]


TREES: dict[str, Callable[[], Shapes]] = {
    "one leaf of 100M": lambda: [(100_000_000,)],
    "24 layers": lambda: layers(24),
    "96 layers": lambda: layers(96),
    "1000 leaves of 1024": lambda: [(1024,)] * 1000,
    "ResNet-50": resnet50,
    "GPT, 12 layers": gpt,
}


def structs(shapes: Shapes, dtype: Any = jnp.float32) -> list[jax.ShapeDtypeStruct]:
    """Parameters to compile for: nothing is computed."""
    return [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]


def arrays(shapes: Shapes, dtype: Any = jnp.float32) -> list[jax.Array]:
    """Random parameters: a million numbers, again and again."""
    numbers = np.random.default_rng(0).standard_normal(2**20, np.float32)
    return [jnp.asarray(np.resize(numbers, s), dtype) for s in shapes]


def number_of_parameters(shapes: Shapes) -> int:
    """The sum of their sizes."""
    return sum(map(math.prod, shapes))


def rate_of(library: Any) -> Any:
    """The schedule of the clipped pipeline."""
    return library.warmup_cosine_decay_schedule(1e-4, 1e-3, 10, 1000)


def _clipped(library: Any) -> Any:
    clip = library.clip_by_global_norm(1.0)
    return library.chain(clip, library.adamw(rate_of(library)))


def _labels(params: Any) -> Any:
    leaves, treedef = jax.tree.flatten(params)
    return treedef.unflatten(["abc"[i % 3] for i in range(len(leaves))])


def _partition(library: Any) -> Any:
    return library.partition(
        {"a": library.adamw(1e-3), "b": library.sgd(0.1, 0.9), "c": library.lion(1e-4)},
        _labels,
    )


def _accumulate(library: Any) -> Any:
    if library is gradtx:
        return gradtx.accumulate(gradtx.adamw(1e-3), EVERY)
    return optax.MultiSteps(optax.adamw(1e-3), EVERY).gradient_transformation()


def _skip(library: Any) -> Any:
    if library is gradtx:
        return gradtx.skip(gradtx.adamw(1e-3))
    return optax.apply_if_finite(optax.adamw(1e-3), 4)


PIPELINES: dict[str, Callable[[Any], Any]] = {
    "sgd, momentum": lambda m: m.sgd(0.1, momentum=0.9),
    "adam": lambda m: m.adam(1e-3),
    "adamw": lambda m: m.adamw(1e-3),
    "clip + adamw": _clipped,
    "lion": lambda m: m.lion(1e-4),
    "adafactor": lambda m: m.adafactor(1e-3),
    "partition": _partition,
    "accumulate": _accumulate,
    "skip": _skip,
    "adamw, bf16 moment": lambda m: m.adamw(1e-3, mu_dtype=jnp.bfloat16),
}

BF16 = "adamw, bf16 parameters"
LATER: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "muon": ("muon", lambda m: m.muon(0.02)),
    "shampoo": ("shampoo", lambda m: m.shampoo(1e-3)),
    "soap": ("soap", lambda m: m.soap(1e-3)),
    "adamw, int8 state": ("stored", lambda m: m.stored(m.adamw(1e-3), "int8")),
}
"""Pipelines that wait for a name of gradtx: the name, and how it is made then."""
ON_ACCELERATORS = {
    BF16: PIPELINES["adamw"],
    **{k: make for k, (name, make) in LATER.items() if name in vars(gradtx)},
}
"""Those that only `accelerator` measures."""


def dtype_of(pipeline: str) -> Any:
    """The dtype of its parameters and gradients."""
    return jnp.bfloat16 if pipeline == BF16 else jnp.float32


LIBRARIES: dict[str, Any] = {"gradtx": gradtx, "optax": optax}


def make(name: str, library: str) -> optax.GradientTransformationExtraArgs:
    """A pipeline, or an optimizer of `tests.settings`, of a library."""
    pipelines = PIPELINES | ON_ACCELERATORS
    if name in pipelines:
        tx = pipelines[name](LIBRARIES[library])
    else:
        tx = PLAIN[name](gradtx if library == "gradtx" else OPTAX)
    return optax.with_extra_args_support(tx)


def step_of(name: str, library: str) -> Any:
    """The donated step of a training loop: the update, and its application."""
    tx, apply = make(name, library), LIBRARIES[library].apply_updates

    def step(params: Any, state: Any, grads: Any) -> Any:
        about = {"value": 1.0, "grad": grads, "value_fn": loss, "obj_fn": loss}
        extra = about if name in PLAIN else {}
        updates, state = tx.update(grads, state, params, **extra)
        return apply(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))
