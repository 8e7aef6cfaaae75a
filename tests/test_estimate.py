import pickle

import chex
import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from gradtx import estimate

START = {"w": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}
UNBIASED = [
    estimate.central_differences,
    estimate.spsa,
    estimate.evolution_strategies,
]
ALL = [*UNBIASED, estimate.augmented_random_search]
KEY = jax.random.key(0)


def quadratic(x):
    """With a constant, a slope, and terms of two leaves."""
    w, b = x["w"], x["b"]
    return 3 + 2 * w[0] + w[0] ** 2 + 3 * w[0] * w[1] + w[1] * b + 2 * b**2


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def many(estimator, f=quadratic, at=START, keys=4096):
    """Estimates for many keys, of shape [keys, n]."""
    grad = jax.jit(jax.vmap(estimator.grad(f), (0, None)))
    estimates = grad(jax.random.split(KEY, keys), at)
    return np.concatenate(
        [np.reshape(leaf, (keys, -1)) for leaf in jax.tree.leaves(estimates)], axis=1
    )


@pytest.mark.parametrize("make", UNBIASED)
def test_an_estimate_is_unbiased_on_a_quadratic(make):
    estimates = many(make(perturbation=0.5, directions=2))
    errors = estimates.std(0) / np.sqrt(len(estimates))
    true = flat(jax.grad(quadratic)(START))
    assert (errors < 0.15).all()
    assert (abs(estimates.mean(0) - true) < 4 * errors).all()


@pytest.mark.parametrize("make", UNBIASED)
def test_twice_the_directions_halve_the_variance(make):
    few, more = (many(make(0.5, directions=n), keys=2048) for n in (2, 8))
    assert few.var(0).sum() / more.var(0).sum() == pytest.approx(4, rel=0.2)


def test_evolution_strategies_estimate_the_gradient_of_the_smoothed_function():
    # E[(x + c d)**4] = x**4 + 6 x**2 c**2 + 3 c**4.
    smoothed = many(
        estimate.evolution_strategies(0.5, 64), lambda x: x**4, jnp.array(1.0), 1024
    )
    assert smoothed.mean() == pytest.approx(4 + 12 * 0.25, abs=0.2)


def moves_of(estimator):
    """Moves of the parameters, [2 directions, n]; the values there; the gradient."""
    seen = []

    def f(x):
        value = quadratic(x)
        jax.debug.callback(lambda x, v: seen.append((flat(x), v)), x, value)
        return value

    grads = estimator.grad(f)(KEY, START)
    jax.effects_barrier()
    points, values = map(np.array, zip(*seen, strict=True))
    return points - flat(START), values.astype(np.float64), flat(grads)


def test_a_perturbation_of_spsa_moves_every_parameter_by_the_same_amount():
    moves, _, _ = moves_of(estimate.spsa(0.25, directions=3))
    assert moves.shape == (6, 3)
    np.testing.assert_allclose(abs(moves), 0.25, rtol=1e-6)


def test_directions_of_central_differences_have_one_length():
    moves, _, _ = moves_of(estimate.central_differences(0.25, directions=3))
    lengths = np.linalg.norm(moves, axis=1)
    np.testing.assert_allclose(lengths, 0.25 * np.sqrt(3), rtol=1e-5)


def search_by_the_paper(ahead, behind, directions, top):
    """Mania et al. 2018, Algorithm 2, in float64 NumPy; values are costs."""
    best = np.argsort(-np.maximum(-ahead, -behind))[:top]
    used = np.concatenate([-ahead[best], -behind[best]])
    step = sum((-ahead[k] + behind[k]) * directions[k] for k in best)
    return -step / (top * used.std())


def test_augmented_random_search_is_that_of_the_paper():
    search = estimate.augmented_random_search(0.25, directions=8, top=3)
    moves, values, grads = moves_of(search)
    behind_of = [
        next(j for j in range(16) if np.allclose(move, -moves[j], atol=1e-5))
        for move in moves
    ]
    # Which of the two is ahead does not matter: direction and difference turn together.
    first = [i for i, j in enumerate(behind_of) if i < j]
    second = [j for i, j in enumerate(behind_of) if i < j]
    directions = moves[first] / 0.25
    expected = search_by_the_paper(values[first], values[second], directions, 3)
    np.testing.assert_allclose(grads, expected, rtol=1e-4)


def test_augmented_random_search_stands_still_where_all_values_are_equal():
    grads = estimate.augmented_random_search().grad(lambda x: jnp.float32(1))(
        KEY, START
    )
    assert not flat(grads).any()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_augmented_random_search_keeps_failed_directions_last(sign):
    def f(x):
        return jnp.where(x[0] > 1.05, jnp.copysign(jnp.nan, sign), jnp.sum(x**2))

    search = estimate.augmented_random_search(directions=8, top=2)
    assert jnp.isfinite(search.grad(f)(jax.random.key(0), jnp.ones(3))).all()


