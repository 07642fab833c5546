"""Public functions and methods of models/, data/ and utils/ have type annotations."""

import ast

from helpers import ROOT


def public_functions(body):
    """Yield the public functions of a module or class body, those of its public classes included."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        elif isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
            yield node


def test_public_functions_have_annotations():
    missing = []
    for path in (path for room in ("models", "data", "utils") for path in (ROOT / room).rglob("*.py")):
        for function in public_functions(ast.parse(path.read_text()).body):
            arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            typed = all(argument.annotation or argument.arg in ("self", "cls") for argument in arguments)
            if not (typed and (function.returns or function.name == "__init__")):
                missing.append(f"{path}:{function.lineno} {function.name}")
    assert not missing, "\n".join(missing)
