"""Figures of the report take what a new run may bring: no error at all, one run, an unknown method."""

import pytest
from PIL import Image

from utils.plots import report as plots
from utils.plots import style

ROW = {
    "label": "x",
    "method": "novel",
    "values": [1.0],
    "mean": 1.0,
    "low": 1.0,
    "high": 1.0,
    "text": "100 %",
}
ROW |= {"task": "task", "kind": "none", "references": [], "seconds": 60.0}
REFERENCE = {"value": 0.99, "low": 0.98, "text": "98 to 99 %"}
SPREAD = {"mean": 0.98, "low": 0.97, "high": 0.99, "references": [REFERENCE]}


@pytest.mark.parametrize("count", [1, 8, 12])
def test_the_overview_is_less_than_400_pixels_high(tmp_path, count):
    rows = [{**ROW, **SPREAD, "kind": kind} for kind in ("std", "interval", "range", "none")] * 3
    path = tmp_path / "figure.png"
    plots.plot_overview({"rows": rows[:count], "ceiling": {"value": 0.9985, "task": "wrong"}}, path, "said")
    assert style.description(path) == "said"
    with Image.open(path) as image:
        assert image.height <= 400
        assert image.width == 830


def test_figures_take_no_error_at_all(tmp_path):
    plots.plot_overview({"rows": [ROW], "ceiling": None}, tmp_path / "one.png", "said")
    plots.plot_error_against_time([ROW, {**ROW, **SPREAD}], tmp_path / "two.png", "said")
    assert [style.description(tmp_path / name) for name in ("one.png", "two.png")] == ["said", "said"]
