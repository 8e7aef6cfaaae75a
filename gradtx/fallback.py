"""Names that are not ours are optax's."""

from __future__ import annotations

import sys
from typing import Any


def own_or(module: Any, name: str) -> Any:
    """The definition of a name by gradtx, or else by a module of optax."""
    own = vars(sys.modules["gradtx"])
    return own[name] if name in own else getattr(module, name)
