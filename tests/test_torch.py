"""Golden numbers made by torch, and how torch's optimizers are written in gradtx.

Here the parameters are real. Of complex ones torch takes the real and the imaginary
part as two parameters, gradtx the magnitude.
"""

import json
import pathlib

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden/torch.json").read_text())


def l2(weight_decay, tx):
    """torch's weight_decay, AdamW's and Adafactor's excepted: added to the gradient."""
    return gradtx.chain(gradtx.add_decayed_weights(weight_decay), tx)


def decoupled(weight_decay, learning_rate, tx):
    """torch's decoupled_weight_decay: what tx makes, and a part of the parameter."""
    decay = gradtx.add_decayed_weights(-learning_rate * weight_decay)
    return gradtx.chain(tx, decay)


def adagrad(lr=1e-2, lr_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    """torch adds eps to the root, and lr_decay is a schedule."""
    total = gradtx.running_sum(initial_value=initial_accumulator_value)
    return gradtx.chain(
        gradtx.divide_by_root(gradtx.chain(gradtx.square(), total), eps),
        gradtx.scale_by_learning_rate(gradtx.inverse_time_decay(lr, lr_decay)),
    )


def radam(lr=1e-3, b1=0.9, b2=0.999, eps=1e-8):
    """torch adds eps to the root before the root's bias is corrected."""
    return gradtx.radam(
        lr, b1, b2, lambda count: eps / jnp.sqrt(1 - b2 ** (count + 1.0))
    )


def rmsprop(lr=1e-2, alpha=0.99, eps=1e-8, **settings):
    """torch adds eps to the root.

    Its momentum is not yet multiplied by the learning rate; with a schedule the two
    differ, and torch's is a chain of scale_by_rms, trace and scale_by_learning_rate.
    """
    return gradtx.rmsprop(lr, alpha, eps, eps_in_sqrt=False, **settings)


def relative_step(lr):
    """Shazeer and Stern 2018, Algorithm 4; in torch's Adafactor lr is its bound."""
    return lambda count: jnp.minimum(lr, (count + 1.0) ** -0.5)


def adafactor(lr=1e-2, beta2_decay=-0.8, d=1.0, weight_decay=0.0):
    """torch factors every matrix, and decays the weights by the bound of the rate.

    It always factors the last two axes, not the two largest; and it bounds the mean
    square by eps[0], the machine epsilon, so that gradients whose root mean square is
    below 1.5e-8 (in float32 3.5e-4) are divided by too little before the clipping.
    """
    return gradtx.adafactor(
        relative_step(lr),
        min_dim_size_to_factor=1,
        decay_rate=-beta2_decay,
        clipping_threshold=d,
        weight_decay_rate=lr * weight_decay,
    )


def adafactor_of_scale(lr, min_scale):
    """torch's eps[1] bounds the parameter's root mean square from below."""
    return gradtx.chain(
        gradtx.scale_by_factored_rms(min_dim_size_to_factor=1),
        gradtx.clip_by_block_rms(1.0),
        gradtx.scale_by_param_block_rms(min_scale),
        gradtx.scale_by_learning_rate(relative_step(lr)),
    )


OPTIMIZERS = {
    "SGD(lr=0.1)": lambda: gradtx.sgd(0.1),
    "SGD(lr=0.1, weight_decay=0.1)": lambda: l2(0.1, gradtx.sgd(0.1)),
    "SGD(lr=0.1, weight_decay=0.1, maximize=True)": lambda: gradtx.chain(
        gradtx.scale(-1.0), l2(0.1, gradtx.sgd(0.1))
    ),
    "SGD(lr=0.1, momentum=0.9)": lambda: gradtx.sgd(0.1, 0.9),
    "SGD(lr=0.1, momentum=0.9, nesterov=True)": lambda: gradtx.sgd(
        0.1, 0.9, nesterov=True
    ),
    "SGD(lr=0.1, momentum=0.9, dampening=0.5)": lambda: gradtx.sgd(
        0.1, 0.9, dampening=0.5
    ),
    "SGD(lr=0.1, momentum=0.8, weight_decay=0.1, nesterov=True)": lambda: l2(
        0.1, gradtx.sgd(0.1, 0.8, nesterov=True)
    ),
    "SGD(lr=0.1, momentum=0.8, weight_decay=0.1, dampening=0.8)": lambda: l2(
        0.1, gradtx.sgd(0.1, 0.8, dampening=0.8)
    ),
    "Adam()": lambda: gradtx.adam(1e-3),
    "Adam(lr=0.1, betas=(0.8, 0.95), eps=0.001, weight_decay=0.1)": lambda: l2(
        0.1, gradtx.adam(0.1, 0.8, 0.95, 1e-3)
    ),
    "Adam(amsgrad=True)": lambda: gradtx.amsgrad(1e-3, max_before_correction=True),
    "Adam(lr=0.1, betas=(0.8, 0.95), eps=0.001, weight_decay=0.1, amsgrad=True)": (
        lambda: l2(
            0.1, gradtx.amsgrad(0.1, 0.8, 0.95, 1e-3, max_before_correction=True)
        )
    ),
    "AdamW()": lambda: gradtx.adamw(1e-3, weight_decay=1e-2),
    "AdamW(lr=0.1, betas=(0.8, 0.95), eps=0.001, weight_decay=0.1)": (
        lambda: gradtx.adamw(0.1, 0.8, 0.95, 1e-3, weight_decay=0.1)
    ),
    "AdamW(lr=0.1, betas=(0.8, 0.95), eps=0.001, weight_decay=0.1, amsgrad=True)": (
        lambda: decoupled(
            0.1, 0.1, gradtx.amsgrad(0.1, 0.8, 0.95, 1e-3, max_before_correction=True)
        )
    ),
    "NAdam()": lambda: gradtx.nadam(2e-3, momentum_decay=4e-3),
    "NAdam(lr=0.1, betas=(0.8, 0.95), eps=0.001, weight_decay=0.1)": lambda: l2(
        0.1, gradtx.nadam(0.1, 0.8, 0.95, 1e-3, momentum_decay=4e-3)
    ),
    "NAdam(lr=0.1, betas=(0.8, 0.95), momentum_decay=0.1)": lambda: gradtx.nadam(
        0.1, 0.8, 0.95, momentum_decay=0.1
    ),
    "NAdam(lr=0.1, weight_decay=0.1, decoupled_weight_decay=True)": lambda: decoupled(
        0.1, 0.1, gradtx.nadam(0.1, momentum_decay=4e-3)
    ),
    "RAdam()": lambda: radam(),
    "RAdam(lr=0.1, betas=(0.8, 0.95), eps=0.001, weight_decay=0.1)": lambda: l2(
        0.1, radam(0.1, 0.8, 0.95, 1e-3)
    ),
    "RAdam(lr=0.1, weight_decay=0.1, decoupled_weight_decay=True)": lambda: decoupled(
        0.1, 0.1, radam(0.1)
    ),
    "Adamax()": lambda: gradtx.adamax(2e-3),
    "Adamax(lr=0.1, betas=(0.8, 0.95), eps=0.001, weight_decay=0.1)": lambda: l2(
        0.1, gradtx.adamax(0.1, 0.8, 0.95, 1e-3)
    ),
    "Adagrad()": lambda: adagrad(),
    "Adagrad(initial_accumulator_value=0.1)": lambda: adagrad(
        initial_accumulator_value=0.1
    ),
    "Adagrad(lr=0.1, lr_decay=0.1, eps=0.001, weight_decay=0.1)": lambda: l2(
        0.1, adagrad(0.1, 0.1, eps=1e-3)
    ),
    "Adadelta()": lambda: gradtx.adadelta(1.0),
    "Adadelta(lr=0.5, rho=0.95, eps=0.001, weight_decay=0.1)": lambda: gradtx.adadelta(
        0.5, 0.95, 1e-3, weight_decay=0.1
    ),
    "RMSprop()": lambda: rmsprop(),
    "RMSprop(lr=0.1, alpha=0.9, eps=0.001, weight_decay=0.1)": lambda: l2(
        0.1, rmsprop(0.1, 0.9, 1e-3)
    ),
    "RMSprop(centered=True)": lambda: rmsprop(centered=True),
    "RMSprop(momentum=0.9)": lambda: rmsprop(momentum=0.9),
    "RMSprop(alpha=0.9, eps=0.001, momentum=0.8, centered=True)": lambda: rmsprop(
        alpha=0.9, eps=1e-3, momentum=0.8, centered=True
    ),
    "Rprop()": lambda: gradtx.rprop(1e-2, delayed=False),
    "Rprop(lr=0.1, etas=(0.4, 1.5), step_sizes=(0.03, 0.3))": lambda: gradtx.rprop(
        0.1, 0.4, 1.5, 0.03, 0.3, delayed=False
    ),
    "Adafactor()": lambda: adafactor(),
    "Adafactor(lr=0.5, beta2_decay=-0.5, d=1.5, weight_decay=0.1)": lambda: adafactor(
        0.5, -0.5, 1.5, 0.1
    ),
    "Adafactor(lr=0.1, eps=(None, 1.0))": lambda: adafactor_of_scale(0.1, 1.0),
}


def arrays(tree):
    """Its lists as float64 arrays."""
    return {name: jnp.asarray(values, jnp.float64) for name, values in tree.items()}


@jax.jit
def path(tx, start, grads):
    """The parameters after each step."""

    def step(carry, grads):
        params, state = carry
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (start, tx.init(start)), grads)[1]


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_optimizer_goes_where_torch_goes(case):
    with jax.enable_x64(True):
        tx = OPTIMIZERS[case]()
        assert type(tx) is gradtx.GradientTransformation
        ours = path(tx, arrays(GOLDEN["start"]), arrays(GOLDEN["grads"]))
        for name, theirs in GOLDEN["cases"][case].items():
            kept = ours[name][np.array(GOLDEN["steps"]) - 1]
            np.testing.assert_allclose(kept, theirs, rtol=1e-12, atol=1e-12)


def test_every_case_of_the_file_is_compared():
    assert set(OPTIMIZERS) == set(GOLDEN["cases"])


def test_file_tells_the_versions_that_made_it():
    assert GOLDEN["versions"]["torch"].startswith("2.13.0")
    assert GOLDEN["versions"]["numpy"]
