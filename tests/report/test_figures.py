"""Figures of several runs: what is drawn, and the digest that tells when a figure is stale."""

import inspect
from pathlib import Path

from made_up import make_study

from report.figures import (
    Picture,
    classifier_pictures,
    few_label_pictures,
    label_curves,
    overview_picture,
    representation_pictures,
)
from report.results import Experiment, Result, RowSpec
from report.rows import Row
from report.tables import number
from report.times import Time
from utils.plots import report as plots
from utils.plots import style

RECORDS = [
    {"train_images": 54000, "test_linear_accuracy": 0.99, "test_linear_10_accuracies": [0.9, 0.8]},
    {"train_images": 54000, "test_linear_accuracy": 0.98, "test_linear_10_accuracies": [0.7]},
]
REFERENCES = [
    {"metric": "accuracy", "value": 0.9983, "std": 0.0001, "source": "s", "url": "u"},
    {"metric": "accuracy", "value": 0.97, "source": "s", "url": "u"},
]


def row(name="wide", folder="results/cnn", front=None, references=(), bound=True, **arguments):
    path = Path(folder) / name
    result = Result(path, {"arguments": arguments}, {"runs": RECORDS, "dataset": "mnist"}, [])
    found = number(result, "test_linear_accuracy")
    spec = RowSpec(front=front or {})
    return Row(Experiment(name, "python x.py"), spec, result, found, list(references), "", Time(60.0, bound))


def test_a_digest_covers_the_data_and_all_code_that_draws(monkeypatch):
    picture = Picture(plots.plot_overview, {"rows": []})
    assert picture.digest == Picture(plots.plot_overview, {"rows": []}).digest
    assert picture.digest != Picture(plots.plot_overview, {"rows": [1]}).digest
    digests = {picture.digest}
    source = inspect.getsource
    for module in (plots, style):
        with monkeypatch.context() as patch:
            patch.setattr(inspect, "getsource", lambda m, edited=module: source(m) + "#" * (m is edited))
            digests.add(picture.digest)
    assert len(digests) == 3


def test_the_overview_has_each_row_with_the_first_rival():
    shown = row(
        front={"task": "one network", "method": "`wide`, shifts"}, references=REFERENCES, model="wide"
    )
    picture = overview_picture([shown], {"value": 0.9985, "task": "wrong labels", "source": "s"})
    (data,) = picture.data["rows"]
    assert (data["task"], data["label"], data["method"]) == ("one network", "wide, shifts", "wide")
    assert (data["kind"], data["text"], data["values"]) == ("std", "98.50 ± 0.71 %", [0.99, 0.98])
    assert data["references"] == [{"value": 0.9983, "std": 0.0001, "text": "99.83 ± 0.01 %"}]
    assert picture.data["ceiling"] == {"value": 0.9985, "task": "wrong labels"}
    assert overview_picture([shown], None).data["ceiling"] is None


def test_error_against_time_leaves_out_rows_with_few_labels():
    found = classifier_pictures([row(model="wide"), row("few", model="cnn", labels_per_class=10)])
    (data,) = found["comparison.png"].data
    assert (data["label"], data["seconds"], data["bound"]) == ("wide", 60.0, True)
    more = row("wide", model="wide")
    more = more._replace(number=more.number._replace(values=[0.9] * 5), spec=RowSpec(label="five"))
    found = classifier_pictures([row(model="wide"), more, row("shifts", model="wide")])
    assert [data["label"] for data in found["comparison.png"].data] == ["five"]
    assert classifier_pictures([]) == {}


def test_curves_show_the_draws_of_all_trainings_and_all_labels():
    (curve,) = label_curves(RECORDS)
    assert curve["label"] == "linear probe"
    assert curve["points"] == [[10, [0.9, 0.8, 0.7]], [5400, [0.99, 0.98]]]


def test_maps_show_raw_pixels_and_the_features_of_every_method(tmp_path):
    rows = []
    for i, method in enumerate(("simclr", "supcon")):
        (tmp_path / method).mkdir()
        (tmp_path / method / "map.csv").write_text(f"digit,x,y,pixels_x,pixels_y\n7,{i}.5,2,3,4\n")
        rows.append(row(method, tmp_path, method=method))
    found = representation_pictures(rows)
    maps = found["maps.png"].data
    assert [m["title"] for m in maps] == ["raw pixels", "features of simclr", "features of supcon"]
    assert [m["points"] for m in maps] == [[[3.0, 4.0]], [[0.5, 2.0]], [[1.5, 2.0]]]
    for name, picture in found.items():
        picture.draw(picture.data, tmp_path / name, picture.digest)
        assert style.description(tmp_path / name) == picture.digest
    assert representation_pictures([]) == {}
    assert list(representation_pictures([row("x", tmp_path, method="moco")])) == ["labels.png"]


def test_the_curves_of_a_study_join_its_sweeps(tmp_path):
    make_study(tmp_path / "hundred", {("pixels-knn", 100): 0.7, ("mlp1", 100): 0.6})
    make_study(tmp_path / "ten", {("pixels-knn", 10): 0.5, ("simclr-clusters", 0): 0.9})
    found = few_label_pictures([row("hundred", tmp_path), row("ten", tmp_path), row("ten", tmp_path)])
    curves = [(cell["method"], cell["labels"]) for cell in found["labels.png"].data]
    assert curves == [("pixels-knn", 100), ("mlp1", 100), ("pixels-knn", 10)]
    assert [cell["method"] for cell in found["draws.png"].data] == ["pixels-knn", "mlp1"]
    for name, picture in found.items():
        picture.draw(picture.data, tmp_path / name, picture.digest)
        assert style.description(tmp_path / name) == picture.digest
    assert few_label_pictures([]) == {}
