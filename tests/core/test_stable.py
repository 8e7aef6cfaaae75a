import importlib
import inspect
import json
import pathlib
import pickle
import re

import jax
import numpy as np
import pytest

import gradtx
from gradtx.core import stable
from tests.registry import TRANSFORMATIONS

DATA = pathlib.Path(__file__).parents[1] / "data"


def small():
    """What `small_0.6.0.pickle` is."""
    return gradtx.adamw(1e-3)


def nested():
    """What `nested_0.6.0` is: schedules, wrappers, groups, parts that are private."""
    rate = gradtx.warmup_cosine_decay_schedule(0.0, 1e-3, 10, 100)
    b2 = gradtx.linear_schedule(0.9, 0.99, 10)
    clipped = gradtx.clip_by_global_norm(1.0)
    novograd = gradtx.novograd(0.1).expand()
    transforms = {
        "**/w": gradtx.chain(clipped, gradtx.adamw(rate, b2=b2, mu_dtype="bfloat16")),
        "**/b": gradtx.galore(0.1, rank=2).expand(),
        "**/s": gradtx.chain(novograd, gradtx.clipping(gradtx.adaptive_grad_clip(0.1))),
        "**/u": gradtx.inject_hyperparams(gradtx.sgd)(0.1, momentum=0.9),
        "**/v": gradtx.mechanize(gradtx.adopt(0.1)).expand(),
        "**/f": gradtx.adafactor(1e-3).expand(),
    }
    return gradtx.accumulate(gradtx.skip(gradtx.groups(transforms)), every=2)


@pytest.mark.parametrize("make", [small, nested])
def test_pickles_of_an_older_version_load(make):
    """Written by version 0.6.0, in which a pickle names the file of each factory."""
    data = (DATA / f"{make.__name__}_0.6.0.pickle").read_bytes()
    assert b"gradtx.optimizers" in data
    assert pickle.loads(data) == make()


def test_configs_of_an_older_version_load():
    config = json.loads((DATA / "nested_0.6.0.json").read_text())
    assert gradtx.from_config(config) == nested()
    assert json.loads(json.dumps(gradtx.to_config(nested()))) == config


def test_a_run_of_an_older_version_goes_on(standard_promotion):
    """From its state, parameters and gradients, to the update that it made then."""
    run = pickle.loads((DATA / "run_0.6.0.pickle").read_bytes())
    tx = nested()
    _, state = tx.update(run["grads"], run["state"], run["params"])
    updates, state = tx.update(run["grads"], state, run["params"])
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, 1e-5), updates, run["updates"]
    )
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
    for name, value in vars(gradtx).items():
        if hasattr(value, "factory") and not inspect.ismodule(value):
            assert (value.__module__, value.__qualname__) == ("gradtx", name)


def test_files_that_pickles_named_have_what_was_in_them():
    for name in stable.OLD_MODULES.split():
        module = importlib.import_module(f"gradtx.{name}")
        assert module.adamw is gradtx.adamw
        with pytest.raises(AttributeError, match="gradtx has no 'nothing' any more"):
            _ = module.nothing
