"""Private API of other libraries is used in `adapters/` only: in strings too, unseen by ruff."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pytest_diffspeed"
BY_NAME = {"getattr", "hasattr", "setattr", "delattr", "replaced"}
"""Functions that take an attribute's name as text; ``replaced`` is ours."""


def private_names(source):
    """Line and name of each underscored attribute that ``source`` names in a string."""
    for node in ast.walk(ast.parse(source)):
        texts = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            texts = node.args[1:2] if node.func.id in BY_NAME else []
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Call):
            called = node.value.func
            is_vars = isinstance(called, ast.Name) and called.id == "vars"
            texts = [node.slice] if is_vars else []
        for text in texts:
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                name = text.value
                if name.startswith("_") and not name.startswith("__"):
                    yield node.lineno, name


def test_no_private_name_hides_in_a_string():
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        # The simulated GPU is a library of its own, with a fence of its own; so is GPU cost.
        if path.relative_to(PACKAGE).parts[0] not in ("adapters", "simgpu")
        and not path.name.endswith("_private.py")
        for line, name in private_names(path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        'getattr(module, "_orig_mod", module)',
        'hasattr(module, "_hf_hook")',
        'vars(module)["_compiled_call_impl"]',
    ],
)
def test_it_is_seen(source):
    assert list(private_names(source))


def test_what_is_public_is_not():
    assert not list(private_names('getattr(module, "forward"); getattr(module, "__dict__")'))
