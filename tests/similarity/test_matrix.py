"""The matrix of variants and presets: its declarations, and that it notices what breaks them.

The whole table takes minutes: ``python benchmarks/similarity_matrix.py``.  Here two rows that need
no denoising worth the name are drawn with one step.
"""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "similarity_matrix.py"
QUICK = ("--images=8", "--steps=1", "--only=black image", "--only=swapped channels")


@pytest.fixture(scope="module")
def matrix(libraries):
    spec = importlib.util.spec_from_file_location("similarity_matrix", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_what_every_preset_must_refuse_is_declared_so(matrix):
    declared = {variant.name: variant for variant in matrix.VARIANTS}
    assert len(declared) == len(matrix.VARIANTS)
    for name in (
        "NaN in one head",
        "black image",
        "swapped channels",
        "dropped mid_block.attentions.0",
        "4-bit rounding",
        "guidance left out",
        "another prompt",
    ):
        assert {declared[name].expected(preset) for preset in matrix.PRESETS} == {"fail"}
    for name in ("half the steps", "scheduler off by one"):
        assert declared[name].expected("lossless") == "fail"
        assert declared[name].expected("cache") == "free"
    for name in ("half the steps", "8 steps", "8 steps, DPM-Solver++"):
        assert declared[name].expected("fewer_steps") == "pass"
    assert declared["tiles of 48 px"].expected("tiles") == "pass"
    for name in ("tiles of 48 px, no overlap", "dropped mid_block.resnets.1"):
        assert declared[name].expected("tiles") == "fail"
    for name in ("6 steps", "DDIM that clips latents"):
        assert declared[name].expected("fewer_steps") == "fail"
    for name in ("bf16", "fp16", "compile", "channels-last", "fused QKV"):
        assert declared[name].expected("lossless") == "pass"
    for name in ("int8 dynamic", "int8 weight-only"):
        assert declared[name].expected("int8") == "pass"


def test_rows_that_are_as_declared(matrix, capsys):
    assert matrix.main(QUICK) == 0
    out = capsys.readouterr().out
    assert "| black image | fail | fail | fail | fail | fail | fail | fail | fail |" in out
    assert "NOT AS DECLARED" not in out


def test_a_row_that_is_not_as_declared_is_an_error(matrix, capsys, monkeypatch):
    lenient = [
        dataclasses.replace(variant, passes="exact", fails=None) for variant in matrix.VARIANTS
    ]
    monkeypatch.setattr(matrix, "VARIANTS", lenient)
    assert matrix.main(QUICK[:3]) == 1
    out = capsys.readouterr().out
    assert "NOT AS DECLARED: black image × exact: must pass, but: image 1" in out


def test_an_unknown_variant_is_refused(matrix, capsys):
    with pytest.raises(SystemExit):
        matrix.main(["--only=blak image"])
    assert "no such variant: blak image" in capsys.readouterr().err