def test_points_around_narrow_parameters_are_not_rounded_to_them():
    params = jnp.array([0.1, 1.0, 10.0], jnp.bfloat16)
    grad = estimate.spsa(1e-2, directions=64).grad(lambda x: 100 * x[2])(KEY, params)
    assert grad.dtype == jnp.bfloat16 and grad[2] == pytest.approx(100, rel=0.01)


def test_augmented_random_search_forgets_the_scale_of_the_function():
    search = estimate.augmented_random_search(0.25, directions=8, top=4)
    plain, scaled = (
        flat(search.grad(lambda x, by=by: by * quadratic(x))(KEY, START))
        for by in (1.0, 1000.0)
    )
    np.testing.assert_allclose(plain, scaled, rtol=1e-3)


def test_centered_ranks_go_from_minus_a_half_to_a_half():
    ranks = estimate.centered_ranks(jnp.array([3.0, -1e9, 5.0, 4.0, 1e9]))
    np.testing.assert_array_equal(ranks, [-0.25, -0.5, 0.25, 0.0, 0.5])


def test_equal_values_share_a_centered_rank_and_nan_has_none():
    ranks = estimate.centered_ranks(jnp.array([1.0, 0.0, 1.0, jnp.inf, jnp.nan]))
    np.testing.assert_array_equal(ranks, [-0.125, -0.5, -0.125, 0.25, np.nan])


def test_shaped_values_keep_an_outlier_from_ruling():
    shaped = estimate.evolution_strategies(0.5, 64, shaping=estimate.centered_ranks)

    def f(x, power):
        return jnp.sign(quadratic(x)) * jnp.abs(quadratic(x)) ** power

    # Ranks are the same under every increasing function of the values.
    once, cubed = (flat(shaped.grad(f)(KEY, START, power)) for power in (1.0, 3.0))
    np.testing.assert_allclose(once, cubed, rtol=1e-6)
    assert once @ flat(jax.grad(quadratic)(START)) > 0


@pytest.mark.parametrize("make", ALL)
def test_the_same_key_gives_the_same_and_another_key_another(make):
    grad = jax.jit(make(directions=2).grad(quadratic))
    once, again, other = (flat(grad(jax.random.key(k), START)) for k in (3, 3, 4))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)


@pytest.mark.parametrize("make", ALL)
def test_fewer_directions_at_once_give_the_same(make):
    whole = make(directions=6).value_and_grad(quadratic)(KEY, START)
    parts = make(directions=6, at_once=2).value_and_grad(quadratic)(KEY, START)
    chex.assert_trees_all_close(whole, parts, rtol=1e-5)


def test_memory_does_not_grow_with_directions_but_with_those_at_once():
    def temporary(directions, at_once):
        estimator = estimate.spsa(directions=directions, at_once=at_once)
        grad = jax.jit(estimator.grad(lambda x: jnp.sum(jnp.sin(x))))
        analysis = grad.lower(KEY, jnp.zeros(10_000)).compile().memory_analysis()
        return analysis.temp_size_in_bytes  # pyright: ignore[reportOptionalMemberAccess]

    assert temporary(64, 2) < 1.1 * temporary(8, 2) < temporary(8, 8)


def test_the_value_is_the_mean_over_all_points():
    estimator = estimate.spsa(0.5, directions=4)
    (value, (points, _)), _ = estimator.value_and_grad(
        lambda x: (quadratic(x), (x, None)), has_aux=True
    )(KEY, START)
    assert points["w"].shape == (2, 4, 2) and points["b"].shape == (2, 4)
    values = jax.vmap(jax.vmap(quadratic))(points)
    np.testing.assert_allclose(value, values.mean(), rtol=1e-6)
    ahead, behind = points["w"]
    np.testing.assert_allclose(ahead + behind, 2 * jnp.stack([START["w"]] * 4))


def test_grad_gives_what_came_beside_the_value():
    grads, aux = estimate.spsa().grad(lambda x: (quadratic(x), x["b"]), has_aux=True)(
        KEY, START
    )
    assert flat(grads).shape == (3,) and aux.shape == (2, 1)


def test_the_function_may_count():
    def errors(x):
        return (x < 0).sum()

    search = estimate.evolution_strategies(1.0, directions=64)
    value, grad = search.value_and_grad(errors)(KEY, jnp.zeros(3))
    assert value == pytest.approx(1.5) and (grad < 0).all()


def test_other_arguments_of_the_function_pass_through():
    def f(x, factor, *, shift):
        return factor * x + shift

    grad = estimate.spsa(directions=1).grad(f)(KEY, jnp.array(1.0), 3.0, shift=2.0)
    assert grad == pytest.approx(3, rel=1e-4)


