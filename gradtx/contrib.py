"""The names of `optax.contrib`: ours if defined, otherwise forwarded to optax."""

from typing import Any as _Any

import optax as _optax

from gradtx.core.fallback import own_or as _own_or


def __getattr__(name: str) -> _Any:
    return _own_or(_optax.contrib, name)


def __dir__() -> list[str]:
    return dir(_optax.contrib)
