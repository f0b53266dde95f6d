"""What tools, benchmarks and examples import from the package is there.

They run for minutes, on hardware, or once a release: a name that moved would be found out there.
"""

import ast
import importlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("tools", "benchmarks", "examples")


def imports_of_ours(path):
    """Line, module and name of each ``from pytest_diffspeed… import …`` in a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        module = getattr(node, "module", None)
        absolute = isinstance(node, ast.ImportFrom) and not node.level and module is not None
        if absolute and module.split(".")[0] == "pytest_diffspeed":
            for alias in node.names:
                yield node.lineno, module, alias.name


def test_every_name_is_there(libraries):
    lost = []
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for line, module, name in imports_of_ours(path):
            try:
                found = hasattr(importlib.import_module(module), name)
                if not found:
                    importlib.import_module(f"{module}.{name}")
            except ImportError as error:
                lost.append(f"{path.relative_to(ROOT)}:{line}: {module}.{name}: {error}")
    assert lost == []