def test_gradients_have_the_structure_and_dtypes_of_the_parameters():
    def f(x):
        return jnp.sum(x["half"].astype(jnp.float32)) + jnp.abs(x["complex"]) ** 2

    params = {
        "half": jnp.ones(3, jnp.bfloat16),
        "complex": jnp.complex64(1 + 2j),
        "none": None,
    }
    for make in ALL:
        grads = make().grad(f)(KEY, params)
        assert jax.tree.map(jax.typeof, grads) == jax.tree.map(jax.typeof, params)


def test_the_gradient_of_a_complex_number_is_that_of_jax():
    at = jnp.complex64(1 + 2j)

    def f(z):
        return jnp.real(z) ** 2 + 3 * jnp.imag(z)

    estimates = many(estimate.spsa(0.5, 16), f, at, 64)
    np.testing.assert_allclose(estimates.mean(), jax.grad(f)(at), atol=0.3)


def test_an_estimator_is_a_value_and_a_pytree():
    spsa = estimate.spsa(0.1, directions=2)
    assert repr(spsa) == "spsa(perturbation=0.1, directions=2, at_once=None)"
    assert pickle.loads(pickle.dumps(spsa)) == spsa == estimate.spsa(0.1, 2)
    assert spsa.replace(perturbation=0.2) != spsa
    traces = []

    @jax.jit
    def grad(estimator):
        traces.append(1)
        return estimator.grad(quadratic)(KEY, START)

    for perturbation in (0.1, 0.2, 0.3):
        grad(spsa.replace(perturbation=perturbation))
    assert len(traces) == 1


@pytest.mark.parametrize("make", ALL)
def test_any_transformation_descends_with_estimates(make):
    tx = gradtx.adam(gradtx.cosine_decay_schedule(0.3, 200))
    grad = make(directions=8).grad(lambda x: jnp.sum((x["w"] - 1) ** 2) + x["b"] ** 2)

    @jax.jit
    def run():
        def step(carry, key):
            params, state = carry
            updates, state = tx.update(grad(key, params), state, params)
            return (gradtx.apply_updates(params, updates), state), None

        keys = jax.random.split(KEY, 200)
        return jax.lax.scan(step, (START, tx.init(START)), keys)[0][0]

    np.testing.assert_allclose(flat(run()), [0, 1, 1], atol=0.05)


@pytest.mark.parametrize(
    "kind, words, fail",
    [
        (
            ValueError,
            "spsa: perturbation must be positive, got -1",
            lambda: estimate.spsa(-1),
        ),
        (
            ValueError,
            "spsa: directions must be at least 1, got 0",
            lambda: estimate.spsa(directions=0),
        ),
        (
            ValueError,
            "spsa: at_once must be a divisor of directions, got 3 and 4",
            lambda: estimate.spsa(directions=4, at_once=3),
        ),
        (
            ValueError,
            "augmented_random_search: top must be at most directions, got 9 and 8",
            lambda: estimate.augmented_random_search(directions=8, top=9),
        ),
        (
            TypeError,
            "spsa: unexpected argument 'direction'; did you mean 'directions'?",
            lambda: estimate.spsa(direction=3),  # pyright: ignore
        ),
        (
            TypeError,
            "spsa: the first argument must be a PRNG key, got 1.0",
            lambda: estimate.spsa().grad(quadratic)(1.0, START),
        ),
        (
            TypeError,
            "spsa: w/0 must be floats, got int32",
            lambda: estimate.spsa().grad(quadratic)(KEY, {"w": [1]}),
        ),
        (
            TypeError,
            "spsa: the function must return a real scalar, got float32 of shape (2,)",
            lambda: estimate.spsa().grad(lambda x: x["w"])(KEY, START),
        ),
        (
            TypeError,
            "evolution_strategies: shaping must be a function, got 'ranks'",
            lambda: estimate.evolution_strategies(shaping="ranks"),  # pyright: ignore
        ),
        (
            ValueError,
            "evolution_strategies: shaping must give 64 utilities, gave shape (3,)",
            lambda: estimate.evolution_strategies(shaping=lambda v: v[:3]).grad(
                quadratic
            )(KEY, START),
        ),
        (
            TypeError,
            "spsa: the function must return a real scalar, got complex64 of shape ()",
            lambda: estimate.spsa().grad(lambda x: jnp.complex64(1))(KEY, START),
        ),
        (
            TypeError,
            "spsa: the function must return a real scalar, got None",
            lambda: estimate.spsa().grad(lambda x: None)(KEY, START),
        ),
    ],
)
def test_a_mistake_is_named(kind, words, fail):
    with pytest.raises(kind) as error:
        fail()
    assert str(error.value) == words


def test_a_value_without_its_aux_is_named():
    with pytest.raises(TypeError, match=r"spsa: with has_aux .* a pair \(value, aux\)"):
        estimate.spsa().grad(quadratic, has_aux=True)(KEY, START)
