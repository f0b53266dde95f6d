"""Counts of planted changes, made in worker processes: one with a fake GPU is good for no test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_diffspeed.gpucost import Cost
from tests.counting_gpu_cost import CAN_COUNT, WHY_NOT

WORKER = Path(__file__).parent / "planted/worker.py"
PACKAGE = Path(__file__).parents[2]


class Counts:
    """What one worker counted; ``counts["eager:nothing"]`` is a cost."""

    def __init__(self, found, folder):
        self.process = found.pop("process")
        self.found = found
        self.folder = folder

    def __getitem__(self, row):
        assert "refused" not in self.found[row], self.found[row]
        return Cost.from_json(self.found[row])

    def refusal(self, row):
        return self.found[row]["kind"], self.found[row]["refused"]


@pytest.fixture(scope="session")
def count_rows(tmp_path_factory):
    """``count_rows("eager:nothing", …, seed=1)``: one worker, in folders of its own."""
    if not CAN_COUNT:
        pytest.skip(WHY_NOT)

    def count(*rows, seed):
        folder = tmp_path_factory.mktemp("counts")
        for name in ("home", "temporary", "here"):
            (folder / name).mkdir()
        environment = {
            **os.environ,
            "PYTHONPATH": str(PACKAGE),
            "PYTHONHASHSEED": str(seed),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "temporary"),
        }
        for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
            environment.pop(name, None)
        process = subprocess.Popen(
            [sys.executable, str(WORKER), str(folder / "counts.json"), *rows],
            cwd=folder / "here",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        output, _ = process.communicate()
        assert process.returncode == 0, output
        counts = Counts(json.loads((folder / "counts.json").read_text()), folder)
        counts.process["group"] = process.pid
        return counts

    return count


@pytest.fixture(scope="session")
def eager(count_rows):
    """All plants."""
    return count_rows("eager", seed=1)
