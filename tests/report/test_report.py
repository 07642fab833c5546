"""report.py: pages from results, markers and values, what is stale, missing or damaged; our own lists."""

import importlib
import re
import shlex

import pytest
from helpers import ROOT, load_script
from made_up import MARKERS, classifier_records, make_run, write_lists

from report import figures, pages
from report.results import read_results
from report.rows import MARKS, make_rows
from report.text import EMPTY
from utils.cli import BOOKKEEPING
from utils.plots.style import description

report = load_script("report")
COMMITTED = read_results(ROOT / "results")
CNN = ["results/cnn/README.md", "results/cnn/seconds.png"]
TWO = "cnn/wide,cnn/old"
FREE = {*BOOKKEEPING, "device"}


@pytest.fixture
def rendered(tree, monkeypatch, capsys):
    """The tree with all pages written, and digests in place of figures, which take most of a test's time."""
    quick = property(lambda self: lambda data, path, text: path.write_text(text))
    monkeypatch.setattr(figures.Figure, "plot", quick)
    monkeypatch.setattr(pages, "description", lambda path: path.exists() and path.read_text())
    assert render(tree) == 0
    capsys.readouterr()
    return tree


def render(tree, *flags):
    return report.main([*flags, "--results-dir", str(tree / "results"), "--readme", str(tree / "README.md")])


def faults(tree, capsys, *flags):
    assert render(tree, *flags) == 1
    return capsys.readouterr().err.replace(f"{tree}/", "").splitlines()


def stale(tree, capsys):
    return sorted(line.partition(": stale")[0] for line in faults(tree, capsys, "--check"))


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_check_writes_nothing_and_names_all_that_was_never_written(tree, capsys):
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    names = stale(tree, capsys)
    assert {"README.md", "results/overview.png", "results/mil/README.md", CNN[1]} < set(names)
    assert {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("README.md", "99.76", "99.77", ["README.md"]),
        ("results/cnn/README.md", "99.76", "99.77", ["results/cnn/README.md"]),
        ("results/cnn/fast/metrics.json", "54000", "54002", ["results/cnn/README.md", "results/results.csv"]),
        ("results/references.json", "0.99748", "0.99749", ["README.md", CNN[0], "results/overview.png"]),
        ("results/benchmarks/fast.json", "47.3", "47.4", ["README.md", "results/benchmarks/README.md"]),
    ],
)
def test_check_notices_a_changed_digit(rendered, capsys, file, old, new, expected):
    assert render(rendered, "--check") == 0
    change(rendered / file, old, new)
    assert stale(rendered, capsys) == expected


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("cnn/fast/metrics.json", '{"format": 1, "runs": [', "not valid JSON; half-written?"),
        ("cnn/fast/metrics.json", '{"format": 2}', "format 2, but this code reads format 1"),
        ("cnn/fast/metrics.json", '{"format": 1}', "damaged (KeyError: 'device')"),
        ("cnn/fast/metrics.json", None, "missing"),
        ("cnn/fast/config.json", None, "missing"),
        ("benchmarks/fast.json", '{"format": 1, "ratios": []}', "damaged (KeyError: 'rows')"),
        ("simclr/simclr/map.csv", "digit,x\n7,half\n", "damaged (ValueError: could not convert string"),
    ],
)
def test_a_damaged_result_is_named_and_the_rest_rendered(rendered, capsys, file, content, line):
    path = rendered / "results" / file
    path.unlink() if content is None else path.write_text(content)
    (fault,) = faults(rendered, capsys)
    assert fault.startswith(f"results/{file}: {line}")
    page = (rendered / "results/cnn/README.md").read_text()
    assert "| wide |" in page
    assert ("| fast |" in page) == ("cnn/fast" not in file)


def test_without_results_the_sections_say_so(tmp_path, capsys):
    lines = faults(tmp_path, capsys)
    assert lines == ["results/experiments.json: missing", "results/references.json: missing"]
    assert (tmp_path / "README.md").read_text().count(EMPTY) == 3


