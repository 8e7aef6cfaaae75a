"""Learning rates that decay with the depth of a layer."""

import pickle
import re
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

import gradtx
from gradtx.core.paths import names_of

anything: Any = gradtx


def block():
    return {"kernel": jnp.ones(2), "norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)}}


VIT = {
    "pos_embed": jnp.ones(2),
    "patch_embed": {"kernel": jnp.ones(2), "bias": jnp.ones(2)},
    **{f"blocks_{i}": block() for i in range(12)},
    "norm": {"scale": jnp.ones(2)},
    "head": {"kernel": jnp.ones(2), "bias": jnp.ones(2)},
}


def scales_of(tx, params):
    """The multiplier of each parameter, by name, where `make` is `sgd`."""
    updates, _ = tx.update(params, tx.init(params), params)
    leaves = jax.tree.leaves(updates)
    return {
        name: -float(u.ravel()[0])
        for name, u in zip(names_of(params), leaves, strict=True)
    }


def scales(params, rate=0.5, **where):
    return scales_of(gradtx.layer_decay(gradtx.sgd, params, rate, **where), params)


def layer_by_beit(name):
    """`get_num_layer_for_vit` of BEiT's optim_factory.py, for a model of 12 blocks."""
    if name.startswith(("pos_embed", "patch_embed")):
        return 0
    if name.startswith("blocks"):
        return int(re.split("[_/]", name)[1]) + 1
    return 13


def test_multipliers_are_those_of_beit():
    expected = {name: 0.8 ** (13 - layer_by_beit(name)) for name in names_of(VIT)}
    found = scales(
        VIT, 0.8, layers="blocks_*", first="pos_embed|patch_embed", last="norm|head"
    )
    assert found == pytest.approx(expected, rel=1e-6)
    assert scales(VIT, 0.8, layers=layer_by_beit) == pytest.approx(expected, rel=1e-6)
    assert found["blocks_2/kernel"] == pytest.approx(0.8**10)
    assert found["blocks_10/kernel"] == pytest.approx(0.8**2)


def test_without_first_and_last_the_layers_are_all_there_is():
    params = {f"dense_{i}": jnp.ones(2) for i in (1, 3, 10)}
    found = scales(params, layers="dense_*")
    assert found == {"dense_1": 0.25, "dense_3": 0.5, "dense_10": 1.0}


def test_a_rate_of_1_gives_all_the_same():
    assert {
        *scales(VIT, 1.0, layers="blocks_*", first="p*", last="norm|head").values()
    } == {1.0}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("stages/*/blocks/*", [0.125, 0.25, 0.5, 1.0]),
        ("stages/*/blocks/*/**", [0.125, 0.25, 0.5, 1.0]),
        ("**/blocks/*", [0.5, 1.0, 0.5, 1.0]),
        ("stages/*", [0.5, 0.5, 1.0, 1.0]),
    ],
)
def test_every_star_is_a_number_and_the_first_counts_most(layers, expected):
    stage = {"blocks": [{"w": jnp.ones(2)}, {"w": jnp.ones(2)}]}
    found = scales({"stages": [stage, stage]}, layers=layers)
    assert [*found.values()] == expected


def test_a_star_stands_for_digits_only_and_globs_may_be_given_side_by_side():
    params = {
        **{f"encoder_{i}": jnp.ones(2) for i in range(2)},
        **{f"decoder_{i}": jnp.ones(2) for i in range(2)},
        "encoder_norm": jnp.ones(2),
    }
    found = scales(params, layers="encoder_*|decoder_*", last="encoder_norm")
    assert found == {
        **{"encoder_0": 0.25, "decoder_0": 0.25, "encoder_1": 0.5, "decoder_1": 0.5},
        "encoder_norm": 1.0,
    }


