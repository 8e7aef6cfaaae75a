"""Names under which pickles and configs find the definitions of gradtx.

These names do not contain the file, so that files may move.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")

DEFINED: dict[str, Any] = {}
"""Functions and classes of the library by name, public ones and parts of recipes."""


def stable(definition: T) -> T:
    """Declare a function or class as of `gradtx`, the module where pickles find it.

    A decorator for parts of recipes that are not exported; `gradtx/__init__.py` applies
    it to all exports of its own and of `gradtx.transforms`.
    """
    name = definition.__name__  # pyright: ignore[reportAttributeAccessIssue]
    definition.__module__ = "gradtx"
    DEFINED[name] = definition
    return definition


def is_public(name: str) -> bool:
    """Whether the modules of gradtx export a definition under this name."""
    modules = (vars(sys.modules[it]) for it in ("gradtx", "gradtx.transforms"))
    return any(module.get(name) is DEFINED.get(name, ...) for module in modules)


OLD_MODULES = """
    accumulation adam apollo averages binding clip combine curvature diagnostics
    distance divide estimate factored grouping injection iterates layouts lbfgs
    linesearch mixtures modifiers monitoring noise normalized numbers online past_norms
    plateau rule scale sharpness skipping step_size subspace wrap zoom
    optimizers.adam optimizers.adaptive optimizers.low_rank optimizers.mixtures
    optimizers.momentum optimizers.online optimizers.parameter_free optimizers.recent
    optimizers.schedule_free optimizers.second_order
    schedules.composed schedules.counts schedules.decays schedules.warmups
"""
"""The modules named in pickles of versions up to 0.6.0."""
OLD_NAMES = {"_factory_of": "factory_of"}


class _OldFactory:
    """The function that pickles of versions up to 0.6.0 call."""

    @staticmethod
    def make(factory: Any, values: list[Any]) -> Any:
        return factory.make(values)


def register_old_modules() -> None:
    """Let pickles of versions up to 0.6.0 find definitions in their old files."""

    def find(name: str) -> Any:
        if name == "Factory":
            return _OldFactory
        try:
            return DEFINED[OLD_NAMES.get(name, name)]
        except KeyError:
            raise AttributeError(f"gradtx has no {name!r} any more") from None

    for name in OLD_MODULES.split():
        full = f"gradtx.{name}"
        module = sys.modules.setdefault(full, ModuleType(full))
        vars(module).setdefault("__getattr__", find)
