"""The pages promise only what works: their commands parse, their links and make targets exist."""

import importlib
import re
import shlex

import pytest
from helpers import ROOT

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "results").glob("*/README.md"))]
COMMAND = re.compile(r"(?:python|torchrun[^\n`]*) (\w+\.py\b[^\n`|]*)")
COMMANDS = sorted({line for page in PAGES for line in COMMAND.findall(page.read_text())})


@pytest.fixture(params=PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def page(request):
    return request.param


def test_there_are_pages_and_commands_to_check():
    assert len(PAGES) > 4
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses_with_its_scripts_parser(line):
    script, *words = shlex.split(line, comments=True)
    parser = importlib.import_module(script.removesuffix(".py")).make_parser()
    parser.parse_args([word for word in words if word != "--help"])


def test_every_module_that_is_run_exists(page):
    for module in re.findall(r"python -m ([\w.]+)", page.read_text()):
        assert importlib.util.find_spec(module), module


def test_every_link_and_figure_leads_to_a_file(page):
    text = page.read_text()
    links = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'<img src="([^"]+)"', text)]
    missing = [x for x in links if not x.startswith("http") and not (page.parent / x).exists()]
    assert not missing


def test_no_line_begins_with_a_value(page):
    """Markdown would take the line for a block of HTML."""
    assert not re.findall(r"^\s*<!-- value", page.read_text(), re.M)


def test_every_make_target_exists(page):
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make ([\w-]+)", page.read_text(), re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_the_readme_is_short():
    assert len(README.read_bytes()) <= 10_240


def test_requirements_are_pinned():
    for name in (
        "requirements.txt",
        "requirements-dev.txt",
        "requirements-benchmark.txt",
        "requirements-export.txt",
    ):
        for line in (ROOT / name).read_text().splitlines():
            assert not line or line.startswith(("#", "-r")) or "==" in line, line
