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
    """Bytes.

    Attributes:
        slots: Of each slot by its key; within a wrapper `inner/mu`.
        total: Of the whole state.
        temporary: What the compiled update takes beside its inputs and outputs, if that
            was asked for.
    """

    slots: dict[str, int]
    total: int
    temporary: int | None = None


def memory(tx: Any, params: Any, *, compiled: bool = False, **extra: Any) -> Memory:
    """What the state of a transformation takes; nothing is allocated.

    Args:
        tx: A transformation, ours or foreign.
        params: Parameters, or their shapes.
        compiled: Whether to compile the update, too, for its temporary memory. Its
            state is donated, as it should be.
        extra: Extra arguments of the update, or their shapes; functions as they are.

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
    """The bytes of each slot, those of states in the state too."""
    for key, part in state.items():
        if is_state(part):
            yield from _slots(part, f"{at}{key}/")
        else:
            yield at + key, _bytes(part)


def shapes_given(owner: str, params: Any) -> Any:
    """The shapes of parameters; what is no array is an error."""
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
    """How many arrays, of which dtype and shape, and how large."""
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
    """A number of bytes for people: `1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
