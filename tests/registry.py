"""Every public transformation, with arguments for those that it requires.

A new one joins by being public. If it requires an argument that `EXAMPLES` does not
know by name, the suite fails and says so.
"""

import inspect

import gradtx
from gradtx.binding import Factory

EXAMPLES = {
    "learning_rate": lambda: 0.1,
    "step_size": lambda: -0.5,
    "step_size_fn": lambda: gradtx.linear_schedule(1.0, 0.5, 4),
    "decay": lambda: 0.9,
    "max_norm": lambda: 0.5,
    "max_delta": lambda: 0.25,
    "key": lambda: "pinned",
    "estimator": lambda: gradtx.chain(gradtx.square(), gradtx.scale_by_ema(0.9, "nu")),
    "transform": lambda: gradtx.trace(0.9),
    "transforms": lambda: (gradtx.scale(2.0), gradtx.trace(0.5)),
    "branches": lambda: (gradtx.scale(2.0), gradtx.trace(0.5)),
}

REAL_ONLY = {
    "clip": "a range of complex numbers has no order",
    "running_maximum": "complex numbers have no maximum",
    "adam in bfloat16": "there is no complex bfloat16",
}
"""Transformations that refuse complex updates, each with the reason."""


def factories() -> dict[str, Factory]:
    """The factory of every public transformation, by name."""
    return {
        name: value.factory
        for name, value in vars(gradtx).items()
        if getattr(getattr(value, "factory", None), "cls", None)
        is gradtx.GradientTransformation
    }


def example(factory: Factory) -> gradtx.GradientTransformation:
    """One transformation from a factory."""
    args, kwargs = [], {}
    for name, parameter in factory.signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            args += EXAMPLES[name]()
        elif parameter.default is inspect.Parameter.empty:
            kwargs[name] = EXAMPLES[name]()
    return factory(*args, **kwargs)


VARIANTS = {
    "sgd with Nesterov momentum": lambda: gradtx.sgd(0.1, 0.9, nesterov=True),
    "centered rmsprop": lambda: gradtx.rmsprop(0.1, centered=True, momentum=0.9),
    "rmsprop outside": lambda: gradtx.rmsprop(
        0.1, eps_in_sqrt=False, bias_correction=True
    ),
    "clip and scheduled adamw": lambda: gradtx.chain(
        gradtx.clip_by_global_norm(1.0),
        gradtx.adamw(gradtx.cosine_decay_schedule(0.1, 10), nesterov=True),
    ),
    "momentum, then clip": lambda: gradtx.chain(
        gradtx.trace(0.9), gradtx.clip_by_global_norm(0.5), gradtx.scale(-0.1)
    ),
    "adam in bfloat16": lambda: gradtx.adam(0.1, mu_dtype="bfloat16"),
}
"""Settings that run other parts of the engine than the defaults do."""

TRANSFORMATIONS = {
    **{name: (lambda f=f: example(f)) for name, f in factories().items()},
    **VARIANTS,
}
