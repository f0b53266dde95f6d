"""The gallery's second session: a GPU cost, a recompilation and images that went red."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.records.verdict import VerdictKind
from pytest_diffspeed.techniques.catalog.compile import Compile
from tests.counting_gpu_cost import needs_counts
from tests.gates.planted_cast import PIPES, PLANTED, UNPLANTED
from tests.plugin.test_red_session import MISTAKES, block, gallery, without_figures

ROOT = Path(__file__).resolve().parents[2]
FAST = PIPES.replace(UNPLANTED, PLANTED)
TESTS = """
import pytest

@pytest.mark.diffspeed("bf16", pipeline="fastpipe:careful")
@pytest.mark.gpu_cost(over="saved")
def test_11_cast(optimized_pipeline): ...

@pytest.mark.diffspeed("compile", pipeline="small_pipeline:build")
@pytest.mark.no_recompiles(sizes=[(16, 16), (16, 24)])
def test_12_sizes(optimized_pipeline): ...

@pytest.mark.diffspeed("int8_dynamic", pipeline="demo")
@pytest.mark.image_similarity("exact")
def test_13_wrong_preset(optimized_pipeline): ...
"""
COUNTED = gallery.Mistakes(FAST, TESTS, steps=3, before=PIPES, saved="cast")
SHOWN = {
    "test_11_cast[bf16]": (
        "GPU COST",
        "fastpipe.py:6  (step 1: kernels ",
        "next: undo it, or allow it: gpu_cost(kernels=…)",
    ),
    "test_12_sizes[compile]": (
        "RECOMPILATION",
        "def UNet2DConditionModel.forward",
        "next: compile with dynamic=True, or call each size once in the warm-up",
    ),
    "test_13_wrong_preset[int8_dynamic]": (
        "IMAGES",
        "needs 55 dB ('exact'); worst: image ",
        "next: look at the pictures, worst first; preset '",
    ),
}
"""Of each red test: its kind, what is said once in the block, and the next step."""
NEAR = 3.0
"""Grey levels of 255 on average, between a picture drawn here and that of the page."""


@pytest.mark.slow
@needs_counts
def test_counts_and_pictures_go_red_as_the_gallery_shows(
    pytester, run_diffspeed, monkeypatch, fresh_dynamo
):
    monkeypatch.setattr(Compile, "backend", "eager")
    monkeypatch.syspath_prepend(ROOT / "tests" / "compilation")
    pytester.syspathinsert()
    pytester.makepyfile(fastpipe=PIPES, test_red=TESTS)
    words = ("-p", "no:benchmark", f"--diffspeed-steps={COUNTED.steps}")
    saved = run_diffspeed(*words, "-k", COUNTED.saved, gallery.SAVE)
    saved.assert_outcomes(passed=1, deselected=2)
    pytester.makepyfile(fastpipe=FAST)
    slow = "ignore:int8_dynamic"  # a warning says so of what is quantized and not compiled
    result = run_diffspeed("--diffspeed-json=r.jsonl", *words, "-W", slow)
    result.assert_outcomes(failed=3)
    said = block(result)
    for test, (kind, key, step) in SHOWN.items():
        head = f"{kind:<14} test_red.py::{test}"
        (place,) = (n for n, line in enumerate(said) if line.startswith(head))
        own = [said[place], *itertools.takewhile(lambda x: x.startswith("    "), said[place + 1 :])]
        assert "\n".join(own).count(key) == 1
        assert step in "\n".join(own)
    gates = read_journal(pytester.path / "r.jsonl").gates
    (cost,) = (gate.result for gate in gates if gate.result.gate == "gpu_cost")
    assert cost.verdict is VerdictKind.FAIL
    assert "casts 3 → 5 (+2, 0 allowed)" in cost.reason

    page = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    assert without_figures(page) == without_figures(gallery.renewed(page, COUNTED, said))
    ((test, picture),) = gallery.PICTURED.findall(page)
    drawn = gallery.worst_picture(test, pytester.path).parent.glob("*.png")
    shown = pixels(ROOT / "docs" / picture)
    assert min(np.abs(pixels(path) - shown).mean() for path in drawn) < NEAR


def pixels(path):
    """Baseline and optimized image of a picture; their difference is of another day."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.float32)[:, : picture.width * 2 // 3]


def test_all_that_the_gallery_shows_is_of_a_session():
    page = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    assert gallery.strangers(page, (MISTAKES, COUNTED)) == []
    assert gallery.strangers(page, (MISTAKES,)) != []
