"""Every public transformation, with arguments for those that it requires.

A new one joins by being public. If it requires an argument that `EXAMPLES` does not
know by name, the suite fails and says so.
"""

import inspect
from typing import Any

import jax
import optax
from jax import numpy as jnp

import gradtx
from gradtx import testing
from gradtx.core.dtypes import wide
from gradtx.core.factory import Factory


def every_second(step, **extra):
    """When something happens, for `conditionally_transform`."""
    return step % 2 == 0


def size_of(updates):
    """What someone may measure."""
    squares = [jnp.sum(jnp.square(jnp.abs(u))) for u in jax.tree.leaves(updates)]
    return sum(squares, jnp.zeros(()))


def measured(updates, params):
    """What someone may record."""
    return size_of(updates).astype(jnp.float32)


def doubled(updates, params):
    """What someone may give to `stateless`."""
    return jax.tree.map(lambda u: 2 * u, updates)


EXAMPLES = {
    "adv_optimizer": lambda: gradtx.chain(gradtx.normalize(), gradtx.sgd(0.05)),
    "alpha": lambda: 0.5,
    "b2": lambda: 0.9,
    "base_optimizer": lambda: gradtx.sgd(0.1),
    "body": lambda: gradtx.add(gradtx.recall("marked"), gradtx.identity()),
    "branches": lambda: (gradtx.scale(2.0), gradtx.trace(0.5)),
    "by": lambda: 0.5,
    "clipping": lambda: 0.1,
    "dampening": lambda: 0.5,
    "decay": lambda: 0.9,
    "estimator": lambda: gradtx.chain(
        gradtx.square(), gradtx.scale_by_ema(0.9, "nu"), gradtx.shift(1e-3)
    ),
    "eta": lambda: 0.1,
    "every": lambda: 2,
    "f": lambda: doubled,
    "fast_optimizer": lambda: gradtx.sgd(0.1, 0.9),
    # Of the size of the parameters, which its steps forget.
    **dict.fromkeys(("ftrl.learning_rate", "scale_by_ftrl.learning_rate"), lambda: 2.0),
    "floor": lambda: 0.1,
    "freeze_mask": lambda: False,
    "gamma": lambda: 0.5,
    "inner": lambda: gradtx.trace(0.9),
    "key": lambda: "pinned",
    "l2_norm_clip": lambda: 0.5,
    "lambd": lambda: 0.1,
    "learning_rate": lambda: 0.1,
    "mask": lambda: True,
    "max_consecutive_errors": lambda: 3,
    "max_delta": lambda: 0.25,
    "max_backtracking_steps": lambda: 5,
    "max_linesearch_steps": lambda: 5,
    "max_learning_rate": lambda: 0.2,
    "max_magnitude": lambda: 0.25,
    "max_norm": lambda: 0.5,
    "measure": lambda: size_of,
    "measure_name": lambda: "size",
    "measures": lambda: {
        "size": size_of,
        "average": gradtx.ema(0.9),
    },
    "name": lambda: "marked",
    "patterns": lambda: ("**",),
    "record.measure": lambda: measured,
    **dict.fromkeys(("cautious.transform", "grams.transform"), gradtx.scale_by_adam),
    "named_chain.args": lambda: (
        ("first", gradtx.scale(2.0)),
        ("b", gradtx.trace(0.5)),
    ),
    "noise_multiplier": lambda: 0.1,
    "optimizer": lambda: gradtx.sgd(0.1, 0.9),
    "param_labels": lambda: "all",
    "preconditioner": lambda: gradtx.scale_by_rms(),
    "seed": lambda: 3,
    "should_transform_fn": lambda: every_second,
    "slow_step_size": lambda: 0.5,
    "step_size": lambda: -0.5,
    "step_size_fn": lambda: gradtx.linear_schedule(1.0, 0.5, 4),
    "sync_period": lambda: 2,
    "threshold": lambda: 0.5,
    "transform": lambda: gradtx.trace(0.9),
    **dict.fromkeys(
        ("partition.transforms", "multi_transform.transforms"),
        lambda: {"all": gradtx.trace(0.9), "none": gradtx.scale(2.0)},
    ),
    "groups.transforms": lambda: {"**": gradtx.trace(0.9)},
    "transforms": lambda: (gradtx.scale(2.0), gradtx.trace(0.5)),
    "value": lambda: gradtx.trace(0.9),
}

REAL_ONLY = {
    "clip": "a range of complex numbers has no order",
    "running_maximum": "complex numbers have no maximum",
    "at_least": "complex numbers have no maximum",
    "sophia": "a Hessian's diagonal must be real to be bounded from below",
    "scale_by_sophia": "a Hessian's diagonal must be real to be bounded from below",
    "ftrl": "complex numbers have no order",
    "scale_by_ftrl": "complex numbers have no order",
    "keep_params_nonnegative": "complex numbers have no order",
    "adam in bfloat16": "there is no complex bfloat16",
}
"""Transformations that refuse complex updates, each with the reason."""

WITHOUT_DERIVATIVE = {
    "scale_by_backtracking_linesearch": "a while loop has none in reverse mode",
    "scale_by_zoom_linesearch": "a while loop has none in reverse mode",
    "lbfgs": "its line search has none",
}
"""Transformations that have no derivative, each with the reason."""

