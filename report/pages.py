"""README.md and the pages of results/: prose is written by hand, what stands between markers is generated.

    <!-- report:NAME begin -->   a section   <!-- report:NAME end -->
    <!-- value RUN METRIC -->99.77 %<!-- end -->                  a mean in a sentence
    <!-- value RUN METRIC spread -->99.76 ± 0.02 %<!-- end -->    with its spread, as the tables show it
    <!-- value RUN METRIC all -->0.11 to 0.18<!-- end -->         the range over its runs or draws
    <!-- value RUN METRIC worst -->99.74 %<!-- end -->           the smallest of their values
    <!-- value A,B METRIC difference -->+0.2 points (...)<!-- end -->   what `report.py --compare A B` prints

RUN is FOLDER/NAME or, for a cell of a sweep, FOLDER/NAME/METHOD/NUMBER. RUN and METRIC may be several, with
commas; the value is their range. No line may begin with a value: Markdown would take it for HTML.
"""

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from report import sections
from report.benchmarks import benchmarks_section, speed_section
from report.figures import FIGURES, Figure, overview
from report.records import compare, results_csv
from report.results import Results
from report.rows import Row, has, make_rows, number
from report.sections import Page, table_section
from report.text import EMPTY, table, values
from utils.errors import UserError
from utils.plots import report as plots
from utils.plots.style import description
from utils.runs.files import write_atomically

MARKER = "<!-- report:{} {} -->"
VALUE = r"(?s)(<!-- value (\S+) (\S+)( spread| all| worst| difference)? -->).*?(<!-- end -->)"

Outputs = dict[Path, bytes | Figure]


class Paradigm(NamedTuple):
    """What the report must know of a script.

    metric: of a row that names none. sections: what its page has between markers, besides or instead of
    SECTIONS and the tables of experiments.json.
    """

    metric: str = "test_accuracy"
    sections: dict[str, Callable[[Page], str]] = {}


SECTIONS = {"results": sections.results_section, "references": sections.references_section}
PARADIGMS = {
    "train_cnn": Paradigm(sections={"models": sections.models_section}),
    "ensemble": Paradigm(sections={"combinations": sections.combinations_section}),
    "train_simclr": Paradigm("test_linear_accuracy"),
    "train_moco": Paradigm("test_linear_accuracy"),
    "train_few_labels": Paradigm(),
    "train_triplet": Paradigm("test_10way_1shot_accuracy"),
    "train_mil": Paradigm("test_auc"),
    "robustness": Paradigm("corrupted_accuracy", sections={"results": sections.corruptions_section}),
}


def render(results: Results, readme: Path) -> Outputs:
    """Return {path: content} of all that the report writes; results.faults names what fails."""
    outputs: Outputs = {}
    rows: list[Row] = []
    for script, paradigm in PARADIGMS.items():
        path = results.folder / script.removeprefix("train_") / "README.md"
        page = Page(results, results.attempt(path, make_rows, results, script, paradigm.metric) or [])
        outputs |= results.attempt(path, render_page, page, path, paradigm) or {}
        for name, (plot, make_data) in FIGURES.get(script, {}).items() if page.rows else ():
            if data := results.attempt(path, make_data, page):
                outputs[path.with_name(name)] = Figure(plot, data)
        rows += page.rows
    path = results.folder / "benchmarks" / "README.md"
    if results.benchmarks or path.exists():
        outputs |= page_output(results, path, {"benchmarks": benchmarks_section(results)})
    for path in results.folder / "insights" / "README.md", results.folder / "README.md":
        outputs |= page_output(results, path, {}) if path.exists() else {}  # prose with values, no table
    outputs |= {results.folder / "results.csv": results_csv(rows)} if rows else {}
    front = [row for row in rows if row.spec.front]
    return {**(results.attempt(readme, render_front, results, front, readme) or {}), **outputs}


def render_page(page: Page, path: Path, paradigm: Paradigm) -> Outputs:
    """Return the page of a script; nothing where it has neither results nor a page."""
    if not (page.rows or path.exists()):
        return {}
    results = page.results
    makers = {**SECTIONS, **paradigm.sections}
    for name in (name for name in results.tables if name.startswith(f"{path.parent.name}/")):
        makers[name.partition("/")[2]] = partial(table_section, name=name)
    contents = {name: results.attempt(path, make, page) or EMPTY for name, make in makers.items()}
    return page_output(results, path, contents)


