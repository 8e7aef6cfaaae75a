"""Papers in float64 NumPy, and what runs a transformation beside them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

import gradtx
from tests.equality import as_optax_needs

_rng = np.random.default_rng(0)
REAL = [_rng.normal(size=4) * [1, 1, 1e-3, 0] for _ in range(20)]
COMPLEX = [g + 1j * _rng.normal(size=4) * [1, 0, 1e-3, 0] for g in REAL]
PARAMS = list(_rng.normal(size=(20, 4)))
"""Gradients, one of which is always zero, and the parameters that each is of."""


def assert_equals_paper(
    tx: Any,
    paper: Callable[[list[Any], list[Any]], Iterable[Any]],
    is_complex: bool = False,
    data: tuple[list[Any], list[Any]] | None = None,
    **extra: Any,
) -> None:
    """The updates of all steps, beside what a paper makes of the same.

    The parameters are given and do not follow the updates. Others than the usual
    gradients and parameters may be given as `data`.
    """
    grads, params = data or (COMPLEX if is_complex else REAL, PARAMS)
    with jax.enable_x64(True):
        params = [jnp.asarray(p, grads[0].dtype) for p in params]
        state, update = tx.init(params[0]), jax.jit(tx.update)
        expected = paper(grads, [np.asarray(p) for p in params])
        for g, p, other in zip(grads, params, expected, strict=True):
            updates, state = update(jnp.asarray(g), state, p, **extra)
            assert updates.dtype == g.dtype
            np.testing.assert_allclose(updates, other, rtol=1e-11, atol=1e-13)


def assert_slots_equal_optax(name: str, arguments: dict[str, Any]) -> None:
    """The updates of a tree with a complex leaf, and the slots under their names."""
    grads = [
        (jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.complex64))
        for a, b in zip(REAL, COMPLEX, strict=True)
    ]
    runs = [steps_of(getattr(lib, name)(**arguments), grads) for lib in (gradtx, optax)]
    mine, theirs = map(list, runs)
    with jax.enable_x64(True):  # what optax's powers of float32 are near to
        wide = [(a.astype("float64"), b.astype("complex128")) for a, b in grads]
        exact = [u for u, _ in steps_of(getattr(optax, name)(**arguments), wide)]
    for (one, _), (other, _), double in zip(mine, theirs, exact, strict=True):
        for a, b, c in zip(one, other, double, strict=True):
            assert a.dtype == b.dtype
            a, b, c = (np.asarray(x) for x in (a, b, c))
            nearer = np.where(abs(a - b) < abs(a - c), b, c)  # of both precisions
            np.testing.assert_allclose(a, nearer, rtol=2e-6)
    (_, slots), (_, named_slots) = mine[-1], theirs[-1]
    assert {"count", *slots} == {"count", *named_slots._fields}
    for key in slots.keys() - {"count"}:
        for a, b in zip(slots[key], getattr(named_slots, key), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6)


def assert_kept_in_single(name: str, paper: Any, dtype: str, **arguments: Any) -> None:
    """In half precision 0.999 is 1, and the square of a float16 of 1e-4 is 0."""
    grads = [jnp.asarray(1e-4 * g[:2], dtype) for g in REAL]
    expected = paper([np.float64(g) for g in grads], **arguments)
    runs = steps_of(getattr(gradtx, name)(**arguments), grads)
    for (updates, state), by_the_paper in zip(runs, expected, strict=True):
        assert updates.dtype == dtype
        assert {state[key].dtype.name for key in state} == {"int32", "float32"}
        rounding = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(
            np.float64(updates), by_the_paper, rtol=rounding, atol=1e-7
        )


def assert_stored(
    name: str, paper: Any, slot: str, dtype: str, **arguments: Any
) -> None:
    """A slot is stored in its dtype, and computed with in double."""
    with jax.enable_x64(True):
        tx = getattr(gradtx, name)(**arguments)
        mine = list(steps_of(tx, map(jnp.asarray, REAL)))
        with as_optax_needs():
            their_state = getattr(optax, name)(**arguments).init(jnp.asarray(REAL[0]))
    expected = paper(REAL, **arguments)
    for (updates, state), by_the_paper in zip(mine, expected, strict=True):
        for key in state.keys() - {"count"}:
            assert state[key].dtype == getattr(their_state, key).dtype
        assert state[slot].dtype == dtype
        np.testing.assert_allclose(updates, by_the_paper, rtol=1e-12)


def kinds_of_slots(tx: Any) -> dict[str, str]:
    """The dtype of each slot, of complex parameters and after their first update."""
    params = jnp.ones(2, jnp.complex64)
    state = tx.init(params)
    after = tx.update(1j * params, state, params)[1]
    kinds = {key: slot.dtype.name for key, slot in state.items() if key != "count"}
    assert kinds == {key: after[key].dtype.name for key in kinds}
    return kinds


def assert_same_updates(named: Any, composed: Any) -> None:
    """A name and the composition of its parts."""
    grads = [jnp.asarray(g, jnp.float32) for g in REAL[:5]]
    runs = [updates_of(tx, grads) for tx in (named, composed)]
    for one, other in zip(*runs, strict=True):
        np.testing.assert_allclose(one, other, rtol=5e-7)


def steps_of(
    tx: Any, grads: Iterable[Any], params: Any = None
) -> Iterator[tuple[Any, Any]]:
    """The updates and states that a transformation, ours or optax's, makes."""
    # optax's moments do not run under strict promotion.
    is_ours = type(tx) is gradtx.GradientTransformation
    promotion = "strict" if is_ours else "standard"
    update, state = jax.jit(tx.update), None
    for grad in grads:
        with jax.numpy_dtype_promotion(promotion):
            if state is None:
                state = tx.init(grad if params is None else params)
            updates, state = update(grad, state, params)
        yield updates, state


