"""L2 in the gradient against decoupled weight decay: why Adam and AdamW differ.

With SGD a penalty on the squares of the weights and a decay of the weights are one.
Adam divides the penalty's gradient, too, by the size of all gradients: weights with
large gradients hardly decay, those with small ones vanish. AdamW takes decay out of the
division, and shrinks every weight by the same (1 - rate * decay)**t.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from digits import Examples, batches, digits
from page import BLACK, STYLES, Number, Page, main, subplots

RATE, DECAY, STEPS = 1e-3, 0.5, 1000


def with_penalty(tx: Any, decay: float) -> Any:
    """The gradient of `decay / 2 * sum(weights**2)` is added to every gradient."""
    return gradtx.chain(gradtx.add_decayed_weights(decay), tx)


def shrink(tx: Any, noises: Any) -> Any:
    """Weights that start at 1 and whose gradients, [steps, weights], are only noise."""

    def step(carry: Any, noise: Any) -> tuple[Any, Any]:
        weights, state = carry
        updates, state = tx.update(noise, state, weights)
        weights = gradtx.apply_updates(weights, updates)
        return (weights, state), weights

    start = jnp.ones(noises.shape[1])
    return jax.lax.scan(step, (start, tx.init(start)), noises)[1]


def loss(weights: Any, images: Examples) -> Any:
    """The mean loss of softmax regression."""
    logits = images.x @ weights
    return gradtx.softmax_cross_entropy_with_integer_labels(logits, images.y).mean()


@jax.jit
def train(tx: Any, images: Examples, rows: Any) -> tuple[Any, Any]:
    """The length of each pixel's weights, and the size of its gradients."""

    def step(carry: Any, rows: Any) -> tuple[Any, Any]:
        weights, state = carry
        grads = jax.grad(loss)(weights, images.at(rows))
        updates, state = tx.update(grads, state, weights)
        return (gradtx.apply_updates(weights, updates), state), (grads**2).mean(1)

    start = 0.1 * jax.random.normal(jax.random.key(0), (64, 10))
    (weights, _), squares = jax.lax.scan(step, (start, tx.init(start)), rows)
    return jnp.linalg.norm(weights, axis=1), jnp.sqrt(squares.mean(0))


def lesson(weights: int = 200, epochs: int = 40) -> Page:
    """Shrink weights under noise, and train on digits, with both kinds of decay."""
    figure, (left, middle, right) = subplots(1, 3, 15, 4.8)
    scales = np.geomspace(0.01, 100, 17, dtype=np.float32)
    noise = jax.random.normal(jax.random.key(0), (STEPS, weights))
    run = jax.jit(jax.vmap(shrink, (None, 0)))
    noises = scales[:, None, None] * noise[None]

    kinds = {
        "Adam with L2": with_penalty(gradtx.adam(RATE), DECAY),
        "AdamW": gradtx.adamw(RATE, weight_decay=DECAY),
    }
    colours = {name: STYLES[name]["color"] for name in kinds}
    remains, numbers = {}, []
    for name, tx in kinds.items():
        paths = run(tx, noises).mean(2)
        remains[name] = paths[:, -1]
        left.semilogx(scales, remains[name], "o-", color=colours[name], label=name)
        for i, style in ((4, ":"), (8, "--"), (12, "-")):
            label = f"{name}, gradients of {scales[i]:g}"
            middle.plot(paths[i], style, color=colours[name], label=label)
        for i in (0, -1):
            what = f"{name}: left at {scales[i]:g}"
            numbers.append(Number(what, remains[name][i]))
    expected = (1 - RATE * DECAY) ** STEPS
    left.axhline(expected, color=BLACK, lw=1, ls=":")
    left.text(100, expected + 0.02, "(1 - rate * decay)**t", ha="right")
    left.set(title="Adam with L2: large gradients protect a weight", ylim=(0, 1.3))
    left.set(xlabel="size of the weight's gradients (noise)")
    left.set_ylabel(f"left of the weight after {STEPS} steps")
    left.legend(loc="upper left")
    middle.set(title="AdamW shrinks all weights alike", ylim=(0, 1.5))
    middle.set(xlabel="step", ylabel="mean weight")
    middle.legend(loc="upper left", ncols=2, fontsize=8)

    images = digits()
    rows = batches(len(images.y), 64, epochs)
    # At these decays the weights of a median pixel are about as long.
    for name, tx in {
        "Adam with L2": with_penalty(gradtx.adam(0.01), 0.01),
        "AdamW": gradtx.adamw(0.01, weight_decay=1.4),
    }.items():
        lengths, sizes = map(np.asarray, train(tx, images, rows))
        lengths, sizes = lengths[sizes > 1e-6], sizes[sizes > 1e-6]
        right.loglog(sizes, lengths, "o", color=colours[name], label=name)
        median = np.median(lengths)
        rare = lengths[sizes < 0.1 * np.median(sizes)].mean()
        numbers += [
            Number(f"digits, {name}: median length", median),
            Number(f"digits, {name}: rare / median", rare / median),
        ]
    right.set(title="L2 erases the weights of rarely lit pixels", ylim=(1e-3, 30))
    right.set(xlabel="size of the gradients of a pixel's weights")
    right.set_ylabel("length of the pixel's weights")
    right.legend(loc="upper left")

    descent = gradtx.sgd(RATE)
    outside = gradtx.chain(descent, gradtx.add_decayed_weights(-RATE * DECAY))
    by_penalty, by_decay = (
        run(with_penalty(descent, DECAY), noises),
        run(outside, noises),
    )
    penalty = "a term in the cost", "course, 01"
    return Page(
        figure,
        [
            Number("SGD: L2 less decay", abs(by_penalty - by_decay).max(), *penalty),
            Number("(1 - rate * decay)**1000", expected),
            *numbers,
        ],
    )


if __name__ == "__main__":
    main(lesson, __file__, __doc__)
