import builtins
import sys

import jax
import matplotlib
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from matplotlib.figure import Figure
from PIL.GifImagePlugin import GifImageFile

import gradtx

matplotlib.use("Agg")
from gradtx import plot


def bowl(at):
    return at[0] ** 2 / 2 + 10 * at[1] ** 2


START = np.array([-4, 1], np.float32)
PATHS = {
    "sgd": gradtx.trajectory(gradtx.sgd(0.09), bowl, START, 10),
    "adam": gradtx.trajectory(gradtx.adam(0.3), bowl, START, 20),
}


@pytest.fixture
def axes():
    return Figure().subplots()


@pytest.fixture(autouse=True)
def close_figures():
    plot.pyplot.close("all")  # those of the README, if its code ran before
    yield
    plot.pyplot.close("all")


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


DRAW = {
    "schedule": lambda **kw: plot.plot_schedule(
        gradtx.exponential_decay(1.0, 9, 0.5), 9, **kw
    ),
    "schedules": lambda **kw: plot.plot_schedules({"constant": 1.0}, 9, **kw),
    "weights": lambda **kw: plot.plot_ema_weights([0.9], **kw),
    "losses": lambda **kw: plot.plot_losses(PATHS, **kw),
    "paths": lambda **kw: plot.plot_paths(bowl, PATHS, **kw),
}


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_a_plot_is_drawn_on_the_axes_that_it_is_given(draw, axes):
    assert draw(ax=axes) is axes
    assert axes.has_data() and not plot.pyplot.get_fignums()


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_a_plot_without_axes_makes_its_own(draw):
    first, second = draw(), draw()
    assert first.has_data() and first.figure is not second.figure


def test_a_schedule_is_drawn_at_its_counts(axes):
    schedule = gradtx.cosine_decay_schedule(0.1, 50)
    plot.plot_schedule(schedule, 60, ax=axes, label="cosine", color="red")
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), np.arange(60))
    expected = [float(schedule(count)) for count in range(60)]
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-5, atol=1e-8)
    assert (line.get_label(), line.get_color()) == ("cosine", "red")


def test_schedules_may_be_ours_of_optax_functions_or_constants(axes):
    schedules = {
        "ours": gradtx.linear_schedule(1.0, 0.0, 4),
        "optax's": optax.linear_schedule(1.0, 0.0, 4),
        "a function": lambda count: 1 - count / 4,
        "a constant": 0.5,
    }
    plot.plot_schedules(schedules, 5, ax=axes)
    assert labels(axes) == list(schedules)
    drawn = [line.get_ydata() for line in axes.get_lines()]
    expected = [np.linspace(1, 0, 5)] * 3 + [np.full(5, 0.5)]
    np.testing.assert_allclose(drawn, expected, atol=1e-6)


def test_weights_of_an_average_are_those_that_it_gives_to_the_past(axes):
    plot.plot_ema_weights([0.9], steps=5, ax=axes)
    line, dot = axes.get_lines()
    tx = gradtx.ema(0.9, debias=False)

    def average(past):
        state = tx.init(past[0])
        outs = []
        for value in past[::-1]:
            out, state = tx.update(value, state)
            outs.append(out)
        return outs[-1]

    weights = jax.grad(average)(jnp.zeros(6))
    np.testing.assert_allclose(line.get_ydata(), weights, rtol=1e-5)
    ((x,), (y,)) = dot.get_data()
    assert x == pytest.approx(10) and y == pytest.approx(0.1 * 0.9**10)


def test_weights_reach_back_far_enough_for_the_longest_average(axes):
    plot.plot_ema_weights([0.5, 0.98], ax=axes)
    assert axes.get_lines()[0].get_xdata()[-1] == 150
    assert labels(axes) == ["b = 0.5", "b = 0.98"]


def test_losses_of_several_runs_are_a_median_and_a_band(axes):
    runs = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 12]])
    plot.plot_losses({"runs": runs}, ax=axes)
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), [4, 5, 6])
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1, 12)


def test_a_smoothed_loss_is_the_mean_of_the_steps_before(axes):
    plot.plot_losses({"loss": np.arange(1, 7)}, smooth=3, ax=axes)
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [2, 3, 4, 5])
    np.testing.assert_allclose(line.get_ydata(), [2, 3, 4, 5])
    assert axes.get_yscale() == "log"