def updates_of(tx: Any, grads: Iterable[Any], params: Any = None) -> Iterator[Any]:
    """The updates alone."""
    return (updates for updates, _ in steps_of(tx, grads, params))


def clip_by_the_paper(grads, max_norm):
    """Pascanu et al. 2012, Algorithm 1: a list of arrays a step."""
    for leaves in grads:
        norm = np.sqrt(sum(np.sum(np.abs(g) ** 2) for g in leaves))
        yield [g * (max_norm / norm if norm >= max_norm else 1) for g in leaves]


def stored(slot, dtype):
    """A float64 array as it is after being kept in another dtype, if one is given."""
    return slot.astype(dtype or slot.dtype).astype(slot.dtype)


def trace_by_the_paper(grads, decay, nesterov=False, accumulator_dtype=None):
    """Sutskever et al. 2013, equations 1 to 4, as a sum of gradients."""
    trace = np.zeros_like(grads[0])
    for g in grads:
        trace = g + decay * trace
        yield g + decay * trace if nesterov else trace
        trace = stored(trace, accumulator_dtype)


def ema_by_the_paper(grads, decay, debias=True, accumulator_dtype=None):
    """Kingma and Ba 2014, the first moment of Algorithm 1."""
    m = np.zeros_like(grads[0])
    for t, g in enumerate(grads, start=1):
        m = decay * m + (1 - decay) * g
        yield m / (1 - decay**t) if debias else m
        m = stored(m, accumulator_dtype)


def adam_by_the_paper(
    grads, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, nesterov=False
):
    """Kingma and Ba 2014, Algorithm 1; with Nesterov's momentum Dozat 2016."""
    m, v = np.zeros_like(grads[0]), 0.0
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.abs(g) ** 2
        m_hat = m / (1 - b1**t)
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        yield m_hat / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
        m = stored(m, mu_dtype)


def amsgrad_by_the_paper(
    grads, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None,
    bias_correction_mu=True, bias_correction_nu=True,
):  # fmt: skip
    """Reddi et al. 2018, Algorithm 2, and its moments corrected as in optax."""
    m, v, v_max = np.zeros_like(grads[0]), 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.abs(g) ** 2
        m_hat = m / (1 - b1**t) if bias_correction_mu else m
        v_max = np.maximum(v_max, v / (1 - b2**t) if bias_correction_nu else v)
        yield m_hat / (np.sqrt(v_max + eps_root) + eps)
        m = stored(m, mu_dtype)


def rms_by_the_paper(
    grads, decay=0.9, eps=1e-8, initial_scale=0.0, eps_in_sqrt=True,
    bias_correction=False, is_centered=False,
):  # fmt: skip
    """Hinton et al. 2012, lecture 6e; centered as Graves 2013, equations 38 to 40."""
    m, v = np.zeros_like(grads[0]), np.full(grads[0].shape, initial_scale)
    for t, g in enumerate(grads, start=1):
        m, v = decay * m + (1 - decay) * g, decay * v + (1 - decay) * np.abs(g) ** 2
        left = 1 - decay**t if bias_correction else 1
        size = v / left - (np.abs(m / left) ** 2 if is_centered else 0)
        yield g / (np.sqrt(size + eps) if eps_in_sqrt else np.sqrt(size) + eps)


def rss_by_the_paper(grads, initial_accumulator_value=0.1, eps=1e-7):
    """Duchi et al. 2011, Figure 1, the diagonal form."""
    total = initial_accumulator_value
    for g in grads:
        total = total + np.abs(g) ** 2
        yield g / np.sqrt(total + eps)


