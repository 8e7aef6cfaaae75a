"""Train a small character-level transformer as one would a large one.

Groups of parameters, a warmup and a cosine, clipping, gradients accumulated over two
batches, norms in a live progress bar, a checkpoint in the middle, a second run that
goes on from it bit for bit, and a plot. The text is Python's own standard library.

    pip install gradtx[hosts,examples]
    python finetune.py

draws `finetune.png`; `--help` lists the options.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

import gradtx

try:
    import orbax.checkpoint as ocp
    from flax import nnx
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
except ModuleNotFoundError as error:
    print(f"error: no {error.name}: install gradtx[hosts,examples]", file=sys.stderr)
    raise SystemExit(2) from None

LENGTH, WIDTH, HEADS, BLOCKS, BATCH = 64, 96, 4, 2, 32
SYMBOLS = 128  # ASCII
# From Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"


def load_text() -> np.ndarray:
    """The sources of the standard library's modules as ASCII codes, shape [n]."""
    files = sorted(Path(argparse.__file__).parent.glob("*.py"))
    text = "".join(path.read_text(errors="ignore") for path in files)
    return np.frombuffer(text.encode("ascii", "ignore"), np.uint8).astype(np.int32)


class Block(nnx.Module):
    """Attention over the past, then two layers; each added to what it gets."""

    def __init__(self, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads=HEADS, in_features=WIDTH, decode=False, rngs=rngs
        )
        self.norm_wide = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.wide = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.narrow = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [batch, length, WIDTH] to the same."""
        mask = nnx.make_causal_mask(x[..., 0])
        x = x + self.attention(self.norm(x), mask=mask)
        return x + self.narrow(nnx.gelu(self.wide(self.norm_wide(x))))


class Transformer(nnx.Module):
    """Codes [batch, length] to logits [batch, length, SYMBOLS]."""

    def __init__(self, rngs: nnx.Rngs):
        self.embed = nnx.Embed(SYMBOLS, WIDTH, rngs=rngs)
        self.positions = nnx.Embed(LENGTH, WIDTH, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(BLOCKS)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, SYMBOLS, rngs=rngs)

    def __call__(self, codes: jax.Array) -> jax.Array:
        """The logits of each next code."""
        x = self.embed(codes) + self.positions(jnp.arange(codes.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def make_optimizer(steps: int, rate: float = 3e-3) -> gradtx.GradientTransformation:
    """AdamW: embeddings slower, no decay on biases and scales; two batches a step."""
    schedule = gradtx.warmup_cosine_decay_schedule(0.0, rate, steps // 20, steps // 2)
    slow = gradtx.warmup_cosine_decay_schedule(0.0, rate / 3, steps // 20, steps // 2)
    groups = gradtx.groups(
        {
            "embed/**|positions/**": gradtx.adamw(slow, b2=0.99, weight_decay=0.0),
            "**/bias|**/scale": gradtx.adamw(schedule, b2=0.99, weight_decay=0.0),
            "**": gradtx.adamw(schedule, b2=0.99, weight_decay=0.1),
        }
    )
    clip = gradtx.clipping(gradtx.clip_by_global_norm(1.0))
    return gradtx.accumulate(gradtx.chain(clip, groups, gradtx.norms()), every=2)


class Training(NamedTuple):
    """A model, its optimizer, and what the loop saw: [steps] each."""

    model: Transformer
    optimizer: nnx.Optimizer
    losses: list[float]
    metrics: list[dict[str, float]]


def begin(steps: int, seed: int) -> Training:
    """A training at its first step."""
    model = Transformer(nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, make_optimizer(steps), wrt=nnx.Param)
    return Training(model, optimizer, [], [])


@nnx.jit
def step(model: Transformer, optimizer: nnx.Optimizer, codes: Any) -> jax.Array:
    """One batch of codes [BATCH, LENGTH + 1]; its mean loss in nats a character."""

    def loss(model: Transformer) -> jax.Array:
        logits = jax.nn.log_softmax(model(codes[:, :-1]))
        picked = jnp.take_along_axis(logits, codes[:, 1:, None], axis=-1)
        return -jnp.mean(picked)

    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value


def batch(text: np.ndarray, seed: int, i: int) -> np.ndarray:
    """Batch i of a run: the same whoever asks for it, and when."""
    starts = np.random.default_rng((seed, i)).integers(
        len(text) - LENGTH - 1, size=BATCH
    )
    return text[starts[:, None] + np.arange(LENGTH + 1)]


def train(it: Training, text: np.ndarray, seed: int, until: int, what: str) -> None:
    """Go on until a step, showing loss and norms."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[seen]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        start = int(it.optimizer.step[...])
        task = progress.add_task(what, total=until, completed=start, seen="")
        for i in range(start, until):
            it.losses.append(float(step(it.model, it.optimizer, batch(text, seed, i))))
            metrics = gradtx.metrics(nnx.as_pure(it.optimizer.opt_state))
            seen = {name: float(value) for name, value in metrics.items()}
            it.metrics.append(seen)
            progress.update(
                task,
                completed=i + 1,
                seen=f"loss {it.losses[-1]:.3f}  gradient {seen['grad_norm']:.2f}  "
                f"clipped {seen['clipped_share']:.0%}",
            )


