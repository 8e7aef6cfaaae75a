import importlib
import json
import pathlib
import pickle
import re

import chex
import jax
import pytest

import gradtx
from gradtx.core import stable
from tests.registry import TRANSFORMATIONS, public

DATA = pathlib.Path(__file__).parents[1] / "data"


def old(name):
    """What version 0.6.0 wrote; there a pickle names the file of each factory."""
    return (DATA / f"{name}_0.6.0.pickle").read_bytes()


def test_a_pickle_of_an_older_version_loads():
    assert b"gradtx.optimizers" in old("small")
    assert pickle.loads(old("small")) == gradtx.adamw(1e-3)


def test_a_config_of_an_older_version_loads_as_its_pickle_does():
    """Of wrappers around groups, with schedules and what private factories make."""
    config = json.loads((DATA / "nested_0.6.0.json").read_text())
    nested = pickle.loads(old("nested"))
    assert gradtx.from_config(config) == nested
    assert json.loads(json.dumps(gradtx.to_config(nested))) == config


def test_a_run_of_an_older_version_goes_on(standard_promotion):
    """From its state, parameters and gradients, to the update that it made then."""
    tx, run = map(pickle.loads, (old("nested"), old("run")))
    _, state = tx.update(run["grads"], run["state"], run["params"])
    updates, state = tx.update(run["grads"], state, run["params"])
    chex.assert_trees_all_close(updates, run["updates"], rtol=1e-5)
    assert jax.tree.structure(state) == jax.tree.structure(run["state"])


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_no_pickle_names_a_file_of_the_library(name):
    """Nor does one of what a transformation is made of."""
    tx = TRANSFORMATIONS[name]()
    for it in (tx, tx.expand(step=0)):
        try:
            data = pickle.dumps(it)
        except (AttributeError, pickle.PicklingError) as error:
            assert "local object" in str(error) or "lambda" in str(error)
            continue
        assert re.findall(rb"gradtx\.\w+", data) == []
        assert pickle.loads(data) == it


def test_public_names_are_of_the_package():
    for name, value in public().items():
        if hasattr(value, "factory"):
            assert (value.__module__, value.__qualname__) == ("gradtx", name)


def test_files_that_pickles_named_have_what_was_in_them():
    for name in stable.OLD_MODULES.split():
        module = importlib.import_module(f"gradtx.{name}")
        assert module.adamw is gradtx.adamw
        with pytest.raises(AttributeError, match="gradtx has no 'nothing' any more"):
            _ = module.nothing
