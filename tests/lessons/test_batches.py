import pytest

from digits import batches


def test_batches_are_as_many_as_the_documents_say(page):
    assert page["1,000 each of 5 million"] == 5000
    assert page["128 each of 1,152 rows"] == 9
    assert page["end of the second 128"] == 255
    steps = [page[f"steps an epoch, {size}"] for size in ("all", "64 each", "1 each")]
    assert steps == [1, 18, 1152]


def test_the_whole_batch_lowers_the_cost_at_every_step_and_small_ones_do_not(page):
    assert page["steps up of 199, all"] == 0
    assert page["steps up, all, rate 20"] > 20
    assert 60 < page["steps up, 64 each"] < 140


def test_noise_falls_with_the_root_of_the_batch_size(page):
    assert page["noise: power of the size"] == pytest.approx(-0.5, abs=0.03)


def test_single_examples_come_closer_with_smaller_steps(page):
    large, small, falling = (
        page[f"cost above least, {rate}"]
        for rate in ("rate 0.1", "rate 0.01", "from 0.1, falling")
    )
    assert falling < small / 5 < large / 25


def test_smaller_batches_need_fewer_epochs(page):
    one, some, every = (
        page[f"epochs to the goal, {size} each"] for size in (1, 64, 1152)
    )
    assert one < some / 2 and some < every / 10
    assert 20 < every < 40


def test_the_regularization_term_is_decay_of_the_weights(page):
    assert page["decay: by term - by chain"] < 1e-5


def test_an_epoch_has_every_row_once_in_a_new_order():
    first, second = batches(12, 4, epochs=2).reshape(2, 12).tolist()
    assert sorted(first) == sorted(second) == list(range(12))
    assert len({tuple(first), tuple(second), tuple(range(12))}) == 3


def test_a_small_set_is_fine_as_one_batch(page):
    assert 20 < page["steps to the goal, 1797 as one batch"] < 60
    assert page["MB of memory, 1797 each"] < 1


def test_memory_grows_with_the_batch(page):
    small, large = (page[f"MB of memory, {size} each"] for size in (64, 65536))
    assert large / small == pytest.approx(65536 / 64, rel=0.2)
