"""`State`: a dict of slots that can also be read like states of optax."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jax
from jax import export

from gradtx.core.errors import did_you_mean, first_few


class State(dict[Any, Any]):
    """The state of a transformation: a dict whose keys are attributes too.

    Programs written for optax can read it: `state.mu` is `state["mu"]`, and `state[1]`
    is the state itself, since the state of a chain is flat and has the slots of each
    member. Methods of dicts remain methods. Write by key, or make a copy: `state |
    {"mu": mu}`, `state._replace(mu=mu)`.

    `init` returns a `State`. `update` returns the type that it gets: for a plain dict,
    as from a serializer, a plain dict. For JAX these are two types of pytree.

    Raises:
        AttributeError, KeyError: Unknown key.

    Examples:
        >>> state = gradtx.adam(0.1).init(jnp.zeros(2))
        >>> print(state["mu"], state.mu, state[0].mu)
        [0. 0.] [0. 0.] [0. 0.]
        >>> halfway = state | {"count": jnp.int32(500)}
        >>> print(halfway["count"], sorted(halfway))
        500 ['count', 'mu', 'nu']
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name.startswith("__"):  # names of protocols, which are read often
            raise AttributeError(name)
        raise AttributeError(self._without(name), name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"write state[{name!r}] = ..., or state._replace(...)")

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, int):  # an index, read-only as in a tuple
            raise TypeError("write state[name] = ..., or state._replace(name=...)")
        super().__setitem__(key, value)

    def __missing__(self, key: Any) -> Any:
        if isinstance(key, int) and not isinstance(key, bool):
            return self
        raise KeyError(self._without(key))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *filter(str.isidentifier, self)]

    def __or__(self, other: Any) -> Any:
        return State({**self, **other}) if isinstance(other, dict) else NotImplemented

    def copy(self) -> State:
        """A copy."""
        return State(self)

    def _replace(self, **changes: Any) -> State:
        """A copy with some values changed, as in states of optax."""
        if unknown := sorted(changes.keys() - self.keys()):
            raise ValueError(self._without(unknown[0]))
        return State({**self, **changes})

    def _asdict(self) -> dict[str, Any]:
        """A plain dict, with plain dicts for nested states."""

        def plain(x: Any) -> Any:
            return x._asdict() if isinstance(x, State) else x

        return {
            key: jax.tree.map(plain, value, is_leaf=lambda x: isinstance(x, State))
            for key, value in self.items()
        }

    def _without(self, key: Any) -> str:
        """The message for an unknown key."""
        near = sorted(own for own in self if key in own.split("."))
        if near:  # a slot that several members keep
            own = " or ".join(f"state[{key!r}]" for key in near)
            return f"the state has no {key!r}; write {own}"
        hint = did_you_mean(key, self) if isinstance(key, str) else ""
        return f"the state has no {key!r}; it holds {first_few(sorted(self))}{hint}"


def typed_as(given: Any, state: dict[str, Any]) -> dict[str, Any]:
    """A state with the type of another one, as loops require."""
    return State(state) if isinstance(given, State) else state


def _keys(state: State) -> tuple[str, ...]:
    """The keys in the order of the leaves, which is that of a dict."""
    return tuple(sorted(state))


def _flatten(state: State) -> tuple[list[Any], tuple[str, ...]]:
    keys = _keys(state)
    return [state[key] for key in keys], keys


def _flatten_with_keys(state: State) -> tuple[list[Any], tuple[str, ...]]:
    keys = _keys(state)
    return [(jax.tree_util.DictKey(key), state[key]) for key in keys], keys


def _unflatten(keys: Sequence[str], values: Any) -> State:
    return State(zip(keys, values, strict=True))


jax.tree_util.register_pytree_with_keys(State, _flatten_with_keys, _unflatten, _flatten)


export.register_pytree_node_serialization(
    State,
    serialized_name="gradtx.State",
    serialize_auxdata=lambda keys: json.dumps(keys).encode(),
    deserialize_auxdata=lambda data: tuple(json.loads(data)),
)
