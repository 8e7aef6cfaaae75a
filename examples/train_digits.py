"""Train a small network on handwritten digits, once with each of four optimizers.

All of it is plain JAX and gradtx: a network, one compiled train step, and a loop.

    pip install gradtx[examples]
    python train_digits.py

prints a table of results and draws `train_digits.png`; `--help` lists the options.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from jax import numpy as jnp

import gradtx

try:
    from matplotlib.figure import Figure
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.table import Column, Table
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
except ModuleNotFoundError as error:
    print(f"error: no {error.name}: install gradtx[examples]", file=sys.stderr)
    raise SystemExit(2) from None

LAYERS = (64, 256, 128, 10)
RATES = dict(sgd=0.2, momentum=0.4, rmsprop=1e-3, adam=1e-3)
# As in the lessons: Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = dict(sgd="#0072B2", momentum="#E69F00", rmsprop="#009E73", adam="#D55E00")

Params = list[tuple[jax.Array, jax.Array]]


class Digits(NamedTuple):
    """Images of shape [n, 64], in [0, 1], and their labels of shape [n], 0 to 9."""

    images: jax.Array
    labels: jax.Array


class Run(NamedTuple):
    """What a training gave: losses [epochs, steps] and test accuracies [epochs]."""

    optimizer: gradtx.GradientTransformation
    losses: np.ndarray
    accuracies: np.ndarray
    steps_per_second: float


def load_data() -> tuple[Digits, Digits]:
    """The 1,437 digits to train on and the 360 to test on; the same at every call."""
    digits: Any = load_digits()
    x, y = (digits.data / 16).astype(np.float32), digits.target.astype(np.int32)
    parts = train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    train_images, test_images, train_labels, test_labels = map(jnp.asarray, parts)
    return Digits(train_images, train_labels), Digits(test_images, test_labels)


def init_network(seed: int) -> Params:
    """Weights [n, m] at random, scaled for ReLU (He et al. 2015); biases [1, m]."""
    params, key = [], jax.random.key(seed)
    for n, m in itertools.pairwise(LAYERS):
        key, own = jax.random.split(key)
        weights = math.sqrt(2 / n) * jax.random.normal(own, (n, m), jnp.float32)
        params.append((weights, jnp.zeros((1, m), jnp.float32)))
    return params


def network(params: Params, images: jax.Array) -> jax.Array:
    """Logits of shape [batch, 10] for images of shape [batch, 64]."""
    *hidden, (last_weights, last_bias) = params
    x = images
    for weights, bias in hidden:
        x = jax.nn.relu(x @ weights + bias)
    return x @ last_weights + last_bias


def mean_loss(params: Params, batch: Digits) -> jax.Array:
    """The cross entropy, averaged over a batch."""
    logits = network(params, batch.images)
    return gradtx.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()


@jax.jit
def accuracy(params: Params, digits: Digits) -> jax.Array:
    """The share of digits that the network names correctly."""
    guesses = jax.lax.argmax(network(params, digits.images), 1, jnp.int32)
    return (guesses == digits.labels).mean(dtype=jnp.float32)


def make_train_step(optimizer: gradtx.GradientTransformation) -> Callable[..., Any]:
    """Compile one step: from params and state to new ones, and the batch's loss.

    `rows`, of shape [batch], are the digits in the batch. The old params and state are
    donated: the new ones are written into their memory.
    """

    def train_step(params: Params, state: Any, digits: Digits, rows: jax.Array):
        batch = Digits(digits.images[rows], digits.labels[rows])
        loss, grads = jax.value_and_grad(mean_loss)(params, batch)
        updates, state = optimizer.update(grads, state, params)
        return gradtx.apply_updates(params, updates), state, loss

    return jax.jit(train_step, donate_argnames=("params", "state"))


def batches(rng: np.random.Generator, n: int, size: int) -> Iterator[np.ndarray]:
    """An epoch of row numbers in random order, [size] each; drops a last part batch."""
    rows = rng.permutation(n).astype(np.int32)
    yield from rows[: n // size * size].reshape(-1, size)


def train(
    optimizer: gradtx.GradientTransformation,
    data: tuple[Digits, Digits],
    args: argparse.Namespace,
    progress: Progress,
) -> Run:
    """Train a new network: from the same weights, on the same batches, every time."""
    digits, test = data
    rng = np.random.default_rng(args.seed)
    bar = progress.add_task(optimizer.name, total=args.epochs)
    train_step = make_train_step(optimizer)
    params = init_network(args.seed)
    state = optimizer.init(params)
    # The first call compiles; on copies, since it consumes what it is given.
    copies = jax.tree.map(jnp.copy, (params, state))
    no_rows = np.zeros(args.batch_size, np.int32)
    jax.block_until_ready(train_step(*copies, digits, no_rows))
    losses, accuracies, seconds = [], [], 0.0
    for _ in range(args.epochs):
        start, epoch = time.perf_counter(), []
        for rows in batches(rng, len(digits.labels), args.batch_size):
            # Returns at once, while the device still works: do not read `loss` here.
            params, state, loss = train_step(params, state, digits, rows)
            epoch.append(loss)
        losses.append(np.array(jax.device_get(epoch)))
        seconds += time.perf_counter() - start
        accuracies.append(float(accuracy(params, test)))
        scores = f"loss {losses[-1].mean():<8.3g} accuracy {accuracies[-1]:.1%}"
        progress.update(bar, advance=1, description=f"{optimizer.name:<9} {scores}")
    speed = sum(map(len, losses)) / seconds
    return Run(optimizer, np.array(losses), np.array(accuracies), speed)


def draw(runs: list[Run], path: Path) -> None:
    """Draw the training losses, raw and smoothed, and the test accuracies."""
    figure = Figure(figsize=(11, 4.8), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for run in runs:
        name, (epochs, steps) = run.optimizer.name, run.losses.shape
        raw, colour = run.losses.ravel(), COLOURS[name]
        smooth = np.convolve(raw, np.full(steps, 1 / steps), mode="valid")
        at = np.arange(1, raw.size + 1) / steps
        left.plot(at, raw, color=colour, alpha=0.15, linewidth=0.6, zorder=1)
        left.plot(at[steps - 1 :], smooth, color=colour, linewidth=2, label=name)
        right.plot(range(1, epochs + 1), 100 * run.accuracies, color=colour)
    left.set(xlabel="epoch", yscale="log", title="Training loss and its epoch mean")
    right.set(xlabel="epoch", title="Test accuracy (%)")
    right.set_ylim(100 * min(run.accuracies[-1] for run in runs) - 8, 100)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.margins(x=0.02)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(runs), frameon=False)
    figure.savefig(path)


def table_of(runs: list[Run]) -> Table:
    """The results, the lowest loss and the highest accuracy in bold green."""
    headers = "learning rate", "final loss", "test accuracy", "steps a second"
    columns = [Column(header, justify="right") for header in headers]
    table = Table("optimizer", *columns, caption="loss: mean of the last epoch")
    losses = [run.losses[-1].mean() for run in runs]
    shares = [run.accuracies[-1] for run in runs]
    for run, loss, share in zip(runs, losses, shares, strict=True):
        table.add_row(
            run.optimizer.name,
            f"{run.optimizer.arguments['learning_rate']:g}",
            f"{'[bold green]' if loss == np.fmin.reduce(losses) else ''}{loss:.3g}",
            f"{'[bold green]' if share == max(shares) else ''}{share:.2%}",
            f"{run.steps_per_second:,.0f}",
        )
    return table


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def parse(argv: Sequence[str] | None, n: int) -> argparse.Namespace:
    """Read the options, for n digits to train on; leave with an error if one is bad."""
    parser = OneLineParser(prog="train_digits.py", description="Compare optimizers.")
    add, rates = parser.add_argument, ", ".join(f"{k} {v}" for k, v in RATES.items())
    add("--optimizer", action="append", choices=RATES, help="repeatable (default: all)")
    add("--epochs", type=int, default=30, help="default: %(default)s")
    add("--batch-size", type=int, default=32, help="default: %(default)s")
    add("--learning-rate", type=float, help=f"of each (default: {rates})")
    add("--seed", type=int, default=0, help="of weights and batches (default: 0)")
    add("--out", type=Path, default="train_digits.png", help="default: %(default)s")
    args = parser.parse_args(argv)
    rate = 1 if args.learning_rate is None else args.learning_rate
    out, kinds = args.out, Figure().canvas.get_supported_filetypes()
    for name, is_good, words in (
        ("epochs", args.epochs > 0, "positive"),
        ("batch_size", 0 < args.batch_size <= n, f"from 1 to {n}"),
        ("learning_rate", 0 < rate < 3e38, "positive and finite"),
        ("seed", 0 <= args.seed < 2**31, "from 0 to 2**31 - 1"),
        ("out", out.suffix[1:].lower() in kinds, f"a file of type {', '.join(kinds)}"),
        ("out", out.parent.is_dir() and not out.is_dir(), "a file whose folder exists"),
    ):
        if not is_good:
            option, got = name.replace("_", "-"), vars(args)[name]
            parser.error(f"argument --{option}: must be {words}, got {got}")
    return args


def main(argv: Sequence[str] | None = None) -> list[Run]:
    """Train with each optimizer that was asked for; print, draw, return the results."""
    data = load_data()
    args = parse(argv, n=len(data[0].labels))
    names = dict.fromkeys(args.optimizer or RATES)
    optimizers = [getattr(gradtx, k)(args.learning_rate or RATES[k]) for k in names]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns) as progress:
        runs = [train(each, data, args, progress) for each in optimizers]
    draw(runs, args.out)
    progress.console.print(table_of(runs), "Curves:", args.out)
    return runs


if __name__ == "__main__":
    main()