def test_what_a_reader_should_know_is_a_note_and_no_fault(rendered, capsys):
    results = rendered / "results"
    make_run(results / "cnn/fast.old-1", classifier_records([0.96]))
    change(results / "experiments.json", '"name": "old"', '"name": "later"')
    assert render(rendered) == 0
    notes = capsys.readouterr().out.replace(f"{rendered}/", "").splitlines()
    assert notes == [
        "note: results/cnn/later: not run yet; python train_cnn.py",
        "note: results/simclr/simclr/metrics.json: lacks test_spread_10_accuracy; its row is left out",
    ]


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"command": "rm -rf results"}, "'x' must be a name and run a script"),
        ({"name": "../x"}, "'../x' must be a name and run a script"),
        ({"minutes": 3}, "minutes"),
        ({"rows": [{"minutes": 3}]}, "minutes"),
        ({"command": "python train_cnn.py '--data-dir=FILE'"}, "x has --data-dir, which"),
        ({"command": "python predict.py --show FILE"}, "'x' must be a name and run a script"),
        ({"command": "python train_cnn.py\n--model fast"}, "'x' must be a name and run a script"),
    ],
)
def test_an_experiment_runs_a_script_of_this_repository(tree, capsys, entry, line):
    write_lists(tree / "results", {"name": "x", "command": "python train_cnn.py", **entry})
    first = faults(tree, capsys, "--check")[0]
    assert first.startswith("results/experiments.json: ")
    assert line in first


def filled(tree, results, text, **sections):
    (path := tree / "page.md").write_text(text)
    return pages.page_output(results, path, sections)[path].decode()


def test_sections_are_renewed_and_prose_is_left_alone(tree, results):
    text = f"before\n\n{MARKERS.format('a')}\nafter \\1 $x\n"
    assert filled(tree, results, text, a=r"new \g<0>") == text.replace("old", "\nnew \\g<0>\n")
    filled(tree, results, MARKERS.format("a") * 2 + MARKERS.format("x"), a="", b="")
    assert results.faults == [
        f"{tree}/page.md: report.py makes no section x",
        f"{tree}/page.md: needs the lines <!-- report:a begin --> and <!-- report:a end -->, once",
        f"{tree}/page.md: needs the lines <!-- report:b begin --> and <!-- report:b end -->, once",
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("cnn/wide test_accuracy", "99.76 %"),
        ("cnn/wide test_accuracy spread", "99.76 ± 0.02 %"),
        ("cnn/wide test_accuracy all", "99.74 to 99.78 %"),
        ("cnn/wide,cnn/fast test_accuracy", "99.00 to 99.78 %"),
        ("cnn/wide test_accuracy worst", "99.74 %"),
        ("mil/sweep/max/100 test_auc", "0.950"),
        (f"{TWO} test_accuracy difference", "+15 points (-49 to +78; Welch's t-test, n = 3 and 2; p = 0.21)"),
        ("cnn/gone test_accuracy", "results/cnn/gone: a page names it, but there is no result"),
        ("mil/sweep/max/70 test_auc", "results/mil/sweep/max/70: a page names it, but there is no result"),
        ("cnn/wide test_f1", "results/cnn/wide/metrics.json: lacks test_f1; the text keeps the old value"),
    ],
)
def test_values_in_sentences_are_renewed(tree, results, words, text):
    line = f"It has <!-- value {words} -->{{}}<!-- end -->, so"
    output = filled(tree, results, line.format("old"))
    complaints = [each.removeprefix(f"{tree}/") for each in results.faults + results.notes]
    assert (output, text in complaints) in ((line.format(text), False), (line.format("old"), True))


def test_a_new_script_is_one_entry(tree, monkeypatch):
    make_run(tree / "results/novel/first", classifier_records([0.9]), "train_novel")
    entry = {"name": "first", "command": "python train_novel.py", "rows": [{"label": "new"}]}
    write_lists(tree / "results", entry)
    paradigm = pages.Paradigm(sections={"extra": lambda page: f"{len(page.rows)} row"})
    monkeypatch.setitem(pages.PARADIGMS, "train_novel", paradigm)
    outputs = pages.render(read_results(tree / "results"), tree / "README.md")
    text = outputs[tree / "results/novel/README.md"].decode()
    assert "| new | 90.00 (89.80 to 90.17) | 1 | 54,000 | 1 |" in text
    assert "<!-- report:extra begin -->\n\n1 row\n\n<!-- report:extra end -->" in text


