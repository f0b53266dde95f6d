"""What disturbs a machine, read from scripted sources, and once from this machine."""

import pytest

from pytest_diffspeed.accelerators.device import Device
from pytest_diffspeed.accelerators.disturbances import (
    OtherProcesses,
    StolenTime,
    Throttling,
    processor_throttles,
)
from pytest_diffspeed.accelerators.registry import disturbances_of, resolve_device
from pytest_diffspeed.adapters.nvml import driver_version, throttle_reasons

GPU = Device("cuda", 0, "NVIDIA H100", "cuda-1a2b-3c")


def proc_stat(user, idle, stolen):
    return f"cpu  {user} 0 0 {idle} 0 0 0 {stolen} 0 0\ncpu0 1 2 3 4\n"


def test_stolen_time_counts_as_a_share_of_the_time_in_which_the_machine_had_work():
    readings = iter(
        [
            proc_stat(0, 0, 0),
            proc_stat(99, 9000, 1),  # 1 of 100 ticks; idling does not dilute it
            proc_stat(180, 9000, 21),  # 20 of 101
            proc_stat(280, 9000, 21),
        ]
    )
    stolen = StolenTime(lambda: next(readings))
    assert stolen() is None
    assert stolen() == "the hypervisor gave 20% of the processor's time to others just before"
    assert stolen() is None


def test_stolen_time_of_short_pairs_adds_up_to_one_reading():
    readings = iter(
        [proc_stat(0, 0, 0), proc_stat(30, 0, 10), proc_stat(60, 0, 20), proc_stat(90, 0, 30)]
    )
    stolen = StolenTime(lambda: next(readings))
    assert [stolen(), stolen()] == [None, None]
    assert "25%" in stolen()


@pytest.mark.parametrize("text", [None, "", "cpu  1 2 3 4\n"])
def test_a_machine_that_tells_no_stolen_time_is_not_disturbed(text):
    assert StolenTime(lambda: text)() is None


def others_of(walls, readings, cores=2):
    wall, reading = iter(walls), iter(readings)
    return OtherProcesses(lambda: next(reading), lambda: next(wall), cores)


def test_what_other_processes_use_is_not_what_we_use():
    # The clock is read before and after each reading of the processes.
    others = others_of(
        [0.0, 2.0, 2.0, 4.0, 4.0, 6.0, 6.0], [(0.0, 0.0), (4.0, 3.8), (8.0, 6.0), (10.0, 8.0)]
    )
    assert others() is None  # 0.1 cores are others'
    assert others() == "other processes used 0.9 cores just before"
    assert others() is None


def test_short_rounds_share_a_reading_of_other_processes():
    others = others_of([0.0, 0.6, 1.2, 1.2], [(0.0, 0.0), (1.2, 0.0)])
    assert others() is None  # and nothing was read
    assert "used 1.0 cores" in others()


def test_a_quarter_of_a_large_machine_is_more_than_a_core():
    readings = [(0.0, 0.0), (3.0, 0.0)]
    assert others_of([0.0, 1.0, 1.0], readings, cores=64)() is None
    assert others_of([0.0, 1.0, 1.0], readings, cores=8)() is not None


def test_a_machine_that_does_not_tell_of_other_processes_is_not_disturbed():
    assert others_of([0.0, 2.0, 2.0], [None, None])() is None


def test_our_own_work_and_that_of_our_children_is_ours():
    """For real: a child of this process works on one core for more than a second."""
    import subprocess
    import sys

    from pytest_diffspeed.accelerators.disturbances import _processor_seconds

    before = _processor_seconds()
    if before is None:
        pytest.skip("this system does not tell")
    program = "import time\nwhile time.process_time() < 1.5: pass"
    subprocess.run([sys.executable, "-c", program], check=True)
    all_used, ours = (now - was for now, was in zip(_processor_seconds(), before, strict=True))
    assert 1.4 <= ours <= all_used + 0.1


@pytest.mark.parametrize(
    ("readings", "said"),
    [
        ((0, 0, 3), [None, "the processor throttled 3 times just before"]),
        ((None, None, None), [None, None]),
        (("", "", "heat (hardware)"), [None, "the device throttles: heat (hardware)"]),
        ((None, 5, 5), [None, None]),  # it tells only now
    ],
)
def test_throttling_is_told_when_it_happened_since(readings, said):
    script = iter(readings)
    throttling = Throttling(lambda: next(script))
    assert [throttling(), throttling()] == said


def test_throttles_of_cores_and_packages_are_added_up(tmp_path):
    for cpu, cores, packages in ((0, "2", "1"), (1, "3", "gone")):
        folder = tmp_path / f"cpu{cpu}" / "thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(f"{cores}\n")
        (folder / "package_throttle_count").write_text(f"{packages}\n")
    assert processor_throttles(tmp_path) == 6
    assert processor_throttles(tmp_path / "cpu0") is None


class ScriptedNvml:
    """NVIDIA's library, as far as it is asked."""

    class NVMLError(Exception): ...

    def __init__(self, mask, fails=False):
        self.mask, self.fails, self.asked = mask, fails, []

    def nvmlInit(self):
        if self.fails:
            raise self.NVMLError("no driver")

    def nvmlDeviceGetHandleByUUID(self, identity):
        self.asked.append(identity)
        return "handle"

    def nvmlDeviceGetHandleByIndex(self, index):
        self.asked.append(index)
        return "handle"

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return self.mask

    def nvmlSystemGetDriverVersion(self):
        return "580.95.05"


def test_a_gpu_names_the_reasons_that_slow_it_down():
    library = ScriptedNvml(0x1 | 0x4 | 0x40)  # idle is no reason
    assert throttle_reasons(GPU.key, GPU.index, library) == "its power limit and heat (hardware)"
    assert library.asked == [b"GPU-1a2b-3c"]
    assert throttle_reasons(GPU.key, GPU.index, ScriptedNvml(0x1)) == ""
    by_index = ScriptedNvml(0)
    throttle_reasons("cuda-1", 1, by_index)
    assert by_index.asked == [1]


def test_a_gpu_whose_library_does_not_answer_is_not_asked():
    assert throttle_reasons(GPU.key, GPU.index, ScriptedNvml(0, fails=True)) is None


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19", "535.129.03"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build",
            "570.86.15",
        ),
        ("something else", None),
        (None, None),
    ],
)
def test_the_driver_is_told_by_the_library_or_by_linux(tmp_path, line, version):
    told = tmp_path / "version"
    if line is not None:
        told.write_text(f"{line}\nGCC version: gcc 12.2.0\n")
    assert driver_version(ScriptedNvml(0), told) == "580.95.05"
    assert driver_version(ScriptedNvml(0, fails=True), told) == version


def test_this_machine_is_asked():
    conditions = disturbances_of(resolve_device("cpu"))
    assert [type(condition) for condition in conditions] in (
        [StolenTime, OtherProcesses, Throttling],
        [],  # Windows
    )
    for condition in conditions:
        condition()  # reads what this machine has
    assert [type(condition) for condition in disturbances_of(GPU)] == [Throttling]
