"""No gradient at all: try both directions, and move towards what is better.

Where a function has no useful derivative, two values give the slope along a random
direction: move all parameters a little ahead, a little back, and compare. Such
estimates are right on average, and the more directions, the closer. They train a
perceptron on the share of its errors, whose gradient is 0 everywhere, and balance a
pole on a cart.
"""

from __future__ import annotations

import sys
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from gradtx import estimate, plot
from page import BLACK, INDIGO, OLIVE, TEAL, WINE, Number, Page, main, subplots

try:
    from sklearn.datasets import load_breast_cancer
except ModuleNotFoundError as error:
    print(f"error: no {error.name}: install gradtx[examples]", file=sys.stderr)
    raise SystemExit(2) from None

ESTIMATORS = {
    "central differences": estimate.central_differences,
    "SPSA": estimate.spsa,
    "evolution strategies": estimate.evolution_strategies,
    "ARS": estimate.augmented_random_search,
}
COLOURS = dict(zip(ESTIMATORS, (OLIVE, TEAL, INDIGO, WINE), strict=True))


def quadratic(x: Any) -> Any:
    """A bowl in as many dimensions as x has."""
    return jnp.sum(jnp.linspace(1, 10, x.size) * x**2) / 2


def compare(make: Any, directions: int, n: int, keys: int) -> tuple[Any, Any]:
    """Estimate beside gradient, over keys: their mean cosine, and its mean share."""
    x = jax.random.normal(jax.random.key(0), (n,))
    true = jax.grad(quadratic)(x)
    guesses = jax.vmap(make(directions=directions).grad(quadratic), (0, None))(
        jax.random.split(jax.random.key(1), keys), x
    )
    shares = guesses @ true / (true @ true)
    lengths = jnp.linalg.norm(guesses, axis=1) / jnp.linalg.norm(true)
    return (shares / lengths).mean(), shares.mean()


def perceptron_data() -> tuple[jax.Array, jax.Array]:
    """569 tumours: 30 standardized measurements and a 1; labels -1 and 1."""
    data: Any = load_breast_cancer()
    x = (data.data - data.data.mean(0)) / data.data.std(0)
    x = np.column_stack([x, np.ones(len(x))])
    return jnp.asarray(x, jnp.float32), jnp.asarray(2 * data.target - 1, jnp.float32)


def distance_to_slide(weights: Any, x: Any, y: Any) -> Any:
    """How far a perceptron's gradient, by jax, is from the slides' x (a - y)."""
    labels = (y + 1) / 2

    def loss(weights: Any) -> Any:
        return gradtx.sigmoid_binary_cross_entropy(x @ weights, labels).mean()

    by_slide = (jax.nn.sigmoid(x @ weights) - labels) @ x / len(y)
    return abs(jax.grad(loss)(weights) - by_slide).max()


def errors(weights: Any, x: Any, y: Any) -> Any:
    """The share of examples that a perceptron with a step gets wrong."""
    return (y * (x @ weights) <= 0).mean(dtype=jnp.float32)


def train(estimator: Any, tx: Any, data: Any, updates: int, seeds: int) -> Any:
    """The share of errors after each update, of shape [seeds, updates]."""

    def step(carry: Any, key: Any) -> tuple[Any, Any]:
        weights, state = carry
        grads = estimator.grad(errors)(key, weights, *data)
        updates, state = tx.update(grads, state, weights)
        weights = gradtx.apply_updates(weights, updates)
        return (weights, state), errors(weights, *data)

    def run(keys: Any) -> Any:
        weights = jnp.zeros(data[0].shape[1])
        return jax.lax.scan(step, (weights, tx.init(weights)), keys)[1]

    return jax.vmap(run)(jax.random.split(jax.random.key(0), (seeds, updates)))


def fall(weights: Any, start: Any, steps: int = 500) -> Any:
    """How long a pole stays up, of at most so many steps of 0.02 s, as a cost.

    Barto, Sutton and Anderson 1983: https://doi.org/10.1109/TSMC.1983.6313077. The
    policy pushes with 10 N to the side of the sign of weights @ state.
    """

    def step(carry: Any, _: None) -> tuple[Any, None]:
        (x, dx, angle, spin), up, time = carry
        push = jnp.where(weights @ jnp.stack([x, dx, angle, spin]) > 0, 10.0, -10.0)
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        pull = (push + 0.05 * spin**2 * sine) / 1.1
        turn = (9.8 * sine - cosine * pull) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
        speed = pull - 0.05 * turn * cosine / 1.1
        state = (
            x + 0.02 * dx,
            dx + 0.02 * speed,
            angle + 0.02 * spin,
            spin + 0.02 * turn,
        )
        up = up & (abs(state[0]) < 2.4) & (abs(state[2]) < 12 * jnp.pi / 180)
        return (state, up, jnp.where(up, time + 1, time)), None

    start = tuple(start), jnp.array(True), jnp.float32(0)
    (_, _, time), _ = jax.lax.scan(step, start, None, steps)
    return -time


