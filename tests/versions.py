"""What is held on one version of JAX: figures are XLA's, behaviour is ours."""

import jax
import pytest

held_figure = pytest.mark.skipif(
    jax.__version_info__ < (0, 10, 2),
    reason="XLA before jax 0.10.2 fuses and allocates otherwise",
)
"""Marks tests of figures: fusions, bytes, temporaries, sizes of modules."""
