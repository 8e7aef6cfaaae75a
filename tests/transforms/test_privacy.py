import jax
import numpy as np
import pytest
from jax import numpy as jnp

import gradtx
from tests import registry
from tests.transforms.test_noise import EXAMPLES, run


def clipped_mean(examples, most):
    """Abadi et al. 2016, Algorithm 1, without the noise."""
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(examples)]
    norms = [np.sqrt(sum(np.sum(leaf[i] ** 2) for leaf in leaves)) for i in range(4)]
    shares = [min(1, most / norm) if norm else 1 for norm in norms]
    return [np.tensordot(shares, leaf, 1) / 4 for leaf in leaves]


@pytest.mark.parametrize("most", [0.0, 1.0, 4.0, 100.0])
def test_private_aggregate_without_noise_is_the_mean_of_clipped_examples(most):
    tx = gradtx.differentially_private_aggregate(most, 0.0)
    updates, _ = run("differentially_private_aggregate", tx, 1)
    for mine, other in zip(updates, clipped_mean(EXAMPLES, most), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6)


def test_noise_of_the_private_aggregate_is_in_units_of_the_bound():
    tx = gradtx.differentially_private_aggregate(2.0, 3.0, 1)
    zeros = jnp.zeros((4, 20_000))
    noise, _ = tx.update(zeros, tx.init(zeros[0]), zeros[0])
    assert noise.shape == (20_000,)
    np.testing.assert_allclose(np.std(noise), 2 * 3 / 4, rtol=0.02)


@pytest.mark.parametrize(
    ("shape", "of"),
    [((), ()), ((3, 2), (3,)), ((3, 2), (3, 2)), ((2,), (3,))],
    ids=str,
)
def test_gradients_without_an_axis_of_examples_raise(shape, of):
    tx = gradtx.dpsgd(0.1, 1.0, 1.0, 0)
    grads, params = {"w": jnp.ones(shape)}, {"w": jnp.ones(of)}
    with pytest.raises(ValueError) as caught:
        tx.update(grads, tx.init(params), params)
    assert str(caught.value) == (
        "differentially_private_aggregate: expected gradients of single examples, "
        f"their axis before the parameter's of shape {of}, but at 'w' the update has "
        f"shape {shape}"
    )


def test_leaves_of_other_numbers_of_examples_raise():
    tx = gradtx.differentially_private_aggregate(1.0, 1.0)
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    grads = {"a": jnp.ones((3, 2)), "b": jnp.ones((4, 2))}
    with pytest.raises(ValueError, match="differentially_private_aggregate"):
        tx.update(grads, tx.init(params), params)


@pytest.mark.parametrize(
    "made",
    [
        lambda: gradtx.editable(gradtx.dpsgd(0.1, 1.0, 0.5, 7)),
        lambda: gradtx.inject_hyperparams(gradtx.dpsgd)(0.1, 1.0, 0.5, 7),
    ],
)
def test_numbers_in_the_state_leave_gradients_of_examples_as_they_are(made):
    params, batch = {"w": jnp.ones(3)}, {"w": jnp.arange(12.0).reshape(4, 3)}
    plain, tx = gradtx.dpsgd(0.1, 1.0, 0.5, 7), made()
    expected, _ = plain.update(batch, plain.init(params), params)
    updates, _ = tx.update(batch, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-6)


TAKE_EXAMPLES = [
    name for name, case in registry.CASES.items() if case is registry.EXAMPLES_OF
]

AROUND = {
    "groups": lambda tx, labels: gradtx.groups(tx, lambda name, leaf: labels[name]),
    "partition": gradtx.partition,
    "editable": lambda tx, labels: gradtx.editable(gradtx.partition(tx, labels)),
    "inject_hyperparams": lambda tx, labels: gradtx.inject_hyperparams(
        gradtx.partition
    )(tx, labels),
    "masked": lambda tx, labels: gradtx.chain(
        *(
            gradtx.masked(tx[label], {name: labels[name] == label for name in labels})
            for label in tx
        )
    ),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("order", ["ab", "ba", "acb"])
@pytest.mark.parametrize("name", TAKE_EXAMPLES)
def test_every_leaf_is_checked_for_its_axis_of_examples(name, order, around):
    """`c` has the axis, so that a leaf of the same dtypes was checked before."""
    private = registry.example(registry.factories()[name])
    made = {"plain": gradtx.scale(2.0), "private": private}
    kinds = {x: "plain" if x == "a" else "private" for x in order}
    names = [f"{i}{x}" for i, x in enumerate(order)]  # leaves come sorted
    tx = AROUND[around](made, {n: kinds[n[1]] for n in names})
    params = {n: jnp.ones(3) for n in names}
    right = {
        n: jnp.ones((2, 3)) if kinds[n[1]] == "private" else jnp.ones(3) for n in names
    }
    updates, _ = tx.update(right, tx.init(params), params)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
    wrong = {n: jnp.ones(3) if n[1] == "b" else x for n, x in right.items()}
    with pytest.raises(ValueError, match="expected gradients of single examples"):
        tx.update(wrong, tx.init(params), params)
