"""Pages: sections and values between markers, prose left alone, new pages for new scripts."""

import pytest
from made_up import classifier_records, make_run, make_sweep, write_json

from report import pages
from report.pages import fill, is_fresh, render, write
from report.paradigms import PARADIGMS, Paradigm
from report.results import read_collection
from report.rows import image_data
from report.sections import EMPTY
from utils.plots import report as plots

EXPERIMENT = {"name": "wide", "command": "python train_cnn.py --model wide"}
README = "\n".join(
    f"<!-- report:{name} begin -->\n<!-- report:{name} end -->"
    for name in ("overview", "results", "reproduce", "speed")
)


@pytest.fixture
def found(tmp_path):
    make_run(tmp_path / "cnn" / "wide", classifier_records([0.9974, 0.9976]), model="wide")
    make_run(tmp_path / "cnn" / "fast", classifier_records([0.99]), model="fast")
    make_sweep(tmp_path / "mil" / "sweep", {("mean", 50): 0.8, ("mean", 100): 0.9})
    write_json(tmp_path / "experiments.json", experiments=[EXPERIMENT])
    write_json(tmp_path / "references.json", references={})
    return read_collection(tmp_path)


def filled(found, tmp_path, text, **sections):
    path = tmp_path / "page.md"
    path.write_text(text)
    return fill(found, path, sections)


def test_sections_are_renewed_and_prose_is_left_alone(found, tmp_path):
    text = "before\n\n<!-- report:a begin -->\nold\n<!-- report:a end -->\n\nafter \\1 $x\n"
    new = filled(found, tmp_path, text, a=r"new \g<0> text")
    assert new == (
        "before\n\n<!-- report:a begin -->\n\nnew \\g<0> text\n\n<!-- report:a end -->\n\nafter \\1 $x\n"
    )
    assert found.faults == []


def test_markers_must_be_there_once_and_known(found, tmp_path):
    block = "<!-- report:{0} begin -->\n<!-- report:{0} end -->\n"
    filled(found, tmp_path, block.format("a") * 2 + block.format("x"), a="", b="")
    assert found.faults == [
        f"{tmp_path}/page.md: report.py makes no section x",
        f"{tmp_path}/page.md: needs the lines <!-- report:a begin --> and <!-- report:a end -->, once",
        f"{tmp_path}/page.md: needs the lines <!-- report:b begin --> and <!-- report:b end -->, once",
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("cnn/wide test_accuracy", "99.75 %"),
        ("cnn/wide test_accuracy spread", "99.75 ± 0.01 %"),
        ("cnn/wide test_accuracy all", "99.74 to 99.76 %"),
        ("cnn/wide,cnn/fast test_accuracy", "99.00 to 99.76 %"),
        ("cnn/wide test_accuracy_low,test_accuracy_high", "99.54 to 99.93 %"),
        ("cnn/wide test_accuracy count", "2 runs"),
        ("cnn/wide test_accuracy worst", "99.74 %"),
        ("mil/sweep/mean/100 test_auc", "0.9000"),
    ],
)
def test_values_in_sentences_are_renewed(found, tmp_path, words, text):
    begin = f"<!-- value {words} -->"
    assert (
        filled(found, tmp_path, f"It has {begin}old<!-- end -->, so")
        == f"It has {begin}{text}<!-- end -->, so"
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("cnn/gone test_accuracy", "page.md: names cnn/gone, which has no results"),
        ("cnn/wide test_f1", "cnn/wide/metrics.json: lacks test_f1"),
        ("mil/sweep test_auc", "page.md: names mil/sweep, which has no results"),
        ("mil/sweep/mean/70 test_auc", "mil/sweep/sweep.json: no cell mean/70"),
    ],
)
def test_a_value_that_is_not_there_is_one_line_and_stays(found, tmp_path, words, line):
    text = f"It has <!-- value {words} -->old<!-- end -->."
    assert filled(found, tmp_path, text) == text
    assert found.faults == [f"{tmp_path}/{line}"]


def test_a_script_without_a_page_gets_one_with_all_markers(found, tmp_path):
    (tmp_path / "README.md").write_text(README)
    outputs = render(found, tmp_path / "README.md")
    assert found.faults == []
    text = outputs[tmp_path / "cnn" / "README.md"].decode()
    assert text.startswith("# Supervised classifiers\n\n<!-- report:results begin -->\n\n| method |")
    assert "<b>fast</b>" in text  # a run of no experiment has a part, too
    assert set(outputs) == {
        tmp_path / "README.md",
        tmp_path / "cnn" / "README.md",
        tmp_path / "cnn" / "comparison.png",
    }
    assert EMPTY in outputs[tmp_path / "README.md"].decode()


def test_a_new_script_is_one_entry(found, tmp_path, monkeypatch):
    make_run(tmp_path / "novel" / "first", classifier_records([0.9]), "train_novel")
    write_json(
        tmp_path / "experiments.json",
        experiments=[{"name": "first", "command": "python train_novel.py", "rows": [{"label": "new"}]}],
    )
    (tmp_path / "README.md").write_text(README)
    found = read_collection(tmp_path)
    render(found, tmp_path / "README.md")
    assert found.faults == [f"{tmp_path}/novel: no entry for it in report/paradigms.py"]
    entry = Paradigm(
        "Novel", "test_accuracy", image_data, sections={"extra": lambda page: f"{len(page.rows)} row"}
    )
    monkeypatch.setitem(PARADIGMS, "train_novel", entry)
    found = read_collection(tmp_path)
    text = render(found, tmp_path / "README.md")[tmp_path / "novel" / "README.md"].decode()
    assert found.faults == []
    assert "| new | 54,000 labelled | 90.00 % (89.80 to 90.17) |" in text
    assert "<!-- report:extra begin -->\n\n1 row\n\n<!-- report:extra end -->" in text


def test_a_run_without_its_details_is_named_and_the_page_rendered(found, tmp_path, monkeypatch):
    monkeypatch.setitem(
        PARADIGMS, "train_cnn", PARADIGMS["train_cnn"]._replace(details=PARADIGMS["ensemble"].details)
    )
    (tmp_path / "README.md").write_text(README)
    text = render(found, tmp_path / "README.md")[tmp_path / "cnn" / "README.md"].decode()
    assert "<b>wide</b>" in text
    assert all("metrics.json: lacks best_single_test_accuracy" in fault for fault in found.faults)
    assert len(found.faults) == 2


def test_a_file_is_fresh_by_its_bytes_and_a_figure_by_its_inputs(tmp_path):
    write(tmp_path / "page.md", b"text")
    assert is_fresh(tmp_path / "page.md", b"text")
    assert not is_fresh(tmp_path / "page.md", b"other")
    assert not is_fresh(tmp_path / "none.md", b"text")
    row = {
        "label": "x",
        "method": "wide",
        "mean": 0.99,
        "low": 0.98,
        "high": 0.995,
        "kind": "std",
        "values": [0.99],
    }
    picture = pages.Picture(plots.plot_error_against_time, [{**row, "seconds": 1.0, "bound": False}])
    path = tmp_path / "figure.png"
    write(path, picture)
    assert is_fresh(path, picture)
    assert not is_fresh(path, picture._replace(data=[]))
    path.write_bytes(path.read_bytes()[:40])
    assert not is_fresh(path, picture)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["figure.png", "page.md"]