def starts(key: Any, n: int) -> Any:
    """Carts near the middle, their poles nearly upright: [n, 4]."""
    return jax.random.uniform(key, (n, 4), minval=-0.05, maxval=0.05)


def balance(key: Any, updates: int) -> tuple[Any, Any]:
    """Learn to balance with ARS; seconds up after each update, and on new starts."""
    search = estimate.augmented_random_search(0.5, directions=8, top=4)
    tx = gradtx.sgd(0.2)

    def cost(weights: Any, carts: Any) -> Any:
        return jax.vmap(fall, (None, 0))(weights, carts).mean()

    def step(carry: Any, key: Any) -> tuple[Any, Any]:
        weights, state = carry
        carts = starts(key, 4)
        updates, state = tx.update(search.grad(cost)(key, weights, carts), state)
        weights = gradtx.apply_updates(weights, updates)
        return (weights, state), -0.02 * cost(weights, starts(jax.random.key(0), 20))

    weights = jnp.zeros(4)
    keys = jax.random.split(key, updates)
    (weights, _), seconds = jax.lax.scan(step, (weights, tx.init(weights)), keys)
    return seconds, -0.02 * cost(weights, starts(jax.random.key(1), 100))


def lesson(
    n: int = 100,
    keys: int = 64,
    updates: int = 100,
    seeds: int = 16,
    counts: tuple[int, ...] = (1, 8, 64, 256),
) -> Page:
    """Compare four estimators; train a perceptron and balance a pole with them."""
    figure, (left, middle, right) = subplots(1, 3, 15, 4.6)
    numbers: list[Number] = []
    for (name, make), marker in zip(ESTIMATORS.items(), "osD^", strict=True):
        of = jax.jit(compare, static_argnums=(0, 1, 2, 3))
        cosines, shares = zip(*(of(make, k, n, keys) for k in counts), strict=True)
        left.semilogx(
            counts,
            cosines,
            marker,
            color=COLOURS[name],
            ms=9,
            mfc="none",
            mew=1.8,
            label=name,
        )
        if name != "ARS":  # which is in units of the values' spread
            numbers.append(Number(f"{name}: mean estimate / gradient", np.mean(shares)))
    grid = np.geomspace(1, 256)
    label = "$\\sqrt{k / (k + n)}$"
    left.plot(
        grid, np.sqrt(grid / (grid + n)), color=BLACK, lw=1, zorder=0, label=label
    )
    left.set(title=f"Estimates get closer with more directions (n = {n})", ylim=(0, 1))
    left.set(xlabel="directions k, two values each", ylabel="cosine with the gradient")
    left.legend(loc="upper left")

    data = perceptron_data()
    searches = {
        "evolution strategies": estimate.evolution_strategies(0.5),
        "ARS": estimate.augmented_random_search(0.5, directions=32, top=8),
    }
    runs = {
        name: train(search, gradtx.adam(0.1), data, updates, seeds // 2)
        for name, search in searches.items()
    }
    uphill = train(
        searches["evolution strategies"], gradtx.scale(1.0), data, updates, seeds // 2
    )
    ones = jnp.ones(data[0].shape[1])
    flat, apart = (
        abs(jax.grad(errors)(ones, *data)).max(),
        distance_to_slide(ones, *data),
    )
    middle.set_prop_cycle(color=[COLOURS[name] for name in runs])
    plot.plot_losses({name: 100 * run for name, run in runs.items()}, ax=middle)
    middle.set(title="A perceptron learns from errors of gradient 0", xlabel="update")
    middle.set(ylabel="tumours named wrongly (%)", yscale="linear", ylim=(0, 10))

    split = jax.random.split(jax.random.key(0), seeds)
    seconds, ends = jax.jit(jax.vmap(lambda key: balance(key, 15)))(split)
    right.set_prop_cycle(color=[COLOURS["ARS"]])
    plot.plot_losses({f"ARS: median and range of {seeds}": seconds}, ax=right)
    right.axhline(9.5, color=BLACK, lw=1, ls="--")
    right.text(14, 9.4, "solved", ha="right", va="top")
    right.set(title="A pole on a cart, balanced by four weights", xlabel="update")
    right.set(ylabel="seconds up, of 10", yscale="linear", ylim=(0, 10.3))
    right.legend(loc="lower right")
    slides = "slides, 50"
    return Page(
        figure,
        [
            *numbers,
            Number("perceptron: gradient less x (a - y)", apart, "0", "slides, 48"),
            Number(
                "slide's loss of y = 0 if a = 0.9",
                np.log(1 - 0.9),
                "a sign (a slip)",
                "slides, 48",
            ),
            Number("largest part of the errors' gradient", flat),
            *(
                Number(f"perceptron's errors, {k}", np.median(run[:, -1]))
                for k, run in runs.items()
            ),
            Number(
                "errors with W + a (Gp - Gn) dW",
                np.median(uphill[:, -1]),
                "falls (a slip)",
                slides,
            ),
            Number("cart-pole: runs of ARS that solve it", (ends >= 9.5).mean()),
            Number("cart-pole: mean seconds up, new starts", ends.mean()),
        ],
    )


if __name__ == "__main__":
    main(lesson, __file__, __doc__)
