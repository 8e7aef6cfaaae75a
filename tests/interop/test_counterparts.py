"""States of optax in groups, as vectors, masked and beside others go on as ours."""

from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality
from tests.equality import bitwise
from tests.settings import LINE, OF_EXAMPLES, OPTAX, OPTIMIZERS, PLAIN
from tests.settings_of_primitives import PRIMITIVES

PARTS = {
    "w": jnp.ones((2, 3)),
    "b": jnp.arange(1.0, 4.0),
    "n": {"x": jnp.ones(2), "y": jnp.full((3, 2), 0.5)},
}
LABELS = {"w": "fast", "b": "slow", "n": "fast"}  # a prefix


def halfway(make, params, steps=1, lead=()):
    """Ours, a state of optax from its init, one after some steps, the next update."""
    grads = jax.tree.map(
        lambda p: jnp.broadcast_to(0.25 * p + 0.125, (*lead, *p.shape)), params
    )
    extra = {"value": jnp.float32(2.0), "grad": grads, "grad_fn": equality.gradient_at}
    extra |= {"value_fn": equality.objective, "obj_fn": equality.objective}
    with equality.as_optax_needs():
        theirs = make(OPTAX)
        update = optax.with_extra_args_support(theirs).update
        first = half = theirs.init(params)
        for _ in range(steps):
            _, half = update(grads, half, params, **extra)
        expected, _ = update(grads, half, params, **extra)
    return make(gradtx), first, half, expected, (grads, extra)


def goes_on(make, params, **more) -> tuple[Any, Any, Any]:
    """A state goes there and back bit for bit, is like `init`'s, and has its numbers.

    Returns:
        The state, and the updates of both from there.
    """
    ours, first, half, expected, (grads, extra) = halfway(make, params, **more)
    state = gradtx.from_optax(ours, half, params)
    made = ours.init(params)
    assert jax.tree.structure(state) == jax.tree.structure(made)
    looks = [[(x.shape, x.dtype) for x in jax.tree.leaves(it)] for it in (state, made)]
    assert looks[0] == looks[1]
    buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state)]
    assert len({*buffers}) == len(buffers)  # it may be donated
    bitwise(gradtx.to_optax(ours, state, first), half)
    updates, _ = ours.update(grads, state, params, **extra)
    return state, updates, expected


def close(updates, expected):
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


MORE = ("adafactor, small", "adafactor, momentum", "dog, from a rate", "sm3, slow")
SETTINGS: dict[str, Any] = {
    **{name: make for name, make in PLAIN.items() if name != "lbfgs"},  # no masks
    **{name: OPTIMIZERS[name] for name in MORE},
    "scale_by_distance_over_gradients": PRIMITIVES["scale_by_distance_over_gradients"],
}
WITHOUT_VECTORS = ("dpsgd",)  # optax cannot flatten the gradients of examples
DRAWS = ("noisy_sgd", "dpsgd")  # which leaf draws which numbers is another matter


@pytest.mark.parametrize("name", SETTINGS)
def test_a_state_goes_on_in_groups_and_as_a_vector_and_beside_a_wrapper(name):
    """In optax `flatten` has no state of its own, and `MultiSteps` has a whole one."""
    lead = OF_EXAMPLES.get(name, ())

    def make(m):
        one, other = SETTINGS[name](m), SETTINGS[name](m)
        other = other if name in WITHOUT_VECTORS else m.flatten(other)
        last = m.MultiSteps(m.trace(0.5), 2).gradient_transformation()
        return m.chain(m.partition({"fast": one, "slow": other}, LABELS), last)

    _, updates, expected = goes_on(make, PARTS, lead=lead)
    if name not in DRAWS:
        close(updates, expected)


MASKS = {"w": True, "b": False, "n": False}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_state_goes_on_where_a_part_is_masked(name):
    def make(m):
        return m.masked(SETTINGS[name](m), MASKS)

    _, updates, expected = goes_on(make, PARTS, lead=OF_EXAMPLES.get(name, ()))
    if name not in DRAWS:
        close(updates["w"], expected["w"])  # the others are frozen here


@pytest.mark.parametrize("name", SETTINGS)
def test_a_label_may_have_no_leaves(name):
    def make(m):
        members = {k: SETTINGS[name](m) for k in ("fast", "slow", "none")}
        return m.partition(members, LABELS)

    with equality.as_optax_needs():
        theirs = make(OPTAX)
        state: Any = theirs.init(PARTS)
    ours = make(gradtx)
    mine = gradtx.from_optax(ours, state, PARTS)
    assert jax.tree.structure(mine) == jax.tree.structure(ours.init(PARTS))
    bitwise(gradtx.to_optax(ours, mine, state), state)


