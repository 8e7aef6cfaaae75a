"""What is held against optax: settings of every primitive that both libraries have."""

from typing import Any

import jax
from jax import numpy as jnp

import gradtx
from gradtx.transforms.factored import power_decay
from tests.settings import COSINE, LINE, Make, is_matrix


def halved(updates: Any, params: Any) -> Any:
    """A function of whole trees, for `stateless`."""
    return jax.tree.map(lambda u, p: 0.5 * u + p, updates, params)


def nan_for_zero(u: Any, p: Any) -> Any:
    """A function of arrays, for `stateless_with_tree_map`."""
    return jnp.where(u == 0, jnp.nan, u)


KEY = jax.random.key(3)

PRIMITIVES: dict[str, Make] = {
    "scale": lambda m: m.scale(-0.3),
    "scale_by_schedule": lambda m: m.scale_by_schedule(COSINE),
    "scale_by_learning_rate": lambda m: m.scale_by_learning_rate(0.1),
    "scale_by_learning_rate, none": lambda m: m.scale_by_learning_rate(),
    "scale_by_learning_rate, kept sign": lambda m: m.scale_by_learning_rate(
        LINE, flip_sign=False
    ),
    "identity": lambda m: m.identity(),
    "set_to_zero": lambda m: m.set_to_zero(),
    "stateless": lambda m: m.stateless(halved),
    "stateless_with_tree_map": lambda m: m.stateless_with_tree_map(
        lambda u, p: u - 0.1 * p
    ),
    "scale_by_sign": lambda m: m.scale_by_sign(),
    "add_decayed_weights": lambda m: m.add_decayed_weights(),
    "add_decayed_weights, scheduled": lambda m: m.add_decayed_weights(COSINE),
    "add_decayed_weights, masked": lambda m: m.add_decayed_weights(0.1, is_matrix),
    "scale_by_param_block_norm": lambda m: m.scale_by_param_block_norm(),
    "scale_by_param_block_norm, floored": lambda m: m.scale_by_param_block_norm(1.5),
    "scale_by_param_block_rms": lambda m: m.scale_by_param_block_rms(),
    "scale_by_param_block_rms, floored": lambda m: m.scale_by_param_block_rms(1.0),
    "scale_by_trust_ratio": lambda m: m.chain(m.scale_by_trust_ratio(), m.scale(0.1)),
    "scale_by_trust_ratio, floored": lambda m: m.scale_by_trust_ratio(1.5, 0.1, 1e-2),
    "centralize": lambda m: m.centralize(),
    "normalize": lambda m: m.normalize(),
    "normalize_by_update_norm": lambda m: m.normalize_by_update_norm(),
    "normalize_by_update_norm, scaled": lambda m: m.normalize_by_update_norm(2.0, 1.0),
    "scale_by_optimistic_gradient": lambda m: m.scale_by_optimistic_gradient(),
    "scale_by_optimistic_gradient, weighted": lambda m: m.scale_by_optimistic_gradient(
        0.5, 2.0
    ),
    "apply_every": lambda m: m.apply_every(),
    "apply_every, fourth": lambda m: m.apply_every(4),
    "trace": lambda m: m.trace(0.9),
    "trace, Nesterov": lambda m: m.trace(0.5, nesterov=True),
    "ema": lambda m: m.ema(0.9),
    "ema, biased": lambda m: m.ema(0.5, debias=False),
    "scale_by_rms": lambda m: m.scale_by_rms(),
    "scale_by_rms, corrected": lambda m: m.scale_by_rms(
        0.5, 1e-3, 0.1, eps_in_sqrt=False, bias_correction=True
    ),
    "scale_by_stddev": lambda m: m.scale_by_stddev(eps=1e-3),
    "scale_by_stddev, corrected": lambda m: m.scale_by_stddev(
        0.5, 1e-1, 1.0, eps_in_sqrt=False, bias_correction=True
    ),
    "scale_by_rss": lambda m: m.scale_by_rss(),
    "scale_by_rss, from one": lambda m: m.scale_by_rss(1.0, 1e-2),
    "scale_by_adadelta": lambda m: m.scale_by_adadelta(),
    "scale_by_adadelta, fast": lambda m: m.scale_by_adadelta(0.5, 1e-2),
    "scale_by_novograd": lambda m: m.scale_by_novograd(),
    "scale_by_novograd, decayed": lambda m: m.scale_by_novograd(
        0.8, 0.5, 1e-3, 1e-4, 0.1
    ),
    "scale_by_adam": lambda m: m.scale_by_adam(),
    "scale_by_adam, Nesterov": lambda m: m.scale_by_adam(
        0.8, 0.95, 1e-3, 1e-6, nesterov=True
    ),
    "scale_by_amsgrad": lambda m: m.scale_by_amsgrad(),
    "scale_by_amsgrad, as the paper": lambda m: m.scale_by_amsgrad(
        0.8, 0.9, 1e-3, 1e-6, None, False, False
    ),
    "scale_by_adamax": lambda m: m.scale_by_adamax(),
    "scale_by_adamax, fast": lambda m: m.scale_by_adamax(0.8, 0.9, 1e-3),
    "scale_by_belief": lambda m: m.scale_by_belief(),
    "scale_by_belief, Nesterov": lambda m: m.scale_by_belief(
        0.8, 0.95, 1e-6, 1e-5, nesterov=True
    ),
    "scale_by_acprop": lambda m: m.scale_by_acprop(),
    "scale_by_acprop, fast": lambda m: m.scale_by_acprop(0.8, 0.95, 1e-3, 1e-4),
    "scale_by_yogi": lambda m: m.scale_by_yogi(),
    "scale_by_yogi, from a tenth": lambda m: m.scale_by_yogi(0.8, 0.9, 1e-2, 1e-4, 0.1),
    "scale_by_radam": lambda m: m.scale_by_radam(),
    "scale_by_radam, Nesterov": lambda m: m.scale_by_radam(
        0.8, 0.95, 1e-3, 1e-6, 4.0, nesterov=True
    ),
    "scale_by_adopt": lambda m: m.scale_by_adopt(),
    "scale_by_adopt, Nesterov": lambda m: m.scale_by_adopt(
        0.8, 0.95, 1e-2, nesterov=True, clip_value_fn=lambda count: 0.1 * count
    ),
    "scale_by_adopt, not clipped": lambda m: m.scale_by_adopt(
        eps=1.0, use_clipping=False
    ),
    "scale_by_adan": lambda m: m.scale_by_adan(),
    "scale_by_adan, fast": lambda m: m.scale_by_adan(0.9, 0.8, 0.95, 1e-3, 1e-6),
    "scale_by_ademamix": lambda m: m.scale_by_ademamix(),
    "scale_by_ademamix, scheduled": lambda m: m.scale_by_ademamix(
        0.8,
        0.95,
        gradtx.linear_schedule(0.9, 0.99, 20),
        gradtx.linear_schedule(0.0, 2.0, 20),
        1e-3,
        1e-6,
    ),
    "scale_by_simplified_ademamix": lambda m: m.scale_by_simplified_ademamix(),
    "scale_by_simplified_ademamix, scheduled": lambda m: m.scale_by_simplified_ademamix(
        0.9, 0.8, gradtx.linear_schedule(0.0, 2.0, 20), 1e-3, 1e-6
    ),
    "scale_by_lion": lambda m: m.scale_by_lion(),
    "scale_by_lion, smooth": lambda m: m.scale_by_lion(
        0.8, 0.95, mode="smooth", smooth_beta=3.0
    ),
    "scale_by_lion, refined": lambda m: m.scale_by_lion(0.5, 0.9, mode="refined"),
    "scale_by_factored_rms": lambda m: m.scale_by_factored_rms(),
    "scale_by_factored_rms, small": lambda m: m.scale_by_factored_rms(
        True, 0.5, -2, 2, 1e-3, decay_rate_fn=power_decay
    ),
    "scale_by_factored_rms, whole": lambda m: m.scale_by_factored_rms(
        factored=False, decay_rate_fn=power_decay
    ),
    "scale_by_sm3": lambda m: m.scale_by_sm3(),
    "scale_by_sm3, averaged": lambda m: m.scale_by_sm3(0.5, 0.9, 1e-3),
    "scale_by_dog": lambda m: m.scale_by_dog(("heuristic", 1e-6)),
    "scale_by_dog, from a rate": lambda m: m.scale_by_dog(("learning_rate", 0.1), 1e-2),
    "scale_by_dog, from a distance": lambda m: m.scale_by_dog(("distance", 0.1)),
    "scale_by_dowg": lambda m: m.scale_by_dowg(),
    "scale_by_dowg, from a distance": lambda m: m.scale_by_dowg(0.1, 1e-2),
    "scale_by_distance_over_gradients": lambda m: m.scale_by_distance_over_gradients(),
    "scale_by_distance_over_gradients, scaled": lambda m: (
        m.scale_by_distance_over_gradients(1e-2, 1e-3, "float32", -0.5)
    ),
    "scale_by_cocob": lambda m: m.scale_by_cocob(),
    "scale_by_cocob, bold": lambda m: m.scale_by_cocob(10.0, 1e-3),
    "scale_by_polyak": lambda m: m.scale_by_polyak(),
    "scale_by_polyak, sps+": lambda m: m.scale_by_polyak(1.5, 0.5, 1e-3, "sps+"),
    "scale_by_madgrad": lambda m: m.scale_by_madgrad(0.01),
    "scale_by_madgrad, scheduled": lambda m: m.scale_by_madgrad(LINE, 0.5, 1e-3),
    "scale_by_rprop": lambda m: m.scale_by_rprop(0.01),
    "scale_by_rprop, in bounds": lambda m: m.scale_by_rprop(0.1, 0.3, 1.5, 0.05, 0.2),
    "clip": lambda m: m.clip(0.5),
    "clip_by_block_rms": lambda m: m.clip_by_block_rms(0.8),
    "clip_by_global_norm": lambda m: m.clip_by_global_norm(1.0),
    "clip_by_global_norm, loose": lambda m: m.clip_by_global_norm(6.0),
    "adaptive_grad_clip": lambda m: m.adaptive_grad_clip(0.5),
    "adaptive_grad_clip, of axes": lambda m: m.adaptive_grad_clip(0.1, 1.0, axis=()),
    "keep_params_nonnegative": lambda m: m.keep_params_nonnegative(),
    "zero_nans": lambda m: m.chain(
        m.stateless_with_tree_map(nan_for_zero), m.zero_nans()
    ),
    "add_noise": lambda m: m.add_noise(0.1, 0.55, 0),
    "add_noise, with a key": lambda m: m.add_noise(0.5, 0.3, KEY),
    "hutchinson_estimator_diag_hessian": lambda m: m.chain(
        m.hutchinson_estimator_diag_hessian(), m.scale(0.01)
    ),
    "hutchinson_estimator_diag_hessian, with a key": lambda m: m.chain(
        m.hutchinson_estimator_diag_hessian(KEY), m.scale(0.01)
    ),
    "differentially_private_aggregate": lambda m: m.differentially_private_aggregate(
        1.0, 0.1, 0
    ),
    "differentially_private_aggregate, with a key": lambda m: (
        m.differentially_private_aggregate(5.0, 0.5, KEY)
    ),
}