def page_output(results: Results, path: Path, contents: dict[str, str]) -> Outputs:
    """Return {path: text} with sections and values renewed; a new page has nothing but markers."""
    blank = [f"{MARKER.format(name, 'begin')}\n{MARKER.format(name, 'end')}\n" for name in contents]
    new = "\n".join([f"# {path.parent.name}\n", *blank])
    if (text := results.attempt(path, path.read_text, "utf-8") if path.exists() else new) is None:
        return {}
    for name in sorted(set(re.findall(r"^<!-- report:(\S+) (?:begin|end) -->$", text, re.M)) - set(contents)):
        results.faults.append(f"{path}: report.py makes no section {name}")
    for name, content in contents.items():
        begin, end = MARKER.format(name, "begin"), MARKER.format(name, "end")
        parts = re.split(f"^{begin}$.*?^{end}$", text, flags=re.M | re.S)
        if len(parts) != 2:
            results.faults.append(f"{path}: needs the lines {begin} and {end}, once")
            continue
        text = f"{parts[0]}{begin}\n\n{content}\n\n{end}{parts[1]}"

    def fill(match):
        begin, runs, metrics, mode, end = match.groups(default="")
        text = results.attempt(path, value_of, results, runs.split(","), metrics.split(","), mode.strip())
        return match[0] if text is None else f"{begin}{text}{end}"

    return {path: re.sub(VALUE, fill, text).encode()}


def value_of(results: Results, names: list[str], metrics: list[str], mode: str) -> str | None:
    """Return a number in words; a UserError names a run that is missing."""
    if mode == "difference":
        return compare(results, names, metrics)
    numbers = []
    for name in names:
        if (result := results.runs.get(name)) is None:
            raise UserError(f"{results.folder / name}: a page names it, but there is no result")
        if lacking := [metric for metric in metrics if not has(result, metric)]:
            results.notes.append(f"{result.path}: lacks {', '.join(lacking)}; the text keeps the old value")
            return None
        numbers += [number(result, metric) for metric in metrics]
    first, shares = numbers[0], [share for each in numbers for share in each.values]
    if mode == "spread":
        return first.text
    several = mode == "all" or len(numbers) > 1
    return values(first.metric, shares if several else [min(shares) if mode == "worst" else first.mean])


def render_front(results: Results, candidates: list[Row], readme: Path) -> Outputs:
    """Return README.md and its figure: of each task the first row that has results."""
    first: dict[str, Row] = {}
    for row in candidates:
        first.setdefault(row.spec.front["task"], row)
    rows, path = list(first.values()), results.folder / "overview.png"
    link_target = Path(os.path.relpath(path, readme.parent)).as_posix()
    parts = {
        "overview": f"![Our best results beside prior work]({link_target})" if rows else EMPTY,
        "results": front_tables(rows) if rows else EMPTY,
        "speed": results.attempt(results.folder / "benchmarks", speed_section, results) or EMPTY,
    }
    data = results.attempt(path, overview, rows)
    return page_output(results, readme, parts) | ({path: Figure(plots.plot_overview, data)} if data else {})


def front_tables(rows: list[Row]) -> str:
    """Return the tables of README.md, one per measure: our best of every task beside the best comparable."""
    tables: dict[str, list[list[str]]] = {}
    for row in rows:
        task, (_, cell) = f"{row.spec.front['task']}: {row.spec.front['method']}", row.number.cell
        line = [task, cell, str(len(row.number.values)), sections.rival_text(row) or "none found"]
        line += [sections.data_text(row), row.experiment.folder]
        tables.setdefault(sections.head_of(row), []).append(line)
    columns = "n", "best prior work", "data", "run"
    parts = [table(["task: method", head, *columns], lines) for head, lines in tables.items()]
    return "\n\n".join([*parts, sections.legend(rows).replace(f"{sections.TIME}. ", "")])


def is_fresh(path: Path, output: bytes | Figure) -> bool:
    """Whether a file has this content; a figure is compared by the digest of what it shows."""
    if isinstance(output, Figure):
        return description(path) == output.digest
    return path.exists() and path.read_bytes() == output


def write(path: Path, output: bytes | Figure) -> None:
    if isinstance(output, Figure):
        output.plot(output.data, path, output.digest)
    else:
        write_atomically(path, lambda temporary: temporary.write_bytes(output))
