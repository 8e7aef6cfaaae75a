"""The type `GradientTransformation` and the decorator `@transformation`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, Self

import optax

from gradtx.compiler.init import init
from gradtx.compiler.replace import replaced
from gradtx.compiler.update import update
from gradtx.core.call import FactoryCall, FactoryValue
from gradtx.core.factory import register_pytree, remember
from gradtx.core.nodes import Chain
from gradtx.core.state import State

P = ParamSpec("P")


class _OfEither(type):
    """Metaclass: transformations of optax are instances of our class too.

    After changing an import, programs still check `isinstance(tx,
    optax.GradientTransformation)`, and may use both libraries. Only a metaclass can
    include classes of others. Use `type(tx) is` to identify our own.
    """

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, optax.GradientTransformation)


class GradientTransformation(
    FactoryValue, optax.GradientTransformationExtraArgs, metaclass=_OfEither
):
    """A pure pair `(init, update)` that remembers its factory and arguments.

    It is a transformation of optax, and unpacks like one. It is also a pytree whose
    leaves are its numbers: pass it through `jax.jit`, stack it for `jax.vmap`,
    differentiate with respect to it. Equal transformations are `==` and have equal
    hashes.

    Attributes:
        init: `init(params) -> state`, a flat `State`: `count`, and a tree per slot.
        update: `update(updates, state, params=None, **extra) -> (updates, state)`.
        arguments: The arguments of the factory, by name.
        name: The name of the factory.

    Examples:
        >>> tx = gradtx.sgd(0.5, momentum=0.9)
        >>> updates, state = tx.update(jnp.array([1.0, -2.0]), tx.init(jnp.zeros(2)))
        >>> print(updates, tx.arguments["momentum"])
        [-0.5  1. ] 0.9
        >>> tx.replace(momentum=0.5) == gradtx.sgd(0.5, momentum=0.5)
        True
    """

    init: Callable[[Any], State]  # pyright: ignore[reportIncompatibleVariableOverride]
    update: Callable[..., tuple[Any, Any]]  # pyright: ignore[reportIncompatibleVariableOverride]
    bound: FactoryCall

    def __new__(cls, *given: Any, **named: Any) -> Any:
        """Make the pair from a factory call; users call factories instead.

        Two functions, `init` and `update`, make a transformation of optax.
        """
        if named or len(given) == 2:
            return optax.GradientTransformation(*given, **named)
        if len(given) != 1 or not isinstance(given[0], FactoryCall):
            raise TypeError(
                "GradientTransformation: expected an init and an update function, "
                f"got {len(given)} arguments"
            )
        (bound,) = given
        pair: Any = (functools.partial(it, bound) for it in (init, update))
        self = super().__new__(cls, *pair)
        self.bound = bound
        return self

    def replace(self, **changes: Any) -> Self:
        """Copy the transformation with some arguments, or numbers inside it, changed.

        `tx.replace(learning_rate=0.1)`. Numbers inside a chain, a wrapper or a group
        have the names of `gradtx.hyperparams`, or longer ones:
        `tx.replace(**{"adamw.learning_rate": 3e-4})`. Own arguments take precedence.

        Args:
            changes: Values by name, checked as in a new call; for a number also a
                schedule. In a jitted step another number does not recompile.

        Raises:
            TypeError: An unknown argument or number.
            ValueError: Several numbers have the name, or a value is out of range.
        """
        return replaced(self, changes)

    def expand(self, step: int | None = None) -> GradientTransformation:
        """Expand recipes down to primitives, with the same numerical results.

        Args:
            step: If given, schedules are replaced by their values there, from 0.

        Raises:
            TypeError: A recipe computes with a scheduled number, and `step` is None.
        """
        bound = self.bound if step is None else self.bound.at(step)
        try:
            node = bound.call()
        except (TypeError, AttributeError) as error:
            if not bound.is_scheduled:
                raise
            message = (
                f"{self.name}: the recipe computes with a schedule; expand(step=...)"
            )
            raise TypeError(message) from error
        if type(node) is GradientTransformation:
            return node.expand(step)
        members = [
            child.expand(step) if type(child) is GradientTransformation else child
            for child in bound.children
        ]
        if isinstance(node, Chain) and node.members:
            return bound.factory.make([_flat(members)])
        return GradientTransformation(FactoryCall(bound.spec, tuple(members)))


def _flat(members: list[Any]) -> tuple[Any, ...]:
    """Members, with plain chains replaced by their members."""
    flat: list[Any] = []
    for member in members:
        node = member.bound.call() if isinstance(member, FactoryValue) else member
        if isinstance(node, Chain) and not node.is_scope:
            flat += node.members
        else:
            flat.append(member)
    return tuple(flat)


register_pytree(GradientTransformation)


def transformation(factory: Callable[P, Any]) -> Callable[P, GradientTransformation]:
    """Decorate a factory, so that it makes a `GradientTransformation`.

    The body returns another transformation (a recipe), or a `Rule` (a primitive). It
    must be pure, since it runs often: at the call, for its errors; when the result is
    lowered, with schedules evaluated; and in the trace of each kernel, where numbers
    are tracers and members are placeholders that it can only pass on. So it may branch
    on other arguments only. Annotations (`Scalar`, `NonNegative`, `Decay`, ...) declare
    numbers, which take schedules and become traced leaves.

    Args:
        factory: The function; its name is that of the transformation.

    Raises:
        TypeError, ValueError: At the call of the factory: an unexpected argument, or a
            number of a wrong type or out of the range of its annotation.

    Examples:
        >>> @gradtx.transformation
        ... def root_of_size(power: gradtx.Positive = 0.5):
        ...     return gradtx.memoryless(lambda u, leaf: jnp.abs(u) ** power)
        >>> tx = gradtx.chain(root_of_size(), gradtx.scale_by_learning_rate(0.5))
        >>> print(tx.update(jnp.array([4.0, -16.0]), tx.init(jnp.zeros(2)))[0])
        [-1. -2.]
        >>> root_of_size(-1.0)
        Traceback (most recent call last):
            ...
        ValueError: root_of_size: power must be positive, got -1.0
    """
    return remember(factory, GradientTransformation)
