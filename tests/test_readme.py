"""The pages promise only what works: their commands parse, their links and make targets exist."""

import functools
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from helpers import ROOT, load_script, optional
from PIL import Image

from data import load

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "results").rglob("README.md"))]
# But those of CONTRIBUTING.md that need its code, see test_contributing.py.
COMMAND = re.compile(r"(?<!Then `)(?:python|torchrun[^\n`]*) (\w+\.py\b[^\n`|]*)")
COMMANDS = sorted({line for page in PAGES for line in COMMAND.findall(page.read_text())})


@pytest.fixture(params=PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def page(request):
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files that the README's examples name."""
    folder = tmp_path_factory.mktemp("readme")
    digits, _ = load("mnist-5k", "")
    images, labels = digits.images[:60, 0].numpy(), digits.labels[:60].numpy()
    seven = images[int((labels == 7).argmax())]
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        part, parity = "train" if i < 40 else "test", "odd" if label % 2 else "even"
        for place in ("scans", f"photos/{part}/{parity}"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((60, 60)).save(folder / place / f"{i}.jpg")
    Image.fromarray(seven).save(folder / "seven.png")
    shutil.copytree(folder / "photos" / "train", folder / "people")
    np.savetxt(folder / "test.csv", images.reshape(60, -1), "%d", ",")
    x, y = digits.images[::10, 0].numpy(), digits.labels[::10].numpy()
    np.savez(folder / "letters.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    return folder


@pytest.fixture
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def parsers():
    assert len(COMMANDS) > 40
    return {name: load_script(name).make_parser() for name in {line.split(".py")[0] for line in COMMANDS}}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses_with_its_scripts_parser(line, in_folder, parsers):
    script, *words = shlex.split(line, comments=True)
    parsers[script.removesuffix(".py")].parse_args([word for word in words if word != "--help"])


def test_every_link_and_figure_leads_to_a_file(page):
    text = page.read_text()
    links = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'<img src="([^"]+)"', text)]
    missing = [x for x in links if not x.startswith("http") and not (page.parent / x).exists()]
    assert not missing


def test_every_figure_is_on_a_page_and_all_are_small():
    figures = {path for pattern in ("*.png", "*/*.png") for path in (ROOT / "results").glob(pattern)}
    links = [(page, re.findall(r'(?:\]\(|src=")([^)"\s]+\.png)', page.read_text())) for page in PAGES]
    assert figures == {(page.parent / link).resolve() for page, found in links for link in found}
    assert len(figures) <= 60
    assert sum(path.stat().st_size for path in figures) < 2e6


@pytest.mark.parametrize(("title", "count"), [("Use a trained model", 7), ("Your own data", 3)])
def test_the_commands_run(title, count, in_folder, capsys, monkeypatch):
    monkeypatch.setattr("utils.training.size.STEPS", 10)
    section = README.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = COMMAND.findall(section)
    assert len(lines) == count
    for line in lines:
        script, *words = shlex.split(line, comments=True)
        if script == "demo.py":
            continue  # it serves until it is stopped; test_demo.py draws on its page
        if "--export" in words:
            optional("onnx", "onnxscript", "onnxruntime")
        importlib.import_module(script.removesuffix(".py")).main(words)
        output = capsys.readouterr().out
        assert "seven.png" not in words or re.search(r"seven\.png\S* +[70]", output), output


def test_the_onnx_file_is_read_by_the_program_in_the_readme(folder):
    optional("onnx", "onnxscript", "onnxruntime")
    importlib.import_module("predict").main(["--export", str(folder / "model.onnx"), "--overwrite"])
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("7\n", "")


def test_a_notebook_elsewhere_loads_a_predictor_and_what_is_in_its_way_is_named(folder):
    """A notebook exports a backend that loads as matplotlib does, which plots as the notebook likes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "module://no_backend"}
    program = "import sys\nfrom inference import load_predictor\n"
    program += "print(load_predictor().predict('seven.png')[0].label, 'matplotlib' in sys.modules)"
    start = functools.partial(subprocess.run, cwd=folder, env=environment, capture_output=True, text=True)
    assert start([sys.executable, "-c", program]).stdout == "7 False\n"
    (folder / "data.py").touch()
    told = start([sys.executable, "-c", program]).stderr.splitlines()[-1]
    (folder / "data.py").unlink()
    assert told.startswith(f"ImportError: {folder / 'data.py'} is in the way of this project's package data")


def test_no_line_begins_with_a_value(page):
    """Markdown would take the line for a block of HTML."""
    assert not re.findall(r"^\s*<!-- value", page.read_text(), re.M)


def test_every_make_target_exists(page):
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make ([\w-]+)", page.read_text(), re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_the_readme_is_short():
    assert len(README.read_bytes()) <= 10_240


def test_an_installation_has_every_package_and_ranges_of_what_is_pinned():
    setuptools = pytest.importorskip("setuptools")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = setuptools.find_packages(ROOT, **settings["tool"]["setuptools"]["packages"]["find"])
    files = [path.parent.relative_to(ROOT) for path in ROOT.glob("*/**/__init__.py")]
    packages = {".".join(path.parts) for path in files if path.parts[0] not in ("benchmarks", ".venv")}
    assert set(found) == packages
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.M)
    assert [re.sub(">=.*", "", line) for line in settings["project"]["dependencies"]] == pinned


def test_requirements_are_pinned():
    for path in ROOT.glob("requirements*.txt"):
        for line in path.read_text().splitlines():
            assert not line or line.startswith(("#", "-r")) or "==" in line, line
