"""Adagrad's steps die, RMSProp's do not; but rare words live on Adagrad's.

Adagrad divides by the root of the sum of all squares, so on a constant gradient its
steps fall as 1 / sqrt(t), and a minimum that moves gets away from it. RMSProp forgets
old squares and keeps up. But where features are sparse the sum is wanted: the vector of
a rare word gets few gradients, and Adagrad makes each of them count. Without the root
Adagrad fails: its steps fall as 1 / t, smaller gradients get larger steps, and at none
of four rates does it learn words.
"""

from __future__ import annotations

import collections
import re
from pydoc_data.topics import topics
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from page import BLACK, STYLES, Number, Page, main, subplots

# From 0 and not from the default 0.1, beside which small squares do not count.
ADAGRAD = gradtx.adagrad(0.001, initial_accumulator_value=0.0, eps=1e-12)


def without_root(rate: float) -> Any:
    """Adagrad that divides by the sum of squares itself."""
    total = gradtx.chain(gradtx.square(), gradtx.running_sum(initial_value=1e-12))
    return gradtx.chain(gradtx.divide_by(total), gradtx.scale_by_learning_rate(rate))


def steps_taken(tx: Any, gradient: float = 1.0, steps: int = 1000) -> np.ndarray:
    """The sizes of the steps on a slope, whose gradient is constant."""
    start = np.zeros(1, np.float32)
    path = gradtx.trajectory(tx, lambda x: gradient * x.sum(), start, steps)
    return -np.diff(path.positions[:, 0])


def grow_and_shrink() -> list[Number]:
    """Rprop's steps on a slope, and after a change of the gradient's sign."""
    start, rprop = np.full(1, 0.5, np.float32), gradtx.rprop(0.1, delayed=False)
    path = gradtx.trajectory(rprop, lambda x: abs(x).sum(), start, 6)
    sizes, slide = abs(np.diff(path.positions[:, 0])), "slides, 32"
    after = sizes[5] / sizes[3]  # no size lies between
    return [
        Number("Rprop: step 2 / step 1", sizes[1] / sizes[0], "increases", slide),
        Number("Rprop: after a change of sign", after, "decreases", slide),
    ]


def follow(tx: Any, minima: Any) -> np.ndarray:
    """Where an optimizer is at each step, on a bowl whose minimum is moved."""

    def step(carry: Any, minimum: Any) -> tuple[Any, Any]:
        x, state = carry
        updates, state = tx.update(x - minimum, state, x)
        return (gradtx.apply_updates(x, updates), state), x

    x = jnp.zeros(())
    return np.asarray(jax.lax.scan(step, (x, tx.init(x)), minima)[1])


def word_pairs(vocabulary: int) -> tuple[jax.Array, jax.Array, np.ndarray]:
    """Words beside each other in Python's documentation, and how often each occurs.

    Words are numbered from the most frequent. Beside is at most two places away.
    """
    text = " ".join(topics[name] for name in sorted(topics)).lower()
    words = re.findall("[a-z_]+", text)
    most = collections.Counter(words).most_common(vocabulary)
    index = {word: i for i, (word, _) in enumerate(most)}
    known = np.array([index[word] for word in words if word in index])
    ahead = np.concatenate([known[:-1], known[:-2]])
    behind = np.concatenate([known[1:], known[2:]])
    pairs = np.concatenate([ahead, behind]), np.concatenate([behind, ahead])
    return jnp.array(pairs[0]), jnp.array(pairs[1]), np.array([n for _, n in most])


def predict(params: Any, words: Any, near: Any) -> Any:
    """Minus the logarithm of the chance that each word gives to the one near it."""
    chances = jax.nn.log_softmax(params["words"][words] @ params["near"].T)
    return -jnp.take_along_axis(chances, near[:, None], 1)[:, 0]


