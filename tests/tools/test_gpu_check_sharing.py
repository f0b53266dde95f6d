"""The check of what processes share: moments, memory of a device, and scratch repositories."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

MIB = 2**20


@pytest.fixture
def tool(gpu_check_path):
    import checks
    import device_memory
    import shared_moments
    from parts import sharing

    return SimpleNamespace(
        checks=checks, memory=device_memory, moments=shared_moments, sharing=sharing
    )


def lock(pid, began, ended, shared=False):
    row = {"kind": "lock", "pid": pid, "worker": f"gw{pid}", "shared": shared, "asked": began - 1}
    return row | {"began": began, "ended": ended}


def timed(pid, began, ended):
    return {"kind": "timed", "pid": pid, "began": began, "ended": ended}


APART = [lock(1, 0, 10), timed(1, 1, 2), timed(1, 3, 9), lock(2, 10, 20), timed(2, 11, 12)]


def test_who_takes_turns_is_kept_apart(tool):
    ok, found, figures = tool.moments.kept_apart(APART)
    assert ok
    assert found.startswith("3 timed calls of 2 processes, 2 locks of 2; 0 overlap, 0 timed")
    assert figures["waits_s"] == [1, 1]


@pytest.mark.parametrize(
    "more",
    [
        [timed(2, 8, 9)],  # while 1 times, and without the lock
        [lock(2, 9, 10)],  # 1 has it
        [lock(3, 5, 6, shared=True)],  # draws while 1 times
        [timed(2, 30, 31)],  # without the lock
    ],
)
def test_what_clashes_is_told(tool, more):
    ok, _, figures = tool.moments.kept_apart(APART + more)
    assert not ok
    assert figures["clashes"] or figures["outside"]


def test_drawing_beside_each_other_and_beside_ones_own_timing_is_no_clash(tool):
    drawn = [lock(1, 21, 23, shared=True), lock(2, 22, 24, shared=True)]
    assert tool.moments.kept_apart(APART + drawn)[0]


def test_one_process_alone_shows_nothing(tool):
    assert not tool.moments.kept_apart(APART[:3])[0]
    assert not tool.moments.kept_apart([])[0]


def memory(pid, at, reserved, used, allocated=1):
    figures = {"reserved": reserved, "used_on_device": used, "allocated": allocated}
    return {"kind": "memory", "pid": pid, "at": at, **figures}


def test_what_a_process_takes_beside_torchs_reserve(tool):
    # Each takes 500 beside its reserve of 20; 100 were there before.
    notes = [memory(1, 0, 20, 620), memory(2, 1, 20, 1140), memory(1, 2, 40, 1160)]
    assert tool.moments.context_bytes(notes, before=100) == 500
    assert tool.moments.most_of_each(notes)[1] == {"allocated": 1, "reserved": 40}
    without_gpu = [{"kind": "memory", "pid": 1, "at": 0, "call": 1}]
    assert tool.moments.context_bytes(without_gpu, 0) == 0
    assert tool.moments.most_of_each(without_gpu) == {}


class ScriptedNvml:
    """NVIDIA's library, as far as it is asked."""

    class NVMLError(Exception): ...

    used = 100 * MIB
    names = "all"

    def nvmlInit(self): ...

    def nvmlDeviceGetHandleByUUID(self, identity):
        if self.names != "all":
            raise self.NVMLError("not found")
        return identity

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetMemoryInfo(self, handle):
        self.used += 10 * MIB
        return SimpleNamespace(used=self.used)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [
            SimpleNamespace(pid=7, usedGpuMemory=self.used),
            SimpleNamespace(pid=8, usedGpuMemory=None),
        ]


@pytest.fixture
def gpu(monkeypatch):
    import torch

    library = ScriptedNvml()
    monkeypatch.setitem(sys.modules, "pynvml", library)
    properties = SimpleNamespace(uuid="1a-2b")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (30, 100))
    return library


def test_memory_is_sampled_for_all_processes(tool, gpu):
    device = tool.memory.DeviceMemory()
    assert (device.source, device.problems) == ("NVML", {})
    device._EVERY_S = 0
    device.start()
    while not device.most_by_process:
        pass
    device.stop()
    assert device.samples[0][1] >= 100 * MIB
    assert device.most_by_process[7] > 0 == device.most_by_process[8]
    assert device.settled(at_most=2**60, wait_s=0) > 0


@pytest.mark.parametrize("fault", ["no library", "no such uuid"])
def test_memory_is_told_without_the_library_or_by_its_index(tool, gpu, monkeypatch, fault):
    if fault == "no library":
        monkeypatch.setitem(sys.modules, "pynvml", None)
    gpu.names = "none"
    device = tool.memory.DeviceMemory()
    if fault == "no library":
        assert (device.source, device.used(), device.processes()) == (
            "torch.cuda.mem_get_info",
            70,
            {},
        )
    else:
        assert device.source == "NVML"
    assert device.problems


@pytest.mark.parametrize("slower", [True, False])
def test_a_scratch_repository_has_a_base_and_a_head(tool, tmp_path, slower):
    part = SimpleNamespace(work=tmp_path, device="cpu", small=True)
    name = tool.sharing.SLOWER if slower else tool.sharing.DOCS_ONLY
    session = tool.sharing._against_base(part, name, tmp_path / "notes.jsonl", slower=slower)
    changed = subprocess.run(
        ["git", "diff", "--name-only", "base", "HEAD"],
        cwd=session.folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert changed == (["shared_pipeline.py"] if slower else ["README.md"])
    assert ("SLOWER = True" in (session.folder / "shared_pipeline.py").read_text()) is slower


def test_memory_of_a_gpu_is_recorded_and_judged(tool, gpu, tmp_path):
    path = tmp_path / "results.jsonl"
    part = tool.checks.Part(
        "g",
        tool.checks.Writer(path, "g"),
        device="cuda",
        work=tmp_path,
        planted=False,
        limit_s=60,
    )
    device = tool.memory.DeviceMemory()
    device.start()
    tool.sharing._memory(part, device, device.used(), [memory(1, 0, 20, 300 * MIB)])
    cost, back = tool.checks.read(path)
    assert cost["verdict"] == tool.checks.RECORDED
    assert cost["found"].endswith("(NVML)")
    assert back["verdict"] in (tool.checks.AS_EXPECTED, tool.checks.DIFFERS)
