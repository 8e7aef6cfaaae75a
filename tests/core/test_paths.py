import equinox as eqx
import haiku as hk
import jax
import pytest
from flax import linen as nn
from flax import nnx
from jax import numpy as jnp

import gradtx
from gradtx.core.paths import Pattern, labels_by, names_of

X = jnp.ones((1, 3))


def linen_params():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(4, name="hidden")(x)
            return nn.Dense(2, name="head")(nn.LayerNorm(name="norm")(x))

    return Block().init(jax.random.key(0), X)["params"]


def nnx_params():
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(3, 4, rngs=rngs)
            self.norm = nnx.LayerNorm(4, rngs=rngs)
            self.head = nnx.Linear(4, 2, rngs=rngs)

    return nnx.state(Block(nnx.Rngs(0)), nnx.Param)


def equinox_params():
    class Block(eqx.Module):
        hidden: eqx.nn.Linear
        norm: eqx.nn.LayerNorm
        head: eqx.nn.Linear

    hidden, head = (
        eqx.nn.Linear(*sizes, key=jax.random.key(0)) for sizes in ((3, 4), (4, 2))
    )
    model = Block(hidden, eqx.nn.LayerNorm(4), head)
    return eqx.filter(model, eqx.is_inexact_array)


def haiku_params():
    def forward(x):
        x = hk.Linear(4, name="hidden")(x)
        x = hk.LayerNorm(-1, True, True, name="norm")(x)
        return hk.Linear(2, name="head")(x)

    return hk.transform(forward).init(jax.random.key(0), X)


MODULES = ["head", "hidden", "norm"]
HOSTS = {
    "linen": (linen_params, "kernel", "bias"),
    "nnx": (nnx_params, "kernel", "bias"),
    "equinox": (equinox_params, "weight", "bias"),
    "haiku": (haiku_params, "w", "b"),
}


@pytest.mark.parametrize("host", HOSTS)
def test_leaves_have_the_same_names_in_every_host(host):
    make, weight, bias = HOSTS[host]
    names = {f"{module}/{part}" for module in MODULES[:2] for part in (weight, bias)}
    found = names_of(make())
    assert {name for name in found if "norm" not in name} == names
    assert sum(name.startswith("norm/") for name in found) == 2


@pytest.mark.parametrize("host", HOSTS)
def test_patterns_group_one_model_alike_in_every_host(host):
    names = names_of(HOSTS[host][0]())
    patterns = ["**/bias|**/b|norm/*", "head/**", "**", "head/b|head/bias"]
    groups = {}
    for name, label in zip(names, labels_by(patterns, names), strict=True):
        groups.setdefault(label, []).append(name.split("/")[0])
    assert {label: sorted(modules) for label, modules in groups.items()} == {
        "**/bias|**/b|norm/*": ["hidden", "norm", "norm"],
        "head/**": ["head"],
        "head/b|head/bias": ["head"],
        "**": ["hidden"],
    }


def test_lists_and_dicts_have_the_same_names_as_modules():
    layers = [{"kernel": X, "bias": X}, {"kernel": X}]
    names = ["layers/0/bias", "layers/0/kernel", "layers/1/kernel"]
    assert names_of({"layers": layers}) == names
    assert names_of({"layers": {str(i): layer for i, layer in enumerate(layers)}}) == (
        names
    )
    assert names_of({"mlp/~/linear_0": {"w": X}}) == ["mlp/linear_0/w"]  # haiku's
    assert names_of(X) == ["<root>"]
    assert names_of({"head": {"value": X}}) == ["head/value"]  # no variable of nnx


def test_what_init_and_update_of_an_nnx_optimizer_see_has_one_name():
    variables = nnx_params()
    assert names_of(variables) == names_of(nnx.to_pure_dict(variables))


@pytest.mark.parametrize(
    ("pattern", "name", "is_matched"),
    [
        ("**", "a", True),
        ("**", "a/b/c", True),
        ("a/**", "a", True),
        ("a/**", "a/b/c", True),
        ("a/**", "ab/c", False),
        ("**/bias", "bias", True),
        ("**/bias", "a/b/bias", True),
        ("**/bias", "a/bias/b", False),
        ("a/*/c", "a/b/c", True),
        ("a/*/c", "a/b/b/c", False),
        ("a/**/c", "a/c", True),
        ("layer_?/*", "layer_1/w", True),
        ("layer_[0-3]/*", "layer_4/w", False),
        ("*/b | c", "c", True),
        ("/a/b/", "a/b", True),
        ("re:.*/(bias|scale)", "a/b/scale", True),
        ("re:bias", "a/bias", False),
        ("A", "a", False),
    ],
)
def test_a_pattern_matches_whole_names(pattern, name, is_matched):
    assert (Pattern(pattern).rank(name) is not None) is is_matched


def test_the_pattern_that_spells_out_more_counts():
    name = "embed/0/bias"
    order = ["**", "**/*", "*/*/*", "**/bi*", "**/bias", "embed/*/bias", name]
    for i in range(1, len(order)):
        for patterns in (order[: i + 1], order[: i + 1][::-1]):
            assert labels_by([*patterns, "x"], [name, "x"])[0] == order[i]
    assert labels_by([*order, "re:.*bias"], [name, "embed/1/bias"])[0] == "re:.*bias"


NAMES = ["embed/kernel", "embed/bias", "head/kernel", "head/bias", "head/scale", "x/y"]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            ["embed/**", "x/*", "head/kernel"],
            "no pattern matches 'head/bias', 'head/scale'; '**' matches the rest",
        ),
        (
            ["embed/**", "**/bias", "**"],
            "patterns of one rank match 'embed/bias' by 'embed/**' and '**/bias'",
        ),
        (
            ["**", "decoder/**"],
            "the pattern 'decoder/**' matches none of 'embed/kernel', 'embed/bias', "
            "'head/kernel', 'head/bias', 'head/scale' and 1 more",
        ),
        (["**", "a||b"], "the pattern 'a||b' has an empty glob"),
        (
            ["**", "re:("],
            "the pattern 're:(' is not a regular expression: "
            "missing ), unterminated subpattern at position 0",
        ),
    ],
)
def test_what_patterns_leave_open_is_an_error_with_the_names(patterns, message):
    with pytest.raises(ValueError) as error:
        labels_by(patterns, NAMES)
    assert str(error.value) == message


class Scale(eqx.Module):
    """A user's module, with a field of the name that flax's variables have."""

    value: jax.Array
    bias: jax.Array


def test_a_field_called_value_is_named_and_matched_as_any_other():
    params = {"norm": Scale(jnp.ones(2), jnp.ones(2))}
    assert names_of(params) == ["norm/value", "norm/bias"]
    rates = {"**/value": gradtx.sgd(0.1), "**/bias": gradtx.sgd(0.2)}
    tx = gradtx.groups(rates)
    updates, _ = tx.update(params, tx.init(params), params)
    assert float(updates["norm"].value[0]) == pytest.approx(-0.1)
    assert float(updates["norm"].bias[0]) == pytest.approx(-0.2)
