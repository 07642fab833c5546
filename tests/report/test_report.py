"""report.py on a made-up results tree, and the repository's own lists and results."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from helpers import ROOT, load_script
from made_up import benchmark, classifier_records, make_run, make_sweep, write_json
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from report.paradigms import PARADIGMS
from report.results import read_experiments, read_references, read_result, read_times, run_folders
from report.rows import MARKS
from utils.cli import BOOKKEEPING
from utils.plots import report as plots

report = load_script("report")
EXPERIMENTS = [
    {
        "name": "wide",
        "command": "python train_cnn.py --runs 3 --model wide",
        "rows": [{"references": ["best"], "front": {"task": "one network", "method": "`wide`"}}],
    },
    {"name": "fast", "command": "python train_cnn.py --model fast"},
]
BEST = {"task": "one CNN", "metric": "accuracy", "value": 0.99748, "source": "best/cnn"}
REFERENCES = {
    "best": {**BEST, "url": "https://example.org/best", "verified": True},
    "ceiling": {"task": "wrong labels", "metric": "accuracy", "value": 0.9985, "source": "r", "url": "u"},
}
README = "# Title\n\nBefore.\n\n" + "\nBetween.\n\n".join(
    f"<!-- report:{name} begin -->\nold\n<!-- report:{name} end -->\n"
    for name in ("overview", "results", "reproduce", "speed")
)


def quick_figure(data, path, text):
    """In place of the real figures, which take most of a test's time."""
    described = PngInfo()
    described.add_text("Description", text)
    Image.new("L", (1, 1)).save(path, "png", pnginfo=described)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder with README.md and results/: two experiments, another run, dry runs, a benchmark.

    Its figures are quick ones until `monkeypatch.undo()`.
    """
    monkeypatch.setattr(plots, "plot_overview", quick_figure)
    monkeypatch.setattr(plots, "plot_error_against_time", quick_figure)
    results = tmp_path / "results"
    write_json(results / "experiments.json", experiments=EXPERIMENTS)
    write_json(results / "references.json", references=REFERENCES)
    wide, fast = classifier_records([0.9974, 0.9976, 0.9978], 1200), classifier_records([0.99], 7.4)
    make_run(results / "cnn" / "wide", wide, command=EXPERIMENTS[0]["command"], model="wide")
    make_run(results / "cnn" / "fast", fast, command=EXPERIMENTS[1]["command"], model="fast")
    make_run(results / "cnn" / "small", classifier_records([0.96, 0.95]), model="fast", dataset="mnist-5k")
    make_run(results / "cnn" / "tried", classifier_records([0.123]), dry_run=True)
    make_run(results / "cnn" / "dry-run-2", classifier_records([0.123]))
    content = benchmark()
    write_json(results / "benchmarks" / "fast.json", **content)
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def render(tree, *flags):
    return report.main([*flags, "--results-dir", str(tree / "results"), "--readme", str(tree / "README.md")])


def files(tree):
    return {path: path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}


def complaints(tree, capsys, *flags):
    """The lines on standard error, shortened to paths within the tree; the exit code must be 1."""
    capsys.readouterr()
    assert render(tree, *flags) == 1
    return capsys.readouterr().err.replace(f"{tree}/", "").splitlines()


def stale(tree, capsys):
    return [line.partition(": stale")[0] for line in complaints(tree, capsys, "--check")]


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_readme_and_pages_hold_the_known_numbers(tree):
    assert render(tree) == 0
    readme = (tree / "README.md").read_text()
    row = (
        "| one network | `wide` | 99.76 ± 0.02 %, n = 3 runs | 99.748 % [best/cnn](https://example.org/best)"
    )
    assert f"{row} |" in readme
    assert "![Our best results beside prior work](results/overview.png)" in readme
    assert readme.startswith("# Title\n\nBefore.\n\n<!-- report:overview begin -->\n")
    assert readme.count("\nBetween.\n") == 3
    assert "old" not in readme
    page = (tree / "results" / "cnn" / "README.md").read_text()
    assert "| fast | 54,000 labelled | 99.00 % (98.80 to 99.17) | 1 |  | ≤ 7.4 s |" in page
    assert "python train_cnn.py --model fast --name small" in page
    for target in re.findall(r"!\[.*?\]\((.*?)\)", page):
        assert (tree / "results" / "cnn" / target).is_file()
    assert "### fast" in (tree / "results" / "benchmarks" / "README.md").read_text()


def test_a_dry_run_is_ignored(tree):
    render(tree)
    assert "12.30" not in (tree / "results" / "cnn" / "README.md").read_text()


def test_rendering_twice_changes_no_byte_and_leaves_nothing_half_written(tree, monkeypatch):
    monkeypatch.undo()
    render(tree)
    first = files(tree)
    assert render(tree) == 0
    assert files(tree) == first
    assert not list(tree.rglob("*.tmp"))


def test_check_writes_nothing_and_names_all_that_was_never_written(tree, capsys):
    before = files(tree)
    pages = ["results/cnn/README.md", "results/cnn/comparison.png", "results/benchmarks/README.md"]
    assert stale(tree, capsys) == ["README.md", *pages, "results/overview.png"]
    assert files(tree) == before
    render(tree)
    assert render(tree, "--check") == 0


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("README.md", "99.76", "99.77", ["README.md"]),
        ("results/cnn/README.md", "99.78", "99.79", ["results/cnn/README.md"]),
        (
            "results/cnn/fast/metrics.json",
            '"train_images": 54000',
            '"train_images": 54001',
            ["results/cnn/README.md"],
        ),
        ("results/references.json", "0.9985", "0.9986", ["results/overview.png"]),
        ("results/benchmarks/fast.json", "47.3", "47.4", ["README.md", "results/benchmarks/README.md"]),
        (
            "results/cnn/fast/metrics.json",
            '"test_accuracy": 0.99,',
            '"test_accuracy": 0.98,',
            ["results/cnn/README.md", "results/cnn/comparison.png"],
        ),
    ],
)
def test_check_notices_a_changed_digit(tree, capsys, file, old, new, expected):
    render(tree)
    change(tree / file, old, new)
    assert stale(tree, capsys) == expected


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("cnn/fast/metrics.json", '{"format": 1, "runs": [', "not valid JSON; half-written?"),
        ("cnn/fast/metrics.json", '{"format": 2}', "format 2, but this code reads format 1"),
        ("cnn/fast/metrics.json", "[]", "not a JSON object; half-written?"),
        ("cnn/fast/metrics.json", '{"format": 1}', "lacks dataset, device, seconds, runs, mean, std"),
        ("cnn/fast/metrics.json", None, "missing"),
        ("cnn/fast/config.json", None, "missing"),
        ("cnn/fast/history.jsonl", None, "missing"),
        ("cnn/fast/history.jsonl", '{"epoch": 1', "not valid JSON lines; half-written?"),
        ("benchmarks/fast.json", '{"format": 1, "benchm', "not valid JSON; half-written?"),
        ("benchmarks/fast.json", '{"format": 1}', "lacks benchmark, what, device, rows, ratios"),
        (
            "times.json",
            '{"format": 1, "times": {"cnn/fast": {}}}',
            "cnn/fast lacks seconds_per_epoch, threads, cpu",
        ),
    ],
)
def test_a_damaged_result_is_named_and_the_rest_rendered(tree, capsys, file, content, line):
    path = tree / "results" / file
    path.unlink() if content is None else path.write_text(content)
    assert complaints(tree, capsys) == [f"results/{file}: {line}"]
    page = (tree / "results" / "cnn" / "README.md").read_text()
    assert "| wide |" in page
    assert ("| fast |" in page) == ("cnn/fast" not in file)
    assert (tree / "results" / "overview.png").is_file()


def test_without_results_the_sections_say_so(tmp_path, capsys):
    (tmp_path / "README.md").write_text(README)
    lines = complaints(tmp_path, capsys)
    assert lines == ["results/experiments.json: missing", "results/references.json: missing"]
    assert (tmp_path / "README.md").read_text().count("No results yet.") == 4


def test_without_a_readme_the_pages_are_rendered(tree, capsys):
    (tree / "README.md").unlink()
    assert complaints(tree, capsys) == ["README.md: missing or not text"]
    assert not (tree / "README.md").exists()
    assert (tree / "results" / "cnn" / "README.md").exists()


def test_runs_of_unclean_commits_and_runs_not_made_yet_are_noted_and_no_fault(tree, capsys):
    make_run(tree / "results" / "cnn" / "small", classifier_records([0.96]), commit="0123-dirty")
    make_sweep(tree / "results" / "mil" / "sweep", {("mean", 50): 0.8})
    change(tree / "results" / "mil" / "sweep" / "config.json", "0123456789ab", "4567-dirty")
    later = {"name": "later", "command": "python train_cnn.py --model lenet"}
    write_json(tree / "results" / "experiments.json", experiments=[*EXPERIMENTS, later])
    render(tree)
    capsys.readouterr()
    assert render(tree, "--check") == 0
    assert capsys.readouterr().out.replace(f"{tree}/", "").splitlines() == [
        "note: results/cnn/small: not from a clean commit (0123-dirty)",
        "note: results/mil/sweep: not from a clean commit (4567-dirty)",
        "note: results/cnn/later: not run yet; python train_cnn.py --model lenet",
    ]


# --- The repository's own lists and results ---


def parsed(command):
    """The arguments of "python script.py ...", by that script's own parser, filled in from the recipe."""
    if "train_simclr.py" in command or "train_moco.py" in command:  # old records have flags that have gone
        command = re.sub(r" --draws \d+| --distill", "", command)
    python, script, *flags = shlex.split(command)
    assert python == "python"
    module = importlib.import_module(Path(script).stem)
    return module.make_parser().parse_args(flags), vars(module.parse([*flags, "--device", "cpu"])[0])


