import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests import equality
from tests.equality import bitwise
from tests.settings import LINE, OF_EXAMPLES, OPTAX, OPTIMIZERS, PLAIN, PRIMITIVES

STEPS = 6
# Parts of the tree that optax fails on.
WITHOUT = {"sm3": "scalar", "galore": "absent"}


@functools.partial(
    jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 1}
)
def run(tx, params, state, grads, values):
    """The updates of some steps, and where they end."""
    one = functools.partial(equality.step, tx)
    carry, updates = jax.lax.scan(one, (params, state), (grads, values))
    return updates, *carry


@pytest.mark.parametrize("name", PLAIN)
def test_a_half_finished_run_of_optax_continues(name):
    """And its state goes there and back bit for bit."""
    lead = (STEPS, *OF_EXAMPLES.get(name, ()))
    trees = [equality.mixed_tree("float32", 0)]
    trees += [equality.mixed_tree("float32", seed, *lead) for seed in (1, 2)]
    for tree in trees:
        tree.pop(WITHOUT.get(name), None)
    params, before, after = trees
    values = equality.losses("float32", STEPS)
    ours = PLAIN[name](gradtx)
    with equality.as_optax_needs():
        theirs = PLAIN[name](OPTAX)
        first = theirs.init(params)
        _, params, half = run(theirs, params, first, before, values)
        _, expected, _ = run(theirs, params, half, after, values)
    state = gradtx.from_optax(ours, half)
    looks = jax.tree.map(lambda x: (x.shape, x.dtype), ours.init(params))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == looks
    bitwise(gradtx.to_optax(ours, state, first), half)
    _, continued, _ = run(ours, params, state, after, values)
    assert equality.distance(continued, expected, by_step=False) < 1e-5


def go_there_and_back(ours, theirs, params, steps=3):
    """A state of optax after some updates, as ours; the next update is the same."""
    with equality.as_optax_needs():
        first = half = theirs.init(params)
        for _ in range(steps):
            _, half = theirs.update(params, half, params)
        expected, _ = theirs.update(params, half, params)
    state = gradtx.from_optax(ours, half)
    assert jax.tree.structure(state) == jax.tree.structure(ours.init(params))
    buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state)]
    assert len({*buffers}) == len(buffers)  # it may be donated
    bitwise(gradtx.to_optax(ours, state, first), half)
    updates, _ = ours.update(params, state, params)
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        # In float32 the power of a decay is 1e-5 wrong in optax after four updates.
        np.testing.assert_allclose(a, b, rtol=2e-5)
    return state


def test_a_chain_goes_there_and_back_by_the_order_of_its_members():
    def make(m):
        return m.chain(
            m.clip_by_global_norm(1.0),
            m.trace(0.5),
            m.apply_every(3),
            m.add_decayed_weights(0.1, lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
            m.trace(0.9),
            m.scale_by_schedule(lambda count: -0.1 / (count + 1)),
        )

    params = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}
    with equality.as_optax_needs():
        theirs = make(OPTAX)
    assert int(go_there_and_back(make(gradtx), theirs, params, 4)["count"]) == 4


@pytest.mark.parametrize("kind", ["partition", "groups"])
def test_states_of_groups_go_there_and_back(kind):
    params = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0), "c": jnp.ones(2)}
    labels = {"w": "fast", "b": "slow", "c": "fast"}

    def made(m) -> Any:
        return {"fast": m.adam(0.1), "slow": m.chain(m.clip(0.5), m.adam(LINE))}

    with equality.as_optax_needs():
        theirs = optax.partition(made(optax), labels)
    go_there_and_back(getattr(gradtx, kind)(made(gradtx), labels), theirs, params)


