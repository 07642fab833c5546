"""The style: files that depend on their input only, few colours, what several figures repeat."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from utils.plots import style


@pytest.fixture
def axes():
    _, axes = plt.subplots()
    yield axes
    plt.close("all")


def some_figure():
    fig, ax = style.figure(size=(style.WIDTH, 2))
    ax.plot([0, 1, 2], [1, 3, 2], label="a line")
    ax.legend()
    return fig


def test_a_figure_is_as_wide_as_a_page_and_its_bytes_depend_on_the_input_only(tmp_path):
    for name in ("one.png", "two.png"):
        style.save(some_figure(), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.format == "PNG"
        assert image.mode == "P"
        assert image.width == 830
        assert not {"Software", "Creation Time"} & set(image.text)
    assert not plt.get_fignums()


def test_a_figure_is_a_png_under_any_name(tmp_path):
    style.save(some_figure(), tmp_path / "figure.png.tmp")
    assert (tmp_path / "figure.png.tmp").read_bytes().startswith(b"\x89PNG")


def test_a_description_can_be_read_again(tmp_path):
    style.save(some_figure(), tmp_path / "said.png", "what it shows")
    style.save(some_figure(), tmp_path / "silent.png")
    (tmp_path / "text.png").write_text("no picture")
    Image.new("L", (1, 1)).save(tmp_path / "other.jpg")
    names = ("said.png", "silent.png", "text.png", "other.jpg", "missing.png")
    texts = [style.description(tmp_path / name) for name in names]
    assert texts == ["what it shows", None, None, None, None]


def test_up_to_256_colours_stay_exactly_what_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(style.reduce_colors(pixels).convert("RGB")), pixels)


def test_of_more_colours_the_frequent_ones_stay_and_the_others_hardly_change():
    pixels = np.full((200, 200, 3), 255, dtype=np.uint8)
    pixels[:50] = (0, 114, 178)
    pixels[50:60] = (245, 238, 230)
    ramp = np.linspace(0, 255, 200).astype(np.uint8)
    pixels[100:] = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, ::2].repeat(2, 1), 80), 2)[100:]
    image = style.reduce_colors(pixels)
    reduced = np.asarray(image.convert("RGB")).astype(int)
    assert len(image.getcolors()) <= 256
    assert np.array_equal(reduced[:100], pixels[:100])
    assert np.abs(reduced - pixels).max() <= 20


@pytest.mark.parametrize(
    ("limits", "expected"),
    [((0.1, 60), {"0.1", "0.2", "0.5", "1", "20", "50"}), ((2, 9), {"2", "3", "4", "5", "6", "8"})],
)
def test_a_log_axis_has_plain_numbers_the_more_the_shorter_it_is(axes, limits, expected):
    axes.set(yscale="log", ylim=limits)
    style.plain_numbers(axes.yaxis)
    axes.figure.canvas.draw()
    assert expected <= {label.get_text() for label in axes.get_yticklabels()}


@pytest.mark.parametrize(
    ("count", "room", "shown"), [(10, 30, 10), (30, 30, 30), (31, 30, 16), (100, 30, 25)]
)
def test_labels_thin_out_when_they_would_collide(count, room, shown):
    assert len(range(count)[style.every_label(count, room)]) == shown


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


def test_a_mean_over_runs_ends_with_the_shortest_run(axes):
    lines = [([1, 2, 3], [1.0, 2.0, 3.0]), ([1, 2], [3.0, 6.0])]
    style.lines_and_mean(axes, lines, "#0072B2", "training")
    first, second, mean = axes.get_lines()
    assert (first.get_ydata().tolist(), second.get_ydata().tolist()) == ([1, 2, 3], [3, 6])
    assert (mean.get_xdata().tolist(), mean.get_ydata().tolist()) == ([1, 2], [2, 4])
    assert mean.get_label() == "training (mean of 2)"
    assert mean.get_linewidth() > first.get_linewidth()


def test_a_single_run_is_its_own_line_and_no_run_is_none(axes):
    style.lines_and_mean(axes, [([1, 2], [5, 6])], "black", "training")
    style.lines_and_mean(axes, [], "black", "validation")
    (line,) = axes.get_lines()
    assert line.get_label() == "training"
    assert line.get_ydata().tolist() == [5, 6]


@pytest.mark.parametrize("horizontal", [False, True])
def test_deviations_and_intervals_look_different(axes, horizontal):
    style.std_bars(axes, [0, 1], [1, 2], [3, 5], "black", horizontal, "± 1 SD")
    (thick,) = axes.collections
    style.interval_bars(axes, [0, 1], [1, 2], [3, 5], "black", horizontal, "95 % interval")
    _, caps, (thin,) = axes.containers[0]
    ranges = np.array([[[0, 1], [0, 3]], [[1, 2], [1, 5]]], dtype=float)
    expected = ranges[..., ::-1] if horizontal else ranges
    for bars in (thick, thin):
        assert np.allclose(bars.get_segments(), expected)
    assert thick.get_linewidth()[0] > 3 * thin.get_linewidth()[0]
    assert len(caps) == 2
    assert axes.get_legend_handles_labels()[1] == ["± 1 SD", "95 % interval"]


def test_tiles_join_into_one_image_with_gaps():
    tiles = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    image = style.mosaic(tiles, 1)
    assert image.shape == (7, 10)
    assert np.array_equal(image[1:3, 4:6], tiles[0, 1])
    assert np.array_equal(image[4:6, 7:9], tiles[1, 2])
    assert np.isnan(image[[0, 3, 6]]).all()
    assert np.isnan(image[:, [0, 3, 6, 9]]).all()


@pytest.mark.parametrize("count", [1, 2, 10, 11, 47])
def test_every_class_has_a_colour_of_its_own(count):
    assert len(set(style.class_colors(count))) == count


def test_an_error_of_zero_can_be_drawn_on_a_log_axis():
    assert style.error_percent([0.9, 1.0]).tolist() == pytest.approx([10, style.LEAST_ERROR])
    assert style.method_color("cnn") != style.method_color("unheard of") == style.method_color(None)
