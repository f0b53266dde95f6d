"""The code in docs/simulated_gpu.md runs as it is written, with a small pipeline."""

import re
from pathlib import Path

import pytest

from pytest_diffspeed import load_pipeline

# numpy's, of diffusers' schedulers, which turn tensors into arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
PAGE = Path(__file__).parents[2] / "docs" / "simulated_gpu.md"
WITH_DEVICE, COUNTED = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)


def run(code):
    names = {"pipe": load_pipeline("random:sdxl-tiny")}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def test_the_device_notes_syncs_and_memory(libraries, capsys):
    log = run(WITH_DEVICE)["log"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(log.syncs) + 1
    assert "peak" in lines[-1]


def test_counting_sorts_by_step(libraries, capsys):
    report = run(COUNTED)["report"]
    assert (report.first_step, report.per_step) == (0, (0, 0, 0))  # Euler in SDXL
    assert str(report) in capsys.readouterr().out