def save(it: Training, path: Path) -> None:
    """Write the model and the optimizer."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, nnx.to_pure_dict(nnx.state((it.model, it.optimizer))))


def load(path: Path, steps: int) -> Training:
    """A new training that goes on where another was saved."""
    it = begin(steps, seed=1)  # its values are overwritten
    target = nnx.state((it.model, it.optimizer))
    with ocp.StandardCheckpointer() as checkpointer:
        saved = checkpointer.restore(path, nnx.to_pure_dict(target))
    nnx.replace_by_pure_dict(target, saved)
    nnx.update((it.model, it.optimizer), target)
    return it


def is_equal(one: Training, other: Training) -> bool:
    """Whether two trainings have the same numbers, bit for bit."""
    pairs = zip(
        *(jax.tree.leaves(nnx.state((it.model, it.optimizer))) for it in (one, other)),
        strict=True,
    )
    return all(np.array_equal(a, b) for a, b in pairs)


def plot(it: Training, resumed: Training, middle: int, path: Path) -> None:
    """Losses of both runs, and what the norms were."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = np.arange(1, len(it.losses) + 1)
    left.plot(steps, it.losses, color=BLUE, label="first run")
    left.plot(
        steps[middle:], resumed.losses, "--", color=ORANGE, label="from the checkpoint"
    )
    left.axvline(middle, color=GREY, linewidth=1, label="checkpoint")
    left.set(xlabel="batch", ylabel="loss (nats a character)", title="Loss")
    left.legend(frameon=False)
    for name, color in (("grad_norm", BLUE), ("update_ratio", GREEN)):
        values = [seen[name] or np.nan for seen in it.metrics]  # 0 before a step
        right.plot(steps, values, color=color, label=name.replace("_", " "))
    right.set(xlabel="batch", yscale="log", title="Norms")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options, train, go on from the middle, compare, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=800, help="batches, even")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("finetune.png"))
    options = parser.parse_args(argv)
    if options.steps < 40 or options.steps % 4:
        parser.error("argument --steps: must be at least 40 and a multiple of 4")
    console, text, begun = Console(), load_text(), time.perf_counter()
    it, middle = begin(options.steps, options.seed), options.steps // 2
    params = nnx.state(it.model, nnx.Param)
    console.print(gradtx.explain(make_optimizer(options.steps), params))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve() / "middle"
        train(it, text, options.seed, middle, "first half ")
        save(it, path)
        train(it, text, options.seed, options.steps, "second half")
        resumed = load(path, options.steps)
    train(resumed, text, options.seed, options.steps, "resumed    ")
    if not is_equal(it, resumed):
        raise SystemExit("error: the resumed run differs")
    plot(it, resumed, middle, options.out)
    last = np.mean(it.losses[-20:])
    console.print(
        f"{len(text):,} characters; loss {it.losses[0]:.2f} to {last:.2f}; the resumed "
        f"run is the same bit for bit; {time.perf_counter() - begun:.0f} s; wrote "
        f"{options.out}"
    )


if __name__ == "__main__":
    main()
