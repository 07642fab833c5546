"""Imports run one way.

scripts -> cli, inference, report -> evaluation -> plots, training -> runs -> metrics, data, models.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

# The rooms that a room may import from, besides itself and what those may import from. A room is a folder,
# a module of utils/ or "scripts": all files at the top.
EDGES = {
    "data": [],
    "models": [],
    "errors": [],
    "stopping": [],
    "distributed": ["models"],
    "metrics": [],  # a leaf: functions of NumPy arrays
    "runs": ["metrics", "data", "models", "errors", "distributed"],
    "training": ["runs"],
    "plots": ["runs"],
    "evaluation": ["plots", "training"],
    "inference": ["evaluation"],
    "report": ["evaluation"],
    "arguments": ["data"],
    "cli": ["arguments", "evaluation", "stopping"],
    "scripts": ["stopping", "cli", "inference", "report", "benchmarks"],
    "benchmarks": ["scripts"],
}
FOLDERS = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}


def allowed(room):
    """The rooms that `room` may import from."""
    reached, todo = set(), [room]
    while todo:
        if (name := todo.pop()) not in reached:
            reached.add(name)
            todo += EDGES[name]
    return reached


def room_of(module):
    """The room of a dotted module name; None outside of the repository."""
    first, *rest = module.split(".")
    if first in SCRIPTS:
        return "scripts"
    if first == "utils":
        return rest[0] if rest else "utils"
    return first if first in FOLDERS else None


def module_of(path):
    """The dotted name of the module in a file, given relative to the repository."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported(code):
    """Every module that the code imports, at its top or inside of a function."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            names = (f"utils.{name.name}" for name in node.names)
            yield from names if node.module == "utils" else [node.module]


def violations(path, code):
    """A line for every import of a file that goes the wrong way."""
    room = room_of(module_of(path))
    if room == "utils":  # utils/__init__.py imports nothing
        return [f"{path} imports {module}" for module in imported(code)]
    if room not in EDGES:
        return [f"{path}: the room {room!r} is not in the table"]
    rooms = ((module, room_of(module)) for module in imported(code))
    return [f"{path} imports {module}" for module, other in rooms if other and other not in allowed(room)]


def files():
    folders = [ROOT, *(ROOT / name for name in FOLDERS)]
    return sorted(
        path.relative_to(ROOT)
        for folder in folders
        for path in (folder.glob("*.py") if folder == ROOT else folder.rglob("*.py"))
    )


def test_every_import_goes_the_allowed_way():
    found = files()
    assert {"data", "models", "utils", "benchmarks"} <= FOLDERS
    assert Path("utils/training/fit.py") in found
    assert Path("train_cnn.py") in found
    assert [line for path in found for line in violations(path, (ROOT / path).read_text())] == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("data/images.py", "from models import create"),
        ("data/images.py", "from utils.errors import UserError"),
        ("models/mil.py", "import data.bags"),
        ("models/mil.py", "from utils import distributed"),
        ("utils/metrics/classification.py", "from models import create"),
        ("utils/metrics/classification.py", "from utils.errors import UserError"),
        ("utils/errors.py", "from utils.runs.folder import RunFolder"),
        ("utils/errors.py", "from models import create"),
        ("utils/runs/folder.py", "from utils.training.config import FitConfig"),
        ("utils/runs/folder.py", "from utils import cli"),
        ("utils/plots/mil.py", "from utils.training.fit import fit"),
        ("utils/plots/mil.py", "from utils import evaluation"),
        ("utils/training/fit.py", "from utils.plots.style import save"),
        ("utils/training/fit.py", "def later():\n    from utils.evaluation.encoder import watch_knn"),
        ("utils/training/members.py", "import train_cnn"),
        ("utils/evaluation/mil.py", "from utils.report.tables import table"),
        ("utils/evaluation/mil.py", "from utils.cli import number"),
        ("utils/report/pages.py", "from report import render"),
        ("utils/cli.py", "if True:\n    import train_mil"),
        ("utils/cli.py", "from benchmarks.measure import clock"),
        ("utils/__init__.py", "from utils import cli"),
        ("utils/cellar/old.py", "import math"),
    ],
)
def test_an_import_that_goes_the_wrong_way_is_found(path, code):
    assert len(violations(Path(path), code)) == 1


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (
            "utils/runs/folder.py",
            "import os, torch\nfrom models import create\nimport utils.errors",
        ),
        ("utils/evaluation/mil.py", "from utils.plots.mil import RATES\nfrom utils.training.fit import fit"),
        ("utils/evaluation/encoder.py", "from utils import distributed\nfrom data import split"),
        (
            "benchmarks/fast.py",
            "import train_cnn\nfrom benchmarks import measure\nimport utils.cli",
        ),
        ("ensemble.py", "import train_cnn\nfrom utils.plots import ensemble as plots"),
    ],
)
def test_an_import_that_goes_the_right_way_is_not(path, code):
    assert violations(Path(path), code) == []


def test_no_module_of_utils_is_a_script_or_imports_one():
    for path in files():
        if path.parts[0] == "utils":
            code = (ROOT / path).read_text()
            assert 'if __name__ == "__main__"' not in code, path
            assert not SCRIPTS & {module.split(".")[0] for module in imported(code)}, path


def test_a_help_text_loads_neither_scikit_learn_nor_seaborn():
    """They take seconds; the modules import them where they use them."""
    code = (
        "import sys, train_cnn, train_mil, train_simclr, ensemble; "
        "print([name for name in ('sklearn', 'scipy', 'seaborn', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