class Model(nnx.Module):
    """Layers in a list of flax.nnx."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(3, 2, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(11)])
        self.head = nnx.Linear(2, 2, rngs=rngs)


def test_layers_of_flax_nnx_and_of_equinox_are_found():
    where = {"layers": "layers/*", "first": "embed", "last": "head"}
    params = nnx.to_pure_dict(nnx.state(Model(nnx.Rngs(0)), nnx.Param))
    model = nnx.state(Model(nnx.Rngs(0)), nnx.Param)
    for given in (params, model, jax.eval_shape(lambda: params)):
        tx = gradtx.layer_decay(gradtx.sgd, given, 0.5, **where)
        ones = jax.tree.map(jnp.ones_like, params)
        found = scales_of(tx, ones)
        assert found["embed/embedding"] == 0.5**12
        assert found["layers/2/kernel"] == 0.5**9
        assert found["layers/10/kernel"] == 0.5
        assert found["head/bias"] == 1.0
    mlp = eqx.nn.MLP(2, 2, 2, 2, key=jax.random.key(0))
    ones = jax.tree.map(jnp.ones_like, eqx.filter(mlp, eqx.is_inexact_array))
    assert [*scales(ones, layers="layers/*").values()] == [0.25, 0.25, 0.5, 0.5, 1, 1]


SCHEDULE = gradtx.linear_schedule(0.1, 0.0, 10)


def scheduled(scale):
    adamw = gradtx.adamw(SCHEDULE, mask=gradtx.decay_mask)
    return gradtx.chain(adamw, gradtx.scale(scale))


def test_a_schedule_and_a_mask_go_through_and_the_state_is_that_of_one_optimizer():
    tx = gradtx.layer_decay(
        scheduled, VIT, 0.8, layers="blocks_*", first="*_embed", last="norm|head"
    )
    plain = scheduled(1.0)
    state, other = tx.init(VIT), plain.init(VIT)
    assert jax.tree.structure(state) == jax.tree.structure(other)
    _, state = tx.update(VIT, state, VIT)
    _, other = plain.update(VIT, other, VIT)
    updates, _ = jax.jit(tx.update)(VIT, state, VIT)
    expected, _ = jax.jit(plain.update)(VIT, other, VIT)
    names = names_of(VIT)
    pairs = zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True)
    for name, (found, whole) in zip(names, pairs, strict=True):
        multiplier = 0.8 ** (13 - layer_by_beit(name))
        np.testing.assert_allclose(found, multiplier * whole, rtol=1e-6)


@pytest.mark.parametrize(
    "where",
    [
        {"layers": "blocks_*", "first": "re:p.*", "last": "norm|head"},
        {"layers": layer_by_beit},
    ],
    ids=["patterns", "function"],
)
def test_the_result_is_a_value_with_names_tables_and_configs(where):
    tx = gradtx.layer_decay(gradtx.sgd, VIT, 0.8, **where)
    assert tx == gradtx.layer_decay(gradtx.sgd, VIT, 0.8, **where)
    assert pickle.loads(pickle.dumps(tx)) == tx
    assert gradtx.from_config(gradtx.to_config(tx)) == tx
    assert len(gradtx.hyperparams(tx, tx.init(VIT))) == 14
    assert "blocks_11/norm/scale" in str(gradtx.explain(tx, VIT))


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (
            {"layers": "blocks_*", "first": "*_embed"},
            ValueError,
            "no pattern matches 'head/bias', 'head/kernel', 'norm/scale'; `first` and "
            "`last` take what is before and behind the layers",
        ),
        (
            {"layers": "blocks_*", "first": "*_embed", "last": "**/norm|head"},
            ValueError,
            "two patterns match 'blocks_0/norm/bias' by 'blocks_0/**' and "
            "'**/norm/**|head/**'; ",
        ),
        (
            {"layers": "block_*"},
            ValueError,
            "the pattern 'block_*' matches none of 'blocks_0/kernel', ",
        ),
        (
            {"layers": "blocks_*", "first": "embed", "last": "norm|head"},
            ValueError,
            "the pattern 'embed/**' matches none of 'blocks_0/kernel', ",
        ),
        *[
            (
                {"layers": layers},
                ValueError,
                "layers must be names, `**` for any modules, and `*` for the number "
                f"of a layer, got {layers!r}",
            )
            for layers in ("blocks", "**/blocks", "blocks_[0-9]*", "re:blocks_*")
        ],
        (
            {"layers": 12},
            TypeError,
            "layers must be a pattern, or a function without first and last, got 12",
        ),
        (
            {"layers": layer_by_beit, "first": "*_embed"},
            TypeError,
            "layers must be a pattern, or a function without first and last, got <fun",
        ),
        (
            {"layers": lambda name: None},
            ValueError,
            "layers must give an int of at least 0, got None for 'blocks_0/kernel'",
        ),
        (
            {"layers": layer_by_beit, "rate": 1.5},
            ValueError,
            "rate must be in (0, 1], got 1.5",
        ),
        (
            {"layers": layer_by_beit, "rate": 0.0},
            ValueError,
            "rate must be in (0, 1], got 0.0",
        ),
    ],
)
def test_a_mistake_is_an_error_that_lists_the_parameters(given, kind, message):
    with pytest.raises(kind) as error:
        anything.layer_decay(gradtx.sgd, VIT, **given)
    assert str(error.value).startswith(f"layer_decay: {message}")


def test_a_parameter_that_is_new_at_init_is_an_error():
    tx = gradtx.layer_decay(gradtx.sgd, VIT, layers=layer_by_beit)
    message = r"groups: labels must be among .*, got None at 'new'"
    with pytest.raises(ValueError, match=message):
        tx.init(VIT | {"new": jnp.ones(2)})
