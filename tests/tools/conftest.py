"""The modules of tools/gpu_check, no package: on the path for one test, then forgotten."""

import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "gpu_check"


@pytest.fixture
def gpu_check_path(monkeypatch):
    for folder in (TOOL / "bench", TOOL):
        monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield TOOL
    for name in set(sys.modules) - before:  # "checks" or "table" may be somebody else's name
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(TOOL)):
            del sys.modules[name]
