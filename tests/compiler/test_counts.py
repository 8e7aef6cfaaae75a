import jax
import numpy as np
import pytest
from jax import numpy as jnp

from gradtx.compiler.counts import LONGEST, common_period, next_count

LAST = 2**31 - 1


@pytest.mark.parametrize(
    ("count", "following"), [(0, 1), (LAST - 1, LAST), (LAST, LAST)]
)
def test_a_count_saturates_and_never_wraps(count, following):
    assert next_count(jnp.int32(count)) == following
    assert next_count(jnp.int32(count)).dtype == "int32"
    assert next_count(np.int32(count)) == following


@pytest.mark.parametrize("period", [None, 3])
@pytest.mark.parametrize("count", [5, LAST])
def test_a_count_stays_where_nothing_is_due(count, period):
    assert next_count(jnp.int32(count), jnp.asarray(False), period) == count
    due = next_count(jnp.int32(count), jnp.asarray(True), period)
    assert due == next_count(jnp.int32(count), None, period)


@pytest.mark.parametrize("period", [1, 2, 3, 7, 1000])
def test_at_its_end_a_count_goes_on_through_its_period(period):
    count, seen = jnp.int32(LAST - 1), []
    for _ in range(2 * period + 2):
        seen.append(int(count) % period)
        assert LAST - period <= count <= LAST
        count = next_count(count, period=jnp.int32(period))
    steps = (np.diff(seen) - 1) % period
    assert not steps.any()


@pytest.mark.parametrize(
    ("periods", "multiple"),
    [([4], 4), ([4, 6], 12), ([2, 3, 5], 30), ([1, 1], 1), ([8, 4, 2], 8)],
)
def test_the_common_period_is_the_least_common_multiple(periods, multiple):
    assert common_period(periods) == multiple
    assert common_period([jnp.float32(period) for period in periods]) == multiple
    traced = jax.jit(common_period)([float(period) for period in periods])
    assert traced == multiple and traced.dtype == "int32"


def test_of_no_periods_there_is_none():
    assert common_period([]) is None


@pytest.mark.parametrize(
    "periods", [[2**31], [2**20, 3**12], [2**29, 3], [2**40, 7]], ids=str
)
def test_a_common_period_is_no_longer_than_a_count_can_go_back(periods):
    assert common_period(periods) == LONGEST
    small = [jnp.float32(period) for period in periods]
    assert common_period(small) == LONGEST
