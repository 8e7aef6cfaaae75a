import jax
import pytest

from tests import registry

LIKE = jax.ShapeDtypeStruct

TREES = {
    "real": {"w": LIKE((4, 3), "float32"), "b": LIKE((3,), "bfloat16"), "s": 1.0},
    "complex": {"w": LIKE((4, 3), "complex64"), "b": [LIKE((3,), "float32"), None]},
}


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("name", registry.TRANSFORMATIONS)
def test_the_state_of_shapes_is_that_of_arrays(name, tree):
    """To the weak type: it is made without tracing `init`."""
    if tree == "complex" and name in registry.REAL_ONLY:
        return
    tx = registry.TRANSFORMATIONS[name]()
    shapes, traced = tx.init(TREES[tree]), jax.eval_shape(tx.init, TREES[tree])
    assert jax.tree.structure(shapes) == jax.tree.structure(traced)
    looks = [[*map(jax.typeof, jax.tree.leaves(it))] for it in (shapes, traced)]
    assert looks[0] == looks[1]
