import importlib.util
import pathlib
import re
import sys

import jax
import matplotlib.image
import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parent.parent / "examples" / "train_digits.py"
OPTIMIZERS = ["sgd", "momentum", "rmsprop", "adam"]
OPTIONS = ["epochs", "batch-size", "learning-rate", "seed", "out"]


def load_script(path=SCRIPT):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script():
    return load_script()


@pytest.fixture
def run(script, tmp_path):
    """Run the script with options; the picture, if not named, goes to a.png."""
    return lambda *options: script.main(["--out", str(tmp_path / "a.png"), *options])


def run_badly(run, capsys, *options):
    """The one line that the script leaves when it refuses the options."""
    with pytest.raises(SystemExit) as leaving:
        run(*options)
    assert leaving.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1 and printed.err.endswith("\n")
    return printed.err


def test_training_reaches_97_percent_with_adam(run):
    (result,) = run("--optimizer", "adam")
    assert result.accuracies[-1] >= 0.97


def test_every_optimizer_trains_unless_some_are_named(run):
    results = run("--epochs", "2")
    assert [result.optimizer.name for result in results] == OPTIMIZERS
    for result in results:
        assert result.losses.shape == (2, 1437 // 32)
        assert result.accuracies.shape == (2,)
        assert result.losses[1].mean() < result.losses[0].mean() / 2


def test_named_optimizers_train_once_in_the_order_they_are_named(run):
    names = ["adam", "sgd", "adam"]
    options = [word for name in names for word in ("--optimizer", name)]
    results = run("--epochs", "1", *options)
    assert [result.optimizer.name for result in results] == ["adam", "sgd"]


def test_the_same_seed_gives_the_same_numbers(run):
    options = ["--optimizer", "adam", "--epochs", "2", "--seed"]
    (first,), (again,), (other,) = (run(*options, seed) for seed in "334")
    np.testing.assert_array_equal(first.losses, again.losses)
    np.testing.assert_array_equal(first.accuracies, again.accuracies)
    assert not np.array_equal(first.losses, other.losses)


def test_every_optimizer_starts_from_the_same_weights_and_batches(run):
    results = run("--epochs", "1")
    assert len({result.losses[0, 0].item() for result in results}) == 1


def test_a_learning_rate_replaces_the_default_of_each_optimizer(run):
    options = ["--optimizer", "sgd", "--optimizer", "adam", "--epochs", "1"]
    results = run(*options, "--learning-rate", "0.01")
    rates = [result.optimizer.arguments["learning_rate"] for result in results]
    assert rates == [0.01, 0.01]


def test_the_whole_training_set_may_be_one_batch(run):
    (result,) = run("--optimizer", "sgd", "--epochs", "1", "--batch-size", "1437")
    assert result.losses.shape == (1, 1)


def test_a_run_that_diverges_is_shown_as_it_is(run, capsys):
    names = ["--optimizer", "sgd", "--optimizer", "adam"]
    run(*names, "--epochs", "1", "--learning-rate", "1e6")
    assert "nan" in capsys.readouterr().out


def test_the_table_names_each_optimizer_with_its_results(run, capsys):
    results = run("--epochs", "1")
    lines = capsys.readouterr().out.splitlines()
    rows = [line.strip("│ ").split() for line in lines if line.startswith("│")]
    assert [row[0] for row in rows] == OPTIMIZERS
    accuracies = [f"{result.accuracies[-1]:.2%}" for result in results]
    assert [row[6] for row in rows] == accuracies


def test_the_picture_is_a_png_of_sensible_size(run, tmp_path):
    run("--optimizer", "sgd", "--epochs", "1", "--out", str(tmp_path / "curves.png"))
    assert not (tmp_path / "a.png").exists()
    picture = tmp_path / "curves.png"
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert 10_000 < picture.stat().st_size < 1_000_000
    height, width, _ = matplotlib.image.imread(picture).shape
    assert 400 <= height <= width <= 3000


def test_the_picture_may_be_of_another_kind(run, tmp_path):
    run("--optimizer", "sgd", "--epochs", "1", "--out", str(tmp_path / "curves.SVG"))
    assert "<svg" in (tmp_path / "curves.SVG").read_text()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--optimizer", "lion"),
        ("--epochs", "0"),
        ("--epochs", "-1"),
        ("--epochs", "1.5"),
        ("--batch-size", "0"),
        ("--batch-size", "1438"),
        ("--learning-rate", "0"),
        ("--learning-rate", "-0.1"),
        ("--learning-rate", "nan"),
        ("--learning-rate", "inf"),
        ("--learning-rate", "1e+39"),
        ("--learning-rate", "fast"),
        ("--seed", "-1"),
        ("--seed", "2147483648"),
        ("--out", "curves.doc"),
        ("--out", "curves"),
        ("--out", "no/such/folder/curves.png"),
    ],
)
def test_a_bad_option_is_refused_in_one_line(run, capsys, option, value):
    line = run_badly(run, capsys, option, value)
    assert line.startswith(f"train_digits.py: error: argument {option}: ")
    assert value in line


def test_a_folder_is_refused_as_the_picture(run, capsys, tmp_path):
    folder = tmp_path / "folder.png"
    folder.mkdir()
    assert "argument --out: " in run_badly(run, capsys, "--out", str(folder))


def test_an_unknown_option_is_refused_in_one_line(run, capsys):
    assert "--momentum" in run_badly(run, capsys, "--momentum", "0.9")


@pytest.mark.parametrize("module", ["matplotlib.figure", "rich.progress", "sklearn"])
def test_a_missing_dependency_is_named_in_one_line(capsys, monkeypatch, module):
    for name in [name for name in sys.modules if name.startswith("sklearn.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    line = run_badly(load_script, capsys)
    assert module in line and "install gradtx[examples]" in line


def test_help_lists_all_options(run, capsys):
    with pytest.raises(SystemExit) as leaving:
        run("--help")
    assert leaving.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"--{option} " in printed for option in ["optimizer", *OPTIONS])
    assert all(name in printed for name in OPTIMIZERS)


def test_a_transformer_goes_on_from_its_checkpoint_bit_for_bit(tmp_path, capsys):
    finetune = load_script(SCRIPT.with_name("finetune.py"))
    out = tmp_path / "finetune.png"
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        finetune.main(["--steps", "40", "--out", str(out)])
    printed = " ".join(capsys.readouterr().out.split())
    assert "the resumed run is the same bit for bit" in printed
    loss = re.search(r"loss (.*) to (.*); the", printed)
    assert loss is not None and float(loss[2]) < float(loss[1]) - 1.5
    assert matplotlib.image.imread(out).shape[1] > 1000
