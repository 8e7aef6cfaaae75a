"""Which parameters weight decay spares, in the libraries that name them."""

import pickle
from typing import Any

import chex
import equinox as eqx
import haiku as hk
import jax
import numpy as np
import optax
import pytest
from flax import linen, nnx
from jax import numpy as jnp

import gradtx
from gradtx.core.paths import names_of

KEY = jax.random.key(0)
X = jnp.ones((1, 4, 8))


def exempt_in(params, **more):
    """The names of parameters that do not decay."""
    flags = jax.tree.leaves(gradtx.decay_mask(params, **more))
    pairs = zip(names_of(params), flags, strict=True)
    return {name for name, decays in pairs if not decays}


class Block(linen.Module):
    """Embedding, attention, norms of several kinds, of flax.linen."""

    @linen.compact
    def __call__(self, tokens):
        x = linen.Embed(5, 8, name="embed")(tokens)
        x = linen.MultiHeadDotProductAttention(2, name="attention")(x, x)
        x = linen.RMSNorm()(linen.LayerNorm()(x))
        x = linen.GroupNorm(2)(linen.WeightNorm(linen.Dense(8, name="dense"))(x))
        return linen.PReLU()(x)


def test_biases_of_attention_in_flax_linen_are_exempt_whatever_their_shape():
    params: Any = Block().init(KEY, jnp.zeros((1, 4), int))["params"]
    assert params["attention"]["query"]["bias"].shape == (2, 4)
    found = exempt_in(params)
    assert found == {
        *(f"attention/{name}/bias" for name in ("key", "query", "value", "out")),
        *("LayerNorm_0/bias", "LayerNorm_0/scale", "RMSNorm_0/scale"),
        *("GroupNorm_0/bias", "GroupNorm_0/scale", "PReLU_0/negative_slope"),
        *("dense/bias", "WeightNorm_0/dense/kernel/scale"),
    }
    assert exempt_in(params, embeddings=True) - found == {"embed/embedding"}