def adamax_by_the_paper(grads, b1=0.9, b2=0.999, eps=1e-8):
    """Kingma and Ba 2014, Algorithm 2; eps is added to each magnitude, as in optax."""
    m, u = 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, u = b1 * m + (1 - b1) * g, np.maximum(b2 * u, np.abs(g) + eps)
        yield m / (1 - b1**t) / u


def belief_by_the_paper(grads, b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16):
    """Zhuang et al. 2020, Algorithm 2."""
    m, s = 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * np.abs(g - m) ** 2 + eps_root
        yield m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + eps)


def acprop_by_optax(grads, b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16):
    """Zhuang et al. 2021, but with the average before the gradient, and corrected."""
    m, s = 0.0, 0.0
    for t, g in enumerate(grads):
        yield g / (np.sqrt(s / (1 - b2**t) if t else 1) + eps)
        s = b2 * s + (1 - b2) * np.abs(g - m) ** 2 + eps_root
        m = b1 * m + (1 - b1) * g


def yogi_by_the_paper(grads, b1=0.9, b2=0.999, eps=1e-3, start=1e-6):
    """Zaheer et al. 2018, Algorithm 2, corrected for its bias as in optax."""
    m = v = start
    for t, g in enumerate(grads, start=1):
        m, square = b1 * m + (1 - b1) * g, np.abs(g) ** 2
        v = v - (1 - b2) * np.sign(v - square) * square
        yield m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)


def radam_by_the_paper(grads, b1=0.9, b2=0.999, eps=1e-8, threshold=5.0):
    """Liu et al. 2019, Algorithm 2, whose threshold is 4."""
    m, v, longest = 0.0, 0.0, 2 / (1 - b2) - 1
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.abs(g) ** 2
        u, rho = m / (1 - b1**t), longest - 2 * t * b2**t / (1 - b2**t)
        if rho >= threshold:
            r = (rho - 4) * (rho - 2) * longest / (longest - 4) / (longest - 2) / rho
            u = np.sqrt(r) * u / (np.sqrt(v / (1 - b2**t)) + eps)
        yield u


def adopt_by_the_paper(grads, b1=0.9, b2=0.9999, eps=1e-6, nesterov=False, clip=True):
    """Taniguchi et al. 2024, Algorithm 2, clipped to the fourth root of the count."""
    m, v = 0.0, np.abs(grads[0]) ** 2
    yield 0 * grads[0]
    for t, g in enumerate(grads[1:], start=1):
        u = g / np.maximum(np.sqrt(v), eps)
        if clip:
            u = u / np.maximum(1, np.abs(u) / t**0.25)
        m, v = b1 * m + (1 - b1) * u, b2 * v + (1 - b2) * np.abs(g) ** 2
        yield b1 * m + (1 - b1) * u if nesterov else m


def nadam_by_torch(grads, b1=0.9, b2=0.999, eps=1e-8, momentum_decay=4e-3):
    """Dozat 2016, Algorithm 2, with the momentum of its section 3.1, as in torch."""
    m, v, product = 0.0, 0.0, 1.0
    for t, g in enumerate(grads, start=1):
        now, after = (b1 * (1 - 0.96 ** (k * momentum_decay) / 2) for k in (t, t + 1))
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.abs(g) ** 2
        product *= now
        m_hat = after * m / (1 - product * after) + (1 - now) * g / (1 - product)
        yield m_hat / (np.sqrt(v / (1 - b2**t)) + eps)


def adan_by_optax(grads, b1=0.98, b2=0.92, b3=0.99, eps=1e-8):
    """Xie et al. 2022, Algorithm 1, but for `1 - b2` where the paper has `b2`."""
    m, v, n, last = 0.0, 0.0, 0.0, grads[0]
    for t, g in enumerate(grads, start=1):
        d, last = g - last, g
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * d
        n = b3 * n + (1 - b3) * np.abs(g + (1 - b2) * d) ** 2
        step = m / (1 - b1**t) + (1 - b2) * v / (1 - b2**t)
        yield step / (np.sqrt(n / (1 - b3**t)) + eps)


def ademamix_by_the_paper(grads, b1=0.9, b2=0.999, b3=0.9999, alpha=6.0, eps=1e-8):
    """Pagliardini et al. 2024, Algorithm 1."""
    m1, m2, v = 0.0, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m1, m2 = b1 * m1 + (1 - b1) * g, b3 * m2 + (1 - b3) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        yield (m1 / (1 - b1**t) + alpha * m2) / (np.sqrt(v / (1 - b2**t)) + eps)


