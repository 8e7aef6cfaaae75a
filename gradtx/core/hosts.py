"""Hosts: all that gradtx knows of the libraries that call it."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from typing import Any

from gradtx.core.state import State

HOST_ARGUMENTS = (
    "params", "value", "grad", "value_fn", "grad_fn", "obj_fn", "loss", "loss_fn",
    "grad_norm",
)  # fmt: skip
"""Extra arguments that hosts and libraries pass to `update`."""


def is_variable(x: Any) -> bool:
    """Whether this is a variable of flax.nnx.

    It is a node of the tree, with one child, its value. `nnx.Optimizer` shows them to
    `init`, and their values alone to `update`: the names must be the same.
    """
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(x, nnx.Variable)


def is_norm(x: Any) -> bool:
    """Whether this is a normalization of equinox, whose own fields are scale and bias.

    Its scale is called `weight`, as the matrix of a linear layer is.
    """
    return _is_layer(x, "LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm", "WeightNorm")


def is_embedding(x: Any) -> bool:
    """Whether this is an embedding of equinox, whose table is its `weight`."""
    return _is_layer(x, "Embedding")


def _is_layer(x: Any, *names: str) -> bool:
    """Whether this is a layer of equinox of one of these classes."""
    nn = sys.modules.get("equinox.nn")
    return nn is not None and isinstance(x, tuple(getattr(nn, it, ()) for it in names))


def without_variable(name: str) -> str:
    """A saved path, less the field in which a variable of flax holds its value."""
    return name.removesuffix("/value")


def _register_with_flax(serialization: Any) -> None:
    """Tell flax.serialization of states: it takes them as it takes dicts."""

    def to(state: State) -> dict[str, Any]:
        return serialization.to_state_dict({**state})

    def back(state: State, saved: dict[str, Any]) -> State:
        return State(serialization.from_state_dict({**state}, saved))

    serialization.register_serialization_state(State, to, back, override=True)


class _WhenImported(importlib.abc.MetaPathFinder):
    """Waits for the import of flax.serialization, which has no entry points for types.

    To import it here would take seconds, and whoever needs it imports it.
    """

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != "flax.serialization":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_register(module: Any) -> None:
                run(module)
                _register_with_flax(module)

            spec.loader.exec_module = run_and_register
        return spec


if "flax.serialization" in sys.modules:
    _register_with_flax(sys.modules["flax.serialization"])
else:
    sys.meta_path.insert(0, _WhenImported())
