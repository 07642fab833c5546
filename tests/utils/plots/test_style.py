"""The style: files that depend on their input only, and what several figures share."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

from utils.plots import style
from utils.plots.style import Images


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
        assert (image.format, image.mode, image.width) == ("PNG", "P", 1245)
        colors = np.array([color for _, color in image.convert("RGB").getcolors(128)])
    for expected in ((255, 255, 255), (0xD5, 0x5E, 0)):  # 128 colours hardly change them
        assert np.abs(colors - expected).max(1).min() <= 8
    assert not style.plt.get_fignums()


def test_names_from_data_are_drawn_as_they_are_without_what_does_not_print_and_shortened(tmp_path):
    names = "$x$", "\\frac{", "$^$", "a\x1b[31m", "caf\udce9", "x" * 10**6
    shown = ["$x$", "\\frac{", "$^$", "a\\x1b[31m", "caf\\udce9", "x" * 39 + "…"]
    assert style.labels(names) == shown
    style.plot_images(Images(np.zeros((6, 9, 9)), style.labels(names)), 3, tmp_path / "names.png", names[1])


@pytest.mark.parametrize(("limits", "expected"), [((0.1, 60), "0.1 0.2 1 20 50"), ((2, 9), "2 3 4 5 6 8")])
def test_a_log_axis_has_plain_numbers_the_more_the_shorter_it_is(axes, texts, limits, expected):
    axes.set(yscale="log", ylim=limits)
    style.plain_numbers(axes.yaxis)
    assert set(expected.split()) <= set(texts(axes.get_yticklabels()))


@pytest.mark.parametrize("band", [True, False])
def test_errors_are_lines_with_their_names_at_their_ends(axes, texts, band):
    curves = [
        {"label": name, "color": "black", "points": [[1000, [0.99]], [10, [0.9, 1.0, share]]]}
        for name, share in (("probe", 0.98), ("other", 0.95))
    ]
    style.error_lines(axes, curves, "labels", band)
    first = next(line for line in axes.get_lines() if line.get_label() == "probe")
    assert first.get_ydata().tolist() == pytest.approx([4, 1])
    if band:  # it ends where a log axis can show it
        ends = axes.collections[0].get_paths()[0].vertices[:, 1]
        assert (ends.min(), ends.max()) == pytest.approx((style.LEAST_ERROR, 10))
    else:
        assert len(axes.get_lines()) == 6
    assert texts(axes.get_xticklabels()) == ["10", "1,000"]
    low, high = sorted(axes.texts, key=lambda text: text.xyann[1])
    assert {low.get_text(), high.get_text()} == {"probe", "other"}
    assert high.xyann[1] - low.xyann[1] >= 9  # points: both end at 1 %, and their names don't overlap


def test_images_are_one_picture_with_names_texts_and_frames(drawn, texts):
    tiles = np.arange(1, 6)[:, None, None] * np.ones((5, 7, 14))
    part = Images(tiles, ["one\nline", "two"], {4: "red"}, ["r1", "r2"], ["c1", "c2", "c3"])
    fig = drawn(style.plot_images, part, 3, None, "all")
    (axes,) = fig.axes
    picture = axes.images[0].get_array().filled(0)
    step = len(picture) // 2
    top = step - 7 - 2  # a gap of a seventh of the width
    for row, value in ((top, 2), (step + top, 5)):
        assert (picture[row : row + 7, 16:30] == value).all()
    assert axes.patches[0].get_xy() == (15, step + top - 1)
    names = texts(axes.texts), texts(axes.get_yticklabels()), texts(axes.get_xticklabels())
    assert names == (part.texts, part.rows, part.heads)
    assert (fig.get_suptitle(), fig.get_figwidth()) == ("all", style.WIDTH)


def test_figures_are_files_whatever_backend_a_notebook_exports():
    code = "import utils.plots.style, matplotlib; assert matplotlib.get_backend() == 'agg'"
    notebook = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=notebook, check=True)
