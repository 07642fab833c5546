"""The report and the reproduction, on a made-up results tree; and the repository's own lists and results."""

import importlib
import json
import re
import shlex
import statistics
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import report
import reproduce
from utils.cli import BOOKKEEPING
from utils.plots import overview as plots
from utils.plots import style
from utils.runs.results import read_experiments, read_references, read_result, run_folders

ROOT = Path(__file__).resolve().parent.parent
NAMES = (
    "overview",
    "train_cnn",
    "train_simclr",
    "train_mil",
    "ensemble",
    "sweeps",
    "ablations",
    "benchmarks",
)
PNG = b"stands for a picture"

EXPERIMENTS = [
    {
        "name": "wide",
        "command": "python train_cnn.py --runs 3 --model wide",
        "minutes": {"cpu": 75, "gpu": 2},
        "references": ["best", "many"],
    },
    {"name": "fast", "command": "python train_cnn.py --model fast", "minutes": {"cpu": 1, "gpu": 0.5}},
]
REFERENCES = {
    "best": {
        "task": "one CNN",
        "metric": "accuracy",
        "value": 0.99748,
        "std": 0.00028,
        "runs": 20,
        "source": "best/cnn",
        "url": "https://example.org/best",
    },
    "many": {"task": "CNN", "metric": "accuracy", "low": 0.98, "value": 0.991, "source": "a paper"},
    "ceiling": {"task": "wrong labels", "metric": "accuracy", "value": 0.9985, "source": "reviewers"},
}
TABLE = """\
| method | training images | test accuracy | runs | ancestor or reference | device | training time | command |
| --- | --- | --- | --- | --- | --- | --- | --- |
| wide | 60,000 | **99.76 ± 0.02 %** | 3 | 99.748 ± 0.028 % [best/cnn](https://example.org/best)<br>\
98 to 99.1 % a paper | Intel Xeon, 2 threads | 20 min a run, 60 min in all | \
`python train_cnn.py --runs 3 --model wide` |
| fast | 54,000 | **99.00 % (98.80 to 99.17)** | 1 |  | Intel Xeon, 2 threads | 7.4 s | \
`python train_cnn.py --model fast` |
"""
BENCHMARKS = """\
| benchmark | ours | the standard way | ratio | device |
| --- | --- | --- | --- | --- |
| **share**: Share of the peak.<br>wide: mostly memory. |  |  | wide: **0.31**<br>\
cnn: **not reached** | a GPU |
| **to-99**: Seconds to 99.0 %. | 7.4 s<br>accuracy: 0.992 of 1 | 1,310 s | \
times faster: **41.9** (target: at least 30) | Intel Xeon, 2 threads |

Medians of repeats."""


