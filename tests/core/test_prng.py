import jax
import numpy as np
import pytest
from jax import numpy as jnp

from gradtx.core.prng import is_key, key_of_leaf, one_key, raw_key


@pytest.mark.parametrize(
    "key",
    [7, np.int64(7), jnp.int32(7), jax.random.key(7), jax.random.PRNGKey(7)],
    ids=lambda key: type(key).__name__,
)
def test_seeds_and_keys_of_either_kind_are_one_raw_key(key):
    raw = raw_key(key)
    assert raw.dtype == "uint32" and raw.shape == (2,)
    np.testing.assert_array_equal(raw, jax.random.PRNGKey(7))


def test_only_a_typed_key_is_one():
    assert is_key(jax.random.key(7))
    for other in (jax.random.PRNGKey(7), 7, None, "key", np.float32(7)):
        assert not is_key(other)


def test_the_key_of_each_leaf_is_that_of_optax():
    key = jax.random.PRNGKey(7)
    following, mine = jax.random.split(key)
    leaves = jax.random.split(mine, 3)
    for i, leaf in enumerate(leaves):
        np.testing.assert_array_equal(key_of_leaf(key, i), leaf)
        np.testing.assert_array_equal(jax.jit(key_of_leaf)(key, i), leaf)
        assert not np.array_equal(leaf, following)


def test_a_key_or_a_seed_is_given_and_not_both():
    assert one_key("make", None, None) == 0
    assert one_key("make", 0, None) == 0 and one_key("make", None, 5) == 5
    key = jax.random.key(7)
    assert one_key("make", key, None) is key
    with pytest.raises(ValueError, match="make: expected a key or a seed, got both"):
        one_key("make", 0, 0)
