"""Imports run one way, down the layers that DESIGN and CONTRIBUTING name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

# From top to bottom. A room (a folder, a module of utils/, or "scripts": all files at the top) imports from
# itself and from lower layers; what stands on one line doesn't import each other.
LAYERS = [
    {"scripts", "benchmarks"},
    {"utils.cli", "report", "inference"},
    {"evaluation", "utils.plots"},
    {"utils.training"},
    {"utils.runs", "utils.arguments"},
    {"utils.distributed"},
    {"data", "models", "utils.errors", "utils.console"},
]
# benchmarks are scripts of their own, which train as the scripts do.
ALLOWED = {("benchmarks", "scripts"), ("scripts", "benchmarks")}
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}
DEPTH = {room: depth for depth, layer in enumerate(LAYERS) for room in layer}


def room_of(module):
    """The room of a dotted module name; None outside of the repository."""
    first, *rest = module.split(".")
    name = f"utils.{rest[0]}" if first == "utils" and rest else first
    if name in DEPTH or name.startswith("utils"):
        return name
    return "scripts" if first in SCRIPTS else None


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
    room = "scripts" if len(path.parts) == 1 else room_of(module_of(path))
    if room not in DEPTH:
        return [f"{path} is in no layer"] if room != "utils" or list(imported(code)) else []
    rooms = ((module, room_of(module)) for module in imported(code))
    return [
        f"{path} imports {module}"
        for module, other in rooms
        if other and other != room and (room, other) not in ALLOWED
        if other not in DEPTH or DEPTH[other] <= DEPTH[room]
    ]


def files():
    folders = [path.parent for path in ROOT.glob("*/__init__.py")]
    paths = [*ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    return sorted(path.relative_to(ROOT) for path in paths)


def test_every_import_goes_down():
    paths = files()
    assert {Path("utils/training/fit.py"), Path("train_cnn.py"), Path("report/pages.py")} < set(paths)
    assert [line for path in paths for line in violations(path, (ROOT / path).read_text())] == []


@pytest.mark.parametrize(
    ("path", "code", "count"),
    [
        ("data/images.py", "from models import create", 1),
        ("models/mil.py", "from utils import distributed", 1),
        ("utils/runs/folder.py", "def later():\n    from utils.training.fit import FitConfig", 1),
        ("utils/__init__.py", "from utils import cli", 1),
        ("utils/cellar/old.py", "import math", 1),
        ("utils/runs/folder.py", "import os, torch\nfrom models import create\nimport utils.errors", 0),
        ("benchmarks/fast.py", "import train_cnn\nfrom benchmarks import measure\nimport utils.cli", 0),
        ("report.py", "from report.pages import render", 0),
    ],
)
def test_an_import_that_goes_up_is_named_and_one_that_goes_down_is_not(path, code, count):
    assert len(violations(Path(path), code)) == count


def test_every_script_can_be_imported_where_a_system_has_no_locks_forks_or_hang_ups():
    code = f"""
import os, runpy, signal, sys
sys.modules |= dict.fromkeys(("fcntl", "grp", "pwd", "resource", "termios"))
del os.fork, os.O_DIRECTORY, os.O_NOFOLLOW, os.O_NONBLOCK, signal.SIGHUP, signal.SIGKILL
for script in {sorted(SCRIPTS)}:
    runpy.run_path(f"{{script}}.py")  # there is a package called report, too
sys.modules["utils.cli"]._on_signals(signal.SIG_DFL)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_help_text_loads_neither_scikit_learn_nor_seaborn():
    """They take seconds; the modules import them where they use them."""
    code = "import sys, train_cnn, train_mil, train_simclr, ensemble; "
    code += "assert not {'sklearn', 'scipy', 'seaborn', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
