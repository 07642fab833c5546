"""README.md and the pages of results/: prose is written by hand, what stands between markers is generated.

    <!-- report:NAME begin -->   a section   <!-- report:NAME end -->
    <!-- value RUN METRIC -->99.77 %<!-- end -->                  a mean in a sentence
    <!-- value RUN METRIC spread -->99.76 ± 0.02 %<!-- end -->    with its spread, as the tables show it
    <!-- value RUN METRIC all -->0.11 to 0.18<!-- end -->         the range over the runs or draws
    <!-- value RUN METRIC worst -->99.74 %<!-- end -->           the smallest of them
    <!-- value RUN METRIC count -->10 draws<!-- end -->           how many they are

RUN is FOLDER/NAME or, for a cell of a sweep, FOLDER/NAME/METHOD/NUMBER. RUN and METRIC may be several, with
commas; the value is their range. No line may begin with a value: Markdown would take it for a block of HTML.
"""

import os
import re
from functools import partial
from pathlib import Path

from report.benchmarks import benchmarks_section, speed_section
from report.figures import Picture, overview
from report.paradigms import PARADIGMS, SECTIONS, Paradigm
from report.results import Experiment, Results
from report.rows import Row, has, make_rows, number
from report.sections import Page, table_section, time_legend
from report.tables import EMPTY, table, time_text, value_text
from utils.errors import UserError
from utils.plots import report as plots
from utils.plots.style import description
from utils.runs.files import write_atomically

MARKER = "<!-- report:{} {} -->"
VALUE = re.compile(r"(<!-- value (\S+) (\S+)( spread| all| worst| count)? -->).*?(<!-- end -->)", re.S)

Outputs = dict[Path, bytes | Picture]


def render(results: Results, readme: Path) -> Outputs:
    """Return {path: content} of all that the report keeps up to date; what fails is in results.faults."""
    outputs: Outputs = {}
    pages: dict[str, Page] = {}
    for script, paradigm in PARADIGMS.items():
        experiments = [experiment for experiment in results.experiments if experiment.script == script]
        rows = make_rows(results, experiments, paradigm.metric, paradigm.data)
        pages[script] = Page(results, experiments, rows)
        outputs |= render_page(pages[script], script.removeprefix("train_"), paradigm)
    folders = {key.partition("/")[0] for key in (*results.runs, *results.sweeps)}
    for name in sorted(folders - {script.removeprefix("train_") for script in PARADIGMS}):
        results.faults.append(f"{results.folder / name}: no entry for it in report/paradigms.py")
    path = results.folder / "benchmarks" / "README.md"
    if results.benchmarks or path.exists():
        outputs |= text_output(results, path, {"benchmarks": benchmarks_section(results)})
    return {**render_front(results, pages, readme), **outputs}


def render_page(page: Page, folder: str, paradigm: Paradigm) -> Outputs:
    """Return the page of one script and its pictures; nothing for a script without results or page."""
    results, path = page.results, page.results.folder / folder / "README.md"
    if not (page.rows or path.exists()):
        return {}
    pictures: Outputs = {}
    for name, (plot, make_data) in paradigm.pictures.items():
        if data := results.attempt(path, make_data, page):
            pictures[path.with_name(name)] = Picture(plot, data)
    makers = {**SECTIONS, **paradigm.sections}
    for name in (name for name in results.tables if name.startswith(f"{folder}/")):
        makers[name.partition("/")[2]] = partial(table_section, name=name)
    sections = {name: results.attempt(path, make, page) or EMPTY for name, make in makers.items()}
    return text_output(results, path, sections) | pictures


def text_output(results: Results, path: Path, sections: dict[str, str]) -> Outputs:
    """Return {path: text} with sections and values renewed; where there is no page, one of markers alone."""
    blank = (f"{MARKER.format(name, 'begin')}\n{MARKER.format(name, 'end')}\n" for name in sections)
    new = "\n".join([f"# {path.parent.name}\n", *blank])
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else new
    except (OSError, UnicodeDecodeError):
        results.faults.append(f"{path}: missing or not text")
        return {}
    for name in sorted(set(re.findall(r"^<!-- report:(\S+) (?:begin|end) -->$", text, re.M)) - set(sections)):
        results.faults.append(f"{path}: report.py makes no section {name}")
    for name, content in sections.items():
        begin, end = MARKER.format(name, "begin"), MARKER.format(name, "end")
        parts = re.split(f"^{begin}$.*?^{end}$", text, flags=re.M | re.S)
        if len(parts) != 2:
            results.faults.append(f"{path}: needs the lines {begin} and {end}, once")
            continue
        text = f"{parts[0]}{begin}\n\n{content}\n\n{end}{parts[1]}"

    def fill(match):
        begin, runs, metrics, mode, end = match.groups(default="")
        value = results.attempt(path, value_of, results, runs.split(","), metrics.split(","), mode.strip())
        return match[0] if value is None else f"{begin}{value}{end}"

    return {path: VALUE.sub(fill, text).encode()}


