"""Hosts: all knowledge about libraries that call gradtx."""

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

    It is a node of the tree with one child, its value. `nnx.Optimizer` passes variables
    to `init`, but their values to `update`: both must have the same names.
    """
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(x, nnx.Variable)


def is_norm(x: Any) -> bool:
    """Whether this is a normalization of equinox, whose fields are scale and bias.

    Its scale is called `weight`, like the matrix of a linear layer.
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
    """A saved path without the field for the value of a flax variable."""
    return name.removesuffix("/value")


def _register_with_flax(serialization: Any) -> None:
    """Register states with flax.serialization, which then treats them as dicts."""

    def to(state: State) -> dict[str, Any]:
        return serialization.to_state_dict({**state})

    def back(state: State, saved: dict[str, Any]) -> State:
        return State(serialization.from_state_dict({**state}, saved))

    serialization.register_serialization_state(State, to, back, override=True)


class _WhenImported(importlib.abc.MetaPathFinder):
    """Hook for the import of flax.serialization, which has no entry points for types.

    Importing it here would take seconds; programs that use it import it themselves.
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