def test_paths_are_drawn_over_contours_in_sight(axes):
    plot.plot_paths(bowl, PATHS, ax=axes)
    lines = [line for line in axes.get_lines() if line.get_label() in PATHS]
    for line, path in zip(lines, PATHS.values(), strict=True):
        np.testing.assert_array_equal(np.transpose(line.get_data()), path.positions)
    assert labels(axes) == list(PATHS) and axes.collections
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    points = np.concatenate([path.positions for path in PATHS.values()])
    assert left < points[:, 0].min() and points[:, 0].max() < right
    assert low < points[:, 1].min() and points[:, 1].max() < high


def test_limits_of_the_picture_may_be_given(axes):
    plot.plot_paths(bowl, PATHS, xlim=(-5, 5), ylim=(-2, 2), ax=axes)
    assert axes.get_xlim() == (-5, 5) and axes.get_ylim() == (-2, 2)


def test_a_path_may_be_a_tree_of_two_numbers(axes):
    def f(at):
        return bowl(jnp.stack([at["w"], at["b"]]))

    path = gradtx.trajectory(gradtx.sgd(0.01), f, {"w": 1.0, "b": -2.0}, 5)
    plot.plot_paths(f, {"tree": path}, ax=axes)
    # Leaves are sorted by name: b is the first.
    assert axes.get_lines()[0].get_xdata()[0] == -2


def test_a_path_that_diverges_is_drawn_as_far_as_it_is_finite(axes):
    path = np.array([[0, 0], [1, 1], [np.inf, -np.inf], [np.nan, 0]])
    plot.plot_paths(bowl, {"lost": path}, ax=axes)
    assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all()


def test_a_path_of_three_parameters_is_named(axes):
    with pytest.raises(ValueError, match=r"plot_paths: far: .* got \(4, 3\)"):
        plot.plot_paths(bowl, {"far": np.zeros((4, 3))}, ax=axes)


@pytest.mark.parametrize(
    "draw, given",
    [
        (lambda x: plot.plot_paths(bowl, x), PATHS["sgd"]),
        (lambda x: plot.plot_paths(bowl, x), {}),
        (plot.plot_losses, [1.0, 2.0]),
        (lambda x: plot.plot_schedules(x, 9), [0.1]),
    ],
)
def test_what_has_no_label_is_named(draw, given):
    with pytest.raises(TypeError, match=r"plot_\w+: expected a dict by label"):
        draw(given)


@pytest.mark.parametrize("smooth", [0, 4])
def test_a_mean_over_no_step_or_too_many_is_named(smooth):
    words = f"plot_losses: a: smooth must be from 1 to 3, got {smooth}"
    with pytest.raises(ValueError, match=words):
        plot.plot_losses({"a": [1.0, 2.0, 3.0]}, smooth=smooth)


def test_a_decay_of_one_is_named(axes):
    assert plot.plot_ema_weights(0.9, ax=axes).get_lines()
    with pytest.raises(ValueError, match=r"decays must be in \[0, 1\), got \[1.0\]"):
        plot.plot_ema_weights(1.0)


def test_the_animation_is_a_gif_in_which_the_paths_grow(axes, tmp_path):
    file = tmp_path / "paths.gif"
    assert plot.animate_paths(bowl, PATHS, file, every=5, fps=10, ax=axes) is axes
    with GifImageFile(file) as gif:
        assert gif.n_frames == 5 and gif.info["duration"] == 100
        first = np.asarray(gif.convert("RGB"), int)
        gif.seek(4)
        last = np.asarray(gif.convert("RGB"), int)
    assert gif.info["duration"] == 1500
    assert (first != last).any(-1).sum() > 500
    for line, path in zip(axes.get_lines(), PATHS.values(), strict=True):
        np.testing.assert_array_equal(np.transpose(line.get_data()), path.positions)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.delitem(sys.modules, "gradtx.plot")
    with pytest.raises(
        ModuleNotFoundError, match=r"no matplotlib: install gradtx\[plot\]"
    ):
        import gradtx.plot  # noqa: F401
