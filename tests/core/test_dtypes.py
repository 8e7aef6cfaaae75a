import jax
import numpy as np
import pytest
from jax import numpy as jnp

from gradtx.core.dtypes import LeafDTypes, default_float, leaf_dtypes_of, wide


def test_the_default_float_is_as_wide_as_is_allowed():
    assert default_float() == "float32"
    with jax.enable_x64(True):
        assert default_float() == "float64"


@pytest.mark.parametrize(
    ("update", "param", "compute", "out"),
    [
        ("float32", None, "float32", "float32"),
        ("bfloat16", "bfloat16", "float32", "bfloat16"),
        ("bfloat16", "float32", "float32", "float32"),
        ("float32", "bfloat16", "float32", "float32"),
        ("float16", "bfloat16", "float32", "float32"),
        ("float64", "float32", "float64", "float64"),
        ("float32", "complex64", "complex64", "complex64"),
        ("float64", "complex64", "complex128", "complex128"),
    ],
)
def test_rules_compute_in_single_at_least_and_updates_leave_in_both_dtypes_promoted(
    update, param, compute, out
):
    with jax.enable_x64(True):
        dtypes = leaf_dtypes_of(
            np.dtype(jnp.dtype(update)), param and np.dtype(jnp.dtype(param))
        )
    assert dtypes == LeafDTypes(jnp.dtype(compute), jnp.dtype(out))


def test_a_leaf_of_integers_stays_one():
    integers, floats = np.dtype("int32"), np.dtype("float32")
    for update, param in ((integers, None), (integers, floats), (floats, integers)):
        dtypes = leaf_dtypes_of(update, param)
        assert not dtypes.is_float and dtypes.compute == dtypes.out == update
        assert dtypes.cast(jnp.int32(3)).dtype == "int32"


def test_a_cast_keeps_reals_real_and_leaves_integers_alone():
    dtypes = leaf_dtypes_of(np.dtype("complex64"), None)
    assert dtypes.real == "float32"
    assert dtypes.cast(jnp.ones(2, "bfloat16")).dtype == "float32"
    assert dtypes.cast(jnp.ones(2, "complex64")).dtype == "complex64"
    assert dtypes.cast(jnp.ones(2, "int32")).dtype == "int32"


def test_what_is_no_float_is_single_where_it_is_wide():
    kinds = ["bfloat16", "float16", "float32", "int32", "complex64", "bool"]
    wides = [wide(jnp.ones(2, kind)).dtype.name for kind in kinds]
    assert wides == [*["float32"] * 4, "complex64", "float32"]
