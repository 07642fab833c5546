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
from pathlib import Path

from report.benchmarks import benchmarks_section, speed_section
from report.figures import Picture, overview_picture
from report.front import front_rows, front_section, reproduce_section
from report.paradigms import PARADIGMS, Paradigm
from report.results import Collection, Result, folder_name
from report.rows import make_rows, named_cell, need, other_rows
from report.sections import EMPTY, Page
from report.tables import number, number_text, value_text
from utils.errors import UserError
from utils.plots.style import description
from utils.runs.files import write_atomically

MARKER = "<!-- report:{} {} -->"
VALUE = re.compile(r"(<!-- value (\S+) (\S+)( spread| all| worst| count)? -->).*?(<!-- end -->)", re.S)
BENCHMARKS_PAGE = "# Benchmarks\n\n" + "\n".join(MARKER.format("benchmarks", end) for end in ("begin", "end"))

Outputs = dict[Path, bytes | Picture]


def render(found: Collection, readme: Path) -> Outputs:
    """Return {path: content} of all that the report keeps up to date; what fails is in found.faults."""
    outputs: Outputs = {}
    pages = []
    check_folders(found)
    for script, paradigm in PARADIGMS.items():
        if page := found.attempt(make_page, found, script, paradigm):
            pages.append(page)
            outputs |= found.attempt(render_page, found, page, paradigm) or {}
    path = found.folder / "benchmarks" / "README.md"
    if found.benchmarks or path.exists():
        section = found.attempt(benchmarks_section, found) or EMPTY
        text = fill(found, path, {"benchmarks": section}, new=BENCHMARKS_PAGE + "\n")
        outputs |= {path: text.encode()} if text else {}
    text, pictures = found.attempt(render_front, found, pages, readme) or (None, {})
    return {**({readme: text.encode()} if text else {}), **outputs, **pictures}


def check_folders(found: Collection) -> None:
    """Name the folders of results that no paradigm shows."""
    known = {folder_name(script) for script in PARADIGMS}
    for name in sorted({key.partition("/")[0] for key in (*found.results, *found.sweeps)} - known):
        found.faults.append(f"{found.folder / name}: no entry for it in report/paradigms.py")


def make_page(found: Collection, script: str, paradigm: Paradigm) -> Page:
    rows, others = (make(found, script, paradigm.metric, paradigm.data) for make in (make_rows, other_rows))
    return Page(found, script, rows, others, paradigm.details)


def render_page(found: Collection, page: Page, paradigm: Paradigm) -> Outputs:
    """Return the page of one script and its pictures; nothing for a script without results or page."""
    folder = found.folder / folder_name(page.script)
    path = folder / "README.md"
    if not (page.rows or page.others or path.exists()):
        return {}
    pictures = found.attempt(paradigm.pictures, page.of_section("results")) or {}
    made = {name: found.attempt(make, page) for name, make in paradigm.all_sections.items()}
    sections = {name: EMPTY if content is None else content for name, content in made.items()}
    text = fill(found, path, sections, new=new_page(paradigm))
    page_output = {path: text.encode()} if text else {}
    return {**page_output, **{folder / name: picture for name, picture in pictures.items()}}


def new_page(paradigm: Paradigm) -> str:
    """Return the text of a page that nobody wrote yet: a title, and all markers."""
    markers = "\n\n".join(
        "\n".join(MARKER.format(name, end) for end in ("begin", "end")) for name in paradigm.all_sections
    )
    return f"# {paradigm.title}\n\n{markers}\n"


def render_front(found: Collection, pages: list[Page], readme: Path) -> tuple[str | None, Outputs]:
    """Return README.md's text and its figure."""
    rows = front_rows(pages)
    path = found.folder / "overview.png"
    sections = {
        "overview": f"![Our best results beside prior work]({link(path, readme)})" if rows else EMPTY,
        "results": front_section(found, rows),
        "reproduce": reproduce_section(pages),
        "speed": speed_section(found),
    }
    pictures: Outputs = {path: overview_picture(rows, found.references.get("ceiling"))} if rows else {}
    return fill(found, readme, sections), pictures


def link(path: Path, page: Path) -> str:
    return Path(os.path.relpath(path, page.parent)).as_posix()


def fill(found: Collection, path: Path, sections: dict[str, str], new: str | None = None) -> str | None:
    """Return a page's text with its sections and values renewed. new: the text where there is no page."""
    try:
        text = path.read_text(encoding="utf-8") if new is None or path.exists() else new
    except (OSError, UnicodeDecodeError):
        found.faults.append(f"{path}: missing or not text")
        return None
    for name in sorted(set(re.findall(r"^<!-- report:(\S+) (?:begin|end) -->$", text, re.M)) - set(sections)):
        found.faults.append(f"{path}: report.py makes no section {name}")
    for name, content in sections.items():
        begin, end = MARKER.format(name, "begin"), MARKER.format(name, "end")
        pattern = re.compile(f"^{begin}$.*?^{end}$", re.M | re.S)
        if len(pattern.findall(text)) != 1:
            found.faults.append(f"{path}: needs the lines {begin} and {end}, once")
            continue
        before, after = pattern.split(text)
        text = f"{before}{begin}\n\n{content}\n\n{end}{after}"
    return VALUE.sub(lambda match: fill_value(found, path, match), text)


def fill_value(found: Collection, path: Path, match: re.Match) -> str:
    """Return a value with its markers renewed; as it was, and a fault, when it can't be computed."""
    begin, runs, metrics, how, end = match.groups(default="")
    text = found.attempt(inline_value, found, path, runs.split(","), metrics.split(","), how.strip())
    return match[0] if text is None else f"{begin}{text}{end}"


def inline_value(found: Collection, path: Path, runs: list[str], metrics: list[str], how: str) -> str:
    """Return a number in words; UserError for a run or metric that is not there."""
    results = [named_result(found, path, run) for run in runs]
    for result in results:
        need(result, *metrics)
    numbers = [number(result, metric) for result in results for metric in metrics]
    if how == "spread":
        return number_text(numbers[0])
    if how == "worst":
        return value_text(metrics[0], [min(numbers[0].values)])
    if how == "count":
        return numbers[0].samples
    if how == "all" or len(numbers) > 1:
        return value_text(metrics[0], [value for n in numbers for value in n.values])
    return value_text(metrics[0], [numbers[0].mean])


def named_result(found: Collection, path: Path, name: str) -> Result:
    """Return the run FOLDER/NAME, or the cell FOLDER/NAME/METHOD/NUMBER of a sweep; UserError for none."""
    folder, run, *values = name.split("/")
    key = f"{folder}/{run}"
    if values and key in found.sweeps:
        return named_cell(found.sweeps[key], values)
    if name not in found.results:
        raise UserError(f"{path}: names {name}, which has no results")
    return found.results[name]


def is_fresh(path: Path, output: bytes | Picture) -> bool:
    """Whether a file has this content; a picture is compared by the digest of what it was drawn from."""
    if isinstance(output, Picture):
        return description(path) == output.digest
    return path.exists() and path.read_bytes() == output


def write(path: Path, output: bytes | Picture) -> None:
    try:
        if isinstance(output, Picture):
            output.draw(output.data, path, output.digest)
        else:
            write_atomically(path, lambda temporary: temporary.write_bytes(output))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
