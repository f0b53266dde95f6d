"""Kinds of devices: which words mean them, and what one more takes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_diffspeed
from pytest_diffspeed.accelerators import catalog
from pytest_diffspeed.accelerators.device import Device
from pytest_diffspeed.accelerators.features import FAST_ATTENTION_IN_FLOAT32, Feature
from pytest_diffspeed.accelerators.registry import (
    accelerator_of,
    accelerators,
    check_device_word,
    clock_for,
    counting_words,
    device_of_worker,
    device_words,
    disturbances_of,
    missing_feature,
    numbered_devices,
    resolve_device,
)
from pytest_diffspeed.common.errors import MissingHardwareError, UsageError
from pytest_diffspeed.gates.marker_values import as_device
from pytest_diffspeed.techniques.apply import check_compatible
from pytest_diffspeed.techniques.registry import techniques
from pytest_diffspeed.techniques.stacks import parse_stack

PACKAGE = Path(pytest_diffspeed.__file__).parent

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


ABLE = """
from pytest_diffspeed.accelerators.accelerator import Accelerator
from pytest_diffspeed.accelerators.device import Device
from pytest_diffspeed.accelerators.features import TF32


class Able(Accelerator):
    kind = "xpu"  # a word that torch knows
    counts_syncs = True
    has_graphs = True
    features = frozenset({TF32.name, "float4 products"})

    def is_available(self):
        return True

    def device(self, asked, index):
        return Device("xpu", index or 0, "Able 1", "able-1")

    def clock(self, device):
        raise NotImplementedError


ACCELERATOR = Able()
"""


@pytest.fixture
def add_kind(tmp_path, monkeypatch):
    """One more kind, by one more file."""
    monkeypatch.setattr(catalog, "__path__", [*catalog.__path__, str(tmp_path)])

    def add(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        accelerators.cache_clear()
        names.append(name)

    names = []
    yield add
    accelerators.cache_clear()
    for name in names:
        sys.modules.pop(f"pytest_diffspeed.accelerators.catalog.{name}", None)


@pytest.fixture
def toy(add_kind):
    add_kind("toy", TOY)


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


# --- what techniques ask of them


def test_one_more_file_makes_techniques_available(add_kind):
    add_kind("able", ABLE)
    able = resolve_device("xpu:0")
    assert techniques()["tf32"].missing_hardware(able) is None
    assert techniques()["fp16"].missing_hardware(able) is None  # it needs nothing
    lacks = "int8_dynamic on Able 1: nothing is known of its products in int8"
    with pytest.raises(MissingHardwareError, match=lacks):
        check_compatible(parse_stack("int8_dynamic"), None, able)
    assert counting_words() == ["cuda", "cuda:N", "xpu", "xpu:N"]


def test_a_feature_of_a_new_technique_needs_no_other_file(add_kind, monkeypatch):
    float4 = Feature("float4 products", "torch multiplies float4 on GPUs only", (8, 9))
    cpu = resolve_device("cpu")
    assert missing_feature(cpu, float4) == "torch multiplies float4 on GPUs only"
    h100 = Device("cuda", 0, "NVIDIA H100", "cuda-1")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (9, 0))
    assert missing_feature(h100, float4) is None
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0))
    assert missing_feature(h100, float4) == (
        "it needs compute capability 8.9, and this GPU has 8.0"
    )
    add_kind("able", ABLE)
    assert missing_feature(resolve_device("xpu"), float4) is None


def test_what_cuda_lacks_it_lacks_on_every_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (99, 0))
    h100 = Device("cuda", 0, "NVIDIA H100", "cuda-1")
    assert missing_feature(h100, FAST_ATTENTION_IN_FLOAT32) is not None
    assert missing_feature(resolve_device("cpu"), FAST_ATTENTION_IN_FLOAT32) is None


def test_no_technique_names_a_kind_of_device():
    """It asks for a feature; else a new kind of device would have to edit each of them."""
    for path in (PACKAGE / "techniques" / "catalog").glob("*.py"):
        named = {
            node.value
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Constant) and node.value in ("cuda", "mps", "xpu")
        }
        assert not named, f"{path.name} names {named}"


def test_kinds_are_known_without_torch():
    script = (
        "import sys\n"
        "from pytest_diffspeed.accelerators.registry import check_device_word\n"
        "check_device_word('cuda:1')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
