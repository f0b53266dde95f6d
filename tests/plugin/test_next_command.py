"""The command that a red session ends with runs the same test in the same way."""

import shlex


def test_it_is_right_where_pytest_was_started_and_has_what_the_base_s_workers_see(
    pytester, run_diffspeed, monkeypatch
):
    pytester.makeini("[pytest]")
    folder = pytester.mkdir("inner")
    (folder / "test_it.py").write_text(
        """
import pytest

@pytest.mark.diffspeed("fp32", pipeline="no_such_module:make")
@pytest.mark.no_gpu_syncs()
def test_it(optimized_pipeline): ...
"""
    )
    monkeypatch.chdir(folder)
    result = run_diffspeed("test_it.py", "--diffspeed-base-env=MODEL_DIR")
    result.assert_outcomes(errors=1)
    end = len(result.outlines) - 1  # pytest's own last line
    again = "\n".join(result.outlines[:end]).rpartition("again, this one only: ")[2]
    words = shlex.split(again.replace("\\\n", ""))
    assert "--diffspeed-base-env=MODEL_DIR" in words
    assert words[-1] == "test_it.py::test_it[fp32]"