def simplified_ademamix_by_the_paper(grads, b1=0.99, b2=0.95, alpha=0.0, eps=1e-8):
    """Morwani et al. 2025, Algorithm 1."""
    m, n = 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, n = b1 * m + g, b2 * n + (1 - b2) * np.abs(g) ** 2
        yield (m + alpha * g) / (np.sqrt(n / (1 - b2**t)) + eps)


def lion_by_the_paper(grads, b1=0.9, b2=0.99, shape=np.sign):
    """Chen et al. 2023, Algorithm 2, and another shape in the place of the sign."""
    m = 0.0
    for g in grads:
        yield shape(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g


def adadelta_by_the_paper(grads, rho=0.9, eps=1e-6):
    """Zeiler 2012, Algorithm 1."""
    e_g, e_x = 0.0, 0.0
    for g in grads:
        e_g = rho * e_g + (1 - rho) * np.abs(g) ** 2
        step = np.sqrt(e_x + eps) / np.sqrt(e_g + eps) * g
        e_x = rho * e_x + (1 - rho) * np.abs(step) ** 2
        yield step


def novograd_by_the_paper(grads, params, b1=0.9, b2=0.25, eps=1e-8, weight_decay=0.0):
    """Ginsburg et al. 2019, Algorithm 1, for one layer."""
    m, v = 0.0, None
    for g, p in zip(grads, params, strict=True):
        square = np.sum(np.abs(g) ** 2)
        v = square if v is None else b2 * v + (1 - b2) * square
        m = b1 * m + g / (np.sqrt(v) + eps) + weight_decay * p
        yield m


def dog_by_the_paper(grads, params, first, eps=1e-8):
    """Ivgi et al. 2023, equations 1 and 2, for a first distance."""
    farthest, total = first, eps
    for g, p in zip(grads, params, strict=True):
        farthest = max(farthest, np.linalg.norm(p - params[0]))
        total += np.sum(np.abs(g) ** 2)
        yield farthest / np.sqrt(total) * g


def dowg_by_the_paper(grads, params, first=1e-4, eps=1e-4):
    """Khaled et al. 2023, Algorithm 1, for a first squared distance."""
    farthest, total = first, 0.0
    for g, p in zip(grads, params, strict=True):
        farthest = max(farthest, np.sum(np.abs(p - params[0]) ** 2))
        total += farthest * np.sum(np.abs(g) ** 2)
        yield farthest / (np.sqrt(total) + eps) * g


def cocob_by_the_paper(grads, params, alpha=100.0, eps=1e-8):
    """Orabona and Tommasi 2017, Algorithm 2."""
    scale, total, reward, against = eps, 0.0, 0.0, 0.0
    for g, p in zip(grads, params, strict=True):
        scale, total = np.maximum(scale, np.abs(g)), total + np.abs(g)
        against = against - g
        reward = np.maximum(reward - np.real(np.conj(g) * (p - params[0])), 0)
        bet = against / (scale * np.maximum(total + scale, alpha * scale))
        yield params[0] + bet * (scale + reward) - p


def madgrad_by_the_paper(grads, params, rate, momentum=0.9, eps=1e-6):
    """Defazio and Jelassi 2021, Algorithm 1; eps is added to the rate, as in optax."""
    s, v = 0.0, 0.0
    for k, (g, p) in enumerate(zip(grads, params, strict=True)):
        weight = (rate + eps) * np.sqrt(k + 1)
        s, v = s + weight * g, v + weight * np.abs(g) ** 2
        z = params[0] - s / (np.cbrt(v) + eps)
        yield (1 - momentum) * (z - p)


def rprop_by_the_paper(grads, first, down=0.5, up=1.2, least=1e-6, most=50.0):
    """Riedmiller and Braun 1993: no step where the sign has turned, as in torch."""
    size, last = np.full(grads[0].shape, first), np.zeros_like(grads[0])
    for g in grads:
        agrees = np.sign(g * last)
        size = size * np.select([agrees > 0, agrees < 0], [up, down], 1.0)
        size = np.where(agrees == 0, size, np.clip(size, least, most))
        last = np.where(agrees < 0, 0, g)
        yield size * np.sign(last)


def schedule_free_by_the_paper(steps, rates, start, b1=0.9, power=2.0):
    """Defazio et al. 2024, Algorithm 1: the path of y for steps of z."""
    x = z = y = start
    total = 0.0
    for step, largest in zip(steps, np.maximum.accumulate(rates), strict=True):
        z, weight = z + step, largest**power
        total += weight
        share = weight / total if total else 0.0
        x = (1 - share) * x + share * z
        new = b1 * x + (1 - b1) * z
        yield new - y
        y = new
