"""`memory`: the bytes of a state, slot by slot."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from gradtx.compiler.foreign import pair_of
from gradtx.compiler.init import shapes_of
from gradtx.compiler.leaves import is_state, no_array
from gradtx.core.call import FactoryValue
from gradtx.core.paths import names_of
from gradtx.introspect.shown import escape


class Memory(NamedTuple):
    """Memory of a transformation, in bytes.

    Attributes:
        slots: Bytes of each slot by key; inside a wrapper `inner/mu`.
        total: Bytes of the whole state.
        temporary: Bytes of the compiled update besides its inputs and outputs; None
            unless `compiled`.
    """

    slots: dict[str, int]
    total: int
    temporary: int | None = None


def memory(tx: Any, params: Any, *, compiled: bool = False, **extra: Any) -> Memory:
    """Compute the memory of a transformation's state, without allocating it.

    Args:
        tx: A transformation, ours or foreign.
        params: Parameters, or their shapes.
        compiled: Whether to compile the update too, for its temporary memory. The state
            is donated, as in a training step.
        extra: Extra arguments of the update, or their shapes; functions as themselves.

    Examples:
        >>> params = jax.ShapeDtypeStruct((1000,), "bfloat16")
        >>> gradtx.memory(gradtx.adam(0.1), params)
        Memory(slots={'count': 4, 'mu': 4000, 'nu': 4000}, total=8004, temporary=None)
    """
    tx = pair_of("memory", tx)
    shapes = shapes_given("memory", params)
    init, is_ours = tx.init, isinstance(tx, FactoryValue)
    state: Any = init(shapes) if is_ours else jax.eval_shape(init, shapes)
    slots = dict(_slots(state)) if is_state(state) else {"state": _bytes(state)}
    temporary = None
    if compiled:
        functions = {name: x for name, x in extra.items() if callable(x)}
        arrays = {name: x for name, x in extra.items() if name not in functions}
        update = functools.partial(tx.update, **functions)
        lowered = jax.jit(update, donate_argnums=(0, 1)).lower(
            shapes, state, shapes, **arrays
        )
        program: Any = lowered.compile()
        temporary = program.memory_analysis().temp_size_in_bytes
    return Memory(slots, sum(slots.values()), temporary)


def _slots(state: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, int]]:
    """The bytes of each slot, including slots of nested states."""
    for key, part in state.items():
        if is_state(part):
            yield from _slots(part, f"{at}{key}/")
        else:
            yield at + key, _bytes(part)


def shapes_given(owner: str, params: Any) -> Any:
    """The shapes of parameters; raise for a leaf that is not an array."""
    try:
        return shapes_of(params)
    except TypeError:
        for name, x in zip(names_of(params), jax.tree.leaves(params), strict=True):
            try:
                shapes_of(x)
            except TypeError:
                raise no_array(owner, name, x) from None
        raise


def _bytes(tree: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def cost(leaves: Any) -> str:
    """The number, dtypes, shapes and bytes of arrays, as text."""
    if not leaves:
        return ""
    dtypes = " ".join(sorted({x.dtype.name for x in leaves}))
    shapes = sorted({x.shape for x in leaves}, key=lambda s: (-math.prod(s), s))
    few = ", ".join(str([*shape]) for shape in shapes[:3])
    more = ", ..." if len(shapes) > 3 else ""
    what = f"{dtypes} {few}{more}".replace(" []", "")
    number = f"{len(leaves)} of " if len(leaves) > 1 else ""
    return escape(f"  {number}{what}, {size(_bytes(leaves))}")


def size(number: float) -> str:
    """A number of bytes as text: `1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
