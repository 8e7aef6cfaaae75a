"""Generalization: thin and wide optima, and a test set that tells them apart.

A network that names its training digits has learned nothing yet: the test set counts.
Here networks reach the same loss on the same 200 digits, but some had to memorize other
digits with random labels on the way. The more they memorized, the thinner their
optimum: the loss curves up to six times as much, a random shift of the weights raises
it more, and the share of errors on a test set grows from 13% to 76%. All optima look
alike on the training digits; wide ones generalize.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.flatten_util import ravel_pytree

import gradtx
from digits import Examples, digits
from gradtx import plot
from page import BLACK, INDIGO, OTHERS, Number, Page, main, subplots

TRAINED, TESTED, GOAL = 200, 645, 0.01


def network(key: Any, widths: tuple[int, ...] = (64, 64, 10)) -> list[jax.Array]:
    """Weights of layers of these widths, at random."""
    keys = jax.random.split(key, len(widths) - 1)
    shapes = itertools.pairwise(widths)
    return [
        jax.random.normal(key, shape) / np.float32(np.sqrt(shape[0]))
        for key, shape in zip(keys, shapes, strict=True)
    ]


def logits(weights: Any, x: Any) -> Any:
    """The last layer's values."""
    first, second = weights
    return jnp.tanh(x @ first) @ second


def loss(weights: Any, images: Examples) -> Any:
    """The mean cross entropy."""
    given = logits(weights, images.x)
    return gradtx.softmax_cross_entropy_with_integer_labels(given, images.y).mean()


def errors(weights: Any, images: Examples) -> Any:
    """The share of images that are named wrongly."""
    wrong = logits(weights, images.x).argmax(1) != images.y
    return wrong.mean(dtype=jnp.float32)


def curvature(weights: Any, images: Examples, rounds: int = 50) -> Any:
    """The largest eigenvalue of the Hessian, by power iteration."""
    flat, unravel = ravel_pytree(weights)

    def gradient(flat: Any) -> Any:
        return jax.grad(lambda flat: loss(unravel(flat), images))(flat)

    def turn(_: Any, direction: Any) -> Any:
        direction = jax.jvp(gradient, (flat,), (direction,))[1]
        return direction / jnp.linalg.norm(direction)

    start = jax.random.normal(jax.random.key(0), flat.shape)
    direction = jax.lax.fori_loop(0, rounds, turn, start / jnp.linalg.norm(start))
    return direction @ jax.jvp(gradient, (flat,), (direction,))[1]


def shifted_losses(weights: Any, images: Examples, shifts: Any, draws: int = 20) -> Any:
    """The mean loss after random shifts of all weights, of these sizes."""
    flat, unravel = ravel_pytree(weights)
    noise = jax.random.normal(jax.random.key(0), (draws, flat.size))

    def at(shift: Any) -> Any:
        moved = jax.vmap(lambda n: loss(unravel(flat + shift * n), images))(noise)
        return moved.mean()

    return jax.lax.map(at, shifts)


def memorize(key: Any, extra: int, steps: int) -> tuple[Any, Any, Any]:
    """Train until the loss of the 200 digits is 0.01, that of all below 0.05.

    Returns the weights, and the losses of the 200 and of the test set on the way.
    """
    images, test = data_sets()
    seen = digits(TRAINED + extra)
    random = np.random.default_rng(0).integers(0, 10, extra)
    seen = Examples(seen.x, seen.y.at[TRAINED:].set(jnp.asarray(random, jnp.int32)))
    tx, weights = gradtx.adam(0.01), network(key)

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        weights, state, is_done = carry
        value, grads = jax.value_and_grad(loss)(weights, seen)
        losses = loss(weights, images), loss(weights, test)
        is_done = is_done | ((losses[0] < GOAL) & (value < 5 * GOAL))
        updates, state = tx.update(grads, state, weights)
        moved = gradtx.apply_updates(weights, updates)
        weights = jax.tree.map(lambda a, b: jnp.where(is_done, a, b), weights, moved)
        return (weights, state, is_done), losses

    start = weights, tx.init(weights), jnp.array(False)
    (weights, _, _), losses = jax.lax.scan(step, start, None, steps)
    return weights, *losses


