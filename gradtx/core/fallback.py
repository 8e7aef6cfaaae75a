"""Forwarding of other names and submodules to optax."""

from __future__ import annotations

import pkgutil
import sys
from types import ModuleType
from typing import Any

import optax


def own_or(module: Any, name: str) -> Any:
    """The definition of a name in gradtx, otherwise in a module of optax."""
    own = vars(sys.modules["gradtx"])
    if name in own and not isinstance(own[name], ModuleType):
        return own[name]
    try:
        return getattr(module, name)
    except AttributeError:
        message = f"neither gradtx nor {module.__name__} has {name!r}"
        raise AttributeError(message) from None


def register_submodules() -> None:
    """Make `import gradtx.losses` work: forward other submodules to optax.

    `sys.modules` has each under both names, so that it is one module, and its
    definitions pickle under optax's name.
    """
    own = {it.name for it in pkgutil.iter_modules(sys.modules["gradtx"].__path__)}
    for name, module in list(vars(optax).items()):
        is_theirs = isinstance(module, ModuleType) and not name.startswith("_")
        if is_theirs and module.__name__ == f"optax.{name}" and name not in own:
            sys.modules.setdefault(f"gradtx.{name}", module)
