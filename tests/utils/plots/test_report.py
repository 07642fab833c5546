"""Figures of the report take what a new run may bring: no error at all, one run, an unknown method."""

from PIL import Image

from utils.plots import report as plots

ROW = {"task": "task", "label": "x", "method": "novel", "values": [1.0], "mean": 1.0, "low": 1.0, "high": 1.0}
ROW |= {"text": "100 %", "kind": "none", "references": [], "seconds": 60.0}
REFERENCE = {"value": 0.99, "low": 0.98, "text": "98 to 99 %"}
SPREAD = {**ROW, "mean": 0.98, "low": 0.97, "high": 0.99, "references": [REFERENCE], "seconds": 9.0}


def test_the_overview_is_less_than_400_pixels_high(tmp_path):
    rows = [ROW] + [{**SPREAD, "kind": kind} for kind in ("std", "interval", "range")] * 4
    path = tmp_path / "figure.png"
    plots.plot_overview({"rows": rows, "ceiling": {"value": 0.9985, "task": "wrong"}}, path, "said")
    with Image.open(path) as image:
        assert image.height <= 400
        assert (image.width, image.text["Description"]) == (830, "said")


def test_every_row_has_its_error_and_its_prior_work(drawn, texts):
    (axes,) = drawn(plots.plot_overview, {"rows": [SPREAD, ROW], "ceiling": None}, None).axes
    points = [line.get_xydata().round(3).tolist() for line in axes.get_lines()]
    assert points == [[[1, 0], [2, 0]], [[1, 0]], [[2, 0]], [[0.005, 1]]]
    assert texts(axes.texts) == ["100 %", "◇ 98 to 99 %", "100 %"]


def test_error_against_time_names_its_points(drawn, texts):
    (axes,) = drawn(plots.plot_error_against_time, [ROW, {**SPREAD, "kind": "std"}], None).axes
    assert [line.get_xydata().round(3).tolist() for line in axes.get_lines()] == [[[9, 2]], [[60, 0.005]]]
    assert (texts(axes.texts), axes.get_title()) == (["x", "x"], plots.INTERVAL_LABELS["std"])