def data_sets() -> tuple[Examples, Examples]:
    """The 200 digits to learn from, and 645 others to test with."""
    every = digits(1797)
    return every.at(np.arange(TRAINED)), every.at(np.arange(1797 - TESTED, 1797))


def quiz() -> list[Number]:
    """Slide 40: a neuron's output, and the shapes of a network's weights."""
    inputs, weights = np.array([1, 2, 3]), np.array([4, 5, 6])
    hidden, last = network(jax.random.key(0), (8, 5, 1))
    rows, columns = "[8 x 5]", "[5 x 1]"
    slide = "slides, 40"
    return [
        Number("quiz: 3 * (1 * 4 + 2 * 5 + 3 * 6)", 3 * inputs @ weights, "96", slide),
        Number("quiz: rows of input to hidden", hidden.shape[0], rows, slide),
        Number("quiz: columns of input to hidden", hidden.shape[1], rows, slide),
        Number("quiz: rows of hidden to output", last.shape[0], columns, slide),
        Number("quiz: columns of hidden to output", last.shape[1], columns, slide),
    ]


def lesson(
    extras: tuple[int, ...] = (0, 100, 200, 400, 800), seeds: int = 5, steps: int = 800
) -> Page:
    """Reach one loss on 200 digits by thin and by wide optima, and test both."""
    figure, (left, middle, right) = subplots(1, 3, 15, 5)
    images, test = data_sets()
    keys = jax.random.split(jax.random.key(0), seeds)
    shifts = np.linspace(0, 0.1, 9, dtype=np.float32)

    def examine(weights: Any) -> Any:
        both = jnp.stack([errors(weights, images), errors(weights, test)])
        risen = shifted_losses(weights, images, shifts)
        return both, curvature(weights, images), risen

    numbers, optima, curves = [], "CS231n notes, Momentum", {}
    run = jax.jit(jax.vmap(memorize, (0, None, None)), static_argnums=(1, 2))
    look = jax.jit(jax.vmap(examine))
    for extra, colour in zip(extras, OTHERS, strict=False):
        weights, losses, tests = run(keys, extra, steps)
        (shares, curved, risen) = map(np.asarray, look(weights))
        wrong = 100 * np.median(shares, 0)
        if extra == 0:
            curves = {"200 training digits": losses, "645 test digits": tests}
            numbers += [
                Number("training digits named wrongly (%)", wrong[0]),
                Number("test digits named wrongly (%)", wrong[1], "", "slides, 40"),
            ]
        label = f"{extra} random labels"
        if extra in (extras[0], extras[-1]):
            valley = np.median(risen, 0)
            x, y = np.append(-shifts[::-1], shifts), np.append(valley[::-1], valley)
            middle.plot(x, y, color=colour, label=label)
        style = {"color": colour, "mfc": "none", "mew": 1.8}
        right.plot(curved, 100 * shares[:, 1], "o", **style, label=label)
        name = f"{extra} random labels"
        numbers += [
            Number(f"{name}: loss of the 200 digits", np.median(losses[:, -1])),
            Number(f"{name}: curvature", np.median(curved), "thin or wide", optima),
            Number(f"{name}: loss after a shift of 0.1", np.median(risen[:, -1])),
            Number(
                f"{name}: test errors (%)", wrong[1], "may not fit test data", optima
            ),
        ]
    left.set_prop_cycle(color=(INDIGO, BLACK))
    plot.plot_losses(curves, ax=left)
    left.set(title="The training loss reaches 0.01, the test loss 0.4", xlim=(0, 100))
    middle.set(title="Two optima of the same loss, wide and thin", ylim=(0, None))
    middle.set_xticks(np.linspace(-0.1, 0.1, 5))
    middle.set(xlabel="random shift of every weight", ylabel="loss of the 200 digits")
    middle.legend(loc="upper center")
    right.set(title="Thin optima fail on the test set", xscale="log", ylim=(0, 100))
    right.set(xlabel="curvature of the training loss", ylabel="test errors (%)")
    right.set_xticks([0.25, 0.5, 1, 2], ["0.25", "0.5", "1", "2"])
    right.minorticks_off()
    right.legend(loc="lower right")
    return Page(figure, [*numbers, *quiz()])


if __name__ == "__main__":
    main(lesson, __file__, __doc__)
