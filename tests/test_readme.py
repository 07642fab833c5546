"""The README promises only what works: its commands parse, its links and its make targets exist."""

import importlib
import re
import shlex

import pytest
from helpers import ROOT

TEXT = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"(?:python|torchrun[^\n`]*) (\w+\.py\b[^\n`|]*)", TEXT)))


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 12


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses_with_its_scripts_parser(line):
    script, *words = shlex.split(line, comments=True)
    parser = importlib.import_module(script.removesuffix(".py")).make_parser()
    parser.parse_args([word for word in words if word != "--help"])


def test_every_link_leads_to_a_file():
    links = [x for x in re.findall(r"\]\(([^)]+)\)", TEXT) if not x.startswith("http")]
    assert links
    missing = [x for x in links if not (ROOT / x).exists()]
    assert not missing


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make ([\w-]+)", TEXT, re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_requirements_are_pinned():
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-benchmark.txt"):
        for line in (ROOT / name).read_text().splitlines():
            assert not line or line.startswith(("#", "-r")) or "==" in line, line
