"""The lock that keeps two timings on one device apart, across processes."""

import os
import stat
import subprocess
import sys

import pytest

from pytest_diffspeed.common.errors import MeasurementError
from pytest_diffspeed.timing.lock import device_lock, lock_path

HOLD = """
import sys
from pathlib import Path
from pytest_diffspeed.timing.lock import device_lock
with device_lock("cpu", shared="shared" in sys.argv, folder=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


def test_a_second_process_waits_until_the_first_lets_go(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        waited = []

        def let_go():
            waited.append(True)
            holder.stdin.write("\n")
            holder.stdin.flush()

        with device_lock("cpu", folder=tmp_path, on_wait=let_go):
            assert waited == [True]
            assert holder.stdout.readline() == "released\n"


def test_a_holder_that_dies_leaves_no_lock_behind(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait()
    with device_lock("cpu", folder=tmp_path, on_wait=lambda: pytest.fail("it is still locked")):
        pass


def test_a_holder_that_never_lets_go_is_named(tmp_path):
    with (
        device_lock("cpu", folder=tmp_path),
        pytest.raises(MeasurementError, match=r"did not let go of .*pytest-diffspeed-cpu\.lock"),
        device_lock("cpu", folder=tmp_path, wait_s=0.05),
    ):
        pass


def test_devices_do_not_lock_each_other_out(tmp_path):
    with (
        device_lock("cuda-GPU-1/a", folder=tmp_path),
        device_lock("cuda-GPU-2/a", folder=tmp_path, on_wait=lambda: pytest.fail("it waited")),
    ):
        pass
    assert lock_path("cuda-GPU-1/a", tmp_path).parent == tmp_path


@pytest.fixture
def drawing(tmp_path):
    """Another process that uses the device without timing on it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), "shared"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.kill()


@pytest.mark.usefixtures("drawing")
def test_those_who_do_not_time_share_the_device(tmp_path):
    with device_lock("cpu", shared=True, folder=tmp_path, on_wait=lambda: pytest.fail("waited")):
        pass


def test_a_timing_waits_for_those_who_draw(tmp_path, drawing):
    waited = []

    def let_go():
        waited.append(True)
        drawing.communicate("\n")

    with device_lock("cpu", folder=tmp_path, on_wait=let_go):
        assert waited == [True]


def test_those_who_draw_wait_for_a_timing(tmp_path):
    with (
        device_lock("cpu", folder=tmp_path),
        pytest.raises(MeasurementError, match="has been timing on this device"),
        device_lock("cpu", shared=True, folder=tmp_path, wait_s=0.2),
    ):
        pass
    with device_lock("cpu", shared=True, folder=tmp_path, wait_s=0.2):
        pass


def test_a_planted_link_in_the_place_of_the_lock_changes_nobodys_file(tmp_path):
    """The lock lies in a folder where every user may put a link to a file of somebody else."""
    victim = tmp_path / "victim"
    victim.write_text("secret")
    victim.chmod(0o600)
    lock_path("gpu", tmp_path).symlink_to(victim)
    with (
        pytest.raises(MeasurementError, match="cannot lock"),
        device_lock("gpu", shared=True, folder=tmp_path),
    ):
        pass
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


def test_a_second_name_of_somebodys_file_is_no_lock(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("secret")
    victim.chmod(0o600)
    os.link(victim, lock_path("gpu", tmp_path))
    with (
        pytest.raises(MeasurementError, match="not a lock of pytest-diffspeed"),
        device_lock("gpu", shared=True, folder=tmp_path),
    ):
        pass
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
