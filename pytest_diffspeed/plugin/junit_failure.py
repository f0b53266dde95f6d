"""A session that fails although every test passed or was skipped is red in JUnit's XML too."""

from __future__ import annotations

import pytest

from ..adapters.pytest_internals import junit_xml


def fail_in_junit(config: pytest.Config, name: str, why: str) -> None:
    """Add a failed test case, ``diffspeed.NAME``, to the file of ``--junitxml`` if there is one.

    A dashboard that reads nothing else would show such a session as green.
    """
    xml = junit_xml(config)
    if xml is None or hasattr(config, "workerinput"):  # the controller of xdist writes it
        return
    for when, outcome in (("setup", "passed"), ("call", "failed"), ("teardown", "passed")):
        report = pytest.TestReport(
            nodeid=f"diffspeed::{name}",
            location=("diffspeed", None, name),
            keywords={},
            outcome=outcome,  # type: ignore[arg-type]
            longrepr=why if outcome == "failed" else None,
            when=when,  # type: ignore[arg-type]
        )
        xml.pytest_runtest_logreport(report)