COMPLEX = {"w": jnp.full((2, 3), 1 + 0.5j), "b": jnp.arange(1.0, 4.0)}
REFUSED, SQUARED = "optax refuses them", "optax squares them as they are"
NOT_COMPLEX = {
    **dict.fromkeys(
        ("sm3", "sm3, slow", "sophia", "adopt", "madgrad", "rprop"), REFUSED
    ),
    **dict.fromkeys(("adadelta", "simplified_ademamix", "dadapt_adamw"), SQUARED),
    **dict.fromkeys(("prodigy", "momo_adam", "momo"), SQUARED),
    "scale_by_distance_over_gradients": SQUARED,
    "adafactor, momentum": "optax keeps the real part of its momentum",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_second_moments_of_complex_parameters_become_real(name):
    if name in NOT_COMPLEX and NOT_COMPLEX[name] != SQUARED:
        return
    lead = OF_EXAMPLES.get(name, ())
    if name in NOT_COMPLEX:
        ours, _, half, *_ = halfway(SETTINGS[name], COMPLEX)
        with pytest.raises(ValueError, match="has an imaginary part, and here it is"):
            gradtx.from_optax(ours, half, COMPLEX)
        return
    state, *_ = goes_on(SETTINGS[name], COMPLEX, lead=lead)
    ours, _, half, *_ = halfway(SETTINGS[name], COMPLEX, lead=lead)
    bitwise(gradtx.from_optax(ours, half), state)  # without the parameters, too


@pytest.mark.parametrize("name", ["adam", "adafactor, small", "dog", "schedule_free"])
def test_parts_of_complex_parameters_are_pairs_of_either_library(name):
    def make(m):
        return m.split_real_and_imaginary(SETTINGS[name](m))

    _, updates, expected = goes_on(make, COMPLEX)
    close(updates, expected)


def size_of(updates):
    return optax.tree.norm(updates)


BESIDE = {
    "a foreign member": lambda m: m.chain(optax.trace(0.5), m.adam(0.1)),
    "a foreign member that keeps nothing": lambda m: m.chain(
        optax.stateless(lambda u, p: u), m.adam(0.1)
    ),
    "a foreign group": lambda m: m.partition(
        {"fast": m.adam(0.1), "slow": optax.sgd(0.1, 0.9)}, LABELS
    ),
    "a foreign vector": lambda m: m.chain(m.flatten(optax.adam(0.1)), m.trace(0.5)),
    "numbers that are the same beside a wrapper": lambda m: m.chain(
        m.adam(LINE) if m is gradtx else m.inject_hyperparams(m.adam)(LINE),
        m.apply_if_finite(m.trace(0.9), 2),
    ),
    "numbers that are the same in a group": lambda m: m.partition(
        {
            "fast": m.sgd(0.1) if m is gradtx else m.inject_hyperparams(m.sgd)(0.1),
            "slow": m.adam(0.1),
        },
        LABELS,
    ),
    "a plateau": lambda m: m.chain(
        m.adam(0.1), m.reduce_on_plateau(patience=2, accumulation_size=3)
    ),
    "a snapshot": lambda m: m.chain(m.snapshot("size", size_of), m.adam(0.1)),
    "groups in a group": lambda m: m.partition(
        {
            "fast": m.partition(
                {"x": m.adam(0.1), "y": m.sgd(0.1, 0.9)}, {"w": "x", "b": "x", "n": "y"}
            ),
            "slow": m.adam(0.1),
        },
        LABELS,
    ),
    "periods in groups": lambda m: m.partition(
        {"slow": m.chain(m.apply_every(2), m.adam(0.1)), "fast": m.apply_every(3)},
        LABELS,
    ),
    "a vector in a wrapper": lambda m: m.MultiSteps(
        m.flatten(m.chain(m.trace(0.5), m.flatten(m.adam(0.1)))), 2
    ).gradient_transformation(),
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_state_goes_on_beside(name):
    _, updates, expected = goes_on(BESIDE[name], PARTS, steps=2)
    close(updates, expected)


def test_masks_and_shapes_must_be_those_of_the_parameters():
    theirs = optax.masked(optax.trace(0.5), {"w": True, "b": False}).init(
        {"w": jnp.ones(3), "b": jnp.ones(3)}
    )
    tx = gradtx.masked(gradtx.trace(0.5), {"w": False, "b": True})
    same = "; parameters, labels and masks must be the same"
    with pytest.raises(ValueError) as raised:
        gradtx.from_optax(tx, theirs, {"w": jnp.ones(3), "b": jnp.ones(3)})
    assert str(raised.value) == (
        "from_optax: optax's 'trace': missing: 'b'; unexpected: 'w'" + same
    )
    with pytest.raises(ValueError) as raised:
        gradtx.from_optax(
            gradtx.trace(0.5),
            optax.trace(0.5).init({"w": jnp.ones(3)}),
            {"w": jnp.ones(2)},
        )
    assert str(raised.value) == (
        "from_optax: optax's 'trace' at 'w' is float32[3], expected float32[2]" + same
    )


def test_of_what_parts_nothing_tells_apart_none_is_taken():
    params = {"w": jnp.ones(3)}
    tx = gradtx.chain(optax.trace(0.5), gradtx.trace(0.5))
    theirs = optax.chain(optax.trace(0.5), optax.trace(0.5)).init(params)
    with pytest.raises(ValueError, match="2 parts of optax's state may be"):
        gradtx.from_optax(tx, theirs, params)
    one = gradtx.chain(optax.trace(0.5), gradtx.adam(0.1))
    theirs = optax.chain(optax.trace(0.5), optax.adam(0.1)).init(params)
    with pytest.raises(ValueError, match=r"0 parts .* be it; give the parameters"):
        gradtx.from_optax(one, theirs)
