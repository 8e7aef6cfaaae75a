import contextlib
import doctest
import functools
import json
import pathlib
import re
import sys
import types

import jax
import numpy as np
import optax
import pytest

from tests import registry

ROOT = pathlib.Path(__file__).parent.parent
GUIDES = sorted((ROOT / "examples" / "guides").glob("*.md"))
GUIDES = [
    path for path in GUIDES if "--8<--" not in path.read_text()
]  # the pages of other folders
PAGES = [*GUIDES, ROOT / "README.md", ROOT / "gradtx" / "README.md"]


def examples(text):
    """The interactive examples of a page, one after the other."""
    return "\n".join(
        code for code in re.findall(r"```python\n(.*?)```", text, re.S) if ">>>" in code
    )


@pytest.fixture
def loggers(monkeypatch):
    """TensorBoard and W&B, as far as a guide calls them: what was logged, by run."""
    logged = {}

    class SummaryWriter(contextlib.nullcontext):
        def __init__(self, run):
            self.run = run
            super().__init__(self)

        def add_scalar(self, name, value, step):
            logged.setdefault(self.run, []).append((step, name, value))

    def init(project, config):
        json.dumps(config)
        return types.SimpleNamespace(log=functools.partial(log, project))

    def log(project, scalars, step):
        logged[project] = [(step, *it) for it in scalars.items()]

    for name, holds in (
        ("tensorboardX", {"SummaryWriter": SummaryWriter}),
        ("wandb", {"init": init}),
    ):
        module = types.ModuleType(name)
        vars(module).update(holds)
        monkeypatch.setitem(sys.modules, name, module)
    return logged


@pytest.mark.parametrize("path", PAGES[:-1], ids=lambda path: path.stem)
@pytest.mark.usefixtures("loggers")
def test_the_code_of_a_guide_prints_what_it_says(path, monkeypatch):
    code = examples(path.read_text())
    module = types.ModuleType(f"guide_{path.stem}")  # what it defines pickles by this
    monkeypatch.setitem(sys.modules, module.__name__, module)
    test = doctest.DocTestParser().get_doctest(code, {}, path.name, None, 0)
    test.globs = vars(module)
    report = []
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        results = doctest.DocTestRunner().run(
            test, out=report.append, clear_globs=False
        )
    assert not results.failed, "".join(report)
    assert results.attempted or path.stem in ("README", "names", "benchmarks")


def test_the_guide_of_logging_logs_every_scalar_at_its_step(loggers, monkeypatch):
    path = ROOT / "examples" / "guides" / "logging.md"
    test_the_code_of_a_guide_prints_what_it_says(path, monkeypatch)
    steps = [step for step, name, _ in loggers["runs/adamw"] if name == "loss"]
    rates = [rate for _, name, rate in loggers["runs/adamw"] if name == "learning_rate"]
    assert steps == [0, 50, 100, 150]
    oracle = optax.cosine_decay_schedule(0.1, 200)
    assert rates == pytest.approx(np.array([oracle(step) for step in steps]), rel=1e-5)
    assert {name for step, name, _ in loggers["digits"] if step == 200} == {
        name for _, name, _ in loggers["runs/adamw"]
    }


def test_the_index_lists_every_guide():
    index = (ROOT / "examples" / "guides" / "README.md").read_text()
    listed = re.findall(r"\]\((\w+\.md)\)", index)
    assert sorted(listed) == [it.name for it in GUIDES if it.name != "README.md"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    links = [link for link in links if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_public_name_is_on_one_page_of_the_reference():
    pages = sorted((ROOT / "examples" / "guides" / "reference").glob("*.md"))
    text = "\n".join(page.read_text() for page in pages)
    listed = re.findall(r"^::: gradtx(?:\.transforms)?\.(\w+)$", text, re.M)
    listed += [name for name in re.findall(r"`(\w+)`", text) if name not in listed]
    assert {*registry.public()} - {*listed} == set(), "public, and on no page"
    assert len(listed) == len({*listed}), "on several pages"
