"""What optimizers compile to, and compute, with `enable_cpu_fusion`.

`python -m tests.fused PATH` writes both: XLA reads its flags once, so this takes a
process of its own. The module also says how the same is computed without.
"""

import json
import sys
from typing import Any

import gradtx

if __name__ == "__main__":
    gradtx.enable_cpu_fusion()

import jax
import numpy as np
import optax
from jax import numpy as jnp

from tests import equality
from tests.registry import loss
from tests.settings import OF_EXAMPLES, PLAIN

SHAPES = {"matrix": (256, 256), "vector": (512,)}
STEPS = 3
PIPELINES = {
    **{name: make for name, make in PLAIN.items() if name not in OF_EXAMPLES},
    "clip + adamw": lambda m: m.chain(m.clip_by_global_norm(1.0), m.adamw(1e-3)),
    "skip": lambda m: m.skip(m.adamw(1e-3)),
}


def arrays(seed: int) -> dict[str, jax.Array]:
    """Random parameters or gradients."""
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in SHAPES.items()}


def size_of(tree: Any) -> int:
    """Bytes of a tree's arrays."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def compiled(name: str) -> tuple[Any, Any]:
    """The donated step of a pipeline, and its first state."""
    tx = optax.with_extra_args_support(PIPELINES[name](gradtx))
    params = arrays(0)

    def step(params: Any, state: Any, grads: Any) -> Any:
        extra = {"value": 1.0, "grad": grads, "value_fn": loss, "obj_fn": loss}
        updates, state = tx.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    jitted = jax.jit(step, donate_argnums=(0, 1))
    return jitted.lower(params, state, params).compile(), state


def parameters_after(name: str) -> tuple[Any, dict[str, jax.Array]]:
    """The compiled step, and the parameters after some."""
    executable, state = compiled(name)
    params = arrays(0)
    # Copied: a state may hold the same buffer twice, or the parameters'.
    state = jax.tree.map(jnp.copy, state)
    for i in range(STEPS):
        params, state = executable(params, state, arrays(1 + i))
    return executable, params


def main(path: str) -> None:
    """Write parameters and figures of every pipeline."""
    written: dict[str, Any] = {}
    figures = {}
    for name in PIPELINES:
        with equality.as_optax_needs():
            executable, params = parameters_after(name)
            state = jax.eval_shape(PIPELINES[name](gradtx).init, params)
        written |= {f"{name}/{leaf}": value for leaf, value in params.items()}
        figures[name] = {
            "moved": executable.cost_analysis()["bytes accessed"],
            "temporary": executable.memory_analysis().temp_size_in_bytes,
            "state": size_of(state),
            "text": executable.as_text() if name == "adamw" else "",
        }
    np.savez(path, figures=json.dumps(figures), **written)


if __name__ == "__main__":
    main(sys.argv[1])
