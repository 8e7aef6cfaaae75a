"""Names that are not ours are optax's."""

from __future__ import annotations

import sys
from typing import Any


def own_or(module: Any, name: str) -> Any:
    """The definition of a name by gradtx, or else by a module of optax."""
    own = vars(sys.modules["gradtx"])
    if name in own:
        return own[name]
    try:
        return getattr(module, name)
    except AttributeError:
        message = f"neither gradtx nor {module.__name__} has {name!r}"
        raise AttributeError(message) from None
