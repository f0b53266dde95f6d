"""What a person sees when gates fail: a session of ten tests, eight of them with a mistake."""

import itertools
import re
import sys
from pathlib import Path

import pytest

from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.records.verdict import Cause

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import gallery  # noqa: E402  it stands in tools/

FAST = """
import diffusers
import torch
from diffusers import UNet2DConditionModel
from pytest_diffspeed.pipelines.sources import parse_source

def good():
    return parse_source("random:sdxl-tiny").build()

class Reading(diffusers.EulerDiscreteScheduler):
    def step(self, model_output, *args, **kwargs):
        if model_output.abs().max().item() > 1e4:
            raise ValueError("diverged")
        return super().step(model_output, *args, **kwargs)

def reads():
    pipeline = good()
    pipeline.scheduler = Reading.from_config(pipeline.scheduler.config)
    return pipeline

class Printing(UNet2DConditionModel):
    def get_time_embed(self, sample, timestep):
        print("unet", tuple(sample.shape))
        return super().get_time_embed(sample, timestep)

def prints():
    pipeline = good()
    pipeline.unet.__class__ = Printing
    return pipeline

class Upcasting(UNet2DConditionModel):
    def forward(self, sample, *args, **kwargs):
        self.to(sample.dtype)
        result = super().forward(sample, *args, **kwargs)
        self.float()  # someone thought that it was safer
        return result

def upcasts():
    pipeline = good()
    pipeline.unet.__class__ = Upcasting
    return pipeline

def absent():
    raise FileNotFoundError("no checkpoint at weights/fast")
"""
TESTS = """
import pytest

def gated(stack, source):
    return pytest.mark.diffspeed(stack, pipeline=f"fastpipe:{source}")

@gated("channels_last", "good")
@pytest.mark.no_gpu_syncs()
def test_01_green(optimized_pipeline): ...

@gated("channels_last", "reads")
@pytest.mark.no_gpu_syncs(first_step=0)
def test_02_item(optimized_pipeline): ...

@gated("channels_last", "prints")
@pytest.mark.no_graph_breaks(components=["unet"])
def test_03_print(optimized_pipeline): ...

@gated("bf16", "good")
@pytest.mark.max_memory(0.9)
def test_04_green(optimized_pipeline): ...

@gated("bf16", "absent")
@pytest.mark.no_gpu_syncs()
def test_05_no_checkpoint(optimized_pipeline): ...

@gated("bf16", "upcasts")
@pytest.mark.no_gpu_syncs()
def test_06_upcast(optimized_pipeline): ...

@gated("bf16", "good")
@pytest.mark.max_memory(0.3)
def test_07_too_greedy_memory(optimized_pipeline): ...

@gated("bf16", "good")
@pytest.mark.min_speedup(3)
def test_08_too_greedy_speed(optimized_pipeline): ...

@gated("bf16", "good")
@pytest.mark.image_similarity("exact")
def test_09_wrong_preset(optimized_pipeline): ...

@gated("bf16", "good")
@pytest.mark.no_gpu_syncs()
def test_10_body(optimized_pipeline):
    assert 1 == 2, "someone's own assertion"
"""
MISTAKES = gallery.Mistakes(FAST, TESTS, steps=1)


@pytest.fixture
def ten(pytester, run_diffspeed, constant_clock):
    pytester.makepyfile(fastpipe=FAST, test_red=TESTS)
    pytester.syspathinsert()

    def run(*words):
        result = run_diffspeed("--diffspeed-json=r.jsonl", "--diffspeed-markdown=r.md", *words)
        result.assert_outcomes(passed=2, failed=6, errors=2)
        return result

    return run


def block(result):
    """The lines from our own heading to pytest's last one."""
    lines = result.outlines
    first = next(n for n, line in enumerate(lines) if line.startswith("=") and "diffspeed" in line)
    return lines[first:-1]


