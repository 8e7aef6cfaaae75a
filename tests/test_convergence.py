import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from gradtx.optimizers import OPTIMIZERS
from tests.registry import REAL_ONLY


class Setting(NamedTuple):
    """How an optimizer is run; without a learning rate at its default.

    Attributes:
        quadratic: The learning rate on a quadratic, real or complex.
        rosenbrock: The learning rate on Rosenbrock's function.
        more: Other arguments.
        steps: How many steps.
        falls: Whether the learning rate falls to 0, along a cosine.
    """

    quadratic: float | None = None
    rosenbrock: float | None = None
    more: dict[str, Any] = {}  # noqa: RUF012
    steps: int = 1000
    falls: bool = True

    def make(self, name: str, rate: float | None) -> gradtx.GradientTransformation:
        """The optimizer."""
        given = dict(self.more)
        if rate is not None:
            fall = gradtx.cosine_decay_schedule(rate, self.steps)
            given["learning_rate"] = fall if self.falls else rate
        return getattr(gradtx, name)(**given)


SETTINGS = {
    "acprop": Setting(0.03, 0.01),
    "adabelief": Setting(0.1, 0.1),
    "adadelta": Setting(3.0, 3.0),
    "adam_atan2": Setting(0.1, 0.1),
    "adam_mini": Setting(0.1, 0.1),
    "adamc": Setting(0.1, 0.1, {"max_learning_rate": 0.1, "weight_decay": 1e-4}),
    "aggmo": Setting(0.03, 0.0003),
    "apollo": Setting(0.1, 0.1, {"rank": 1, "every": 10}),
    "asgd": Setting(0.1, 0.003, {"lambd": 1e-6}),
    "came": Setting(0.01, 0.03),
    "ftrl": Setting(1.0, 0.3, falls=False),
    "laprop": Setting(0.1, 0.1),
    "qhadam": Setting(0.05, 0.1),
    "stable_adamw": Setting(0.1, 0.1, {"weight_decay": 1e-4}),
    "adafactor": Setting(0.1, 0.3),
    "adagrad": Setting(1.0, 1.0),
    "adam": Setting(0.1, 0.1),
    "adamax": Setting(0.1, 0.5),
    "adamaxw": Setting(0.1, 0.5),
    "adamw": Setting(0.1, 0.1),
    "adan": Setting(0.1, 0.1),
    "ademamix": Setting(0.3, 0.1),
    "adopt": Setting(0.3, 1.0),
    "amsgrad": Setting(0.3, 0.5),
    "cocob": Setting(steps=3000),
    "dadapt_adamw": Setting(1.0, 1.0),
    "dog": Setting(steps=3000),
    "dowg": Setting(),
    "dpsgd": Setting(
        0.1, 0.01, {"l2_norm_clip": 10.0, "noise_multiplier": 1e-4, "seed": 0}
    ),
    "fromage": Setting(0.01, 0.1),
    "galore": Setting(0.1, 0.1, {"rank": 1, "update_proj_gap": 10}),
    "lamb": Setting(0.01, 0.1),
    "lars": Setting(1.0, 1.0),
    "lbfgs": Setting(steps=50),
    "lion": Setting(0.01, 0.03),
    "madgrad": Setting(0.01, 0.1),
    "momentum": Setting(0.3, 0.01),
    "momo": Setting(),
    "momo_adam": Setting(),
    "muon": Setting(0.1, 0.1),
    "nadam": Setting(0.1, 0.1),
    "nadamw": Setting(0.1, 0.1),
    "noisy_sgd": Setting(0.1, 0.003),
    "novograd": Setting(0.01, 0.01),
    "optimistic_adam_v2": Setting(0.1, 0.1),
    "optimistic_gradient_descent": Setting(0.03, 0.0012),
    "polyak_sgd": Setting(),
    "prodigy": Setting(),
    "radam": Setting(0.1, 0.004, {"b2": 0.99}, steps=3000),
    "rmsprop": Setting(0.1, 0.03),
    "rprop": Setting(0.1, 0.1, falls=False),
    "schedule_free_adamw": Setting(0.3, 0.1, falls=False),
    "schedule_free_sgd": Setting(0.3, 0.003, falls=False),
    "sgd": Setting(0.1, 0.003),
    "sign_sgd": Setting(0.01, 0.003),
    "signum": Setting(0.01, 0.01),
    "simplified_ademamix": Setting(0.01, 0.01, {"b1": 0.9}),
    "sm3": Setting(1.0, 1.0),
    "sophia": Setting(0.03, 0.03),
    "yogi": Setting(0.1, 0.1),
}

