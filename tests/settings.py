"""What is held against optax: settings of every name that both libraries have.

Each setting is built from gradtx and from optax, with our schedule objects in both:
with x64 optax's own are float32 for an int32 count. Where optax lacks a setting's
meaning there is none here.
"""

import types
from collections.abc import Callable
from typing import Any

import jax
import optax
from optax import contrib
from optax.contrib import _dog
from optax.transforms import _clipping

import gradtx

OPTAX = types.SimpleNamespace(
    **{
        name: getattr(module, name)
        for module in (_dog, _clipping, contrib, optax)
        for name in dir(module)
    }
)

LINE = gradtx.linear_schedule(0.1, 0.01, 20)

COSINE = gradtx.warmup_cosine_decay_schedule(0.0, 0.1, 5, 25)


def is_matrix(params: Any) -> Any:
    """A mask: the leaves with more than one axis."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


Make = Callable[[Any], Any]

OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda m: m.sgd(0.1),
    "sgd, momentum": lambda m: m.sgd(0.1, momentum=0.9),
    "sgd, Nesterov": lambda m: m.sgd(LINE, 0.9, nesterov=True),
    "rmsprop": lambda m: m.rmsprop(0.01),
    "rmsprop, momentum": lambda m: m.rmsprop(
        gradtx.exponential_decay(0.01, 10, 0.5), 0.8, 1e-6, 0.1, False, momentum=0.9
    ),
    "rmsprop, corrected": lambda m: m.rmsprop(
        0.01, bias_correction=True, momentum=0.5, nesterov=True
    ),
    "rmsprop, centered": lambda m: m.rmsprop(0.01, 0.9, 1e-3, 1.0, centered=True),
    "rmsprop, centered outside": lambda m: m.rmsprop(
        0.01, 0.9, 1e-3, 1.0, eps_in_sqrt=False, centered=True
    ),
    "adagrad": lambda m: m.adagrad(0.1),
    "adagrad, from one": lambda m: m.adagrad(
        gradtx.piecewise_constant_schedule(0.1, {10: 0.5, 20: 0.1}), 1.0, 1e-3
    ),
    "adam": lambda m: m.adam(0.01),
    "adam, scheduled": lambda m: m.adam(COSINE, 0.8, 0.95, 1e-3, 1e-6),
    "adamw": lambda m: m.adamw(0.01),
    "adamw, scheduled": lambda m: m.adamw(
        0.01, weight_decay=gradtx.polynomial_schedule(0.1, 0.0, 2, 30), mask=is_matrix
    ),
    "nadam": lambda m: m.nadam(0.01),
    "nadam, scheduled": lambda m: m.nadam(COSINE, 0.8, 0.95, 1e-3, 1e-6),
    "nadamw": lambda m: m.nadamw(LINE, weight_decay=0.1),
    "nadamw, defaults": lambda m: m.nadamw(0.01),
    "amsgrad": lambda m: m.amsgrad(0.01),
    "amsgrad, as the paper": lambda m: m.amsgrad(
        LINE, 0.8, 0.9, bias_correction_mu=False, bias_correction_nu=False
    ),
    "adamax": lambda m: m.adamax(0.01),
    "adamax, scheduled": lambda m: m.adamax(LINE, 0.8, 0.9, 1e-3),
    "adamaxw": lambda m: m.adamaxw(0.01),
    "adamaxw, scheduled": lambda m: m.adamaxw(
        LINE, 0.8, 0.9, weight_decay=COSINE, mask=is_matrix
    ),
    "adabelief": lambda m: m.adabelief(0.01),
    "adabelief, Nesterov": lambda m: m.adabelief(
        LINE, 0.8, 0.95, 1e-6, 1e-5, nesterov=True
    ),
    "acprop": lambda m: m.acprop(0.01),
    "acprop, scheduled": lambda m: m.acprop(
        LINE, 0.8, 0.95, 1e-3, 1e-4, 0.1, is_matrix
    ),
    "radam": lambda m: m.radam(0.01),
    "radam, Nesterov": lambda m: m.radam(
        LINE, 0.8, 0.95, 1e-3, 1e-6, 4.0, nesterov=True
    ),
    "yogi": lambda m: m.yogi(0.01),
    "yogi, scheduled": lambda m: m.yogi(LINE, 0.8, 0.9, 1e-2),
    "adopt": lambda m: m.adopt(0.01),
    "adopt, Nesterov": lambda m: m.adopt(
        LINE, 0.8, 0.95, 1e-2, nesterov=True, clip_value_fn=lambda count: 0.1 * count
    ),
    "adopt, not clipped": lambda m: m.adopt(0.01, eps=1.0, use_clipping=False),
    "optimistic_adam_v2": lambda m: m.optimistic_adam_v2(0.01),
    "optimistic_adam_v2, scheduled": lambda m: m.optimistic_adam_v2(
        LINE, alpha=0.5, beta=2.0, b1=0.8, eps=1e-3, nesterov=False
    ),
    "adan": lambda m: m.adan(0.01),
    "adan, scheduled": lambda m: m.adan(
        LINE, 0.9, 0.8, 0.95, 1e-3, 1e-6, 0.1, is_matrix
    ),
    "ademamix": lambda m: m.ademamix(0.01),
    "ademamix, scheduled": lambda m: m.ademamix(
        LINE,
        0.8,
        0.95,
        gradtx.linear_schedule(0.9, 0.99, 20),
        gradtx.linear_schedule(0.0, 2.0, 20),
        1e-3,
        1e-6,
        None,
        0.1,
        is_matrix,
    ),
    "simplified_ademamix": lambda m: m.simplified_ademamix(0.01),
    "simplified_ademamix, scheduled": lambda m: m.simplified_ademamix(
        LINE, 0.9, 0.8, gradtx.linear_schedule(0.0, 2.0, 20), 1e-3, 1e-6, 0.1, is_matrix
    ),
    "lion": lambda m: m.lion(0.01),
    "lion, scheduled": lambda m: m.lion(
        LINE, 0.8, 0.95, weight_decay=COSINE, mask=is_matrix
    ),
    "adadelta": lambda m: m.adadelta(),
    "adadelta, scheduled": lambda m: m.adadelta(LINE, 0.8, 1e-3, COSINE, is_matrix),
    "novograd": lambda m: m.novograd(0.01),
    "novograd, scheduled": lambda m: m.novograd(LINE, 0.8, 0.5, 1e-3, 1e-4, 0.1),
    "sm3": lambda m: m.sm3(0.01),
    "sm3, slow": lambda m: m.sm3(0.1, 0.5),
    "adafactor": lambda m: m.adafactor(),
    "adafactor, small": lambda m: m.adafactor(0.1, min_dim_size_to_factor=2),
    "adafactor, with all": lambda m: m.adafactor(
        LINE, 3, 0.9, 0, False, 0.5, None, "float32", 0.01, 1e-3, True, is_matrix
    ),
    "adafactor, momentum": lambda m: m.adafactor(LINE, 3, momentum=0.8),
    "adafactor, whole": lambda m: m.adafactor(
        0.1, clipping_threshold=None, factored=False
    ),
    "madgrad": lambda m: m.madgrad(0.01),
    "madgrad, scheduled": lambda m: m.madgrad(LINE, 0.5, 0.1, 1e-3),
    "lars": lambda m: m.lars(0.1),
    "lars, scheduled": lambda m: m.lars(
        LINE, COSINE, is_matrix, 0.1, 1e-3, is_matrix, 0.8, True
    ),
    "lamb": lambda m: m.lamb(0.01),
    "lamb, scheduled": lambda m: m.lamb(LINE, 0.8, 0.95, 1e-3, 1e-6, 0.1, is_matrix),
    "fromage": lambda m: m.fromage(0.01),
    "fromage, scheduled": lambda m: m.fromage(LINE, 0.5),
    "sign_sgd": lambda m: m.sign_sgd(0.01),
    "sign_sgd, scheduled": lambda m: m.sign_sgd(LINE),
    "signum": lambda m: m.signum(0.01),
    "signum, scheduled": lambda m: m.signum(LINE, 0.5),
    "noisy_sgd": lambda m: m.noisy_sgd(0.1, key=0),
    "noisy_sgd, with a key": lambda m: m.noisy_sgd(LINE, 0.5, 0.3, jax.random.key(3)),
    "optimistic_gradient_descent": lambda m: m.optimistic_gradient_descent(0.1),
    "optimistic_gradient_descent, scheduled": lambda m: m.optimistic_gradient_descent(
        LINE, 0.5, 2.0
    ),
    "rprop": lambda m: m.rprop(0.01),
    "rprop, in bounds": lambda m: m.rprop(0.1, 0.3, 1.5, 0.05, 0.2),
    "polyak_sgd": lambda m: m.polyak_sgd(),
    "polyak_sgd, scheduled": lambda m: m.polyak_sgd(0.1, LINE, 0.5, 1e-3, "sps+"),
    "cocob": lambda m: m.cocob(),
    "cocob, scheduled": lambda m: m.cocob(LINE, 10.0, 1e-3, 0.1, is_matrix),
    "dog": lambda m: m.dog(),
    "dog, from a rate": lambda m: m.dog(
        LINE, ("learning_rate", 0.01), 1e-3, 0.1, is_matrix
    ),
    "dog, from a distance": lambda m: m.dog(0.5, ("distance", 0.1)),
    "dowg": lambda m: m.dowg(),
    "dowg, scheduled": lambda m: m.dowg(LINE, 0.1, 1e-2, 0.1, is_matrix),
    "prodigy": lambda m: m.prodigy(),
    "prodigy, scheduled": lambda m: m.prodigy(
        LINE, (0.8, 0.95), 0.9, 1e-3, 1e-2, 0.5, 0.1, True
    ),
    "dadapt_adamw": lambda m: m.dadapt_adamw(),
    "dadapt_adamw, scheduled": lambda m: m.dadapt_adamw(
        LINE, (0.8, 0.95), 1e-3, 1e-2, 0.1
    ),
    "momo": lambda m: m.momo(),
    "momo, scheduled": lambda m: m.momo(LINE, 0.8, 0.1, 0.1, True),
    "momo_adam": lambda m: m.momo_adam(),
    "momo_adam, scheduled": lambda m: m.momo_adam(
        LINE, 0.8, 0.95, 1e-3, 0.1, 0.1, True
    ),
    "sophia": lambda m: m.sophia(0.01),
    "sophia, scheduled": lambda m: m.sophia(
        LINE, 0.8, 0.9, 1e-3, COSINE, is_matrix, 0.1, 0.5, 3
    ),
    "sophia, not clipped": lambda m: m.sophia(0.01, eps=0.1, clip_threshold=None),
    "muon": lambda m: m.muon(0.01),
    "muon, scheduled": lambda m: m.muon(
        LINE,
        "dion",
        5,
        0.9,
        1e-3,
        0.1,
        is_matrix,
        nesterov=False,
        adam_b1=0.8,
        adam_b2=0.95,
        adam_eps_root=1e-6,
        adam_weight_decay=0.1,
        adam_learning_rate=COSINE,
        consistent_rms=0.2,
    ),
    "muon, adaptive": lambda m: m.muon(0.01, adaptive=True, preconditioning="schatten"),
    "muon, of rows": lambda m: m.muon(0.01, ns_steps=3, preconditioning="aol"),
    "muon, spectral": lambda m: m.muon(0.01, preconditioning="spectral"),
    "muon, of given axes": lambda m: m.muon(
        0.01,
        muon_weight_dimension_numbers=lambda params: jax.tree.map(
            lambda p: m.MuonDimensionNumbers((0, 3), (1,)) if p.ndim == 4 else None,
            params,
        ),
    ),
    "galore": lambda m: m.galore(0.01),
    "galore, of rank 2": lambda m: m.galore(
        LINE, 2, 7, 0.5, m.trace(0.9), 0.1, is_matrix
    ),
    "galore, of given axes": lambda m: m.galore(
        LINE,
        2,
        7,
        weight_dimension_numbers=lambda params: jax.tree.map(
            lambda p: m.GaLoreDimensionNumbers((0, 3), (1, 2)) if p.ndim == 4 else None,
            params,
        ),
    ),
    "schedule_free": lambda m: m.schedule_free(m.adam(LINE, b1=0.0), LINE),
    "schedule_free, of SGD": lambda m: m.schedule_free(m.sgd(0.1), 0.1, 0.7, 0.0),
    "schedule_free_sgd": lambda m: m.schedule_free_sgd(),
    "schedule_free_sgd, warm": lambda m: m.schedule_free_sgd(0.1, 10, 0.8, 0.1, 1.5),
    "schedule_free_adamw": lambda m: m.schedule_free_adamw(),
    "schedule_free_adamw, warm": lambda m: m.schedule_free_adamw(
        0.1, 10, 0.8, 0.95, 1e-3, 0.1, 1.5
    ),
    "dpsgd": lambda m: m.dpsgd(0.1, 1.0, 0.1, 5),
    "dpsgd, Nesterov": lambda m: m.dpsgd(LINE, 3.0, 0.5, 6, 0.9, True),
}

PLAIN: dict[str, Make] = {
    **{name: make for name, make in OPTIMIZERS.items() if "," not in name},
    "lbfgs": lambda m: m.lbfgs(),
}
"""One setting of every optimizer; `test_lbfgs.py` holds L-BFGS against optax."""


INNER: dict[str, Make] = {
    "sgd": lambda m: m.sgd(0.1),
    "adam": lambda m: m.adam(0.01),
    "scheduled": lambda m: m.sgd(LINE, 0.9),
}
"""What wrappers are held against optax around."""


OF_EXAMPLES = {"dpsgd": (3,)}
"""Which take the gradients of examples, of how many."""
