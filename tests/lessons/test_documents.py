"""Every claim of the four documents that the project started from is a test."""

import functools
import importlib
import pathlib
import re
from typing import NamedTuple

import matplotlib.image
import pytest

import gradtx
from gradtx import plot

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
LESSONS = sorted(file.stem for file in EXAMPLES.glob("lessons/lesson_*.py"))
DOCUMENTS = sorted((pathlib.Path(__file__).parent / "claims").glob("*.txt"))
SECTIONS = {
    "course": [f"{i:02}" for i in range(1, 11)],
    "slides": [str(i) for i in range(3, 52) if i not in (39, 44)],  # without text
    "notes": ["More", "Fancy", "1.", "2.", "3.", "Momentum", "Adagrad"],
    "notebook": ["Weight", "Scheduling", "The"],
}
SECTIONS["notes"] += ["RMSProp", "Adam"]
FUNCTIONS = {
    "batches": "sgd apply_updates inverse_time_decay add_decayed_weights",
    "averages": "ema plot_ema_weights",
    "bowl": "sgd momentum trajectory adagrad rmsprop adadelta rprop adam",
    "dying_steps": "adagrad rmsprop adadelta rprop divide_by divide_by_root",
    "first_steps": "moments scale_by_ema bias_correction divide_by_root adam",
    "decay": "inverse_time_decay exponential_decay inverse_sqrt_decay "
    "reduce_on_plateau",
    "saddles": "trajectory sgd adagrad adam add_noise momentum",
    "weight_decay": "adamw add_decayed_weights",
    "no_gradient": "augmented_random_search evolution_strategies central_differences "
    "spsa",
    "which_rate": "sgd rmsprop adam trajectory cosine_decay_schedule",
    "generalization": "adam apply_updates",
}
"""Functions of the library that show a lesson's ideas."""


class Claim(NamedTuple):
    """A claim, and the bounds of a number, or of a ratio of two, that tests it."""

    document: str
    section: str
    words: str
    lesson: str
    label: str
    over: str | None
    relation: str
    bounds: tuple[float, ...]

    def holds(self, page):
        value = float(page[self.label])
        value = value / float(page[self.over]) if self.over else value
        match self.relation, self.bounds:
            case "<", (bound,):
                return value < bound
            case ">", (bound,):
                return value > bound
            case "in", (low, high):
                return low <= value <= high
            case "=", (expected,):
                return value == pytest.approx(expected, rel=1e-3, nan_ok=True)
        raise ValueError(f"no relation: {self.relation} {self.bounds}")


def read(file):
    """The claims of a document by section; none where it has no idea."""
    sections: dict[str, list[Claim]] = {}
    section, claims, words = "", [], ""
    for line in file.read_text().splitlines()[1:]:
        if line.startswith("== "):
            section, claims = line[3:], []
            sections[section] = claims
        elif match := re.fullmatch(r"    (\w+): (.+) (<|>|=|in) ([-\w. ]+)", line):
            lesson, label, relation, bounds = match.groups()
            label, _, over = label.partition(" ÷ ")
            bounds = tuple(map(float, bounds.split()))
            test = lesson, label, over or None, relation, bounds
            claims.append(Claim(file.stem, section, words, *test))
        elif line.startswith("- "):
            assert not claims, f"{section}: {line}"
        else:
            assert not line.startswith(" "), line
            words = line
    return sections


CLAIMS = [c for file in DOCUMENTS for claims in read(file).values() for c in claims]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: f"{c.document} {c.words}")
def test_a_claim_is_tested_by_a_number_of_its_lesson(claim, page):
    assert claim.holds(page), f"{claim.label} = {page[claim.label]}"


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.stem)
def test_every_section_has_claims_that_are_tested_or_says_that_it_has_none(file):
    sections = read(file)
    assert [title.split()[0] for title in sections] == SECTIONS[file.stem]
    lines = file.read_text().splitlines()
    for i, line in enumerate(lines[1:], 1):
        if line.startswith("== "):
            is_idle = lines[i + 1].startswith("- ")
            assert is_idle != bool(sections[line[3:]]), line
        elif line and not line.startswith((" ", "- ")):
            assert lines[i + 1].startswith("    "), f"untested: {line}"


@pytest.mark.parametrize(
    "relation, bounds, value",
    [("<", (1,), 1), (">", (1,), 1), ("in", (0, 1), 1.1), ("=", (2,), 2.01)],
)
def test_a_claim_out_of_its_bounds_does_not_hold(relation, bounds, value):
    claim = Claim("", "", "", "", "a", None, relation, bounds)
    assert not claim.holds({"a": value})
    halved = claim._replace(over="b")
    assert not halved.holds({"a": 2 * value, "b": 2})


@pytest.mark.parametrize("lesson", [name.split("_", 2)[2] for name in LESSONS])
def test_labels_are_unique_and_seconds_are_marked_as_timed(lesson, page):
    labels = [number.label for number in page.numbers]
    assert len({*labels}) == len(labels)
    for number in page.numbers:
        assert number.is_timed == number.label.startswith("seconds"), number.label


def test_the_gallery_has_no_times():
    assert "| seconds" not in (EXAMPLES / "README.md").read_text()


def test_every_lesson_tests_claims():
    endings = {name.split("_", 2)[2] for name in LESSONS}
    assert {claim.lesson for claim in CLAIMS} == endings == FUNCTIONS.keys()


@pytest.mark.parametrize("lesson", FUNCTIONS)
def test_a_lesson_shows_functions_of_the_library(lesson):
    (source,) = (file.read_text() for file in EXAMPLES.glob(f"*/lesson_??_{lesson}.py"))
    for function in FUNCTIONS[lesson].split():
        assert any(hasattr(m, function) for m in (gradtx, gradtx.estimate, plot))
        assert re.search(rf"\b(gradtx|estimate|plot)[.]{function}\b", source), function


def test_there_are_eleven_lessons_and_each_is_in_the_gallery_as_it_is_written():
    assert [name.split("_")[1] for name in LESSONS] == [f"{i:02}" for i in range(1, 12)]
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
    assert len(pictures) == 12  # one of them moves
    for picture in pictures:
        assert 10_000 < (EXAMPLES / picture).stat().st_size < 500_000
        if picture.endswith(".png"):
            height, width, _ = matplotlib.image.imread(EXAMPLES / picture).shape
            assert 400 <= height <= width <= 2000