Loss = Callable[[Any], Any]
NEEDS: dict[str, Callable[[Loss, Any, Any], dict[str, Any]]] = {
    "lbfgs": lambda f, value, grad: {"value": value, "grad": grad, "value_fn": f},
    "momo": lambda f, value, grad: {"value": value},
    "momo_adam": lambda f, value, grad: {"value": value},
    "polyak_sgd": lambda f, value, grad: {"value": value},
    "sophia": lambda f, value, grad: {"obj_fn": f},
}
"""What an optimizer looks at beside the gradient."""
SHARES = (0.5, 1.0, 1.5)
"""The gradients of three examples, in units of their mean."""


def gradients_of_examples(grads: Any) -> Any:
    return jax.tree.map(lambda g: jnp.stack([share * g for share in SHARES]), grads)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def minimized(name: str, loss: Loss, steps: int, tx: Any, start: Any) -> Any:
    """The loss in the end. Gradients are conjugated, as for optax."""

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        grads = jax.tree.map(jnp.conj, grads)
        extra = NEEDS.get(name, lambda *_: {})(loss, value, grads)
        if name == "dpsgd":
            grads = gradients_of_examples(grads)
        updates, state = tx.update(grads, state, params, **extra)
        return (optax.apply_updates(params, updates), state), None

    return loss(jax.lax.scan(step, (start, tx.init(start)), None, steps)[0][0])


def run(name: str, rate: float | None, loss: Loss, start: Any) -> float:
    setting = SETTINGS[name]
    tx = setting.make(name, rate)
    return float(minimized(name, loss, setting.steps, tx, start))


AXES, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))
CURVATURES = np.diag(np.geomspace(1, 10, 5))
HESSIAN = np.asarray(AXES @ CURVATURES @ AXES.T, np.float32)
START = {"matrix": np.array([[1, -1], [2, 0.5]], np.float32), "scalar": np.float32(2)}
MINIMUM = np.array([1, -1, 0.5, 0.5, 1], np.float32)


def quadratic(params: Any) -> Any:
    """Five dimensions, curvatures from 1 to 10 along axes of any direction."""
    way = jnp.concatenate([params["matrix"].ravel(), params["scalar"][None]]) - MINIMUM
    return way @ HESSIAN @ way / 2


def rosenbrock(params: Any) -> Any:
    """A curved valley, whose floor falls slowly from (-1, 1) to (1, 1)."""
    x, y = params["point"]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


FROM = {"point": np.array([-1.2, 1], np.float32)}
COMPLEX = {
    "matrix": np.array([[1j, 2], [1, 1]], np.complex64),
    "vector": np.array([1 + 1j, -1 + 0.5j], np.complex64),
}
CENTER = {
    "matrix": np.array([[-1j, 1], [2, 1j]], np.complex64),
    "vector": np.array([1 - 1j, -1 - 1j], np.complex64),
}


def squared_distance(params: Any) -> Any:
    ways = jax.tree.map(lambda z, c: jnp.sum(jnp.abs(z - c) ** 2), params, CENTER)
    return ways["matrix"] + ways["vector"]


def test_the_settings_are_those_of_every_optimizer():
    known = {made.__name__ for made in OPTIMIZERS}
    assert not known - SETTINGS.keys(), "give each a `Setting` in SETTINGS"
    assert not SETTINGS.keys() - known, "they are not in OPTIMIZERS"


@pytest.mark.parametrize("name", SETTINGS)
def test_an_optimizer_reaches_the_minimum_of_a_quadratic(name):
    assert quadratic(START) > 3
    assert run(name, SETTINGS[name].quadratic, quadratic, START) < 1e-5


@pytest.mark.parametrize("name", SETTINGS)
def test_an_optimizer_follows_the_valley_of_rosenbrock(name):
    assert run(name, SETTINGS[name].rosenbrock, rosenbrock, FROM) < 0.1 * 24.2


def test_to_fall_into_the_valley_of_rosenbrock_is_not_enough():
    assert math.isclose(rosenbrock(FROM), 24.2, rel_tol=1e-6)
    assert 3 < run("sgd", 1e-4, rosenbrock, FROM) < 5


# optax's adopt, madgrad, rprop and sm3 raise for complex numbers; its adadelta, cocob,
# dadapt_adamw, prodigy and simplified_ademamix do not converge.
@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - REAL_ONLY.keys()))
def test_an_optimizer_minimizes_over_complex_numbers(name):
    assert squared_distance(COMPLEX) > 3
    assert run(name, SETTINGS[name].quadratic, squared_distance, COMPLEX) < 1e-5
