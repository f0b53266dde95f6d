"""The line that casts, read from the classes that are the user's own."""

import importlib
import sys

import pytest

from pytest_diffspeed.techniques.casts import casting_line

CODE = """
class Clean:
    def forward(self, x):
        return x.to(self.dtype).to("cpu")  # no .float() here

class Wanted(Clean):
    def forward(self, x):
        return x.bfloat16().to(torch.bfloat16)

class Casts(Clean):
    def forward(self, x):
        x = x.bfloat16()
        return x.to("cuda", dtype=torch.float32)

class Inherits(Casts):
    pass
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    (tmp_path / "fast_code.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("fast_code")
    sys.modules.pop("fast_code")


def test_a_cast_is_named_with_its_line(code):
    found = ("fast_code.py:13", 'return x.to("cuda", dtype=torch.float32)')
    assert casting_line([code.Clean(), code.Inherits()], "torch.bfloat16") == found
    assert casting_line([code.Casts()], "torch.float32") == ("fast_code.py:12", "x = x.bfloat16()")


def test_what_casts_to_the_wanted_type_or_is_installed_is_none(code):
    assert casting_line([code.Clean(), code.Wanted(), 3, pytest.Item], "torch.bfloat16") is None