def without_figures(text):
    """A page as it is on any day and with any diffusers, whose own lines it may show."""
    ours = re.sub(r"^    (?!fastpipe|next:)\S+:\d+ .*\n", "", text, flags=re.M)
    ours = re.sub(r"\(prompt '[^']*', seed", "(prompt …, seed", ours)  # the worst of equals
    return re.sub(r"\d[\d.]*", "0", ours)


SHOWN = {
    "test_02_item[channels_last]": (
        "GPU SYNC",
        "fastpipe.py:11  if model_output.abs().max().item() > 1e4:",
        "next: keep it a tensor",
    ),
    "test_03_print[channels_last]": (
        "GRAPH BREAK",
        'fastpipe.py:22  print("unet", tuple(sample.shape))',
        "next: take the output out of the compiled part",
    ),
    "test_05_no_checkpoint[bf16]": (
        "NO PIPELINE",
        'fastpipe.py:43  raise FileNotFoundError("no checkpoint at weights/fast")',
        "next: see that the pipeline's source can be built",
    ),
    "test_06_upcast[bf16]": (
        "NOT EFFECTIVE",
        "fastpipe.py:34  self.float()",
        "next: take the cast out",
    ),
    "test_07_too_greedy_memory[bf16]": ("MEMORY", "30% allowed", "next: free what is alive at"),
    "test_08_too_greedy_speed[bf16]": ("SPEED", "needs 3×; 5 pairs", "next: see where the time"),
    "test_09_wrong_preset[bf16]": ("IMAGES", "needs 55 dB ('exact')", "'lossless' would pass"),
    "test_10_body[bf16]": ("TEST BODY", "traceback above", "1 gate did not run"),
}
"""Of each red test: its kind, what is said once in the block, and the next step."""


def test_ten_tests_are_read_in_ten_seconds(pytester, ten):
    result = ten("-p", "no:benchmark")
    said = block(result)
    for test, (kind, key, step) in SHOWN.items():
        head = f"{kind:<14} test_red.py::{test}"
        (place,) = (n for n, line in enumerate(said) if line.startswith(head))
        below = itertools.takewhile(lambda line: line.startswith("    "), said[place + 1 :])
        own = [said[place], *below]
        assert len(own) <= 3
        assert key in "\n".join(own)
        assert step in own[-1]
        assert "\n".join(said).count(key) == 1
    assert said[0].strip("= ") == "diffspeed: 8 of 10 tests red; figures, logs: -v"
    assert "green: 2 tests, 2 gates PASS" in said
    assert max(map(len, said)) <= 100
    assert len(said) <= 30

    # The gallery shows these mistakes and these lines; its figures are those of another day.
    page = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    assert without_figures(page) == without_figures(gallery.renewed(page, MISTAKES, said))

    # Pytest's own sections hold the traceback of the body alone, without a page on its pipeline,
    # and its summary repeats no test of the block.
    text = result.stdout.str()
    assert "_class_name" not in text
    assert text.count("E       AssertionError: someone's own assertion") == 1
    assert [line for line in result.outlines if line.startswith("____")] == [
        "______________________________ test_10_body[bf16] ______________________________"
    ]
    assert not any(line.startswith(("FAILED ", "ERROR ")) for line in result.outlines)
    kinds = {test: kind for test, (kind, _, _) in SHOWN.items()}

    # The same next steps for whoever reads the records.
    session = read_journal(pytester.path / "r.jsonl")
    causes = {
        gate.result.test: gate.result.cause for gate in session.latest if gate.result.blocking
    }
    causes |= {str(t["test"]): Cause.from_dict(t["cause"]) for t in session.failed_otherwise}
    assert {t.partition("::")[2]: cause.kind for t, cause in causes.items()} == kinds
    (cast,) = (t["error"] for t in session.failed_otherwise if "test_06" in t["test"])
    assert "cast at fastpipe.py:34, which was not seen to run: self.float()" in cast
    markdown = (pytester.path / "r.md").read_text("utf-8")
    assert "take the cast out" in markdown
    assert "keep it a tensor" in markdown