def value_of(results: Results, names: list[str], metrics: list[str], mode: str) -> str | None:
    """Return a number in words; a UserError names a run that is missing."""
    numbers = []
    for name in names:
        if (result := results.result(name)) is None:
            raise UserError(f"{results.folder / name}: a page names it, but there is no result")
        if lacking := [metric for metric in metrics if not has(result, metric)]:
            results.notes.append(f"{result.path}: lacks {', '.join(lacking)}; the text keeps the old value")
            return None
        numbers += [number(result, metric) for metric in metrics]
    first, values = numbers[0], [value for each in numbers for value in each.values]
    if mode in ("spread", "count"):
        return first.text if mode == "spread" else first.samples
    if mode == "all" or len(numbers) > 1:
        return value_text(first.metric, values)
    return value_text(first.metric, [min(values) if mode == "worst" else first.mean])


# --- README.md ------------------------------------------------------------------------------------------


def render_front(results: Results, pages: dict[str, Page], readme: Path) -> Outputs:
    """Return README.md and its figure: of each task the first row that has results."""
    first: dict[str, Row] = {}
    for row in (row for page in pages.values() for row in page.rows if row.spec.front):
        first.setdefault(row.spec.front["task"], row)
    rows, path = list(first.values()), results.folder / "overview.png"
    link = Path(os.path.relpath(path, readme.parent)).as_posix()
    sections = {
        "overview": f"![Our best results beside prior work]({link})" if rows else EMPTY,
        "results": results_table(rows) if rows else EMPTY,
        "reproduce": reproduce_text(pages),
        "speed": results.attempt(results.folder / "benchmarks", speed_section, results) or EMPTY,
    }
    picture = Picture(plots.plot_overview, overview(rows, results.references.get("ceiling")))
    return text_output(results, readme, sections) | ({path: picture} if rows else {})


def results_table(rows: list[Row]) -> str:
    """Return the table of README.md: the best of every task beside the best comparable prior work."""
    lines = []
    for row in rows:
        rivals = [f"{rival.text} {rival.link}" for rival in row.rivals[:1]] or ["none with a source"]
        names = [row.spec.front[key] for key in ("task", "method")]
        text = f"{row.number.text}, n = {row.number.samples}"
        lines.append([*names, text, *rivals, row.data, row.time])
    head = ["task", "method", "test accuracy or AUC", "best prior work", "data", "time"]
    return f"{table(head, lines)}\n\n{time_legend(rows)}"


def reproduce_text(pages: dict[str, Page]) -> str:
    """Return how long the experiments of each script took."""
    times = {
        script: sum(experiment_seconds(page.results, experiment) or 0 for experiment in page.experiments)
        for script, page in pages.items()
    }
    parts = [f"`{script}.py` {time_text(seconds)}" for script, seconds in times.items() if seconds]
    return f"Training time of all experiments: {', '.join(parts)}." if parts else EMPTY


def experiment_seconds(results: Results, experiment: Experiment) -> float | None:
    """Return how long the committed run trained, None without one; a selection of members trains nothing."""
    result = (results.runs | results.sweeps).get(experiment.folder)
    return result and (0 if result.arguments.get("sources") else result.seconds)


def is_fresh(path: Path, output: bytes | Picture) -> bool:
    """Whether a file has this content; a picture is compared by the digest of what it shows."""
    if isinstance(output, Picture):
        return description(path) == output.digest
    return path.exists() and path.read_bytes() == output


def write(path: Path, output: bytes | Picture) -> None:
    try:
        if isinstance(output, Picture):
            output.plot(output.data, path, output.digest)
        else:
            write_atomically(path, lambda temporary: temporary.write_bytes(output))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
