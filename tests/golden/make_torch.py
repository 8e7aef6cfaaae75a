"""Write torch.json: paths of torch's optimizers, all along the same gradients.

And the scales of its `GradScaler` along a sequence of overflows.

Run by hand, with torch 2.13.0 and numpy installed; test_torch.py reads the file and
needs no torch:

    python tests/golden/make_torch.py
"""

import json
import pathlib
from functools import partial

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import optim  # pyright: ignore[reportMissingImports]

SHAPES = {"matrix": (4, 3), "vector": (3,), "scalar": ()}
STEPS = 20
KEPT = [1, 2, 3, 6, 10, 20]  # the parameters after these steps

# What several of them take.
ADAMS = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}
CASES = [
    partial(optim.SGD, lr=0.1),
    partial(optim.SGD, lr=0.1, weight_decay=0.1),
    partial(optim.SGD, lr=0.1, weight_decay=0.1, maximize=True),
    partial(optim.SGD, lr=0.1, momentum=0.9),
    partial(optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    partial(optim.SGD, lr=0.1, momentum=0.9, dampening=0.5),
    partial(optim.SGD, lr=0.1, momentum=0.8, weight_decay=0.1, nesterov=True),
    partial(optim.SGD, lr=0.1, momentum=0.8, weight_decay=0.1, dampening=0.8),
    partial(optim.Adam),
    partial(optim.Adam, **ADAMS),
    partial(optim.Adam, amsgrad=True),
    partial(optim.Adam, **ADAMS, amsgrad=True),
    partial(optim.AdamW),
    partial(optim.AdamW, **ADAMS),
    partial(optim.AdamW, **ADAMS, amsgrad=True),
    partial(optim.NAdam),
    partial(optim.NAdam, **ADAMS),
    partial(optim.NAdam, lr=0.1, betas=(0.8, 0.95), momentum_decay=0.1),
    partial(optim.NAdam, lr=0.1, weight_decay=0.1, decoupled_weight_decay=True),
    partial(optim.RAdam),
    partial(optim.RAdam, **ADAMS),
    partial(optim.RAdam, lr=0.1, weight_decay=0.1, decoupled_weight_decay=True),
    partial(optim.Adamax),
    partial(optim.Adamax, **ADAMS),
    partial(optim.Adagrad),
    partial(optim.Adagrad, initial_accumulator_value=0.1),
    partial(optim.Adagrad, lr=0.1, lr_decay=0.1, eps=1e-3, weight_decay=0.1),
    partial(optim.Adadelta),
    partial(optim.Adadelta, lr=0.5, rho=0.95, eps=1e-3, weight_decay=0.1),
    partial(optim.RMSprop),
    partial(optim.RMSprop, lr=0.1, alpha=0.9, eps=1e-3, weight_decay=0.1),
    partial(optim.RMSprop, centered=True),
    partial(optim.RMSprop, momentum=0.9),
    partial(optim.RMSprop, alpha=0.9, eps=1e-3, momentum=0.8, centered=True),
    partial(optim.Rprop),
    partial(optim.Rprop, lr=0.1, etas=(0.4, 1.5), step_sizes=(0.03, 0.3)),
    partial(optim.Adafactor),
    partial(optim.Adafactor, lr=0.5, beta2_decay=-0.5, d=1.5, weight_decay=0.1),
    partial(optim.Adafactor, lr=0.1, eps=(None, 1.0)),
]


SCALERS = [
    {},
    {"growth_interval": 3},
    {"init_scale": 3.0, "growth_factor": 1.7, "backoff_factor": 0.3}
    | {"growth_interval": 2},
    {"init_scale": 2.0**120, "growth_factor": 16.0, "growth_interval": 2},
]
"""Settings of `GradScaler`: the last one would reach infinity."""


def problem():
    """A start, and gradients with zeros, of sizes from 1e-7 to 10."""
    rng = np.random.default_rng(0)
    start = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    grads = {}
    for name, shape in SHAPES.items():
        values = rng.normal(size=(STEPS, *shape))
        values[np.abs(values) < 0.05] = 0
        grads[name] = values * 10 ** rng.uniform(-2, 1, size=shape)
    grads["vector"][:, 0] *= 1e-7 / np.abs(grads["vector"][:, 0]).max()
    return start, grads


def path(make, start, grads):
    """The parameters after the steps that are kept."""
    params = {name: torch.tensor(x) for name, x in start.items()}
    optimizer = make(list(params.values()))
    kept = {name: [] for name in params}
    for step in range(STEPS):
        for name, param in params.items():
            param.grad = torch.tensor(grads[name][step])
        optimizer.step()
        if step + 1 in KEPT:
            for name, param in params.items():
                kept[name].append(param.tolist())
    return kept


def overflows():
    """Which gradients are infinite: single ones, runs of them, and long pauses."""
    rng = np.random.default_rng(1)
    return [bool(x) for x in rng.random(30) < 0.3] + [False] * 12 + [True] * 3


def scales(settings, is_infinite):
    """The scale and the count of steps since its last change, after each update."""
    scaler = torch.amp.GradScaler("cpu", **settings)
    param = torch.nn.Parameter(torch.zeros(()))
    optimizer = optim.SGD([param], lr=0.1)
    kept = []
    for is_now in is_infinite:
        scaler.scale(torch.ones(()))  # which makes the first scale
        param.grad = torch.tensor(float("inf") if is_now else 1.0)
        scaler.step(optimizer)
        scaler.update()
        kept.append([scaler.get_scale(), scaler.state_dict()["_growth_tracker"]])
    return kept


def main():
    is_infinite = overflows()
    scalers = [
        {"settings": settings, "kept": scales(settings, is_infinite)}
        for settings in SCALERS
    ]
    # NAdam keeps the product of its momenta in this dtype, whatever the parameters'.
    torch.set_default_dtype(torch.float64)
    start, grads = problem()
    paths = {}
    for make in CASES:
        arguments = ", ".join(f"{k}={v!r}" for k, v in make.keywords.items())
        paths[f"{make.func.__name__}({arguments})"] = path(make, start, grads)
    assert len(paths) == len(CASES), "a case is there twice"
    head = {
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "steps": KEPT,
        "start": {name: x.tolist() for name, x in start.items()},
        "grads": {name: x.tolist() for name, x in grads.items()},
        "overflows": is_infinite,
        "scalers": scalers,
    }
    # A line for each case, so that a difference between two files can be read.
    lines = [f"{json.dumps(name)}: {json.dumps(x)}" for name, x in head.items()]
    cases = [f"  {json.dumps(name)}: {json.dumps(x)}" for name, x in paths.items()]
    lines.append('"cases": {\n' + ",\n".join(cases) + "\n}")
    file = pathlib.Path(__file__).with_name("torch.json")
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
