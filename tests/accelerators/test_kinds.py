"""Kinds of devices: which words mean them, and what one more takes."""

import subprocess
import sys

import pytest

from pytest_diffspeed.accelerators import catalog
from pytest_diffspeed.accelerators.registry import (
    accelerator_of,
    accelerators,
    check_device_word,
    clock_for,
    device_of_worker,
    device_words,
    disturbances_of,
    numbered_devices,
    resolve_device,
)
from pytest_diffspeed.common.errors import UsageError
from pytest_diffspeed.gates.marker_values import as_device

TOY = """
from pytest_diffspeed.accelerators.accelerator import Accelerator
from pytest_diffspeed.accelerators.catalog.cpu import WallClock
from pytest_diffspeed.accelerators.device import Device


class Toy(Accelerator):
    kind = "toy"

    def is_available(self):
        return True

    def count(self):
        return 2

    def device(self, asked, index):
        return Device("toy", index or 0, "Toy 3000", f"toy-{index or 0}")

    def clock(self, device):
        return WallClock()


ACCELERATOR = Toy()
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """One more kind, by one more file."""
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(catalog, "__path__", [*catalog.__path__, str(tmp_path)])
    accelerators.cache_clear()
    yield
    accelerators.cache_clear()
    sys.modules.pop("pytest_diffspeed.accelerators.catalog.toy", None)


def test_the_words_are_those_of_the_kinds():
    assert list(accelerators()) == ["cuda", "cpu"]
    assert device_words() == ["auto", "cpu", "cuda", "cuda:N"]


@pytest.mark.parametrize("word", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_word_that_means_a_device(word):
    assert check_device_word(word) == word


@pytest.mark.parametrize("word", ["", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:0:1", "auto:0"])
def test_a_word_that_means_none(word):
    with pytest.raises(UsageError) as caught:
        check_device_word(word)
    assert str(caught.value) == (
        f"{word!r} is no device that this version measures on; valid: auto, cpu, cuda or cuda:N"
    )


def test_one_more_kind_is_one_more_file(toy):
    assert device_words() == ["auto", "cpu", "toy", "toy:N", "cuda", "cuda:N"]
    device = resolve_device("toy:1")
    assert (str(device), device.name) == ("toy:1", "Toy 3000")
    assert clock_for(device).time(lambda: 3)[1] == 3
    assert disturbances_of(device) == ()
    assert not accelerator_of(device).counts_syncs  # the simulated GPU counts for it
    assert accelerator_of(device).allocator(device) is None
    assert as_device("toy") == "toy"
    assert numbered_devices()["toy"] == 2
    assert device_of_worker("auto", "gw3", {"cuda": 0, "toy": 2}) == "toy:1"


def test_kinds_are_known_without_torch():
    script = (
        "import sys\n"
        "from pytest_diffspeed.accelerators.registry import check_device_word\n"
        "check_device_word('cuda:1')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
