import numpy as np
import optax
import pytest
from jax import numpy as jnp

import gradtx
from tests.oracles.averages import trace_by_the_paper
from tests.oracles.runs import REAL, steps_of

GRADS = [jnp.asarray(g, jnp.float32) for g in REAL[:6]]


def third(step, **extra):
    """Whether two updates came before it, or five, ..."""
    return step % 3 == 2


def late(step):
    return step >= 2


@pytest.mark.parametrize(
    ("make", "otherwise"),
    [
        (gradtx.conditionally_transform, lambda g: g),
        (gradtx.conditionally_mask, np.zeros_like),
    ],
    ids=["transform", "mask"],
)
def test_only_where_the_condition_holds_does_the_inner_transformation_run(
    make, otherwise
):
    """Its momentum is of the gradients that it saw."""
    seen = trace_by_the_paper([GRADS[2], GRADS[5]], 0.5)
    runs = steps_of(make(gradtx.trace(0.5), third), GRADS)
    for t, (updates, state) in enumerate(runs):
        expected = next(seen) if t in (2, 5) else otherwise(GRADS[t])
        np.testing.assert_allclose(updates, expected, rtol=1e-6)
        assert state["step"] == t + 1
        assert state["inner_state"]["count"] == (t + 1) // 3


@pytest.mark.parametrize("name", ["conditionally_transform", "conditionally_mask"])
def test_a_schedule_inside_counts_the_updates_that_were_made(name):
    rate = optax.linear_schedule(1.0, 0.0, 4)
    runs = [
        steps_of(getattr(m, name)(m.scale_by_schedule(rate), late), GRADS)
        for m in (gradtx, optax)
    ]
    for t, ((mine, _), (theirs, _)) in enumerate(zip(*runs, strict=True)):
        np.testing.assert_array_equal(mine, theirs)
        if t >= 2:
            np.testing.assert_allclose(mine, (1 - (t - 2) / 4) * GRADS[t], rtol=1e-6)


def test_the_condition_gets_extra_arguments_only_if_they_are_forwarded():
    def is_large(step, value):
        return value > 1.0

    grads = jnp.ones(2)
    tx = gradtx.conditionally_mask(gradtx.identity(), is_large, True)
    for value, expected in ((0.5, 0.0), (2.0, 1.0)):
        updates, _ = tx.update(grads, tx.init(grads), value=value)
        np.testing.assert_array_equal(updates, expected)
    plain = tx.replace(forward_extra_args=False)
    with pytest.raises(TypeError, match="value"):
        plain.update(grads, plain.init(grads), value=2.0)
