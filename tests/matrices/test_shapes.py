import jax
import numpy as np
import pytest
from jax import numpy as jnp
from optax.contrib import GaLoreDimensionNumbers

from gradtx.matrices.shapes import Matrix, is_tall, matrices_of

ARRAY = np.arange(120.0).reshape(2, 3, 4, 5)
PARAMS = {"w": jnp.ones((4, 3)), "b": jnp.ones(3), "k": jnp.ones((2, 3, 4, 5))}


@pytest.mark.parametrize("rows", [(0,), (3, 1), (2, 0, 1)])
def test_a_matrix_has_a_row_and_a_column_for_each_index_of_its_axes(rows):
    columns = tuple(axis for axis in range(4) if axis not in rows)
    found = np.asarray(Matrix(rows, columns).of(jnp.asarray(ARRAY)))

    def place(axes, index):
        sizes = [ARRAY.shape[axis] for axis in axes]
        return np.ravel_multi_index([index[axis] for axis in axes], sizes)

    for index in np.ndindex(ARRAY.shape):
        assert found[place(rows, index), place(columns, index)] == ARRAY[index]


@pytest.mark.parametrize("rows", [(0,), (3, 1), (2, 0, 1)])
def test_an_array_comes_back_from_its_matrix(rows):
    matrix = Matrix(rows, tuple(axis for axis in range(4) if axis not in rows))
    array = jnp.asarray(ARRAY)
    np.testing.assert_array_equal(matrix.back(matrix.of(array), array), ARRAY)


def test_arrays_of_two_axes_are_matrices_if_nothing_is_said():
    assert matrices_of(None, PARAMS) == {
        "w": Matrix((0,), (1,)),
        "b": None,
        "k": None,
    }


def test_numbers_say_which_axes_are_rows_and_which_are_columns():
    def numbers(params):
        four = GaLoreDimensionNumbers((0, -1), (1, 2))
        return jax.tree.map(lambda p: four if p.ndim == 4 else None, params)

    found = matrices_of(numbers, PARAMS)
    assert found == {"w": None, "b": None, "k": Matrix((0, 3), (1, 2))}


def test_numbers_for_all_are_of_each_array_that_has_two_axes_or_more():
    small = {"w": PARAMS["w"], "b": PARAMS["b"]}
    turned = GaLoreDimensionNumbers(1, 0)
    assert matrices_of(turned, small) == {"w": Matrix((1,), (0,)), "b": None}
    with pytest.raises(ValueError, match=r"name each axis of an array of shape \(2, 3"):
        matrices_of(turned, PARAMS)


def test_a_square_matrix_counts_as_tall():
    shapes = [(4, 3), (3, 3), (3, 4)]
    assert [is_tall(jnp.ones(shape)) for shape in shapes] == [True, True, False]
