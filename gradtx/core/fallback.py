"""Names that are not ours are optax's, and so are submodules."""

from __future__ import annotations

import pkgutil
import sys
from types import ModuleType
from typing import Any

import optax


def own_or(module: Any, name: str) -> Any:
    """The definition of a name by gradtx, or else by a module of optax."""
    own = vars(sys.modules["gradtx"])
    if name in own and not isinstance(own[name], ModuleType):
        return own[name]
    try:
        return getattr(module, name)
    except AttributeError:
        message = f"neither gradtx nor {module.__name__} has {name!r}"
        raise AttributeError(message) from None


def register_submodules() -> None:
    """Make `import gradtx.losses` work: a submodule that is not ours is optax's.

    `sys.modules` holds each under both names, so that it is one module, and what it
    defines pickles under optax's name.
    """
    own = {it.name for it in pkgutil.iter_modules(sys.modules["gradtx"].__path__)}
    for name, module in list(vars(optax).items()):
        is_theirs = isinstance(module, ModuleType) and not name.startswith("_")
        if is_theirs and module.__name__ == f"optax.{name}" and name not in own:
            sys.modules.setdefault(f"gradtx.{name}", module)
