"""Adam's first steps, with and without bias correction.

Both averages of Adam start at 0. The second, of squares, starts far lower than the
first: without correction the first steps are 3 to 7 times too long. RMSProp alone, with
as long a memory, takes a first step of 32. The corrections make every first step as
long as the learning rate, for any gradient. At small rates the long steps even
help; at large ones they throw a network far off, where its units are dead.
"""

from __future__ import annotations

import inspect
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from digits import Examples, batches, digits
from gradtx import plot
from page import BLACK, STYLES, Number, Page, main, subplots, use_styles

DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(gradtx.adam).parameters.items()
}


def adam(rate: Any, corrected: bool) -> Any:
    """Momentum chained with RMSProp, each corrected for its bias towards 0 or not."""

    def average(b: float, slot: str) -> Any:
        ema = gradtx.scale_by_ema(b, slot=slot)
        return gradtx.chain(ema, gradtx.bias_correction(b)) if corrected else ema

    mean_square = gradtx.chain(gradtx.square(), average(DEFAULTS["b2"], slot="nu"))
    return gradtx.chain(
        gradtx.moments(
            average(DEFAULTS["b1"], slot="mu"),
            gradtx.divide_by_root(mean_square, eps=DEFAULTS["eps"]),
        ),
        gradtx.scale_by_learning_rate(rate),
    )


OPTIMIZERS = {
    "RMSProp": lambda rate: gradtx.rmsprop(rate, decay=DEFAULTS["b2"]),
    "Adam, not corrected": lambda rate: adam(rate, corrected=False),
    "Adam": lambda rate: adam(rate, corrected=True),
}
STATED = {
    "RMSProp": ("",),
    "Adam, not corrected": ("huge (a slip: RMSProp's is)", "CS231n notes, Adam"),
    "Adam": ("normal sized", "CS231n notes, Adam"),
}


def steps_taken(tx: Any, gradients: jax.Array) -> np.ndarray:
    """The steps that a row of gradients after the other gives."""

    def step(state: Any, gradient: Any) -> tuple[Any, Any]:
        update, state = tx.update(gradient, state)
        return state, -update

    return np.asarray(jax.lax.scan(step, tx.init(gradients[0]), gradients)[1])


def hidden(params: Any, x: Any) -> list[Any]:
    """The values of two layers of rectified units."""
    values = [x]
    for name in ("first", "second"):
        values.append(jax.nn.relu(values[-1] @ params[name]))
    return values[1:]


def loss(params: Any, images: Examples) -> Any:
    """The mean cross-entropy of a network that names digits."""
    logits = hidden(params, images.x)[-1] @ params["last"]
    return gradtx.softmax_cross_entropy_with_integer_labels(logits, images.y).mean()


@jax.jit
def train(tx: Any, key: Any, images: Examples, rows: Any) -> tuple[Any, Any]:
    """The loss of each batch, and at the end the share of units that are never on."""
    initial = jax.nn.initializers.he_normal()
    shapes = {"first": (64, 64), "second": (64, 64), "last": (64, 10)}
    keys = dict(zip(shapes, jax.random.split(key, 3), strict=True))
    start = {name: initial(keys[name], shape) for name, shape in shapes.items()}

    def step(carry: Any, rows: Any) -> tuple[Any, Any]:
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, images.at(rows))
        updates, state = tx.update(grads, state, params)
        return (gradtx.apply_updates(params, updates), state), value

    (params, _), losses = jax.lax.scan(step, (start, tx.init(start)), rows)
    on = [(values > 0).any(0).mean() for values in hidden(params, images.x)]
    return losses, 1 - sum(on) / len(on)


def lesson(
    walks: int = 1000,
    seeds: int = 8,
    epochs: int = 12,
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1),
    shown: float = 0.03,
) -> Page:
    """Step on a constant gradient and on noise, and train a network at five rates."""
    figure, ((constant, noise), (losses, ends)) = subplots(2, 2, 15, 8.4)
    images = digits()
    rows = batches(len(images.y), 64, epochs)
    keys = jax.random.split(jax.random.key(0), seeds)
    noises = jax.random.normal(jax.random.key(1), (100, walks))
    sizes, walked, shown_losses, numbers = {}, {}, {}, []
    for name, make in OPTIMIZERS.items():
        style = STYLES[name]
        sizes[name] = steps_taken(make(1.0), jnp.ones((1000, 1)))[:, 0]
        constant.plot(np.arange(1, 1001), sizes[name], **style, label=name)

        away = np.abs(np.cumsum(steps_taken(make(1.0), noises), axis=0))
        walked[name] = np.median(away, axis=1)
        noise.plot(np.arange(1, 101), walked[name], **style, label=name)

        # The rate is a number of the optimizer: five of them compile once.
        runs = jax.vmap(train, in_axes=(None, 0, None, None))
        trained = {rate: runs(make(rate), keys, images, rows) for rate in rates}
        shown_losses[name], dead = trained[shown]
        last = [np.median(run[:, -18:].mean(1)) for run, _ in trained.values()]
        ends.loglog(rates, last, marker="o", **style, label=name)
        numbers += [
            Number(f"{name}: first step", sizes[name][0], *STATED[name]),
            Number(f"{name}: longest step", sizes[name].max()),
            Number(f"{name}: way of 10 noisy steps", walked[name][9]),
            Number(f"{name}: highest loss", np.median(shown_losses[name].max(1))),
            Number(f"{name}: dead units", dead.mean()),
        ]
    constant.axhline(1, color=BLACK, lw=0.8, ls=":")
    constant.set(title="Steps on a constant gradient: the first are too long")
    constant.set(xlabel="step", ylabel="step (learning rates)", yscale="log")
    constant.set(xscale="log")
    noise.set(
        title="Ways on noise: long first steps carry the parameters away", xlabel="step"
    )
    noise.set(ylabel="distance from the start (learning rates)", yscale="log")
    use_styles(losses, OPTIMIZERS)
    plot.plot_losses(shown_losses, ax=losses)
    losses.set(title=f"Digits at rate {shown}: long first steps kill the training")
    ends.set(
        title="Rates: long first steps help at the small ones", xlabel="learning rate"
    )
    ends.set_ylabel("loss of the last epoch")
    losses.set_ylabel("loss of the step's batch")
    for ax in (constant, noise, ends):
        ax.legend()

    tx, small = adam(0.001, corrected=False), jnp.array(3e-4)
    first = tx.update(small, tx.init(small))[1]
    (step,) = steps_taken(gradtx.adam(0.001), jnp.ones(1))
    by_parts = steps_taken(adam(0.001, corrected=True), noises)
    whole = steps_taken(gradtx.adam(0.001), noises)
    slides, notes = "slides, 36", "CS231n notes, Adam"
    return Page(
        figure,
        [
            Number("b1", DEFAULTS["b1"], "0.9", slides),
            Number("b2", DEFAULTS["b2"], "0.999", slides),
            Number("eps", DEFAULTS["eps"], "10**-8", slides),
            Number("first step of adam(0.001)", step, "alpha = 0.001", slides),
            Number("by parts less gradtx.adam", abs(by_parts - whole).max()),
            Number("root of nu after 3e-4", first["nu"] ** 0.5, "like 0.00001", notes),
            Number("mu after 3e-4", first["mu"]),
            *numbers,
        ],
    )


if __name__ == "__main__":
    main(lesson, __file__, __doc__)
