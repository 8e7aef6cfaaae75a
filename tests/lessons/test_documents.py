"""Every section of the four documents that the project started from is a lesson."""

import functools
import importlib
import pathlib
import re

import matplotlib.image
import pytest

import gradtx
from gradtx import plot

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
LESSONS = sorted(file.stem for file in EXAMPLES.glob("lessons/lesson_*.py"))

COURSE = {
    1: ("batches", "sgd apply_updates"),
    2: ("batches", "sgd apply_updates"),
    3: ("averages", "ema"),
    4: ("averages", "plot_ema_weights"),
    5: ("averages", "ema"),
    6: ("bowl", "sgd momentum"),
    7: ("bowl", "rmsprop"),
    8: ("first_steps", "moments scale_by_ema bias_correction divide_by_root adam"),
    9: ("decay", "inverse_time_decay exponential_decay inverse_sqrt_decay"),
    10: ("saddles", "trajectory adam"),
}
"""Andrew Ng's course, lecture notes 01 to 10."""

SLIDES = {
    3: ("batches", "sgd"),  # the optimization problem
    4: ("batches", "sgd"),
    5: ("batches", "sgd"),
    6: ("batches", "sgd"),
    7: ("saddles", "trajectory"),  # the landscape; stuck in local minima
    8: ("which_rate", "sgd"),  # is the learning rate right?
    9: ("bowl", "trajectory"),  # tough terrain
    10: ("saddles", "momentum"),  # local minima
    11: ("which_rate", "sgd adam rmsprop"),
    12: ("batches", "sgd"),  # gradient descent
    13: ("batches", "sgd"),
    14: ("batches", "sgd"),  # stochastic
    15: ("batches", "sgd"),  # batch, epoch
    16: ("batches", "sgd"),
    17: ("batches", "sgd"),
    18: ("batches", "sgd"),  # batch against mini-batch
    19: ("batches", "sgd"),  # mini-batch
    20: ("batches", "sgd"),
    21: ("saddles", "trajectory"),  # rates, local minima, plateaus
    22: ("bowl", "momentum"),
    23: ("bowl", "momentum"),
    24: ("averages", "ema"),  # exponential moving average
    25: ("bowl", "momentum"),  # ravines
    26: ("bowl", "momentum"),
    27: ("bowl", "adagrad rmsprop adadelta rprop adam"),  # adaptive learning rates
    28: ("dying_steps", "adagrad"),
    29: ("dying_steps", "adagrad"),  # sparse features, word embeddings
    30: ("dying_steps", "adagrad"),
    31: ("dying_steps", "adadelta"),
    32: ("bowl", "rprop"),
    33: ("dying_steps", "rmsprop"),
    34: ("dying_steps", "rmsprop"),
    35: ("first_steps", "adam"),
    36: ("first_steps", "adam"),
    37: ("which_rate", "sgd rmsprop adam"),  # which one to use
    38: ("decay", "inverse_time_decay exponential_decay"),
    40: ("batches", "sgd"),  # a quiz: classification, generalization
    45: ("no_gradient", "augmented_random_search"),
    46: ("no_gradient", "augmented_random_search"),
    47: ("no_gradient", "evolution_strategies"),  # the perceptron
    48: ("no_gradient", "evolution_strategies"),
    49: ("no_gradient", "central_differences spsa"),  # try both directions
    50: ("no_gradient", "central_differences spsa"),  # finite differences
    51: ("decay", "inverse_time_decay exponential_decay inverse_sqrt_decay"),
}
"""A lecture's slides, 3 to 51; 39 and 44 have no text."""

WITHOUT_IDEA = {41: "next session", 42: "over to the notebook", 43: "what's next"}

NOTES = {
    "More tips on learning rate": ("which_rate", "sgd"),
    "Fancy optimization": ("batches", "sgd"),
    "1. Bad Condition Number": ("bowl", "sgd"),
    "2. Local minima": ("saddles", "trajectory"),
    "3. The Stochastic bit": ("batches", "sgd"),
    "Momentum": ("bowl", "momentum"),
    "Adagrad": ("dying_steps", "adagrad"),
    "RMSProp": ("dying_steps", "rmsprop"),
    "Adam": ("first_steps", "adam"),
}
"""A student's notes of CS231n."""

NOTEBOOK = {
    "Weight Decay": ("decay", "inverse_time_decay"),
    "Scheduling": ("decay", "inverse_time_decay"),
    "The Truth About Local Optimums": ("saddles", "trajectory"),
}
"""A notebook on decay and saddle points."""

COVERED = {
    f"{document}, {section}": where
    for document, sections in (
        ("course", COURSE),
        ("slides", SLIDES),
        ("notes", NOTES),
        ("notebook", NOTEBOOK),
    )
    for section, where in sections.items()
}


def test_every_numbered_section_is_covered():
    assert list(COURSE) == list(range(1, 11))
    assert sorted({*SLIDES, *WITHOUT_IDEA, 39, 44}) == list(range(3, 52))


@pytest.mark.parametrize("section", COVERED)
def test_a_section_is_shown_by_a_lesson_with_functions_of_the_library(section):
    ending, functions = COVERED[section]
    (lesson,) = (name for name in LESSONS if name.split("_", 2)[2] == ending)
    source = (EXAMPLES / "lessons" / f"{lesson}.py").read_text()
    for function in functions.split():
        assert any(hasattr(m, function) for m in (gradtx, gradtx.estimate, plot))
        assert re.search(rf"\b(gradtx|estimate|plot)[.]{function}\b", source), function


def test_there_are_ten_lessons_and_each_is_in_the_gallery_as_it_is_written():
    assert [name.split("_")[1] for name in LESSONS] == [f"{i:02}" for i in range(1, 11)]
    gallery = (EXAMPLES / "README.md").read_text()
    for name in LESSONS:
        title, _, body = doc(name).partition("\n\n")
        assert f"{title.removesuffix('.')}\n\n{body}" in gallery
        assert f"lessons/pictures/{name}.png" in gallery


@functools.cache
def doc(name):
    return str(importlib.import_module(name).__doc__).strip()


def test_every_picture_of_the_gallery_is_there_and_of_sensible_size():
    gallery = (EXAMPLES / "README.md").read_text()
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", gallery)
    assert len(pictures) == 11  # one of them moves
    for picture in pictures:
        assert 10_000 < (EXAMPLES / picture).stat().st_size < 500_000
        if picture.endswith(".png"):
            height, width, _ = matplotlib.image.imread(EXAMPLES / picture).shape
            assert 400 <= height <= width <= 2000