class Model(nnx.Module):
    """Embedding, linear layer, norm and recurrent cell of flax.nnx."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(3, 4, rngs=rngs)
        self.layers = nnx.List(
            [nnx.Linear(4, 4, rngs=rngs), nnx.LayerNorm(4, rngs=rngs)]
        )
        self.attention = nnx.MultiHeadAttention(2, 4, rngs=rngs, decode=False)
        self.cell = nnx.SimpleCell(4, 4, rngs=rngs)


def test_names_of_flax_nnx_are_known_in_variables_and_in_values():
    model = Model(nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    found = {
        *("layers/0/bias", "layers/1/bias", "layers/1/scale"),
        *(f"attention/{name}/bias" for name in ("key", "query", "value", "out")),
        "cell/dense_i/bias",
    }
    assert exempt_in(params) == exempt_in(nnx.to_pure_dict(params)) == found
    assert exempt_in(params, embeddings=True) - found == {"embed/embedding"}
    tx = gradtx.adamw(0.1, weight_decay=0.5, mask=gradtx.decay_mask)
    before = jax.tree.map(jnp.copy, nnx.to_pure_dict(params))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.zeros_like, params))
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    kernels = (it["layers"][0]["kernel"] for it in (after, before))
    np.testing.assert_allclose(next(kernels), 0.95 * next(kernels), rtol=1e-6)
    np.testing.assert_array_equal(after["layers"][1]["scale"], 1.0)


def test_norms_of_equinox_are_known_though_their_scale_is_called_weight():
    layers: list[Any] = [
        eqx.nn.Embedding(3, 4, key=KEY),
        eqx.nn.Linear(4, 4, key=KEY),
        eqx.nn.LayerNorm(4),
        eqx.nn.RMSNorm(4),
        eqx.nn.GroupNorm(2, 4),
        eqx.nn.MultiheadAttention(2, 4, use_query_bias=True, key=KEY),
        eqx.nn.GRUCell(4, 4, key=KEY),
        eqx.nn.WeightNorm(eqx.nn.Linear(4, 4, key=KEY)),
    ]
    params = eqx.filter(eqx.nn.Sequential(layers), eqx.is_inexact_array)
    found = {
        *("layers/1/bias", "layers/2/bias", "layers/2/weight", "layers/3/bias"),
        *("layers/3/weight", "layers/4/bias", "layers/4/weight", "layers/6/bias"),
        *("layers/5/query_proj/bias", "layers/6/bias_n", "layers/7/layer/bias"),
        "layers/7/g",
    }
    assert exempt_in(params) == found
    assert exempt_in(params, embeddings=True) - found == {"layers/0/weight"}


def test_names_of_haiku_are_known():
    def model(tokens):
        norm = hk.LayerNorm(-1, create_scale=True, create_offset=True)
        return hk.nets.MLP([2])(norm(hk.Embed(5, 4)(tokens)))

    params = hk.transform(model).init(KEY, jnp.array([1]))
    found = {"layer_norm/offset", "layer_norm/scale", "mlp/linear_0/b"}
    assert exempt_in(params) == found
    assert exempt_in(params, embeddings=True) - found == {"embed/embeddings"}


@pytest.mark.parametrize(
    ("name", "is_exempt"),
    [
        *[(name, True) for name in ("bias", "q_bias", "bias_ih", "b", "offset")],
        *[(name, True) for name in ("gamma", "beta", "scale", "final_norm/weight")],
        *[(name, True) for name in ("LayerNorm_0/weight", "ln_f/weight", "ln1/weight")],
        *[(name, False) for name in ("kernel", "w", "weight", "embed", "lnet/weight")],
        *[(name, False) for name in ("norm/kernel", "b/w", "scales", "bias/kernel")],
    ],
)
def test_a_name_is_exempt_by_its_last_part_or_by_that_of_its_norm(name, is_exempt):
    params = {"bias": 0.0, "h": [{}, {name: 0.0}]}
    assert (f"h/1/{name}" in exempt_in(params)) == is_exempt


PARAMS = {
    "dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
    "lora_a": jnp.ones(2),
    "gate": jnp.ones(2),
}


def test_patterns_exempt_more():
    assert exempt_in(PARAMS, exempt="lora_*|other") == {"dense/bias", "lora_a"}
    assert exempt_in(PARAMS, exempt=["re:lora_.", "gate"]) == {
        *("dense/bias", "lora_a", "gate"),
    }
    mask = gradtx.decay_mask(exempt="gate")
    assert exempt_in(PARAMS, exempt="gate") == {"dense/bias", "gate"}
    assert mask(PARAMS) == gradtx.decay_mask(PARAMS, exempt="gate")


@pytest.mark.parametrize("mask", [gradtx.decay_mask, gradtx.decay_mask(exempt="gate")])
def test_adamw_decays_as_in_optax_with_the_mask_written_out(mask):
    written = {"dense": {"kernel": True, "bias": False}, "lora_a": True}
    written["gate"] = mask is gradtx.decay_mask
    mine = gradtx.adamw(0.1, weight_decay=0.5, mask=mask)
    runs = []
    for tx in (
        mine,
        optax.adamw(0.1, weight_decay=0.5, mask=written),
        optax.adamw(0.1, weight_decay=0.5, mask=mask),
    ):
        with jax.numpy_dtype_promotion("standard"):
            updates, _ = jax.jit(tx.update)(PARAMS, tx.init(PARAMS), PARAMS)
        runs.append(updates)
    for run in runs[1:]:
        chex.assert_trees_all_close(runs[0], run, rtol=1e-5)
    assert pickle.loads(pickle.dumps(mine)) == mine
    assert gradtx.from_config(gradtx.to_config(mine)) == mine


def test_a_group_may_have_no_bias_if_another_one_has():
    def decayed():
        return gradtx.adamw(0.1, mask=gradtx.decay_mask)

    for tx in (
        gradtx.groups({"dense/**": decayed(), "**": decayed()}),
        optax.multi_transform(
            {"d": decayed(), "x": decayed()},
            {"dense": "d", "lora_a": "x", "gate": "x"},
        ),
    ):
        state = tx.init(PARAMS)
        updates, _ = tx.update(PARAMS, state, PARAMS)
        assert jax.tree.structure(updates) == jax.tree.structure(PARAMS)


def test_a_model_without_biases_and_norms_is_an_error():
    message = (
        "^decay_mask: found neither biases nor norms among 'v', 'w'; name them by "
        "`exempt`, or leave out the mask$"
    )
    tx = gradtx.adamw(0.1, mask=gradtx.decay_mask)
    with pytest.raises(ValueError, match=message):
        tx.init({"w": jnp.ones(2), "v": jnp.ones(2)})
    with pytest.raises(ValueError, match=message):
        gradtx.decay_mask({"w": jnp.ones(2), "v": jnp.ones(2)}, embeddings=True)


def test_a_pattern_that_exempts_nothing_is_an_error():
    message = "^decay_mask: exempt: the pattern 'lora' matches none of 'dense/bias', "
    with pytest.raises(ValueError, match=message):
        gradtx.decay_mask(PARAMS, exempt=["gate", "lora"])


def test_a_tree_without_leaves_has_nothing_to_exempt():
    assert gradtx.decay_mask({}) == {}
