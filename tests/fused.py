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
from jax import numpy as jnp

from tests import compiled, equality
from tests.benchmarks import work
from tests.settings import OF_EXAMPLES, PLAIN

SHAPES = {"matrix": (256, 256), "other": (256, 256), "vector": (512,)}
STEPS = 4  # accumulate makes one of them
PIPELINES = [name for name in PLAIN if name not in OF_EXAMPLES]
PIPELINES += ["clip + adamw", "skip", "accumulate"]


def arrays(seed: int) -> dict[str, jax.Array]:
    """Random parameters or gradients."""
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in SHAPES.items()}


def parameters_after(name: str) -> tuple[Any, Any, dict[str, jax.Array]]:
    """The compiled donated step, and the state and the parameters after some."""
    params = arrays(0)
    # Copied: a state may hold the same buffer twice, or the parameters'.
    state = jax.tree.map(jnp.copy, work.make(name, "gradtx").init(params))
    step = work.step_of(name, "gradtx").lower(params, state, params).compile()
    for i in range(STEPS):
        params, state = step(params, state, arrays(1 + i))
    return step, state, params


def main(path: str) -> None:
    """Write parameters and figures of every pipeline."""
    written: dict[str, Any] = {}
    figures = {}
    for name in PIPELINES:
        with equality.as_optax_needs():
            executable, state, params = parameters_after(name)
        written |= {f"{name}/{leaf}": value for leaf, value in params.items()}
        figures[name] = {
            "moved": compiled.bytes_moved(executable),
            "temporary": compiled.temporary_bytes(executable),
            "state": compiled.bytes_of(state),
            "text": executable.as_text() if name == "adamw" else "",
        }
    np.savez(path, figures=json.dumps(figures), **written)


if __name__ == "__main__":
    main(sys.argv[1])