@jax.jit
def embed(tx: Any, words: Any, near: Any, start: Any, keys: Any) -> jax.Array:
    """Train vectors of words; how far each moved, and the loss of each at the end."""

    def step(carry: Any, key: Any) -> tuple[Any, None]:
        params, state = carry
        batch = jax.random.randint(key, (256,), 0, words.size)
        grads = jax.grad(lambda p: predict(p, words[batch], near[batch]).mean())(params)
        updates, state = tx.update(grads, state, params)
        return (gradtx.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (start, tx.init(start)), keys)
    moved = jnp.linalg.norm(params["words"] - start["words"], axis=1)
    chances = jax.nn.log_softmax(params["words"] @ params["near"].T)
    losses, times = jnp.zeros((2, moved.size))
    losses = losses.at[words].add(-chances[words, near]) / times.at[words].add(1)
    return jnp.stack([moved, losses])


def lesson(vocabulary: int = 1000, updates: int = 300) -> Page:
    """Walk down a slope, follow a minimum, learn vectors of words."""
    figure, ((slope, bowl), (far, loss)) = subplots(2, 2, 15, 8.5)
    rmsprop = gradtx.rmsprop(0.001)
    # The notes reduce a tally and add to it, which is 10 times the average.
    tally = gradtx.chain(gradtx.square(), gradtx.trace(0.9))
    by_tally = gradtx.chain(
        gradtx.divide_by_root(tally, eps=1e-7), gradtx.scale_by_learning_rate(0.001)
    )
    steps = {
        "Adagrad": steps_taken(ADAGRAD),
        "RMSProp": steps_taken(rmsprop),
        "RMSProp by a tally": steps_taken(by_tally),
        "Adadelta": steps_taken(gradtx.adadelta(1.0)),
        "Adagrad without the root": steps_taken(without_root(0.001)),
    }
    adagrad, average, by_tally_steps, adadelta, rootless = steps.values()
    for name, sizes in steps.items():
        slope.loglog(np.arange(1, sizes.size + 1), sizes, **STYLES[name], label=name)
    pink = STYLES["Adagrad"]["color"]
    slope.text(200, 9e-5, "$1 / \\sqrt{t}$", color=pink, ha="left", va="bottom")
    slope.text(80, 9e-6, "$1 / t$", color=pink, ha="right", va="top")
    slope.set(title="On a constant gradient, Adagrad's steps die")
    slope.set(xlabel="step t", ylabel="size of the step", ylim=(7e-7, 1))
    slope.legend(loc="upper left", ncols=2)

    small = steps_taken(ADAGRAD, 0.01)[-1] / adagrad[-1]
    tiny = steps_taken(rmsprop, 1e-5)[-1] / average[-1]
    none = abs(steps_taken(by_tally, 0.0)).max()
    same, any_eps = "larger (a slip: as large)", "any epsilon will do (a slip)"
    notes, dying = "CS231n notes, RMSProp", ("infinitesimally small", "slides, 28")
    numbers = [
        Number("Adagrad: step 1000 / step 1", adagrad[-1] / adagrad[0], *dying),
        Number("Adagrad: gradient 0.01 / 1", small, same, "CS231n notes, Adagrad"),
        Number("RMSProp: step 1000", average[-1], "0.001", "slides, 33"),
        Number("RMSProp: step 1", average[0]),
        Number("its step by a tally", by_tally_steps[-1], "tally * 0.9", notes),
        Number("its step at gradient 0", none, "never dividing by 0", notes),
        Number("its step at 1e-5 / at 1", tiny, any_eps, "course, 07"),
        Number("Adadelta: step 1000 / step 1", adadelta[-1] / adadelta[0]),
        Number("Adadelta: step 1", adadelta[0]),
        Number(
            "Adadelta: gradient 100 / 1",
            steps_taken(gradtx.adadelta(1.0), 100.0)[-1] / adadelta[-1],
            "robust to large gradients",
            "slides, 31",
        ),
        *grow_and_shrink(),
        Number("no root: step 1000 / step 1", rootless[-1] / rootless[0]),
        Number(
            "no root: gradient 0.01 / 1",
            steps_taken(without_root(0.001), 0.01)[-1] / rootless[-1],
        ),
    ]

    every, moves = 200, 8
    minima = jnp.asarray(1 - np.arange(every * moves) // every % 2, float)
    bowl.plot(minima, color=BLACK, lw=1, label="the minimum")
    # The rates with which both need about 50 steps for the first move.
    for name, tx in (
        ("Adagrad", ADAGRAD.replace(learning_rate=0.11)),
        ("RMSProp", rmsprop.replace(learning_rate=0.02)),
    ):
        x = follow(tx, minima)
        bowl.plot(x, **STYLES[name], label=name)
        away = (abs(x - minima) > 0.1).reshape(moves, every).sum(1)
        numbers += [
            Number(f"{name}: steps to follow move 1", away[0]),
            Number(f"{name}: steps to follow move 4", away[3]),
        ]
    bowl.set(title="A minimum that moves gets away from Adagrad", ylim=(-0.1, 1.35))
    bowl.set(xlabel="step", ylabel="position")
    bowl.legend(loc="upper center", ncols=3)

    words, near, counts = word_pairs(vocabulary)
    start = {
        "words": jax.random.normal(jax.random.key(0), (vocabulary, 16)) / 16,
        "near": jnp.zeros((vocabulary, 16)),
    }
    keys = jax.random.split(jax.random.key(1), updates)
    groups = np.array_split(np.arange(vocabulary), 10)
    common, rare = np.split(np.arange(vocabulary), 2)

    def train(tx: Any) -> np.ndarray:
        return np.asarray(embed(tx, words, near, start, keys))

    larger = "larger updates (GloVe at Google: a slip, Stanford)"
    # Each at the best of three rates. At twice the best, SGD's common words overshoot.
    for name, make, rates in (
        ("Adagrad without the root", without_root, (1e-7, 1e-6, 1e-5, 1e-4)),
        ("SGD", gradtx.sgd, (5.0, 10.0, 20.0)),
        ("Adagrad", lambda r: ADAGRAD.replace(learning_rate=r), (0.15, 0.3, 0.6)),
    ):
        runs = [train(make(rate)) for rate in rates]
        best = np.nanargmin([np.average(run[1], weights=counts) for run in runs])
        moved, losses = runs[best]
        x, *ys = (
            [v[group].mean() for group in groups] for v in (counts, moved, losses)
        )
        if "without" not in name:
            far.plot(counts, moved, ".", color=STYLES[name]["color"], alpha=0.3, mew=0)
        label = f"{name}, best rate: {rates[best]:g}"
        for ax, y in zip((far, loss), ys, strict=True):
            ax.plot(x, y, "o", ls="-", color=STYLES[name]["color"], label=label)
            ax.lines[-1].set_linestyle(STYLES[name].get("linestyle", "-"))
        if name == "Adagrad without the root":
            name, stated = "no root", ("performs much worse", "slides, 28")
            mean = np.average(losses, weights=counts)
            numbers.append(Number("no root: loss of all words", mean, *stated))
            continue
        ratio = moved[rare].mean() / moved[common].mean()
        stated = (larger, "slides, 29") if name == "Adagrad" else ("", "")
        numbers += [
            Number(f"{name}: rare words moved / others", ratio, *stated),
            Number(f"{name}: loss of rare words", losses[rare].mean()),
            Number(f"{name}: loss of the others", losses[common].mean()),
            Number(f"{name}: loss of all words", np.average(losses, weights=counts)),
        ]
    from_default = train(
        ADAGRAD.replace(learning_rate=0.3, initial_accumulator_value=0.1)
    )
    ratio = from_default[0, rare].mean() / moved[rare].mean()
    numbers.append(Number("Adagrad from 0.1 / from 0: rare moved", ratio))

    far.set(title="Adagrad moves rare words as far as frequent ones")
    far.set(ylabel="distance that the word's vector moved", ylim=(0, 3.2))
    loss.set(title="Adagrad learns rare words as well as frequent ones", ylim=(5, 7.2))
    loss.set(ylabel="loss of predicting what is near (nats)")
    loss.axhline(np.log(vocabulary), color="0.5", lw=1, ls="--")
    loss.text(x[-1], np.log(vocabulary), "at the start", va="bottom")
    for ax in (far, loss):
        ax.set(xscale="log", xlabel="times that the word occurs in the text")
    far.legend(loc="upper right")
    loss.legend(loc="center right", bbox_to_anchor=(1, 0.68))
    return Page(figure, numbers)


if __name__ == "__main__":
    main(lesson, __file__, __doc__)
