"""Gradients without derivatives, from values of a function around the parameters.

Every estimator draws directions d with uncorrelated coordinates of mean square 1,
evaluates the function at pairs of opposite points, `params + c d` and `params - c d`,
and sums the directions, weighted by the values at their pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

import jax
from jax import lax
from jax import numpy as jnp

from gradtx.compiler.leaves import floats
from gradtx.core.annotations import Fixed, Positive, Size
from gradtx.core.arithmetic import safe_ratio
from gradtx.core.call import FactoryCall, FactoryValue
from gradtx.core.docstrings import described_by
from gradtx.core.dtypes import default_float, wide
from gradtx.core.errors import short_repr
from gradtx.core.factory import register_pytree, remember
from gradtx.core.prng import is_key
from gradtx.core.stable import stable

P = ParamSpec("P")


class Pairs(NamedTuple):
    """The draw of directions, and their weights from the values at both points.

    Attributes:
        perturbation: c, the root mean square of a parameter's perturbation.
        directions: Number of directions.
        at_once: Number of directions evaluated at once; all if None.
        draw: `(key, params) -> direction`, a tree like params.
        weigh: `(ahead, behind) -> weights`, each of shape [directions].
    """

    perturbation: Any
    directions: int
    at_once: int | None
    draw: Callable[[Any, Any], Any]
    weigh: Callable[[Any, Any], Any]


class Estimator(FactoryValue):
    """An estimator of gradients; a value and a pytree, as transformations are."""

    def __init__(self, bound: FactoryCall):
        """Wrap a bound factory; users call factories instead."""
        self.bound = bound

    def grad(self, f: Callable, has_aux: bool = False) -> Callable:
        """Like `jax.grad`, with a key as first argument of the result.

        See `value_and_grad`. With `has_aux` the result returns `(grads, aux)`.
        """
        estimate = self.value_and_grad(f, has_aux)

        def grad(key: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
            value, grads = estimate(key, params, *args, **kwargs)
            return (grads, value[1]) if has_aux else grads

        return grad

    def value_and_grad(self, f: Callable, has_aux: bool = False) -> Callable:
        """Like `jax.value_and_grad`, with a key as first argument of the result.

        Args:
            f: `f(params, *args, **kwargs)`, a real scalar; with `has_aux` a pair of a
                scalar and a tree. It is vmapped over params, trees of floats in at
                least float32.
            has_aux: Whether f also returns a tree.

        Returns:
            A function of `(key, params, *args, **kwargs)`. It returns `(value, grads)`:
            the mean of f over all points, and a tree like params. With `has_aux` it
            returns `((value, aux), grads)`, where aux has leading axes [2, directions]:
            the points `params + c d`, then the points `params - c d`.

        Raises:
            TypeError: From that function: the first argument is not a PRNG key, a leaf
                of params is not a float, or f does not return a real scalar.
        """

        def value_and_grad(key: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
            def scalar(at: Any) -> tuple[Any, Any]:
                given = f(at, *args, **kwargs)
                if not has_aux:
                    return self._real_scalar(given), None
                if isinstance(given, tuple) and len(given) == 2:
                    return self._real_scalar(given[0]), given[1]
                raise TypeError(
                    f"{self.name}: with has_aux the function must return a pair "
                    f"(value, aux), got {short_repr(given)}"
                )

            params = floats(params, self.name)
            (values, aux), grads = _estimate(
                self.bound.call(), scalar, self._key(key), params
            )
            return ((values.mean(), aux) if has_aux else values.mean()), grads

        return value_and_grad

    def _key(self, key: Any) -> jax.Array:
        looks = getattr(key, "ndim", None), getattr(key, "dtype", None)
        if looks == (1, jnp.uint32) or (is_key(key) and key.ndim == 0):
            return key
        raise TypeError(
            f"{self.name}: the first argument must be a PRNG key, got {key!r}"
        )

    def _real_scalar(self, value: Any) -> jax.Array:
        if jax.tree.structure(value) == jax.tree.structure(0):
            value = jnp.asarray(value)
            is_real = not jnp.issubdtype(value.dtype, jnp.complexfloating)
            if value.shape == () and is_real:
                is_float = jnp.issubdtype(value.dtype, jnp.floating)
                return wide(value) if is_float else value.astype(default_float())
            value = f"{value.dtype.name} of shape {value.shape}"
        raise TypeError(
            f"{self.name}: the function must return a real scalar, got {value}"
        )


register_pytree(Estimator)


def _estimate(
    pairs: Pairs, f: Callable, key: Any, params: Any
) -> tuple[tuple[Any, Any], Any]:
    """The outputs of f, with leading axes [2, directions], and the gradients."""

    def evaluate(key: Any) -> Any:
        direction = pairs.draw(key, params)
        ahead = f(_moved(params, pairs.perturbation, direction))
        behind = f(_moved(params, -pairs.perturbation, direction))
        return jax.tree.map(lambda *two: jnp.stack(two), ahead, behind)

    def add(sums: Any, chunk: tuple[Any, Any]) -> tuple[Any, None]:
        keys, weights = chunk
        directions = jax.vmap(pairs.draw, (0, None))(keys, params)
        more = jax.tree.map(functools.partial(_weighted_sum, weights), directions)
        return jax.tree.map(jnp.add, sums, more), None

    keys = jax.random.split(key, pairs.directions)
    chunks = keys.reshape(-1, pairs.at_once or pairs.directions, *keys.shape[1:])
    given = lax.map(jax.vmap(evaluate), chunks)
    values, aux = jax.tree.map(_two_in_front, given)
    # Directions are drawn again for the sum, since weights are known only after all
    # evaluations: so at most `at_once` of them are in memory.
    weights = pairs.weigh(*values).reshape(chunks.shape[:2])
    zeros = jax.tree.map(lambda p: jnp.zeros_like(wide(p)), params)
    sums, _ = lax.scan(add, zeros, (chunks, weights))
    return (values, aux), jax.tree.map(lambda s, p: s.astype(p.dtype), sums, params)


def _moved(params: Any, c: Any, direction: Any) -> Any:
    """The parameters plus `c * direction`, in at least float32.

    The spacing of bfloat16 near 1 is 0.008: rounding to it would move the point.
    """
    return jax.tree.map(
        lambda p, d: wide(p) + jnp.asarray(c, d.dtype) * d, params, direction
    )


def _weighted_sum(weights: Any, directions: Any) -> Any:
    """Weights [n] times conjugates, as in `jax.grad`, of directions [n, ...]."""
    return jnp.tensordot(weights.astype(directions.dtype), directions.conj(), 1)


def _two_in_front(given: Any) -> Any:
    """[chunks, at_once, 2, ...] as [2, directions, ...]."""
    return jnp.moveaxis(given.reshape(-1, *given.shape[2:]), 1, 0)


def _drawn(draw: Callable, key: Any, params: Any) -> Any:
    """A tree like params of draws per leaf, in at least float32."""
    leaves, treedef = jax.tree.flatten(params)

    def one(key: Any, p: Any) -> Any:
        shape, dtype = p.shape, wide(p).dtype
        if not jnp.iscomplexobj(p):
            return draw(key, shape, dtype)
        real, imaginary = draw(key, (2, *shape), jnp.finfo(dtype).dtype)
        return lax.complex(real, imaginary)

    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(treedef, map(one, keys, leaves))


def _normal(key: Any, params: Any) -> Any:
    return _drawn(jax.random.normal, key, params)


def _signs(key: Any, params: Any) -> Any:
    return _drawn(jax.random.rademacher, key, params)


def _sphere(key: Any, params: Any) -> Any:
    """A point on the sphere whose squared radius is the number of real coordinates."""
    drawn = _normal(key, params)
    leaves = jax.tree.leaves(drawn)
    squares = [jnp.sum(jnp.square(jnp.abs(d)), dtype=default_float()) for d in leaves]
    size = sum(d.size * (1 + jnp.iscomplexobj(d)) for d in leaves)
    factor = jnp.sqrt(size / sum(squares, jnp.zeros((), default_float())))
    return jax.tree.map(lambda d: factor.astype(d.dtype) * d, drawn)


def _slopes(perturbation: Any, ahead: Any, behind: Any) -> Any:
    """The weights of a mean of directional derivatives."""
    return (ahead - behind) / (2 * perturbation * ahead.size)


def estimator(factory: Callable[P, Pairs]) -> Callable[P, Estimator]:
    """Turn a factory of `Pairs` into one of estimators, which remember arguments."""
    return remember(factory, _checked)


def _checked(bound: FactoryCall) -> Estimator:
    directions, at_once = bound.call()[1:3]
    if directions % (at_once or directions):
        raise ValueError(
            f"{bound.factory.name}: at_once must be a divisor of directions, "
            f"got {at_once} and {directions}"
        )
    return Estimator(bound)


@stable
@estimator
def central_differences(
    perturbation: Fixed[Positive] = 1e-2,
    directions: Size = 16,
    at_once: Size | None = None,
):
    """Central differences along random directions on a sphere.

    g = mean of (f(x + c d) - f(x - c d)) / 2c d, d uniform on the sphere of radius
    sqrt(n); unbiased on a quadratic. Shamir 2017: https://arxiv.org/abs/1507.08752.

    Args:
        perturbation: c, the root mean square of a parameter's perturbation. Positive;
            small relative to the scale of f's curvature, large relative to rounding
            errors of f: about 1e-2 of that scale in float32.
        directions: Number of directions, each costing two values of f. The error is
            about sqrt(n / directions) of the gradient.
        at_once: Number of directions evaluated at once, a divisor of `directions`; all
            if None. Memory grows with it.

    Examples:
        >>> grad = gradtx.estimate.central_differences().grad(jnp.square)
        >>> print(f"{grad(jax.random.key(0), jnp.array(3.0)):.1f}")
        6.0
    """
    weigh = functools.partial(_slopes, perturbation)
    return Pairs(perturbation, directions, at_once, _sphere, weigh)


@stable
@described_by(central_differences)
@estimator
def spsa(
    perturbation: Fixed[Positive] = 1e-2,
    directions: Size = 1,
    at_once: Size | None = None,
):
    """SPSA, simultaneous perturbation: central differences along random signs.

    g = mean of (f(x + c d) - f(x - c d)) / 2c d, d of random signs; unbiased on a
    quadratic. Spall 1992: https://doi.org/10.1109/9.119632. In the paper c falls as
    (t + 1)**-0.101; `spsa(c).replace(perturbation=...)` does not recompile.

    Args:
        perturbation: c, the magnitude of each parameter's perturbation. Positive.
        directions: Number of directions, each costing two values of f.

    Examples:
        >>> grad = gradtx.estimate.spsa(directions=4).grad(jnp.square)
        >>> print(f"{grad(jax.random.key(0), jnp.array(3.0)):.1f}")
        6.0
    """
    weigh = functools.partial(_slopes, perturbation)
    return Pairs(perturbation, directions, at_once, _signs, weigh)


@stable
@described_by(spsa)
@estimator
def evolution_strategies(
    perturbation: Fixed[Positive] = 0.1,
    directions: Size = 32,
    at_once: Size | None = None,
    shaping: Callable[[Any], Any] | None = None,
):
    """Antithetic evolution strategies: the gradient of f smoothed by a Gaussian.

    g = mean of (f(x + c d) - f(x - c d)) / 2c d, d ~ N(0, 1): unbiased for the gradient
    of E[f(x + c d)], which on a quadratic is that of f. Salimans et al. 2017:
    https://arxiv.org/abs/1703.03864.

    Args:
        perturbation: c, the Gaussian's standard deviation, in units of the parameters.
            Positive. Large ones smooth out cliffs and small bumps.
            shaping: A function from all values, of shape [2 directions], to as many
            utilities that replace them; `centered_ranks` in the paper.

    Examples:
        >>> es = gradtx.estimate.evolution_strategies(0.1, directions=4096)
        >>> print(f"{es.grad(jnp.square)(jax.random.key(0), jnp.array(3.0)):.0f}")
        6
    """
    if shaping is not None and not callable(shaping):
        raise TypeError(
            f"evolution_strategies: shaping must be a function, got {shaping!r}"
        )

    def weigh(ahead: Any, behind: Any) -> Any:
        if shaping is not None:
            values = jnp.concatenate([ahead, behind])
            utilities = shaping(values)
            if jnp.shape(utilities) != values.shape:
                raise ValueError(
                    f"evolution_strategies: shaping must give {values.size} utilities, "
                    f"gave shape {jnp.shape(utilities)}"
                )
            ahead, behind = jnp.split(utilities, 2)
        return _slopes(perturbation, ahead, behind)

    return Pairs(perturbation, directions, at_once, _normal, weigh)


def centered_ranks(values: Any) -> Any:
    """Ranks of values of shape [n], n > 1, from -0.5 (the smallest) to 0.5.

    Equal values get the mean of their ranks; NaN has rank NaN. Salimans et al. 2017:
    https://arxiv.org/abs/1703.03864.

    Examples:
        >>> print(gradtx.estimate.centered_ranks(jnp.array([3.0, 1000.0, 2.0])))
        [ 0.   0.5 -0.5]
    """

    def rank(value: Any) -> Any:
        below, equal = jnp.sum(values < value), jnp.sum(values == value)
        return below.astype(values.dtype) + (equal - 1).astype(values.dtype) / 2

    ranks = jax.vmap(rank)(values) / (values.size - 1) - 0.5
    return jnp.where(jnp.isnan(values), values, ranks)


@stable
@described_by(central_differences)
@estimator
def augmented_random_search(
    perturbation: Fixed[Positive] = 0.03,
    directions: Size = 16,
    top: Size | None = None,
    at_once: Size | None = None,
):
    """Augmented Random Search: the best directions, over their values' deviation.

    g = sum of (f(x + c d) - f(x - c d)) d / (top s) over the `top` directions with the
    smallest min(f(x + c d), f(x - c d)); d ~ N(0, 1), s the standard deviation of these
    2 top values; 0 where s is 0. Mania et al. 2018, Algorithm 2, for costs instead of
    rewards: https://arxiv.org/abs/1803.07055. So g is in units of s, not of f.

    Args:
        perturbation: The paper's nu, in units of the parameters. Positive.
        directions: Number of directions evaluated, each costing two values of f.
        top: Number of directions used; all if None.

    Examples:
        >>> search = gradtx.estimate.augmented_random_search(directions=4096)
        >>> print(f"{search.grad(jnp.exp)(jax.random.key(0), jnp.array(9.0)):.0f}")
        2
    """
    kept = directions if top is None else top
    if kept > directions:
        raise ValueError(
            "augmented_random_search: top must be at most directions, "
            f"got {kept} and {directions}"
        )

    def weigh(ahead: Any, behind: Any) -> Any:
        least = jnp.minimum(ahead, behind)
        # A direction with a NaN is the last to be used, for NaN of either sign.
        _, best = lax.top_k(-jnp.where(jnp.isnan(least), jnp.inf, least), kept)
        spread = jnp.std(jnp.concatenate([ahead[best], behind[best]]))
        weights = safe_ratio(ahead[best] - behind[best], kept * spread)
        return jnp.zeros_like(ahead).at[best].set(weights)

    return Pairs(perturbation, directions, at_once, _normal, weigh)
