"""The style: files that depend on their input only, and what several figures share."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

from utils.plots import style
from utils.plots.style import Images, Panel


@pytest.fixture
def axes():
    fig, axes = style.figure()
    yield axes
    style.plt.close(fig)


def test_a_file_is_as_wide_as_a_page_and_depends_on_the_figure_and_its_description_only(tmp_path):
    texts = {"one.png": "said", "two.png.tmp": "said", "three.png": None}
    for name, text in texts.items():
        fig, ax = style.figure(size=(style.WIDTH, 2))
        ax.plot([0, 1, 2], [1, 3, 2], color=style.PALETTE[1], lw=3)
        style.save(fig, tmp_path / name, text)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png.tmp").read_bytes()
    texts["missing.png"] = None
    assert {name: style.description(tmp_path / name) for name in texts} == texts
    with Image.open(tmp_path / "one.png") as image:
        assert (image.format, image.mode, image.width) == ("PNG", "P", 830)
        colors = np.array([color for _, color in image.convert("RGB").getcolors(256)])
    for expected in ((255, 255, 255), (0xD5, 0x5E, 0)):  # 256 colours hardly change them
        assert np.abs(colors - expected).max(1).min() <= 8
    assert not style.plt.get_fignums()


def test_names_from_data_are_drawn_as_they_are_without_what_does_not_print_and_shortened(tmp_path):
    names = "$x$", "\\frac{", "$^$", "a\x1b[31m", "caf\udce9", "x" * 10**6
    shown = ["$x$", "\\frac{", "$^$", "a\\x1b[31m", "caf\\udce9", "x" * 39 + "…"]
    assert style.labels(names) == shown
    style.plot_images([Images(np.zeros((6, 9, 9)), style.labels(names))], 3, tmp_path / "names.png", names[1])


@pytest.mark.parametrize(("limits", "expected"), [((0.1, 60), "0.1 0.2 1 20 50"), ((2, 9), "2 3 4 5 6 8")])
def test_a_log_axis_has_plain_numbers_the_more_the_shorter_it_is(axes, texts, limits, expected):
    axes.set(yscale="log", ylim=limits)
    style.plain_numbers(axes.yaxis)
    assert set(expected.split()) <= set(texts(axes.get_yticklabels()))


def test_a_curve_goes_through_the_logged_steps_of_its_epochs():
    first = {"epoch": 1, "loss": 2.5, "steps": {"step": [2, 4], "loss": [3.0, 2.0]}, "val_loss": 1.5}
    second = {"epoch": 2, "loss": 1.5, "val_loss": 1.2}
    assert style.curve_of([first, second], "loss") == ([0.5, 1.0, 2], [3.0, 2.0, 1.5])
    assert style.curve_of([first, second], "val_loss") == ([1, 2], [1.5, 1.2])


def history(epochs, value, **more):
    return [{"epoch": e + 1, "val_loss": value + e, "train_loss": value, **more} for e in range(epochs)]


PANELS = [Panel("loss", [("train_loss", "training", "#000000"), ("val_loss", "validation", "#111111")])]


def test_runs_are_thin_lines_about_their_mean_which_ends_with_the_shortest(drawn, texts):
    lines = history(3, 1.0, seed=0, fold=0) + history(2, 3.0, seed=0, fold=1)
    fig = drawn(style.plot_history, lines, PANELS, None)
    *thin, mean = fig.axes[0].get_lines()[3:]
    assert [line.get_ydata().tolist() for line in thin] == [[1, 2, 3], [3, 4]]
    assert (mean.get_xydata().tolist(), mean.get_linewidth() > 1) == ([[1, 2], [2, 3]], True)
    assert texts(fig.legends[0].get_texts()) == ["training (mean of 2)", "validation (mean of 2)"]


def test_several_models_have_a_colour_and_a_mean_each(drawn, texts):
    lines = [line for seed in (0, 2) for line in history(4, 4.0 + seed, seed=seed, model="linear")]
    fig = drawn(style.plot_history, lines + history(2, 1.0, seed=1, model="lenet"), PANELS, None)
    means = [line for line in fig.axes[0].get_lines() if line.get_linewidth() >= 1]
    looks = [(line.get_ydata()[0], line.get_linestyle(), line.get_color()) for line in means]
    models = ((5, "linear"), (1, "lenet"))
    assert looks == [(y, line, style.method_color(name)) for y, name in models for line in ("--", "-")]
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
    ranges = np.array([[[0, 1], [0, 3]], [[1, 2], [1, 5]]])[..., :: -1 if horizontal else 1]
    assert all(np.allclose(bars.get_segments(), ranges) for bars in axes.collections)
    std, interval, dashed = axes.collections
    assert (std.get_linewidth() > interval.get_linewidth(), len(axes.get_lines())) == (True, 2)  # caps
    assert dashed.get_linestyle() != interval.get_linestyle()


@pytest.mark.parametrize("band", ["std", "range"])
def test_errors_have_a_band_that_ends_where_a_log_axis_can_show_it(axes, texts, band):
    points = [[10, [0.9, 1.0, 0.98]], [1000, [0.99]]]
    style.error_lines(axes, [{"label": "probe", "color": "black", "points": points}], "labels", band)
    assert axes.get_lines()[0].get_ydata().tolist() == pytest.approx([4, 1])
    ends = axes.collections[0].get_paths()[0].vertices[:, 1]
    highest = 4 + 100 * np.std([0.9, 1.0, 0.98], ddof=1) if band == "std" else 10
    assert (ends.min(), ends.max()) == (pytest.approx(style.LEAST_ERROR), pytest.approx(highest))
    assert texts(axes.get_xticklabels()) == ["10", "1,000"]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_images_are_one_picture_with_names_texts_and_frames(drawn, texts):
    tiles = np.arange(1, 6)[:, None, None] * np.ones((5, 7, 14))
    part = Images(tiles, ["one\nline", "two"], {4: "red"}, "part", ["r1", "r2"], ["c1", "c2", "c3"])
    fig = drawn(style.plot_images, [part, Images(tiles[:2])], 3, None, "all")
    first, second = fig.axes
    picture = first.images[0].get_array().filled(0)
    step = second.images[0].get_array().shape[0]
    top = step - 7 - 2  # a gap of a seventh of the width
    for row, value in ((top, 2), (step + top, 5)):
        assert (picture[row : row + 7, 16:30] == value).all()
    assert first.patches[0].get_xy() == (15, step + top - 1)
    names = texts(first.texts), texts(first.get_yticklabels()), texts(first.get_xticklabels())
    assert names == (part.texts, part.rows, part.heads)
    assert (first.get_title(), fig.get_suptitle(), fig.get_figwidth()) == ("part", "all", style.WIDTH)


def test_figures_are_files_whatever_backend_a_notebook_exports():
    code = "import utils.plots.style, matplotlib; assert matplotlib.get_backend() == 'agg'"
    notebook = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=notebook, check=True)