WRAPPED = {
    "apply_if_finite": lambda m: m.apply_if_finite(m.adam(LINE), 2),
    "conditionally_mask": lambda m: m.conditionally_mask(
        m.chain(m.trace(0.5), m.adam(LINE)), lambda step: step % 2 == 0
    ),
    "a chain": lambda m: m.chain(
        m.masked(m.trace(0.5), {"w": True, "b": False}),
        m.apply_if_finite(m.apply_if_finite(m.adam(0.1), 1), 2),
    ),
    "accumulate": lambda m: (
        m.accumulate(m.adam(LINE), 2)
        if m is gradtx
        else m.MultiSteps(m.adam(LINE), 2).gradient_transformation()
    ),
    "a named chain": lambda m: m.named_chain(
        ("clip", m.clip(0.5)), ("adam", m.adam(LINE))
    ),
    "inject_hyperparams": lambda m: m.inject_hyperparams(m.adamw)(LINE, b1=0.8),
    "inject_hyperparams of optax's": lambda m: m.inject_hyperparams(optax.adam)(LINE),
    "editable": lambda m: m.chain(
        m.clip(0.5),
        m.editable(m.adamw(LINE, b1=0.75, b2=0.875))  # of no rounding in float32
        if m is gradtx
        else m.inject_hyperparams(m.adamw)(LINE, b1=0.75, b2=0.875),
    ),
    "multi steps": lambda m: m.MultiSteps(m.adam(LINE), 2),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_states_of_wrappers_go_there_and_back(name):
    params = {"w": jnp.ones((2, 3)), "b": jnp.arange(3.0)}
    with equality.as_optax_needs():
        theirs = WRAPPED[name](optax)
    go_there_and_back(WRAPPED[name](gradtx), theirs, params)


def injected(**numbers) -> Any:
    """A state of optax in which somebody has set the learning rate to 0.3."""
    params = {"w": jnp.ones(3)}
    with equality.as_optax_needs():
        tx = optax.inject_hyperparams(optax.adamw)(**numbers)
        state: Any = tx.init(params)
        state.hyperparams["learning_rate"] = jnp.float32(0.3)
        return tx.update(params, state, params)[1]


def test_numbers_that_somebody_changed_in_optax_go_on():
    tx = gradtx.editable(gradtx.adamw(0.1))
    state = gradtx.from_optax(tx, injected(learning_rate=0.1))
    assert state["hyperparams"]["learning_rate"] == jnp.float32(0.3)
    updates, state = tx.update({"w": jnp.ones(3)}, state, {"w": jnp.ones(3)})
    np.testing.assert_allclose(updates["w"], -0.3, rtol=1e-3)
    assert gradtx.hyperparams(tx, state)["b1"] == jnp.float32(0.9)


def test_without_numbers_in_the_state_they_must_be_the_same():
    with pytest.raises(ValueError) as raised:
        gradtx.from_optax(gradtx.adamw(0.1), injected(learning_rate=0.1))
    assert str(raised.value) == (
        "from_optax: the state keeps learning_rate=0.3, and adamw has [0.1]; "
        "editable(adamw(...)) goes on with what a state keeps"
    )
    state = gradtx.from_optax(gradtx.adamw(0.3), injected(learning_rate=0.1))
    np.testing.assert_allclose(state["mu"]["w"], 0.1, rtol=1e-6)
    with pytest.raises(ValueError, match="keeps 'weight_decay', and here is no such"):
        gradtx.from_optax(
            gradtx.editable(gradtx.adam(0.3)), injected(learning_rate=0.1)
        )


@pytest.mark.parametrize("kind", ["partition", "groups"])
def test_labels_may_be_a_prefix_if_the_parameters_are_given(kind):
    params = {"w": {"a": jnp.ones((2, 3)), "b": jnp.ones(2)}, "c": jnp.ones(2)}
    labels = {"w": "fast", "c": "slow"}

    def made(m) -> Any:
        return {"fast": m.adam(0.1), "slow": m.adam(LINE)}

    ours = getattr(gradtx, kind)(made(gradtx), labels)
    with equality.as_optax_needs():
        theirs = optax.partition(made(optax), labels)
        _, half = theirs.update(params, theirs.init(params), params)
        expected, _ = theirs.update(params, half, params)
    with pytest.raises(ValueError, match="prefixes of the tree of the parameters"):
        gradtx.from_optax(ours, half)
    updates, _ = ours.update(params, gradtx.from_optax(ours, half, params), params)
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5)


def test_metrics_have_no_counterpart_and_begin_anew():
    tx = gradtx.chain(gradtx.adam(0.1), gradtx.norms())
    params = {"w": jnp.ones(3)}
    theirs = OPTAX.adam(0.1).init(params)
    state = gradtx.from_optax(tx, theirs)
    assert gradtx.metrics(state)["grad_norm"] == 0
    equality.bitwise(gradtx.to_optax(tx, state, theirs), theirs)


def test_groups_must_have_the_labels_of_optax():
    params = {"w": jnp.ones(3), "b": jnp.ones(3)}
    state = optax.partition(
        {"x": optax.adam(0.1), "y": optax.adam(0.1)}, {"w": "x", "b": "y"}
    ).init(params)
    tx = gradtx.groups({"b": gradtx.adam(0.1), "w": gradtx.adam(0.1)})
    message = (
        r"groups must have the labels of optax's state, \['x', 'y'\], got \['b', 'w'\]"
    )
    with pytest.raises(ValueError, match=message):
        gradtx.from_optax(tx, state)


def test_what_has_no_counterpart_is_named():
    params = {"w": jnp.ones(3)}
    with pytest.raises(ValueError, match="optax's state has no 'mu' for 'mu'"):
        gradtx.from_optax(gradtx.adam(0.1), OPTAX.sgd(0.1, 0.9).init(params))
    with pytest.raises(ValueError, match=r"sgd keeps nothing like optax's \['trace'\]"):
        gradtx.from_optax(gradtx.sgd(0.1), OPTAX.sgd(0.1, 0.9).init(params))
    tx = gradtx.sgd(0.1)
    with pytest.raises(ValueError, match="to_optax: sgd keeps no 'trace'"):
        gradtx.to_optax(tx, tx.init(params), OPTAX.sgd(0.1, 0.9).init(params))


def test_moments_of_bfloat16_become_float32():
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    state = gradtx.from_optax(gradtx.adam(0.1), OPTAX.adam(0.1).init(params))
    assert state["mu"]["w"].dtype == state["nu"]["w"].dtype == jnp.float32
    kept = gradtx.adam(0.1, mu_dtype="bfloat16")
    assert gradtx.from_optax(kept, OPTAX.adam(0.1).init(params))["mu"]["w"].dtype == (
        jnp.bfloat16
    )


def test_nothing_of_ours_is_lost_on_the_way_to_optax():
    params = {"w": jnp.ones(3)}
    tx = gradtx.adam(0.1)
    with pytest.raises(ValueError, match=r"to_optax: optax's state keeps nothing like"):
        gradtx.to_optax(tx, tx.init(params), OPTAX.sgd(0.1).init(params))


def test_what_is_no_transformation_or_no_state_is_named():
    params = {"w": jnp.ones(3)}
    tx, theirs = gradtx.adam(0.1), OPTAX.adam(0.1)
    with pytest.raises(TypeError, match="from_optax: tx must be of gradtx, got "):
        gradtx.from_optax(theirs, theirs.init(params))
    for owner, call in (
        ("from_optax", lambda: gradtx.from_optax(tx, params)),
        ("to_optax", lambda: gradtx.to_optax(tx, tx.init(params), params)),
    ):
        message = f"{owner}: takes a state that optax's init makes, found a dict"
        with pytest.raises(TypeError, match=message):
            call()


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
        "from_optax: optax's 'trace' lacks 'b' and also has 'w'" + same
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