def test_figures_show_the_rows_of_their_pages(tree, results):
    outputs = pages.render(results, tree / "README.md")
    data = {path.name: output.data for path, output in outputs.items() if path.suffix == ".png"}
    first, second = data["overview.png"]
    assert (first["task"], first["label"], first["method"]) == ("network", "wide", "wide")
    assert (first["kind"], first["text"]) == ("std", "99.76 ± 0.02 %")
    assert first["values"] == [0.9974, 0.9976, 0.9978]
    rival = {"value": 0.99748, "std": 0.00028, "text": "99.748 ± 0.028 %", "source": "best/cnn"}
    assert [first["rivals"][0], first["rivals"][1]["text"], first["auc"]] == [rival, "99.91 % †", False]
    assert (second["rivals"], second["auc"]) == ([], True)
    times = [(row["label"], row["cost"]) for row in data["seconds.png"]["ours"]]
    assert times == [("wide", 1200), ("fast", 7.4)]  # without the run with few labels
    maps = {each["title"]: each["points"] for each in data["maps.png"]}
    assert maps == {"raw pixels": [[3.0, 4.0]], "features of simclr": [[0.5, 2.0]]}
    lines = [(cell["method"], cell["labels"], len(cell["runs"])) for cell in data["labels.png"]]
    assert lines == [("simclr-spread", 100, 2)]
    path = tree / "results/few_labels/labels.png"
    figure = outputs[path]
    pages.write(path, figure)
    assert description(path) == figure.digest
    assert pages.is_fresh(path, figure)
    path.write_bytes(path.read_bytes()[:40])
    assert not pages.is_fresh(path, figure)


def parsed(command):
    """The arguments of "python script.py ...", by its own parser; older ones had more flags."""
    command = re.sub(r"--encoder(?= (?!simclr)\w+( |$))|--models(?= [\w,]+( |$))", "--model", command)
    _, script, *flags = shlex.split(re.sub(r" --(draws \d+|distill)", "", command))
    module = importlib.import_module(script.removesuffix(".py"))
    arguments = vars(module.parse([*flags, "--device", "cpu"])[0])
    return arguments | {"labels": arguments.get("labels") or [0, 10, 20, 50, 100, 1000]}  # of ten classes


@pytest.mark.parametrize("entry", COMMITTED.experiments, ids=lambda entry: entry.folder)
def test_every_committed_run_is_what_its_experiment_promises(entry):
    result = COMMITTED.runs[entry.folder]
    if not entry.retired:
        promised, made = (parsed(command) for command in (entry.command, result.config["command"]))
        if "views" in made:  # whose defaults have changed; older records join them by commas
            views = result.arguments["views"]
            views = views.split(",") if isinstance(views, str) else views
            made |= {"views": views, "epochs": result.arguments["epochs"]}
        assert [key for key in promised if key not in FREE and promised[key] != made[key]] == []


def test_the_lists_fit_together():
    folders = [entry.folder for entry in COMMITTED.experiments]
    assert sorted(folders) == sorted(name for name in COMMITTED.runs if name.count("/") == 1)
    assert COMMITTED.faults == []
    configs = [run.config for run in COMMITTED.runs.values()]
    commits = [part["commit"] for config in configs for part in (config, *config.get("resumed", []))]
    assert all(re.fullmatch("[0-9a-f]{12}", commit) for commit in commits)  # none ends in "-dirty"
    for entry in filter(lambda entry: entry.rows, COMMITTED.experiments):
        page = entry.folder.partition("/")[0]
        sections = {*pages.SECTIONS, *pages.PARADIGMS[entry.script].sections, "example"}
        sections |= {table.partition("/")[2] for table in COMMITTED.tables if table.startswith(f"{page}/")}
        assert {row.section for row in entry.rows} <= sections
        keys = [key for row in entry.rows for key in row.references]
        assert {*keys, *entry.references} <= set(COMMITTED.references)
        assert all(not row.front or set(row.front) == {"task", "method"} for row in entry.rows)


def test_every_reference_has_a_link_a_share_and_known_marks():
    for reference in COMMITTED.references.values():
        assert {"task", "metric", "value", "source", "url", "verified"} <= set(reference)
        assert reference["url"].startswith("https://")
        assert 0 < reference.get("low", 0.1) < reference["value"] < 1
        assert set(reference.get("marks", ())) <= set(MARKS)
        assert reference["task"].replace(",", "").startswith(str(reference.get("column", "")))


def test_a_row_shows_the_best_prior_work_with_the_fewest_marks_and_a_higher_one_with_its_marks(results):
    def sources():
        return [rival["source"] for rival in make_rows(results, "train_cnn", "test_accuracy")[0].rivals]

    assert sources() == ["best/cnn", "chosen"]
    results.references["chosen"] |= {"value": 0.99747, "marks": ["selected", "transductive"]}
    assert sources() == ["best/cnn"]
    results.references.pop("best")
    assert sources() == ["A paper", "chosen"]
