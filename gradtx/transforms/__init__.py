"""Building blocks; the other names of `optax.transforms` are optax's.

Among them the parts that only recipes use (`magnitude`, `at_least`, `at_first`, ...),
which `gradtx` finds too, but does not list.
"""

# ruff: noqa: F403
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

import optax as _optax

from gradtx.core.fallback import own_or as _own_or
from gradtx.core.stable import public_parts as _public_parts

if _TYPE_CHECKING:  # that they find the parts that `gradtx` does not list
    from gradtx.transforms.averages import *
    from gradtx.transforms.bias import *
    from gradtx.transforms.divide import *
    from gradtx.transforms.estimators import *
    from gradtx.transforms.factored import *
    from gradtx.transforms.periodic import *
    from gradtx.transforms.scaling import *


def __getattr__(name: str) -> _Any:
    return _own_or(_optax.transforms, name)


def __dir__() -> list[str]:
    return sorted({*dir(_optax.transforms), *_public_parts()})
