"""Public functions and methods of our packages have type annotations."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def public_functions(body):
    """Yield the public functions of a module or class body, those of its public classes included."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        elif isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
            yield node


def missing(function):
    """Name the parameters, and "return", that lack an annotation."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named = [a for a in named if a.arg not in ("self", "cls")]
    names = [argument.arg for argument in named if argument.annotation is None]
    return names + ["return"] * (function.returns is None and function.name != "__init__")


def test_public_functions_have_annotations():
    found = []
    for room in ("models", "data", "evaluation", "inference", "report", "utils"):
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for function in public_functions(ast.parse(path.read_text()).body):
                if names := missing(function):
                    found.append(f"{name}:{function.lineno} {function.name}: {', '.join(names)}")
    assert not found, "\n".join(["not annotated:", *found])
