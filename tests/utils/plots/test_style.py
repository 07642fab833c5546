"""The style: files that depend on their input only, and what several figures share."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from utils.plots import style
from utils.plots.style import Images, Panel


@pytest.fixture
def axes():
    _, axes = plt.subplots()
    yield axes
    plt.close("all")


def some_figure():
    fig, ax = style.figure(size=(style.WIDTH, 2))
    ax.plot([0, 1, 2], [1, 3, 2], color=style.PALETTE[1], lw=3)
    return fig


def test_a_figure_is_as_wide_as_a_page_and_its_bytes_depend_on_the_input_only(tmp_path):
    for name in ("one.png", "two.png.tmp"):
        style.save(some_figure(), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png.tmp").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert (image.format, image.mode, image.width) == ("PNG", "P", 830)
        colors = {color for _, color in image.convert("RGB").getcolors(1000)}
    for expected in ((255, 255, 255), (0xD5, 0x5E, 0)):  # in few colours they hardly change
        assert min(np.abs(np.subtract(color, expected)).max() for color in colors) <= 8
    assert not plt.get_fignums()


def test_a_description_can_be_read_again(tmp_path):
    style.save(some_figure(), tmp_path / "said.png", "what it shows")
    style.save(some_figure(), tmp_path / "silent.png")
    (tmp_path / "text.png").write_text("no picture")
    names = ("said.png", "silent.png", "text.png", "missing.png")
    assert [style.description(tmp_path / name) for name in names] == ["what it shows", None, None, None]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [((0.1, 60), {"0.1", "0.2", "0.5", "1", "20", "50"}), ((2, 9), {"2", "3", "4", "5", "6", "8"})],
)
def test_a_log_axis_has_plain_numbers_the_more_the_shorter_it_is(axes, texts, limits, expected):
    axes.set(yscale="log", ylim=limits)
    style.plain_numbers(axes.yaxis)
    axes.figure.canvas.draw()
    assert expected <= set(texts(axes.get_yticklabels()))


def test_runs_are_told_apart_by_seed_and_fold():
    history = [{"seed": s, "fold": f, "epoch": e} for e in (1, 2) for s in (0, 1) for f in (0, 1)]
    runs = style.split_runs(history)
    assert len(runs) == 4
    assert all([line["epoch"] for line in run] == [1, 2] for run in runs)
    assert style.split_runs([{"epoch": 1}, {"epoch": 2}]) == [[{"epoch": 1}, {"epoch": 2}]]


def test_a_curve_goes_through_the_logged_steps_of_its_epochs():
    steps = {"step": [2, 4], "train_loss": [3.0, 2.0]}
    run = [
        {"epoch": 1, "train_loss": 2.5, "val_loss": 1.5, "steps": steps},
        {"epoch": 2, "train_loss": 1.5, "val_loss": 1.2, "steps": {**steps, "train_loss": [2.0, 1.0]}},
    ]
    assert style.curve_of(run, "train_loss") == ([0.5, 1.0, 1.5, 2.0], [3.0, 2.0, 2.0, 1.0])
    assert style.curve_of(run, "val_loss") == ([1, 2], [1.5, 1.2])
    assert style.curve_of(run, "val_accuracy") == ([], [])


def history(epochs, value, **more):
    return [{"epoch": e + 1, "val_loss": value + e, "train_loss": value, **more} for e in range(epochs)]


PANELS = [Panel("loss", [("train_loss", "training", "#000000"), ("val_loss", "validation", "#111111")])]


def test_runs_are_thin_lines_about_their_mean_which_ends_with_the_shortest(drawn, texts):
    fig = drawn(style.plot_history, history(3, 1.0, seed=0) + history(2, 3.0, seed=1), PANELS, None)
    first, second, mean = fig.axes[0].get_lines()[3:]
    assert (first.get_ydata().tolist(), second.get_ydata().tolist()) == ([1, 2, 3], [3, 4])
    assert (mean.get_xdata().tolist(), mean.get_ydata().tolist()) == ([1, 2], [2, 3])
    assert mean.get_linewidth() > first.get_linewidth()
    assert texts(fig.legends[0].get_texts()) == ["training (mean of 2)", "validation (mean of 2)"]


def test_several_models_have_a_colour_and_a_mean_each(drawn, texts):
    lines = [line for s in (0, 2) for line in history(4, 4.0 + s, seed=s, model="linear")]
    fig = drawn(style.plot_history, lines + history(2, 1.0, seed=1, model="lenet"), PANELS, None)
    means = [line for line in fig.axes[0].get_lines() if line.get_linewidth() >= 1]
    assert [line.get_ydata()[0] for line in means] == [5, 5, 1, 1]
    assert [line.get_linestyle() for line in means] == ["--", "-"] * 2
    colors = [style.method_color(name) for name in ("linear", "linear", "lenet", "lenet")]
    assert [line.get_color() for line in means] == colors
    assert texts(fig.legends[0].get_texts()) == ["linear (mean of 2)", "lenet"]


@pytest.mark.parametrize(("value", "scale"), [(1.0, "linear"), (0.5, "log")])
def test_an_error_that_is_always_zero_has_a_linear_axis(drawn, recwarn, value, scale):
    panels = [Panel("", [("val", "", "black")], "error", log=True), Panel("", [("absent", "", "black")])]
    fig = drawn(style.plot_history, [{"epoch": e, "val": v} for e, v in ((1, value), (2, 1.0))], panels, None)
    assert [ax.get_yscale() for ax in fig.axes] == [scale]  # and no panel without numbers
    assert fig.axes[0].get_lines()[0].get_ydata().tolist() == [100 - 100 * value, 0]
    fig.canvas.draw()
    assert not recwarn.list


@pytest.mark.parametrize("horizontal", [False, True])
def test_kinds_of_ranges_look_different(axes, horizontal):
    for kind in ("std", "interval", "range", "none"):
        style.range_bars(axes, [0, 1], ([1, 2], [3, 5]), kind, horizontal, color="black")
    ranges = np.array([[[0, 1], [0, 3]], [[1, 2], [1, 5]]], dtype=float)
    expected = ranges[..., ::-1] if horizontal else ranges
    assert all(np.allclose(bars.get_segments(), expected) for bars in axes.collections)
    std, interval, dashed = axes.collections
    assert std.get_linewidth()[0] > 3 * interval.get_linewidth()[0]
    assert dashed.get_linestyle() != interval.get_linestyle()
    assert len(axes.get_lines()) == 2  # the caps of the interval


@pytest.mark.parametrize("band", ["std", "range"])
def test_errors_have_a_band_that_ends_where_a_log_axis_can_show_it(axes, texts, band):
    points = [[10, [0.9, 1.0, 0.98]], [1000, [0.99]]]
    style.error_lines(axes, [{"label": "probe", "color": "black", "points": points}], "labels", band)
    assert axes.get_lines()[0].get_ydata().tolist() == pytest.approx([4, 1])
    corners = axes.collections[0].get_paths()[0].vertices
    std = 100 * np.std([0.9, 1.0, 0.98], ddof=1)
    assert corners[:, 1].max() == pytest.approx(4 + std if band == "std" else 10)
    assert corners[:, 1].min() == pytest.approx(style.LEAST_ERROR)
    assert texts(axes.get_xticklabels()) == ["10", "1,000"]
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_xlabel()) == ("log", "log", "labels")


def test_rows_have_a_dot_for_each_run_and_a_bar_at_their_mean(axes, texts):
    style.error_rows(axes, [("a", "red", [0.9, 0.96]), ("b", "blue", [1.0])])
    points = [line.get_xydata().round(6).tolist() for line in axes.get_lines()]
    assert points == [[[10, 0], [4, 0]], [[7, 0]], [[0.005, 1]], [[0.005, 1]]]
    assert texts(axes.get_yticklabels()) == ["a", "b"]
    assert axes.yaxis_inverted()


def test_images_are_one_picture_with_names_texts_and_frames(drawn, texts):
    tiles = np.arange(1, 6)[:, None, None] * np.ones((5, 7, 14))
    part = Images(tiles, ["one\nline", "two"], {4: "#ff0000"}, "part", ["r1", "r2"], ["c1", "c2", "c3"])
    fig = drawn(style.plot_images, [part, Images(tiles[:2])], 3, None, "all")
    first, second = fig.axes
    picture = first.images[0].get_array().filled(0)
    step = picture.shape[0] // 2
    top = step - 7 - 2  # a gap of a seventh of the width
    assert (picture[top : top + 7, 16:30] == 2).all()
    assert (picture[step + top : step + top + 7, 16:30] == 5).all()
    assert picture[step:, 32:].max() == 0
    assert texts(first.texts) == ["one\nline", "two"]
    assert first.patches[0].get_xy() == (15, step + top - 1)
    assert (texts(first.get_yticklabels()), texts(first.get_xticklabels())) == (
        ["r1", "r2"],
        ["c1", "c2", "c3"],
    )
    assert (first.get_title(), fig.get_suptitle(), fig.get_figwidth()) == ("part", "all", style.WIDTH)
    assert second.images[0].get_array().shape[0] == step


@pytest.mark.parametrize("count", [1, 10, 11, 47])
def test_every_class_has_a_colour_of_its_own(count):
    assert len(set(style.class_colors(count))) == count