def write_json(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": 1, **content}))


def make_run(folder, model, accuracies, seconds, images, dataset="mnist", **arguments):
    """The committed files of a run, one record an accuracy; the interval is that of 99.00 % of 10,000."""
    records = [
        {
            "seed": seed,
            "train_images": images,
            "test_accuracy": accuracy,
            "test_accuracy_low": accuracy - 0.002,
            "test_accuracy_high": accuracy + 0.0017,
            "test_recall": [1.0] * 10,
            "seconds": seconds,
        }
        for seed, accuracy in enumerate(accuracies)
    ]
    columns = {key: [r[key] for r in records] for key in records[0] if key not in ("seed", "test_recall")}
    many = len(records) > 1
    given = f" --runs {len(records)}" * many + f" --dataset {dataset}" * (dataset != "mnist")
    write_json(
        folder / "config.json",
        script="train_cnn",
        command=f"python train_cnn.py{given} --model {model}",
        arguments={"model": model, "dry_run": False, **arguments},
        commit="0123456789ab",
        versions={"python": "3.12.1"},
    )
    write_json(
        folder / "metrics.json",
        dataset=dataset,
        device="Intel(R) Xeon(R), 2 threads",
        seconds=seconds * len(records),
        runs=records,
        mean={key: statistics.fmean(column) for key, column in columns.items()},
        std={key: statistics.stdev(column) if many else None for key, column in columns.items()},
    )
    line = {"epoch": 1, "train_loss": 1.0, "val_accuracy": 0.9, "seconds": seconds}
    (folder / "history.jsonl").write_text(
        "".join(json.dumps({"seed": r["seed"], **line}) + "\n" for r in records)
    )
    (folder / "curves.png").write_bytes(PNG)


def make_benchmarks(folder):
    write_json(
        folder / "to_99.json",
        benchmark="to-99",
        device="Intel(R) Xeon(R), 2 threads",
        what="Seconds to 99.0 %.",
        rows=[
            {"name": "ours", "unit": "s", "values": [7.4], "median": 7.4},
            {"name": "standard way", "unit": "s", "values": [1310.0], "median": 1310.0},
            {"name": "ours, accuracy", "unit": "of 1", "values": [0.992], "median": 0.992},
        ],
        ratios=[{"name": "times faster", "value": 41.892, "values": [41.892], "target": 30}],
    )
    write_json(
        folder / "share.json",
        benchmark="share",
        device="a GPU",
        what="Share of the peak.",
        rows=[{"name": "peak", "unit": "GFLOP/s", "values": [280.0], "median": 280.0}],
        ratios=[{"name": "wide", "value": 0.31}, {"name": "cnn", "value": None, "target": None}],
        models={"wide": {"bound": "mostly memory"}},
    )


def make_readme(path, names=NAMES):
    blocks = (f"<!-- report:{name} begin -->\nold\n<!-- report:{name} end -->\n" for name in names)
    path.write_text("# Title\n\nBefore.\n\n" + "\nBetween.\n\n".join(blocks) + "\nAfter.\n")


def quick_picture(data, path, text):
    """In place of the real figures, which take most of a test's time."""
    described = PngInfo()
    described.add_text("Description", text)
    Image.new("L", (1, 1)).save(path, "png", pnginfo=described)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder with README.md and results/: two headlines, another run, dry runs, benchmarks.

    Its figures are `quick_picture`s until `monkeypatch.undo()`.
    """
    monkeypatch.setattr(plots, "overview", quick_picture)
    monkeypatch.setattr(plots, "error_against_time", quick_picture)
    results = tmp_path / "results"
    write_json(results / "experiments.json", experiments=EXPERIMENTS)
    write_json(results / "references.json", references=REFERENCES)
    make_run(results / "cnn" / "wide", "wide", [0.9974, 0.9976, 0.9978], 1200, 60000)
    make_run(results / "cnn" / "fast", "fast", [0.99], 7.4, 54000)
    make_run(results / "cnn" / "small", "fast", [0.96, 0.95], 2, 3600, "mnist-5k")
    make_run(results / "cnn" / "tried", "fast", [0.123], 2, 1000, dry_run=True)
    make_run(results / "cnn" / "dry-run-2", "fast", [0.123], 2, 1000)
    make_benchmarks(results / "benchmarks")
    make_readme(tmp_path / "README.md")
    return tmp_path


def render(tree, *flags):
    return report.main([*flags, "--results-dir", str(tree / "results"), "--readme", str(tree / "README.md")])


def files(tree):
    return {path: path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}


def section(tree, name):
    text = (tree / "README.md").read_text()
    return re.search(f"<!-- report:{name} begin -->\n\n(.*?)\n\n<!-- report:{name} end -->", text, re.S)[1]


def complaints(tree, capsys, *flags):
    """The lines on standard error, shortened to paths within the tree; the exit code must be 1."""
    capsys.readouterr()
    assert render(tree, *flags) == 1
    return capsys.readouterr().err.replace(f"{tree}/", "").splitlines()


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_made_up_tree_renders_to_the_known_tables(tree):
    assert render(tree) == 0
    assert section(tree, "train_cnn").startswith(TABLE)
    assert section(tree, "train_cnn").endswith("[results/cnn/README.md](results/cnn/README.md).")
    assert section(tree, "benchmarks") == BENCHMARKS
    assert "](results/overview.png)" in section(tree, "overview")
    text = (tree / "README.md").read_text()
    assert text.startswith("# Title\n\nBefore.\n\n<!-- report:overview begin -->\n")
    assert text.count("\nBetween.\n") == len(NAMES) - 1
    assert text.endswith("end -->\n\nAfter.\n")
    assert "old" not in text


def test_the_page_holds_every_run_its_raw_figures_and_its_pictures(tree):
    render(tree)
    page = (tree / "results" / "cnn" / "README.md").read_text()
    assert TABLE in page
    assert "`python train_cnn.py --runs 2 --dataset mnist-5k --model fast --name small`" in page
    assert "| 2 | 60,000 | 99.78 % (99.58 to 99.95) | 20 min |" in page
    assert "- [best/cnn](https://example.org/best), one CNN: 99.748 ± 0.028 % (n = 20)\n" in page
    for target in re.findall(r"!\[.*?\]\((.*?)\)", page):
        assert (tree / "results" / "cnn" / target).is_file()
    assert "![small (mnist-5k): learning curves](small/curves.png)" in page


def test_a_dry_run_is_ignored(tree):
    render(tree)
    for file in ("README.md", "results/cnn/README.md"):
        assert "12.30" not in (tree / file).read_text()


def test_rendering_twice_changes_no_byte_and_leaves_nothing_half_written(tree, monkeypatch):
    monkeypatch.undo()
    render(tree)
    first = files(tree)
    assert render(tree) == 0
    assert files(tree) == first
    assert not list(tree.rglob("*.tmp"))


def test_check_writes_nothing_and_names_all_that_was_never_written(tree, capsys):
    before = files(tree)
    stale = [line.partition(": stale")[0] for line in complaints(tree, capsys, "--check")]
    made = ["results/cnn/README.md", "results/cnn/comparison.png", "results/overview.png"]
    assert stale == ["README.md", *made]
    assert files(tree) == before
    render(tree)
    assert render(tree, "--check") == 0


@pytest.mark.parametrize(
    ("file", "old", "new", "stale"),
    [
        ("README.md", "99.76", "99.77", ["README.md"]),
        ("results/cnn/README.md", "99.78", "99.79", ["results/cnn/README.md"]),
        (
            "results/cnn/fast/metrics.json",
            '"mean": {"train_images": 54000',
            '"mean": {"train_images": 54001',
            None,
        ),
        (
            "results/cnn/wide/history.jsonl",
            '"val_accuracy": 0.9',
            '"val_accuracy": 0.8',
            ["results/cnn/comparison.png"],
        ),
        ("results/references.json", "0.9985", "0.9986", ["results/overview.png"]),
    ],
)
def test_check_notices_a_changed_digit(tree, capsys, file, old, new, stale):
    render(tree)
    change(tree / file, old, new)
    lines = complaints(tree, capsys, "--check")
    assert [line.partition(": stale")[0] for line in lines] == (
        stale or ["README.md", "results/cnn/README.md"]
    )


def test_check_notices_a_changed_accuracy_everywhere(tree, capsys):
    render(tree)
    change(
        tree / "results/cnn/fast/metrics.json", '"mean": {"train_images": 54000.0, "test_accuracy": 0.99', "?"
    )
    change(
        tree / "results/cnn/fast/metrics.json", "?", '"mean": {"train_images": 54000.0, "test_accuracy": 0.98'
    )
    assert len(complaints(tree, capsys, "--check")) == 4


def test_a_figure_is_compared_by_its_inputs_and_not_by_its_pixels(tree, capsys):
    render(tree)
    path = tree / "results" / "overview.png"
    before = path.read_bytes()
    fig, _ = style.figure(size=(2, 2))
    style.save(fig, path, style.description(path))
    assert path.read_bytes() != before
    assert render(tree, "--check") == 0
    path.write_bytes(before[:40])
    assert [line.partition(": stale")[0] for line in complaints(tree, capsys, "--check")] == [
        "results/overview.png"
    ]


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("cnn/fast/metrics.json", '{"format": 1, "runs": [', "not valid JSON; half-written?"),
        ("cnn/fast/metrics.json", '{"format": 2}', "format 2, but this code reads format 1"),
        ("cnn/fast/metrics.json", "[]", "format null, but this code reads format 1"),
        ("cnn/fast/metrics.json", '{"format": 1}', "lacks dataset, device, seconds, runs, mean, std"),
        ("cnn/fast/metrics.json", None, "missing"),
        ("cnn/fast/config.json", None, "missing"),
        ("cnn/fast/history.jsonl", None, "missing"),
        ("cnn/fast/history.jsonl", '{"epoch": 1', "not valid JSON lines; half-written?"),
        ("benchmarks/to_99.json", '{"format": 1, "benchm', "not valid JSON; half-written?"),
        ("benchmarks/to_99.json", '{"format": 1}', "lacks benchmark, what, device, rows, ratios"),
    ],
)
def test_a_damaged_result_is_named_and_the_rest_rendered(tree, capsys, file, content, line):
    path = tree / "results" / file
    path.unlink() if content is None else path.write_text(content)
    assert complaints(tree, capsys) == [f"results/{file}: {line}"]
    table = section(tree, "train_cnn")
    assert "| wide |" in table
    assert ("| fast |" in table) == ("fast" not in file)
    assert (tree / "results" / "overview.png").is_file()


def test_a_headline_without_its_figure_or_reference_is_named(tree, capsys):
    change(tree / "results/cnn/fast/metrics.json", '"test_accuracy": 0.99', '"other": 0.99')
    change(tree / "results/experiments.json", '"many"', '"few"')
    lines = complaints(tree, capsys)
    assert lines == [
        "results/references.json: lacks few",
        "results/cnn/fast/metrics.json: lacks test_accuracy",
    ]


def test_a_results_folder_that_the_report_does_not_know_is_named(tree, capsys):
    make_run(tree / "results" / "novel" / "run", "fast", [0.9], 1, 1000)
    assert complaints(tree, capsys) == ["results/novel: no row for it in PARADIGMS of report.py"]


def test_markers_must_be_there_once_and_known(tree, capsys):
    make_readme(tree / "README.md", ("overview", "overview", "benchmarks", "train_xyz"))
    assert complaints(tree, capsys) == [
        "README.md: report.py makes no section train_xyz",
        *(
            f"README.md: needs the lines <!-- report:{name} begin --> and <!-- report:{name} end -->, once"
            for name in NAMES
            if name != "benchmarks"
        ),
    ]
    assert section(tree, "benchmarks")
    (tree / "README.md").unlink()
    assert complaints(tree, capsys) == ["README.md: missing or not text"]
    assert not (tree / "README.md").exists()


def test_without_results_or_benchmarks_the_sections_say_so(tmp_path, capsys):
    make_readme(tmp_path / "README.md")
    lines = complaints(tmp_path, capsys)
    assert lines == ["results/experiments.json: missing", "results/references.json: missing"]
    assert [section(tmp_path, name) for name in NAMES] == [report.EMPTY] * len(NAMES)


def test_other_figures_than_the_key_figure_and_labels_of_its_own(tree):
    entry = {"label": "fast, 1 epoch", "metric": "test_accuracy_low"}
    write_json(tree / "results/experiments.json", experiments=[EXPERIMENTS[1], {**EXPERIMENTS[1], **entry}])
    assert render(tree) == 0
    assert "| fast, 1 epoch | 54,000 | **98.80 %** |" in section(tree, "train_cnn")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.46, "0.5 s"), (7.41, "7.4 s"), (119, "119 s"), (420, "7.0 min"), (4260, "71 min"), (9000, "2.5 h")],
)
def test_durations(seconds, text):
    assert report.duration(seconds) == text


def test_a_tiny_deviation_keeps_a_digit():
    assert [report.deviation(std) for std in (0.0012, 0.0002, 0.00007)] == ["0.12", "0.02", "0.007"]


def test_an_area_under_the_curve_is_no_percentage(tree):
    path = tree / "results/cnn/wide/metrics.json"
    path.write_text(path.read_text().replace("test_accuracy", "test_auc"))
    row = report.Row(None, read_result(path.parent), [], "test_auc")
    assert report.figure_text(row) == "0.9976 ± 0.0002"
    assert report.reference_figure({"metric": "auc", "value": 0.931}) == "0.931"


def test_the_figures_take_no_error_at_all_one_run_and_an_unknown_method(tmp_path):
    row = {"label": "x", "method": "novel", "values": [1.0], "mean": 1.0, "low": 1.0, "high": 1.0, "text": ""}
    row |= {"references": [], "seconds": 1.0, "curve": [[0.5, 1.0]]}
    group = {"title": "title", "metric": "test auc", "rows": [row]}
    plots.overview({"groups": [group, group], "ceiling": None}, tmp_path / "one.png", "said")
    plots.error_against_time([row], tmp_path / "two.png", "said")
    assert [style.description(tmp_path / name) for name in ("one.png", "two.png")] == ["said", "said"]


# --- Commands, and the repository's own lists -------------------------------------------------------------


def parse(command):
    """The arguments of "python script.py ...", by that script's own parser."""
    python, script, *flags = shlex.split(command)
    assert python == "python"
    return vars(importlib.import_module(Path(script).stem).make_parser().parse_args(flags))


def commands(text):
    return re.findall(r"\| `(.*?)` \|$", text, re.M)


def test_every_command_in_the_tables_parses_and_lands_in_its_folder(tree):
    render(tree)
    found = commands((tree / "results" / "cnn" / "README.md").read_text())
    assert len(found) == 3
    assert [parse(command)["name"] or parse(command)["model"] for command in found] == [
        "wide",
        "fast",
        "small",
    ]


def committed_runs():
    read = ((folder, folder / "metrics.json") for folder in run_folders(ROOT / "results"))
    return [folder for folder, metrics in read if metrics.exists()]


@pytest.mark.parametrize("folder", committed_runs(), ids=lambda folder: folder.name)
def test_every_committed_run_has_a_command_that_parses(folder):
    result = read_result(folder)
    parse(result.config["command"])
    for experiment in read_experiments(ROOT / "results"):
        if folder == ROOT / "results" / experiment.folder:
            promised, made = parse(experiment.command), parse(result.config["command"])
            free = {*BOOKKEEPING, "device"}
            assert [key for key in promised if key not in free and promised[key] != made[key]] == []


def test_the_experiments_parse_and_their_references_exist():
    references = read_references(ROOT / "results")
    for experiment in read_experiments(ROOT / "results"):
        assert experiment.script in report.PARADIGMS
        assert parse(experiment.command)["name"] is None
        assert set(experiment.references) <= set(references)
        assert set(experiment.minutes) == {"cpu", "gpu"}


def test_every_reference_has_a_source_and_a_share():
    for reference in read_references(ROOT / "results").values():
        assert {"task", "metric", "value", "source"} <= set(reference)
        assert 0 < reference.get("low", 0.1) < reference["value"] < 1


# --- reproduce.py -----------------------------------------------------------------------------------------

SCRIPT = """
import json, pathlib, sys
words = sys.argv[1:]
folder = pathlib.Path(words[words.index("--results-dir") + 1]) / "cnn" / words[words.index("--name") + 1]
with (folder.parent / "calls.txt").open("a") as file:
    file.write(" ".join(word for word in words if "/" not in word) + "\\n")
sys.exit(3 if "--fail" in words else 0)
"""


@pytest.fixture
def scripted(tree, monkeypatch):
    """The tree with experiments whose script only notes how it was called; results as made elsewhere."""
    (tree / "train_cnn.py").write_text(SCRIPT)
    monkeypatch.setattr(reproduce, "__file__", str(tree / "reproduce.py"))
    return tree


def again(tree, *words):
    where = ["--results-dir", str(tree / "results"), "--readme", str(tree / "README.md")]
    return reproduce.main([*words, *where])


def calls(tree):
    path = tree / "results" / "cnn" / "calls.txt"
    return path.read_text().splitlines() if path.exists() else []


def test_reproduce_prints_the_expected_time_and_runs_nothing_when_asked(scripted, capsys):
    assert again(scripted, "--list") == 0
    text = capsys.readouterr().out
    assert "all together: about 76 min on 2 CPU cores, 2.5 min on a GPU" in text
    assert all(entry["command"] in text for entry in EXPERIMENTS)
    assert calls(scripted) == []


def test_reproduce_goes_on_with_every_run_and_renews_the_report(scripted):
    assert again(scripted, "cnn") == 0
    wide, fast = calls(scripted)
    assert wide == "--runs 3 --model wide --name wide --results-dir --data-dir datasets --resume"
    assert fast == "--model fast --name fast --results-dir --data-dir datasets --resume"
    assert TABLE in section(scripted, "train_cnn") + "\n"


def test_reproduce_stops_at_the_first_failure_and_at_unknown_names(scripted, capsys):
    failing = {**EXPERIMENTS[0], "command": "python train_cnn.py --fail"}
    write_json(scripted / "results/experiments.json", experiments=[failing, EXPERIMENTS[1]])
    with pytest.raises(SystemExit) as stop:
        again(scripted)
    assert stop.value.code == 2
    assert len(calls(scripted)) == 1
    assert "cnn/wide ended with exit code 3" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        again(scripted, "mil")
    assert "no experiment mil: choose from cnn/wide, cnn/fast" in capsys.readouterr().err
    assert len(calls(scripted)) == 1


# --- Sweeps -------------------------------------------------------------------------------------------


def make_sweep(folder, means):
    """sweep.json with two repeats a cell; means: {(method, training bags): AUC or None}."""
    cells = [
        {
            "method": method,
            "train_bags": bags,
            "runs": [{"seed": 0}, {"seed": 1}],
            "mean": {} if mean is None else {"test_auc": mean},
            "std": {} if mean is None else {"test_auc": 0.002},
        }
        for (method, bags), mean in means.items()
    ]
    head = {"command": "python train_mil.py --sweep 50,100 --runs 2", "device": "a GPU", "seconds": 600}
    head["trainings"] = [len(means), len(means)]
    write_json(folder / "config.json", script="train_mil", command=head["command"], arguments={})
    write_json(folder / "sweep.json", **head, cells=cells)


def test_a_sweep_is_a_table_of_methods_by_training_bags(tmp_path):
    results = tmp_path / "results"
    means = {("mean", 50): 0.8, ("mean", 100): None, ("attention", 50): 0.95, ("attention", 100): 0.98}
    make_sweep(results / "mil" / "sweep", means)
    experiment = {"name": "sweep", "command": "python train_mil.py --sweep 50,100 --runs 2"}
    write_json(
        results / "experiments.json",
        experiments=[{**experiment, "minutes": {"cpu": 1, "gpu": 1}, "references": ["mil-50"]}],
    )
    reference = {"task": "50 training bags, theirs", "metric": "auc", "value": 0.931, "source": "a paper"}
    write_json(results / "references.json", references={"mil-50": reference})
    make_readme(tmp_path / "README.md")
    faults = []
    outputs = report.render(results, tmp_path / "README.md", faults)
    assert not faults
    text = outputs[tmp_path / "README.md"].decode()
    assert "| training bags | 50 | 100 |" in text
    assert "| mean | 0.8000 ± 0.0020 |  |" in text
    assert "| attention | **0.9500 ± 0.0020** | **0.9800 ± 0.0020** |" in text
    assert "| published: theirs, a paper | 0.931 |  |" in text
    assert "standard deviation of 2 repeats.\n" in text
    assert "(results/mil/sweep/auc.png)" in text
    assert run_folders(results) == []


# --- Contrastive learning -----------------------------------------------------------------------------


def test_ablations_are_a_table_of_validation_figures_apart_from_the_headlines(tree):
    experiments = []
    for parts, knn, linear in (("affine", 0.97, 0.98), ("affine,blur", 0.965, 0.985)):
        name = "views-" + parts.replace(",", "-")
        command = f"python train_simclr.py --views {parts}"
        minutes = {"cpu": 1, "gpu": 1}
        experiments.append({"name": name, "label": parts, "command": command, "minutes": minutes})
        folder = tree / "results" / "simclr" / name
        write_json(
            folder / "config.json",
            script="train_simclr",
            command=command,
            arguments={"method": "simclr"},
            commit="0123456789ab",
            versions={"python": "3.12.1"},
        )
        figures = {
            "train_images": 54000,
            "test_linear_accuracy": 0.9,
            "val_knn_accuracy": knn,
            "val_linear_accuracy": linear,
            "seconds": 60,
        }
        write_json(
            folder / "metrics.json",
            dataset="mnist",
            device="a GPU",
            seconds=60,
            runs=[{"seed": 0, **figures}],
            mean=figures,
            std=dict.fromkeys(figures),
        )
        (folder / "history.jsonl").write_text('{"epoch": 1, "train_loss": 1.0, "seconds": 60}\n')
    ablations = [{**experiment, "ablation": True} for experiment in experiments]
    write_json(tree / "results/experiments.json", experiments=[*EXPERIMENTS, *ablations])
    faults = []
    text = report.render(tree / "results", tree / "README.md", faults)[tree / "README.md"].decode()
    assert not faults
    assert "|  | k-NN | linear probe | training time | command |" in text
    assert (
        "| affine | **97.00** | 98.00 | 60 s | `python train_simclr.py --views affine --name views-affine` |"
        in text
    )
    assert "| affine,blur | 96.50 | **98.50** | 60 s |" in text
    assert "90.00" not in text  # no headline, and no test figure


def test_pictures_of_several_representations(tree):
    folders = {method: tree / "results" / "simclr" / method for method in ("simclr", "supcon")}
    runs = [
        {
            "seed": 0,
            "train_images": 54000,
            "test_linear_accuracy": 0.99,
            "test_linear_10_accuracies": [0.9, 0.8],
        },
        {"seed": 1, "train_images": 54000, "test_linear_accuracy": 0.98, "test_linear_10_accuracies": [0.7]},
    ]
    rows = []
    for method, folder in folders.items():
        folder.mkdir(parents=True)
        (folder / "map.csv").write_text(f"digit,x,y,pixels_x,pixels_y\n7,{len(rows)}.5,2,3,4\n")
        result = report.Result(folder, {"arguments": {"method": method}}, {"runs": runs}, [])
        rows.append(report.Row(report.Experiment(method, "python train_simclr.py"), result, [], "x"))
    found = report.representation_pictures(rows)
    (_, labels), (_, maps) = found["labels.png"], found["maps.png"]
    (curve,) = labels.data
    assert curve["points"] == [[10, [0.9, 0.8, 0.7]], [5400, [0.99, 0.98]]]
    assert [m["title"] for m in maps.data] == ["raw pixels", "features of simclr", "features of supcon"]
    assert [m["points"] for m in maps.data] == [[[3.0, 4.0]], [[0.5, 2.0]], [[1.5, 2.0]]]
    for name, (_, picture) in found.items():
        picture.draw(picture.data, tree / name, picture.digest)
        assert style.description(tree / name) == picture.digest
    assert report.representation_pictures([]) == {}