PARTS = {
    "block_mean": "gives another shape; `scale_by_adam_mini` has it",
    "block_norm": "gives another shape; `scale_by_novograd` has it",
    "main_directions": "gives another shape; `in_subspace` has it",
    "recall": "gives something only inside a `let`, whose example has it",
    "scale_by_muon": "takes matrices only; `muon` has it",
    "scale_by_model_step": "needs an average that is let; `momo` has it",
}
"""Transformations that do not stand alone, each with the reason."""


def loss(params, obj_fn=None):
    """Some loss of any tree of parameters.

    optax gives a line search's function every argument that only others know.
    """
    squares = [jnp.sum(jnp.square(jnp.abs(p))) for p in jax.tree.leaves(params)]
    return sum(squares, jnp.zeros(()))


def examples_of(params, seed=0):
    """Gradients of three examples for each parameter."""
    thrice = jax.tree.map(lambda p: jnp.stack([p] * 3), params)
    return testing.gradients(thrice, seed)


def falling(grads):
    """A loss that is another one with other gradients, less at a second update."""
    return sum(map(jnp.sum, jax.tree.leaves(jax.tree.map(jnp.real, grads))), 10.0)


def descent_along(params, grads):
    """For a line search: a well-conditioned objective that has these gradients."""

    def objective(at):
        def part(p, here, g):
            if p is None or g is None:
                return None
            step, g = wide(p) - wide(here), wide(g)
            return jnp.sum(jnp.real(g.conj() * step) + jnp.abs(step) ** 2 / 2)

        parts = jax.tree.map(part, at, params, grads, is_leaf=lambda x: x is None)
        return sum(jax.tree.leaves(parts), jnp.zeros(()))

    return {"value": objective(params), "grad": grads, "value_fn": objective}


SEARCH = {"extra": descent_along}
VALUE = {"extra": lambda params, grads: {"value": 2.0}}
FALLING = {"extra": lambda params, grads: {"value": falling(grads)}}
EXAMPLES_OF = {"gradients": examples_of}
HESSIAN = {"extra": lambda params, grads: {"obj_fn": loss}}
CASES = {
    "scale_by_polyak": VALUE,
    "polyak_sgd": VALUE,
    "reduce_on_plateau": FALLING,
    "scale_by_backtracking_linesearch": SEARCH,
    "scale_by_zoom_linesearch": SEARCH,
    "lbfgs": SEARCH,
    "momo": VALUE,
    "momo_adam": VALUE,
    "dpsgd": EXAMPLES_OF,
    "differentially_private_aggregate": EXAMPLES_OF,
    "hutchinson_estimator_diag_hessian": HESSIAN,
    "sophia": HESSIAN,
    "scale_by_sophia": HESSIAN,
}
"""What `testing.Case` needs beside parameters."""


def parts() -> set[str]:
    """The names of `gradtx.transforms` that neither `gradtx` nor optax lists."""
    return {*dir(gradtx.transforms)} - {*dir(optax.transforms), *dir(gradtx)}


def public() -> dict[str, Any]:
    """What is listed in `gradtx`, and the parts in `gradtx.transforms`, by name."""
    listed = {
        name: value
        for name, value in vars(gradtx).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    return listed | {name: getattr(gradtx, name) for name in sorted(parts())}


def factories() -> dict[str, Factory]:
    """The factory of every public transformation, by name."""
    return {
        name: value.factory
        for name, value in public().items()
        if getattr(getattr(value, "factory", None), "cls", None)
        is gradtx.GradientTransformation
    }


def example(factory: Factory) -> gradtx.GradientTransformation:
    """One transformation from a factory."""
    args, kwargs = [], {}
    for name, parameter in factory.signature.parameters.items():
        is_variadic = parameter.kind is parameter.VAR_POSITIONAL
        if is_variadic or parameter.default is inspect.Parameter.empty:
            own = f"{factory.name}.{name}"
            make = EXAMPLES.get(own, EXAMPLES.get(name))
            assert make, f"no example for {own}: add one to EXAMPLES in {__file__}"
            value = make()
            if is_variadic:
                args += value
            else:
                kwargs[name] = value
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
    "MultiSteps": lambda: gradtx.MultiSteps(
        gradtx.trace(0.9), 2
    ).gradient_transformation(),
    "skip of spikes": lambda: gradtx.skip(gradtx.sgd(0.1), gradtx.norm_spikes()),
    "loss_scale that stays": lambda: gradtx.loss_scale(
        gradtx.sgd(0.1, 0.9), 128.0, dynamic=False
    ),
    "polyak average": lambda: gradtx.average_params(gradtx.sgd(0.1), "polyak", 1),
    "lookahead that restarts": lambda: gradtx.lookahead(
        gradtx.adam(0.1), 2, 0.5, reset_state=True
    ),
    "injected adam": lambda: gradtx.inject_hyperparams(gradtx.adam)(0.1),
}
"""Settings that run other parts of the engine than the defaults do."""

TRANSFORMATIONS = {
    **{
        name: (lambda f=f: example(f))
        for name, f in factories().items()
        if name not in PARTS
    },
    **VARIANTS,
}