def committed_runs():
    """The runs that finished; one that is being made here and now has no metrics.json yet."""
    return [path for path in run_folders(ROOT / "results") if (path / "metrics.json").exists()]


@pytest.mark.parametrize("folder", committed_runs(), ids=lambda folder: folder.name)
def test_every_committed_run_is_what_its_experiment_promises(folder):
    result = read_result(folder)
    _, made = parsed(result.config["command"])
    for experiment in read_experiments(ROOT / "results"):
        if experiment.folder == result.key:
            _, promised = parsed(experiment.command)
            free = {*BOOKKEEPING, "device"}
            assert [key for key in promised if key not in free and promised[key] != made[key]] == []


def test_the_experiments_parse_and_their_references_exist():
    references = read_references(ROOT / "results")
    experiments = read_experiments(ROOT / "results")
    folders = [experiment.folder for experiment in experiments]
    assert len(set(folders)) == len(folders)
    for experiment in experiments:
        paradigm = PARADIGMS[experiment.script]
        given, _ = parsed(experiment.command)
        assert given.name is None
        assert experiment.section in (*paradigm.all_sections, "example")
        keys = [key for row in experiment.rows for key in row.references]
        assert {*keys, *experiment.references} <= set(references)
        assert all(not row.front or set(row.front) == {"task", "method"} for row in experiment.rows)
        alias = (experiment.timed_as or experiment.folder).replace("{model}", "cnn")
        assert alias in folders


def test_every_reference_has_a_link_a_share_and_known_marks():
    for reference in read_references(ROOT / "results").values():
        assert {"task", "metric", "value", "source", "url", "verified"} <= set(reference)
        assert reference["url"].startswith("https://")
        assert 0 < reference.get("low", 0.1) < reference["value"] < 1
        assert set(reference.get("marks", ())) <= set(MARKS)


def test_the_times_are_those_of_experiments():
    folders = {experiment.folder for experiment in read_experiments(ROOT / "results")}
    assert set(read_times(ROOT / "results")) <= folders
